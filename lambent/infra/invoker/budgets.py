"""Permissions of the request-rate rule on the caller's side: so many requests of a scope may start without asking.

The scheduler hands permissions out in advance (services/scheduler/core/meters.py); a budget asks for more before it
runs out, for about what it used in the last moments, and gives back what it has not used for a while. Pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from lambent.domain.names import Tenant

if TYPE_CHECKING:
    from lambent.infra.invoker.pool import Waiter

SMALLEST_WISH = 8
LARGEST_WISH = 4096
# A wish that was used up within this time was too small; one that lasted so many times longer was too large.
SHORT_SECONDS = 0.1
LONG_TIMES = 10
# Permissions that nobody used for so long are given back.
UNUSED_SECONDS = 1.0


class Scope(NamedTuple):
    """Whose request rate: of the unreserved pool (no function), a function's reserved concurrency (no version), or a
    version's provisioned concurrency."""

    tenant: Tenant
    function_name: str
    version: str


@dataclass(slots=True, eq=False)
class Use:
    """How the provisioned environments of one version are used here, since the last report."""

    running: int = 0  # at this instant
    changed_at: float = 0.0  # monotonic seconds; since then as many run
    invocations: int = 0  # that began
    concurrent: int = 0  # sum, over these, of how many ran when one began, itself included
    most: int = 0  # the largest of them
    busy_seconds: float = 0.0  # of all environments together

    def begin(self, now: float) -> None:
        """An invocation begins."""
        self._pass(now)
        self.running += 1
        self.invocations += 1
        self.concurrent += self.running
        self.most = max(self.most, self.running)

    def end(self, now: float) -> None:
        """An invocation has ended."""
        self._pass(now)
        self.running -= 1

    def take(self, now: float) -> Use | None:
        """What there is to report, and begin anew. None: nothing ran."""
        self._pass(now)
        if not self.invocations and not self.busy_seconds:
            return None
        report = Use(0, now, self.invocations, self.concurrent, self.most, self.busy_seconds)
        self.invocations = self.concurrent = self.most = 0
        self.busy_seconds = 0.0
        return report

    def _pass(self, now: float) -> None:
        self.busy_seconds += self.running * (now - self.changed_at)
        self.changed_at = now


@dataclass(slots=True, eq=False)
class Budget:
    """The permissions of one scope that this caller holds."""

    scope: Scope
    left: int = 0
    low: int = 0  # ask for more once no more than this is left
    wish: int = SMALLEST_WISH
    asked: bool = False  # a wish is on its way
    wished_at: float = -math.inf  # monotonic seconds of the last wish
    used_at: float = 0.0  # monotonic seconds of the last use
    use: Use | None = None  # of a version's provisioned concurrency; None: the scope is another
    waiting: dict[int, Waiter] = field(
        default_factory=dict
    )  # by ticket: they have a lease to run on, but no permission

    def next_wish(self, now: float) -> int:
        """How many to ask for, now that so few are left; they count as asked for."""
        lasted = now - self.wished_at
        if lasted < SHORT_SECONDS:
            self.wish = min(self.wish * 2, LARGEST_WISH)
        elif lasted > SHORT_SECONDS * LONG_TIMES:
            self.wish = max(self.wish // 2, SMALLEST_WISH)
        self.asked, self.wished_at = True, now
        return self.wish

    def permitted(self, requests: int) -> None:
        """Some were given."""
        self.left += requests
        self.low = self.wish // 2

    def take_all(self) -> int:
        """Give up what is left."""
        left, self.left, self.low = self.left, 0, 0
        return left

    def take_unused(self, now: float) -> int:
        """Give up what nobody used for a while, but a few: the next request shall not have to ask first."""
        unused = self.left - SMALLEST_WISH
        if unused <= 0 or now - self.used_at <= UNUSED_SECONDS:
            return 0
        self.left, self.low = SMALLEST_WISH, 0
        return unused
