"""Rates as buckets of tokens: so many at once, refilled evenly; unused time adds up to no more than the bucket holds.

A bucket is one number, the instant at which it would be full again (the "generic cell rate algorithm", ITU-T I.371): it
costs the same whatever the rate is, and needs no timer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# Seconds: sums of floats must not cost a token.
_GRACE = 1e-6


@dataclass(frozen=True, slots=True)
class Rate:
    """So many a second, and at most so many at once."""

    per_second: float
    at_once: float


class Bucket:
    """One bucket."""

    __slots__ = ("_between", "_depth", "_full_at", "_rate")

    def __init__(self, rate: Rate) -> None:
        """A bucket begins full."""
        self._full_at = 0.0  # monotonic seconds
        self.change(rate)

    def change(self, rate: Rate) -> None:
        """Another rate from now on; what was taken stays taken."""
        self._rate = rate
        # Seconds that one token takes to come; and how far ahead of now the instant of fullness may be for one to be
        # there. Without a rate there never is one.
        self._between = 1 / rate.per_second if rate.per_second > 0 else math.inf
        self._depth = (rate.at_once - 1) * self._between + _GRACE if rate.per_second > 0 else -math.inf

    def take_one(self, now: float) -> bool:
        """Take one token, if there is one."""
        full_at = self._full_at
        if full_at < now:
            full_at = now
        if full_at - now > self._depth:
            return False
        self._full_at = full_at + self._between
        return True

    def available(self, now: float) -> int:
        """Tokens that are there; may be negative after the rate was lowered."""
        rate = self._rate
        if rate.per_second <= 0:
            return 0
        missing = (self._full_at - now) * rate.per_second
        # A millionth of a token of grace: sums of floats must not cost one.
        return int(rate.at_once + 1e-6) if missing <= 0 else int(rate.at_once - missing + 1e-6)

    def take(self, wanted: int, now: float) -> int:
        """Take up to `wanted` tokens; answers how many."""
        taken = min(wanted, self.available(now))
        if taken <= 0:
            return 0
        self._full_at = max(self._full_at, now) + taken * self._between
        return taken

    def put_back(self, tokens: int) -> None:
        """Give unused tokens back."""
        if self._rate.per_second > 0:
            self._full_at -= tokens * self._between

    def next_at(self, now: float) -> float:
        """When a token will be there; `now` if one is."""
        return max(now, self._full_at - self._depth + _GRACE)

    def full(self, now: float) -> bool:
        """Whether it may be forgotten: a new one would be the same."""
        return self._full_at <= now
