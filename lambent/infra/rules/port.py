"""What operations and pollers ask of the store of rules. Two implementations under one contract suite
(tests/contract/test_rule_store.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from lambent.domain.names import Tenant
from lambent.domain.rules import Rule

# done; changed: it is not any more as it was read; full: the tenant has as many as it may have.
Replaced = Literal["done", "changed", "full"]


class RuleStore(Protocol):
    """Rules by tenant. Every method raises ServiceUnavailableException where the store cannot be reached."""

    async def get(self, tenant: Tenant, name: str) -> Rule | None:
        """One rule."""
        ...

    async def list(self, tenant: Tenant) -> Sequence[Rule]:
        """A tenant's rules, by name."""
        ...

    async def replace(self, before: Rule | None, after: Rule | None, most: int, *, claimed: bool = False) -> Replaced:
        """Keep what a rule is from now on, if it is still as it was read (its `revision` says). One of the two may be
        None: there is none. `most`: rules that the tenant may have. Whoever claims what is due finds the rule at
        `after.due`, and earlier at times; `claimed`: not before the caller has settled its claim."""
        ...


@dataclass(frozen=True, slots=True)
class Claim:
    """A rule that may be due, claimed by one who looks."""

    tenant: Tenant
    name: str
    until: float  # epoch seconds; from then on another may claim it


class DueRules(Protocol):
    """Which rules are to be looked at, and when. Raises as above."""

    async def claim(self, now: float, seconds: float, most: int) -> Sequence[Claim]:
        """Claim those that are to be looked at by now, at most so many, for so many seconds. Epoch seconds."""
        ...

    async def settle(self, claim: Claim, at: float | None) -> None:
        """Let a rule be looked at again at that time; None: not. Nothing happens where the claim is not in force any
        more, as somebody else claimed it or the rule was changed."""
        ...
