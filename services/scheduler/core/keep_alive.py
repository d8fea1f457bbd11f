"""How long an environment that nobody uses is kept, where a policy looks at how each function is used.

A use is a lease, and idle times are measured by level: the n-th execution at once of a function is like a function of
its own, which idles from when there are fewer than n until there are n again. What follows from idle times is the
policies': `hybrid_histogram.py`, `break_even.py` (docs/decisions/0014-keep-alive-policies.md).
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field
from typing import Protocol

from services.scheduler.core.events import Need
from services.scheduler.core.reasons import Reason

# Executions at once whose idle times are followed; eight bytes each, as far as a function ever came.
LEVELS = 256
# What is known of a function is dropped when nobody has used it for so long.
FORGET_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Windows:
    """When environments are kept after the end of a use: seconds since then."""

    begin: float  # 0: from the first; else none is kept before, and one is started then
    end: float
    because: str  # what the policy went by
    ends: Reason = Reason.IDLE  # why one that is kept to the end is let go


class IdleTimes(Protocol):
    """What a policy knows of how long one version of a function idles."""

    def add(self, level: int, seconds: float) -> None:
        """One more idle time, of the n-th execution at once."""
        ...

    def windows(self, level: int, memory_mb: int, now: float) -> Windows:
        """What they call for, for an environment with that memory."""
        ...


class KeepAlivePolicy(Protocol):
    """A policy's numbers."""

    def idle_times(self, otherwise: float) -> IdleTimes:
        """Of a version that nothing is known of. `otherwise`: the fixed keep-alive, seconds."""
        ...


@dataclass(slots=True, eq=False)
class Rest:
    """An environment was let go that is to be there again for the next use of its level."""

    level: int
    need: Need
    deployment: bytes
    windows: Windows
    until: float  # monotonic seconds; how long the one that is started ahead is kept
    over: bool = False  # the next use has begun


@dataclass(slots=True, eq=False)
class Habit:
    """What is known of how one version of a function is used. Outlives its environments."""

    times: IdleTimes
    used_at: float  # monotonic seconds
    busy: int = 0  # uses at this instant
    latest: Windows | None = None  # of the environment that began to idle last
    # Since when there are fewer uses than n, by n - 1: monotonic seconds; infinity where it is not known.
    _since: array[float] = field(default_factory=lambda: array("d"))
    _rests: dict[int, Rest] = field(default_factory=dict)  # by level

    def ends(self, now: float) -> None:
        """A use has ended."""
        self.used_at = now
        if self.busy <= LEVELS:
            self._since[self.busy - 1] = now
        self.busy -= 1

    def begins(self, now: float) -> None:
        """A use begins. Who is passed on at once has not idled."""
        self.used_at = now
        level = self.busy = self.busy + 1
        if level > len(self._since):
            if level <= LEVELS:
                self._since.append(math.inf)
            return
        if self._rests:
            rest = self._rests.pop(level, None)
            if rest is not None:
                rest.over = True
        idle = now - self._since[level - 1]
        if idle > 0.0:
            self.times.add(level, idle)

    def rests(self, need: Need, deployment: bytes, windows: Windows, until: float) -> Rest:
        """An environment was let go as its use ended, and one is to be there again for the next one of its level."""
        level = self.busy + 1
        rest = self._rests[level] = Rest(level, need, deployment, windows, until)
        return rest
