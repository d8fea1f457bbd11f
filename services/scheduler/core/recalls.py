"""Rounds of asking callers for their idle leases: at most one running and one to follow for each scope.

A request that must wait for the outcome waits for a round that began after it: callers that answered an earlier one
may have let an environment idle since.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from lambent.domain.names import Tenant


class Scope(NamedTuple):
    """Whose idle leases are asked for."""

    tenant: Tenant | None  # None: of every tenant
    function_name: str | None  # None: of every function
    background: bool = False  # of pollers alone


@dataclass(slots=True)
class Round:
    """One round."""

    number: int
    scope: Scope
    pending: set[str] = field(default_factory=set)  # callers that have not answered
    following: int = 0  # number of the round that begins when this one ends; 0: none is wanted


class Recalls:
    """Which rounds run."""

    def __init__(self) -> None:
        self._by_number: dict[int, Round] = {}
        self._by_scope: dict[Scope, Round] = {}
        self._next = 1

    def want(self, scope: Scope) -> tuple[int, bool]:
        """The round to wait for, and whether it is to be begun now."""
        running = self._by_scope.get(scope)
        if running is None:
            return self._take_number(), True
        if not running.following:
            running.following = self._take_number()
        return running.following, False

    def begin(self, number: int, scope: Scope, callers: Iterable[str]) -> None:
        """A round goes out to `callers`, of which there is at least one."""
        self._by_number[number] = self._by_scope[scope] = Round(number, scope, set(callers))

    def answered(self, caller_id: str, number: int) -> Round | None:
        """One caller has answered. The round, if that ended it; answers to rounds that are over count for nothing."""
        current = self._by_number.get(number)
        if current is None:
            return None
        current.pending.discard(caller_id)
        if current.pending:
            return None
        del self._by_number[number]
        del self._by_scope[current.scope]
        return current

    def open_for(self, caller_id: str) -> list[int]:
        """Rounds that wait for this caller."""
        return [r.number for r in self._by_number.values() if caller_id in r.pending]

    def running(self, scope: Scope) -> bool:
        """Whether a round of this scope is out."""
        return scope in self._by_scope

    def _take_number(self) -> int:
        self._next += 1
        return self._next - 1
