"""How often functions have run in one chain of requests, as X-Amzn-Trace-Id carries it from one to the next.

A chain is all that one request leads to: a function that invokes another, a message that it sends and that a function
is invoked with, a destination that is told. AWS's SDKs hand the header on without being asked to. A function that has
run too often in one chain is in a loop, and is not run again in it.
Source: https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from types import MappingProxyType
from typing import Literal

from lambent.domain.errors import AwsError
from lambent.domain.names import Tenant, function_arn

# What happens to a function in a loop (API_PutFunctionRecursionConfig).
RecursiveLoop = Literal["Allow", "Terminate"]
TERMINATE: RecursiveLoop = "Terminate"

# Mark of a function → how often it has run in the chain.
Lineage = Mapping[str, int]
NONE: Lineage = MappingProxyType({})

# The header's field; in it `mark:count`, one after the other. Of these signs SDKs encode none.
FIELD, _BETWEEN = "Lineage", ","
_MARK_DIGITS = 8
_HEX = frozenset("0123456789abcdef")
# A header has room for so many functions; those that ran least make room.
MOST_FUNCTIONS = 32
# No count beyond this is believed, or written.
_MOST = 9999


def mark(tenant: Tenant, name: str) -> str:
    """What a function is called in a lineage: eight hex digits, of any two functions' names hardly ever the same."""
    return sha256(function_arn(tenant, name).encode()).hexdigest()[:_MARK_DIGITS]


def parse(text: str) -> Lineage:
    """The value of the header's field. What is not of its form is passed over: it may come from anybody."""
    found: dict[str, int] = {}
    for part in text.split(_BETWEEN, MOST_FUNCTIONS)[:MOST_FUNCTIONS]:
        name, _, count = part.partition(":")
        if len(name) == _MARK_DIGITS and _HEX.issuperset(name) and count.isdecimal() and len(count) <= len(str(_MOST)):
            found[name] = int(count)
    return found


def written(lineage: Lineage) -> str:
    """As the value of the header's field; empty where nothing has run."""
    return _BETWEEN.join([f"{name}:{count}" for name, count in lineage.items()])


def after(lineage: Lineage, name: str) -> Lineage:
    """The lineage within an invocation of the function whose mark is `name`."""
    others = [(other, count) for other, count in lineage.items() if other != name]
    if len(others) >= MOST_FUNCTIONS:
        others = sorted(others, key=lambda each: -each[1])[: MOST_FUNCTIONS - 1]
    return dict(others) | {name: min(lineage.get(name, 0) + 1, _MOST)}


def merged(lineages: Iterable[Lineage]) -> Lineage:
    """That of an invocation with what comes of several chains: none of them is lost."""
    found: dict[str, int] = {}
    for lineage in lineages:
        for name, count in lineage.items():
            found[name] = max(found.get(name, 0), count)
    return found


def stopped() -> AwsError:
    """What is said of an invocation that a loop has led to."""
    return AwsError(
        "RecursiveInvocationException",
        "Lambda has detected your function being invoked in a recursive loop with other Amazon Web Services resources "
        "and stopped your function's invocation.",
    )
