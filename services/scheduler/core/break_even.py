"""Keep-alive as a choice between two costs: memory that idles, and a cold start at a price.

The price of a cold start is in GB·s of memory that idles, the same for every function: then no other choice has as few
cold starts for as little memory, since whoever keeps one environment longer than it is worth could keep another one for
the same memory with more effect. An environment of `m` GB that is kept for T after a use costs, for each idle time,

    m * E[min(idle time, T)] + price * P(idle time > T)

and T is where that is least, over what is known of the idle times of the function and level. Nothing is known at first:
then T is of the order of price / m, where the memory spent equals the price (the break-even of the ski-rental problem,
with which one never pays more than twice what the best choice in hindsight would have cost). Where idle times hardly
differ, as those of timers, it costs less to let the environment go and to start one shortly before it is needed.
"""

from __future__ import annotations

import itertools
import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.scheduler.core.keep_alive import Windows
from services.scheduler.core.reasons import Reason

# Idle times fall into bins of equal ratio: two to a doubling, from a second to a day and a half.
_PER_DOUBLING = 2
BINS = 17 * _PER_DOUBLING
EDGES = tuple(2.0 ** (number / _PER_DOUBLING) for number in range(1, BINS + 1))  # upper ones, seconds
MIDDLES = (0.5, *(math.sqrt(low * high) for low, high in itertools.pairwise(EDGES)))
# A count is one byte. When one is full all are halved: what was long ago counts for less and less.
_FULL = 255
# So many alike fill their bin until nothing is left in any other; from then on it is filled and halved in turns.
_FILLED = 16 * (_FULL + 1)
_TURN = _FULL - (_FULL >> 1)


def _doubtful(exponent: float) -> tuple[float, ...]:
    """One idle time that may be anything, as shares of the bins: P(idle time > t) = (1 + t)^-exponent."""
    beyond = [1.0, *((1.0 + edge) ** -exponent for edge in EDGES)]
    return tuple(before - after for before, after in itertools.pairwise(beyond))


# What counts for one idle time of each level beside those that are known. The exponent matters little: a quarter and
# one give the same memory within 4 % on generated days.
DOUBT = _doubtful(0.35)
# The idle times of all levels together count for so many of each level.
_OTHERS = 2.0
# The choice is made anew when an eighth more is known, and not more often than every so many seconds.
_ANEW = 3
_ANEW_SECONDS = 5.0
# Of how many idle times, the latest, one says whether they hardly differ; those below the least do not count, since no
# environment would be let go for so short a time.
_RECENT = 8
_LEAST = 60.0
# How much wider than these the window is in which an environment is there: by a share of them, and in seconds, at its
# beginning, for the start itself.
_MARGIN = 0.02
_LEAD = 5.0
# What weight it keeps, at each idle time, how often windows contained those before.
_FADING = 0.875


@dataclass(frozen=True, slots=True)
class Choice:
    """When to keep an environment, in seconds since the end of a use, and what that is expected to cost."""

    begin: float
    end: float
    cost: float  # GB·s for each idle time, cold starts at their price included


def keep_for(counts: Iterable[float], total: float, gigabytes: float, price: float) -> Choice:
    """How long to keep one from the first, over the shares of idle times by bin; `total`: their sum, above 0."""
    best, until = price * total, 0.0
    left, spent = total, 0.0
    for count, middle, edge in zip(counts, MIDDLES, EDGES, strict=True):
        left -= count
        spent += gigabytes * count * middle
        if spent >= best:
            break
        cost = spent + (gigabytes * edge + price) * left
        if cost < best:
            best, until = cost, edge
    return Choice(0.0, until, best / total)


def window_of(recent: Sequence[float]) -> tuple[float, float]:
    """From when to when after a use one would have to be there for the next one, by the latest idle times: seconds."""
    low, high = min(recent), max(recent)
    spread = (high - low) / 2
    return low - spread - _MARGIN * low - _LEAD, high + spread + _MARGIN * high


# There are few choices that keep one from the first, and many functions to share them.
_KEPT = {
    (end, known): Windows(0.0, end, "BreakEven" if known else "NothingKnown", Reason.BREAK_EVEN)
    for end in (0.0, *EDGES) for known in (False, True)
}  # fmt: skip


