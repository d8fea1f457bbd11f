"""Which interpreters this machine has for which runtime names, and where the SDKs are that functions find."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from lambent.domain.runtimes import SERVED, family

# Where `lambent runtimes install` puts the SDKs: beside the installation that it belongs to.
INSTALLED_RUNTIMES = Path(sys.prefix) / "share" / "lambent" / "runtimes"


_OWN_NAME = f"python{sys.version_info.major}.{sys.version_info.minor}"


class UnusableInterpreter(Exception):
    """A setting names what cannot be used; one line with a hint."""


def interpreters(given: str) -> tuple[dict[str, Path], list[str]]:
    """(runtime name → interpreter, warnings): those named (name=/path,...), else those found on PATH.

    A Python runtime of which there is none shares the worker's own; a Node.js runtime the `node` on PATH. Where that is
    another version, a warning says so. Runtimes without any are left out: their functions are told at their first use.
    Raises UnusableInterpreter.
    """
    own = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    found = _pythons(own)
    node = shutil.which("node")
    if node is not None and _is_program(node):
        found.update({name: Path(node).resolve() for name in SERVED if family(name) == "nodejs"})
    exact = {_OWN_NAME} | {name for name, path in found.items() if path != own and family(name) == "python"}
    for item in filter(None, (part.strip() for part in given.split(","))):
        name, _, path = item.partition("=")
        if name not in SERVED or family(name) == "provided" or not os.access(path, os.X_OK):
            raise UnusableInterpreter(
                f"worker.interpreters: {item!r} must be RUNTIME=/path, e.g. python3.11=/usr/bin/python3.11"
            )
        found[name] = Path(path).resolve()
        exact.add(name)
        if hidden := [place for place in _HIDDEN if found[name].is_relative_to(place) and family(name) != "python"]:
            raise UnusableInterpreter(
                f"worker.interpreters: functions have their own {hidden[0]}; put {path} elsewhere"
            )
    shared: dict[Path, list[str]] = {}
    for name in sorted(found.keys() - exact):
        shared.setdefault(found[name], []).append(name)
    warnings = []
    for interpreter, names in shared.items():
        version = _OWN_NAME if interpreter == own else _version(interpreter)
        others = [name for name in names if name.removesuffix(".x") != version]
        if others:
            warnings.append(f"{', '.join(others)} run on {version or interpreter}")
    return found, warnings


_HIDDEN = ("/opt", "/tmp", "/var/task")  # what a function sees there is its own


def _pythons(own: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for name in sorted(name for name in SERVED if family(name) == "python"):
        path = shutil.which(name)
        found[name] = Path(path).resolve() if path and _is_program(path) else own
    found[_OWN_NAME] = own
    return found


def _is_program(path: str) -> bool:
    # Version managers put shims on PATH that are scripts; only a program can be a zygote, or be seen in a sandbox.
    with Path(path).resolve().open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _version(interpreter: Path) -> str:
    """The runtime name that an interpreter is of, as nodejs20 or python3.11; empty: it does not tell."""
    try:
        said = subprocess.run(
            [str(interpreter), "--version"], capture_output=True, timeout=10, check=True
        ).stdout.decode()
    except (OSError, subprocess.SubprocessError):
        return ""
    if said.startswith("v"):
        return f"nodejs{said[1:].partition('.')[0]}"
    return "python" + ".".join(said.removeprefix("Python").strip().split(".")[:2])


def runtime_dir(given: str) -> Path | None:
    """The folder of SDKs that functions find: the one named, else the one that `lambent runtimes install` makes.

    Raises UnusableInterpreter.
    """
    folder = Path(given) if given else INSTALLED_RUNTIMES
    if folder.is_dir():
        return folder
    if given:
        raise UnusableInterpreter(
            f"worker.runtime_dir: there is no folder {given}; `lambent runtimes install` makes one"
        )
    return None
