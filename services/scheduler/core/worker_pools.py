"""Pools of workers, and which one a function belongs to.

A function belongs to one pool by rule; its environments are on workers of that pool alone. Where no pool is configured,
all workers are one pool without a name, and nobody asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class Traits:
    """What a rule looks at in a function. Empty: not known, or none."""

    architecture: str = ""  # x86_64 or arm64
    runtime: str = ""
    subnets: Sequence[str] = ()  # of its VpcConfig
    security_groups: Sequence[str] = ()
    account: str = ""
    function: str = ""  # its name


@dataclass(frozen=True, slots=True)
class Rule:
    """Which functions a pool takes. An empty member asks for nothing, but for subnets: a pool that names some is for
    functions in these, and a function in a subnet goes to no pool that does not name it. Security groups are those of
    the function exactly: with one more than it has, it would reach what it may not."""

    architectures: tuple[str, ...] = ()
    runtimes: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()  # names, in which * and ? stand for what they do in a shell

    def takes(self, traits: Traits) -> bool:
        """Whether a function may run in the pool."""
        return (
            (not self.architectures or traits.architecture in ("", *self.architectures))
            and (not self.runtimes or traits.runtime in ("", *self.runtimes))
            and bool(self.subnets) == bool(traits.subnets)
            and all(subnet in self.subnets for subnet in traits.subnets)
            and (not self.security_groups or set(self.security_groups) == set(traits.security_groups))
            and (not self.accounts or traits.account in self.accounts)
            and (not self.functions or any(fnmatchcase(traits.function, pattern) for pattern in self.functions))
        )

    @property
    def narrowness(self) -> int:
        """How many members ask for something."""
        return sum(bool(getattr(self, field.name)) for field in fields(self))


def pool_of(traits: Traits, rules: Mapping[str, Rule]) -> str | None:
    """The pool of a function, by name: of those that take it the one that asks for most, then the first by name.
    Without pools it is the one without a name. None: no pool takes it."""
    if not rules:
        return ""
    takers = [name for name, rule in rules.items() if rule.takes(traits)]
    return min(takers, key=lambda name: (-rules[name].narrowness, name), default=None)


def misfit(rule: Rule, architecture: str, runtimes: Sequence[str]) -> str:
    """Why a worker cannot do what its pool's rule promises; empty: it can. Empty arguments are not known."""
    if architecture and rule.architectures and architecture not in rule.architectures:
        return f"its architecture is {architecture}"
    missing = sorted(set(rule.runtimes) - set(runtimes)) if runtimes else []
    return f"it lacks {', '.join(missing)}" if missing else ""
