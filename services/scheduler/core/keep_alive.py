"""How long an environment that nobody uses is kept, where a policy looks at how each function is used.

A use is a lease, and idle times are measured by level: the n-th execution at once of a function is like a function of
its own, which idles from when there are fewer than n until there are n again. What follows from idle times is the
policies': `hybrid_histogram.py`, `break_even.py` (docs/decisions/0014-keep-alive-policies.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

from services.scheduler.core.events import Need
from services.scheduler.core.reasons import Reason

# Executions at once whose idle times are followed; some hundred bytes each, as far as a function ever came.
LEVELS = 256
# Idle times up to so many seconds are alike. A busy function has thousands of them a second: they are only counted
# until its policy looks.
SHORT_SECONDS = 1.0
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

    def add(self, level: int, seconds: float, times: int = 1) -> None:
        """One more idle time, of the n-th execution at once; or so many alike in a row."""
        ...

    def windows(self, level: int, memory_mb: int, now: float) -> tuple[Windows, float]:
        """What they call for, for an environment with that memory; and until when that stands: monotonic seconds."""
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
class Level:
    """The n-th execution at once, and what the policy has said of it."""

    since: float = math.inf  # since when there are fewer uses: monotonic seconds; infinity: not known
    short: int = 0  # idle times of up to `SHORT_SECONDS` that the policy has not been told of
    windows: Windows = Windows(0.0, 0.0, "")
    windows_mb: int = 0  # the memory that they are for; 0: there are none yet
    until: float = -math.inf  # when the policy is to be asked anew: monotonic seconds


@dataclass(slots=True, eq=False)
class Habit:
    """What is known of how one version of a function is used. Outlives its environments."""

    times: IdleTimes
    used_at: float  # when a use ended last, or the first one began: monotonic seconds
    busy: int = 0  # uses at this instant
    latest: Windows | None = None  # of the environment that began to idle last
    _first: Level = field(default_factory=Level)
    _further: list[Level] | None = None  # above the first, as far as there ever were so many uses; None: never
    _rests: dict[int, Rest] | None = None  # by level; None: there are none

    def ends(self, now: float) -> None:
        """A use has ended."""
        self.used_at = now
        number = self.busy
        if number == 1:
            self._first.since = now
        elif number <= LEVELS:
            self._further_level(number).since = now
        self.busy = number - 1

    def begins(self, now: float) -> None:
        """A use begins. Who is passed on at once has not idled."""
        number = self.busy = self.busy + 1
        if number > LEVELS:
            return
        if self._rests is not None:
            self._rest_is_over(self._rests, number)
        level = self._first if number == 1 else self._further_level(number)
        idle = now - level.since
        if idle > SHORT_SECONDS:
            self._tell()
            self.times.add(number, idle)
        elif idle > 0.0:
            level.short += 1

    def idles(self, above: int, memory_mb: int, now: float) -> Windows:
        """An environment begins to idle, one of `above` that nobody uses. Answers its windows."""
        number = min(self.busy + above, LEVELS)
        level = self._first if number == 1 else self._further_level(number)
        if now >= level.until or level.windows_mb != memory_mb:
            self._tell()
            level.windows, level.until = self.times.windows(number, memory_mb, now)
            level.windows_mb = memory_mb
        self.latest = level.windows
        return level.windows

    def _further_level(self, number: int) -> Level:
        further = self._further
        if further is None:
            further = self._further = []
        while len(further) < number - 1:
            further.append(Level())
        return further[number - 2]

    def _tell(self) -> None:
        """Tell the policy of all that was only counted."""
        for number, level in enumerate((self._first, *(self._further or ())), 1):
            if level.short:
                self.times.add(number, SHORT_SECONDS, level.short)
                level.short = 0

    def _rest_is_over(self, rests: dict[int, Rest], level: int) -> None:
        rest = rests.pop(level, None)
        if rest is not None:
            rest.over = True
        if not rests:
            self._rests = None

    def rests(self, need: Need, deployment: bytes, windows: Windows, until: float) -> Rest:
        """An environment was let go as its use ended, and one is to be there again for the next one of its level."""
        level = self.busy + 1
        rest = Rest(level, need, deployment, windows, until)
        if self._rests is None:
            self._rests = {}
        self._rests[level] = rest
        return rest
