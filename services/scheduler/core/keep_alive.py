"""How long an environment that nobody uses is kept: a fixed time, or what the function's own idle times say.

After "Serverless in the Wild" (Shahrad et al., USENIX ATC 2020): a histogram of how long a function idles between two
uses gives a *pre-warm window*, in which no environment is kept since hardly any use comes so soon, and the end of the
*keep-alive window*, after which hardly any comes. Where the histogram says little, the fixed time holds. The paper's
third part, a time-series forecast (ARIMA) for functions that idle beyond the histogram, is left out.

A use is a lease, and idle times are measured by rank: the n-th execution at once of a function is like a function of
its own (docs/decisions/0014-keep-alive-policies.md).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from services.scheduler.core.events import Need

BINS = 240  # of a minute each: four hours; idle times beyond them are only counted
# A count is one byte. When one is full all are halved: what was long ago counts for less and less.
_FULL = 255
# Executions at once whose idle times are followed.
_RANKS = 32
# What is known of a function is dropped when nobody has used it for so long.
FORGET_SECONDS = 86_400.0


class IdleTimes:
    """How often a function idled how long, in bins; two percentiles of it are kept up to date."""

    __slots__ = ("_bin", "_head", "_head_share", "_squares", "_tail", "_tail_share", "beyond", "counts", "samples")

    def __init__(self, head: float, tail: float, bin_seconds: float) -> None:
        """`head`, `tail`: the percentiles, as shares of the samples within the bins."""
        self._bin = bin_seconds
        self.counts = bytearray(BINS)
        self.samples = 0  # within the bins
        self.beyond = 0
        self._squares = 0  # sum of the counts' squares
        self._head_share, self._tail_share = head, tail
        self._head = [0, 0]  # the percentile's bin, and the samples in the bins below it
        self._tail = [0, 0]

    def add(self, seconds: float) -> None:
        """One more idle time."""
        number = int(seconds / self._bin)
        if number >= BINS:
            self.beyond += 1
            if self.beyond > _FULL:
                self._halve()
            return
        if self.counts[number] == _FULL:
            self._halve()
        self._squares += 2 * self.counts[number] + 1
        self.counts[number] += 1
        self.samples += 1
        for at, share in ((self._head, self._head_share), (self._tail, self._tail_share)):
            at[1] += number < at[0]
            self._follow(at, share)

    @property
    def head(self) -> float:
        """The lower percentile, rounded down to a whole bin: seconds."""
        return self._head[0] * self._bin

    @property
    def tail(self) -> float:
        """The upper percentile, rounded up to a whole bin: seconds."""
        return (self._tail[0] + 1) * self._bin

    @property
    def variation(self) -> float:
        """Coefficient of variation of the counts: 0 where all bins are alike, larger the fewer of them stand out."""
        if not self.samples:
            return 0.0
        return math.sqrt(max(0.0, BINS * self._squares / self.samples**2 - 1.0))

    def _follow(self, at: list[int], share: float) -> None:
        """Move to the first bin up to which there is the share of the samples."""
        counts, (number, below), wanted = self.counts, at, share * self.samples
        while number > 0 and below >= wanted:
            number -= 1
            below -= counts[number]
        while number < BINS - 1 and below + counts[number] < wanted:
            below += counts[number]
            number += 1
        at[0], at[1] = number, below

    def _halve(self) -> None:
        self.counts = bytearray(count >> 1 for count in self.counts)
        self.beyond >>= 1
        self.samples = sum(self.counts)
        self._squares = sum(count * count for count in self.counts)
        for at, share in ((self._head, self._head_share), (self._tail, self._tail_share)):
            at[0] = at[1] = 0
            self._follow(at, share)


@dataclass(frozen=True, slots=True)
class Windows:
    """When environments are kept after the end of a use: seconds since then."""

    begin: float  # 0: from the first; else none is kept before, and one is started then
    end: float
    reason: str


@dataclass(frozen=True, slots=True)
class HybridHistogram:
    """The policy's numbers."""

    head: float = 0.05  # share of idle times that may end within the pre-warm window
    tail: float = 0.99  # share of idle times that end within the keep-alive window
    margin: float = 0.10  # by which the windows are wider than the percentiles
    samples: int = 10  # least for a histogram to count
    variation: float = 2.0  # least coefficient of variation of its counts
    bin_seconds: float = 60.0

    def windows(self, times: IdleTimes, otherwise: float) -> Windows:
        """What a function's idle times call for; `otherwise`: the fixed keep-alive, in seconds."""
        if times.beyond > times.samples:
            return Windows(0.0, otherwise, "BeyondHistogram")
        if times.samples < self.samples:
            return Windows(0.0, otherwise, "FewSamples")
        if times.variation < self.variation:
            return Windows(0.0, otherwise, "NoPattern")
        begin = times.head * (1.0 - self.margin)
        return Windows(begin if begin > self.bin_seconds else 0.0, times.tail * (1.0 + self.margin), "Histogram")


# None: the fixed keep-alive.
KeepAlivePolicy = HybridHistogram | None


def keep_alive_policies(histogram: HybridHistogram) -> Mapping[str, KeepAlivePolicy]:
    """The policies by name, from the numbers of the settings."""
    return {"fixed": None, "hybrid-histogram": histogram}


@dataclass(slots=True, eq=False)
class Rest:
    """A use that has ended and that no other has followed yet."""

    since: float  # monotonic seconds
    over: bool = False  # the next use has begun
    # Where an environment was let go that is to be there again for the next use:
    need: Need | None = None
    deployment: bytes = b""
    until: float = 0.0  # monotonic seconds; how long the one that is started ahead is kept


@dataclass(slots=True, eq=False)
class Habit:
    """What is known of how one version of a function is used. Outlives its environments."""

    policy: HybridHistogram
    otherwise: float  # the fixed keep-alive, seconds
    used_at: float  # monotonic seconds
    times: IdleTimes = field(init=False)
    windows: Windows = field(init=False)
    rests: deque[Rest] = field(default_factory=lambda: deque(maxlen=_RANKS))  # the latest last

    def __post_init__(self) -> None:
        self.times = IdleTimes(self.policy.head, self.policy.tail, self.policy.bin_seconds)
        self.windows = self.policy.windows(self.times, self.otherwise)

    def ends(self, now: float) -> None:
        """A use has ended."""
        self.used_at = now
        self.rests.append(Rest(now))

    def begins(self, now: float) -> None:
        """A use begins: it follows the one that ended last. Who is passed on at once has not idled."""
        self.used_at = now
        if self.rests:
            rest = self.rests.pop()
            rest.over, rest.need, rest.deployment = True, None, b""
            if now > rest.since:
                self.times.add(now - rest.since)
                self.windows = self.policy.windows(self.times, self.otherwise)
