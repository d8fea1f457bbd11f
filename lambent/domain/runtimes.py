"""Runtime names as data: which AWS accepts, which it refuses to create, and which this cluster runs.

Source: https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtimes.html
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

ACCEPTED: tuple[str, ...] = (
    "nodejs16.x", "nodejs18.x", "nodejs20.x", "nodejs22.x", "nodejs24.x",
    "python3.8", "python3.9", "python3.10", "python3.11", "python3.12", "python3.13", "python3.14",
    "java8.al2", "java11", "java17", "java21", "java25",
    "dotnet6", "dotnet8", "dotnet10",
    "ruby3.2", "ruby3.3", "ruby3.4",
    "provided.al2", "provided.al2023",
)  # fmt: skip

# AWS knows these and creates nothing on them any more.
RETIRED: frozenset[str] = frozenset(
    {
        "nodejs", "nodejs4.3", "nodejs4.3-edge", "nodejs6.10", "nodejs8.10", "nodejs10.x", "nodejs12.x", "nodejs14.x",
        "python2.7", "python3.6", "python3.7", "java8", "dotnetcore1.0", "dotnetcore2.0", "dotnetcore2.1",
        "dotnetcore3.1", "go1.x", "ruby2.5", "ruby2.7", "provided",
    }
)  # fmt: skip

# Families that workers run: python by a runtime of our own, the others through the Runtime API.
FAMILIES: tuple[str, ...] = ("python", "nodejs", "provided")


def family(runtime: str) -> str:
    """python3.11 → python, nodejs20.x → nodejs, provided.al2023 → provided."""
    name = runtime.partition(".")[0] if runtime.startswith("provided.") else runtime.rstrip("0123456789.x")
    return name or runtime


def runtime_version(runtime: str) -> str:
    """python3.11 → python:3.11.v1."""
    name = family(runtime)
    return f"{name}:{runtime[len(name) :].strip('.').removesuffix('.x')}.v1"


@lru_cache(maxsize=256)
def runtime_arn(region: str, version: str) -> str:
    """An identifier of a runtime's version in AWS's form."""
    return f"arn:aws:lambda:{region}::runtime:{hashlib.sha256(version.encode()).hexdigest()}"


# What workers run, where they have the interpreter.
SERVED: frozenset[str] = frozenset(name for name in ACCEPTED if family(name) in FAMILIES)
