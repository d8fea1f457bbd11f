"""Keep-alive after "Serverless in the Wild" (Shahrad et al., USENIX ATC 2020).

A histogram of how long a function idles between two uses gives a *pre-warm window*, in which no environment is kept
since hardly any use comes so soon, and the end of the *keep-alive window*, after which hardly any comes. Where the
histogram says little, the fixed time holds. The paper's third part, a time-series forecast (ARIMA) for functions that
idle beyond the histogram, is left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from services.scheduler.core.keep_alive import Windows

BINS = 240  # of a minute each: four hours; idle times beyond them are only counted
# A count is one byte. When one is full all are halved: what was long ago counts for less and less.
_FULL = 255


class Histogram:
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
class HybridHistogram:
    """The policy's numbers."""

    head: float = 0.05  # share of idle times that may end within the pre-warm window
    tail: float = 0.99  # share of idle times that end within the keep-alive window
    margin: float = 0.10  # by which the windows are wider than the percentiles
    samples: int = 10  # least for a histogram to count
    variation: float = 2.0  # least coefficient of variation of its counts
    bin_seconds: float = 60.0

    def windows(self, times: Histogram, otherwise: float) -> Windows:
        """What a function's idle times call for; `otherwise`: the fixed keep-alive, in seconds."""
        if times.beyond > times.samples:
            return Windows(0.0, otherwise, "BeyondHistogram")
        if times.samples < self.samples:
            return Windows(0.0, otherwise, "FewSamples")
        if times.variation < self.variation:
            return Windows(0.0, otherwise, "NoPattern")
        begin = times.head * (1.0 - self.margin)
        return Windows(begin if begin > self.bin_seconds else 0.0, times.tail * (1.0 + self.margin), "Histogram")

    def idle_times(self, otherwise: float) -> HistogramTimes:
        """See KeepAlivePolicy."""
        return HistogramTimes(self, otherwise)


class HistogramTimes:
    """All levels of a version, in one histogram. See IdleTimes."""

    __slots__ = ("_otherwise", "_policy", "_windows", "histogram")

    def __init__(self, policy: HybridHistogram, otherwise: float) -> None:
        self._policy, self._otherwise = policy, otherwise
        self.histogram = Histogram(policy.head, policy.tail, policy.bin_seconds)
        self._windows = policy.windows(self.histogram, otherwise)

    def add(self, level: int, seconds: float, times: int = 1) -> None:
        for _ in range(times):
            self.histogram.add(seconds)
        self._windows = self._policy.windows(self.histogram, self._otherwise)

    def windows(self, level: int, memory_mb: int, now: float) -> tuple[Windows, float]:
        return self._windows, now