class LevelTimes:
    """The idle times of one level, or of a few of the higher ones."""

    __slots__ = ("_hits", "_recent", "_tries", "anew_at", "anew_samples", "counts", "samples", "windows", "windows_mb")

    def __init__(self) -> None:
        self.counts = bytearray(BINS)
        self.samples = 0
        self._recent = array("d")  # the latest last
        # How often the window of the recent ones contained the one that came.
        self._hits = self._tries = 0.0
        self.windows: Windows | None = None  # the choice; None: there is none yet
        self.windows_mb = 0  # memory of the environment that it is for
        # It is made anew with as many idle times, and not before this instant: monotonic seconds.
        self.anew_samples = 0
        self.anew_at = 0.0

    def add(self, seconds: float, times: int) -> None:
        """So many more of the same."""
        number = min(BINS - 1, int(_PER_DOUBLING * math.log2(seconds))) if seconds > 1.0 else 0
        left = times if times <= _FILLED else _FILLED + (times - _FILLED) % _TURN
        while left:
            if self.counts[number] == _FULL:
                self.counts = bytearray(count >> 1 for count in self.counts)
                self.samples = sum(self.counts)
                self.anew_samples = 0
            some = min(left, _FULL - self.counts[number])
            self.counts[number] += some
            self.samples += some
            left -= some
        if seconds < _LEAST:
            # No window is for so short a time.
            kept = _FADING**times
            self._tries = self._tries * kept + (1.0 - kept) / (1.0 - _FADING)
            self._hits *= kept
        else:
            for _ in range(times):
                self._compare(seconds)

    def _compare(self, seconds: float) -> None:
        recent = self._recent
        if recent:
            begin, end = window_of(recent)
            self._tries = self._tries * _FADING + 1.0
            self._hits = self._hits * _FADING + (begin <= seconds <= end)
            if len(recent) == _RECENT:
                del recent[0]
        recent.append(seconds)

    def choose(self, together: Sequence[int], memory_mb: int, price: float, now: float) -> Windows:
        """What they call for. `together`: the counts of all levels of the version, this one's too."""
        gigabytes, known = memory_mb / 1024, sum(together)
        share = min(1.0, _OTHERS / known) if known else 0.0
        weights = [doubt + share * other + own for doubt, other, own in zip(DOUBT, together, self.counts, strict=True)]
        keep = keep_for(weights, sum(weights), gigabytes, price)
        ahead = self._ahead(gigabytes, price)
        if ahead is not None and ahead.cost < keep.cost:
            chosen = Windows(ahead.begin, ahead.end, "Regular", Reason.BREAK_EVEN)
        else:
            chosen = _KEPT[keep.end, known > 0]
        self.windows, self.windows_mb = chosen, memory_mb
        self.anew_samples, self.anew_at = self.samples + (self.samples >> _ANEW) + 1, now + _ANEW_SECONDS
        return chosen

    def _ahead(self, gigabytes: float, price: float) -> Choice | None:
        """Letting go and starting ahead, if idle times were foretold before."""
        if len(self._recent) < 2:
            return None
        begin, end = window_of(self._recent)
        if begin <= _LEAD:
            return None
        missed = (self._tries - self._hits + 1.0) / (self._tries + 2.0)
        return Choice(begin, end, gigabytes * (end - begin) + price * missed)


@dataclass(frozen=True, slots=True)
class BreakEven:
    """The policy's number."""

    price: float = 140.0  # of a cold start: GB·s of memory that idles

    def idle_times(self, otherwise: float) -> VersionTimes:
        """See KeepAlivePolicy."""
        return VersionTimes(self.price)


class VersionTimes:
    """The idle times of a version by level; the higher ones, two to a doubling, together. See IdleTimes."""

    __slots__ = ("_price", "levels")

    def __init__(self, price: float) -> None:
        self._price = price
        self.levels: list[LevelTimes] = []

    def add(self, level: int, seconds: float, times: int = 1) -> None:
        self._level(level).add(seconds, times)

    def windows(self, level: int, memory_mb: int, now: float) -> tuple[Windows, float]:
        of_level = self._level(level)
        known = of_level.windows
        if (
            known is None or of_level.windows_mb != memory_mb
            or (of_level.samples >= of_level.anew_samples and now >= of_level.anew_at)
        ):  # fmt: skip
            levels = self.levels
            together = (
                of_level.counts if len(levels) == 1
                else [sum(column) for column in zip(*(each.counts for each in levels), strict=True)]
            )  # fmt: skip
            known = of_level.choose(together, memory_mb, self._price, now)
        return known, of_level.anew_at

    def _level(self, level: int) -> LevelTimes:
        number = level - 1 if level <= 4 else 3 + math.ceil(2 * math.log2(level / 4))
        levels = self.levels
        while number >= len(levels):
            levels.append(LevelTimes())
        return levels[number]
