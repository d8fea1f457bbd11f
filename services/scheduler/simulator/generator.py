"""A synthetic trace with the statistics of the published ones, from one seed.

Popularity is skewed as in the Azure trace of 2019: a function's share is that of its index under int(LogNormal * n). A
sixth of the functions are timers with a little jitter; the others are invoked in bursts with silence between, not by a
Poisson process, and by day more than by night. Execution time and memory come from the published fits.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from services.scheduler.simulator.distributions import EXECUTION, lognormal, lognormal_share, memory_mb, unit
from services.scheduler.simulator.trace import LONGEST, Arrival, TraceFunction, memory_of

DAY = 86_400.0
# Index of an invocation's function, as a share of all: logarithm's mean and deviation. A published fit to Azure 2019.
POPULARITY = (-7.85, 2.75)
TIMERS = 0.16  # share of the functions; Azure 2019
PERIODS = (60, 300, 600, 900, 1800, 3600, 21_600, 86_400)  # of timers, seconds
JITTER = 0.02  # of a timer, share of its period
SWING = 3.2  # busiest to quietest time of the day; Azure 2021
# Ours, so that most gaps within a burst are below a second, and silences are from nearly regular to wild:
BURST = (math.log(3.0), 1.0)  # logarithm of a burst's mean size, over the functions
GAP = (math.log(0.3), 1.0)  # logarithm of seconds between two invocations of a burst, over the functions
SILENCE = (0.2, 1.6)  # least and largest deviation of the logarithm of a silence
SPREAD = 0.5  # deviation of the logarithm of one function's execution times
# No function has more executions at once than this on average: its execution time is drawn again.
_BUSIEST = 20.0


@dataclass(slots=True)
class _Source:
    """One function's invocations: a timer, or bursts."""

    number: int
    execution: float  # mean seconds
    period: float = 0.0  # of a timer, seconds; 0: it is none
    tick: int = 0
    phase: float = 0.0
    burst: float = 1.0  # mean invocations
    gap: float = 0.0  # mean seconds within a burst
    silence: float = 0.0  # mean seconds between bursts
    sigma: float = 1.0  # of the logarithm of a silence
    left: int = 0  # invocations of the burst in hand


class Generated:
    """The trace; the same each time for the same arguments."""

    def __init__(self, functions: int, seconds: float, per_day: float, seed: int) -> None:
        """`per_day`: invocations of all functions together, about."""
        self.seconds = seconds
        self._seed = seed
        rng = random.Random(seed)
        of_all = lognormal_share(1.0, *POPULARITY)
        self._sources: list[_Source] = []
        self.functions: list[TraceFunction] = []
        edges = [lognormal_share(number / functions, *POPULARITY) for number in range(functions + 1)]
        rates = [per_day * (high - low) / of_all for low, high in itertools.pairwise(edges)]
        # A timer cannot be one of those that are invoked all the time.
        slow = [number for number, daily in enumerate(rates) if daily <= DAY / PERIODS[0]]
        timers = {*rng.sample(slow, min(len(slow), round(TIMERS * functions)))}
        for number, daily in enumerate(rates):
            self._sources.append(_source(number, daily, number in timers, rng))
            self.functions.append(TraceFunction(f"f{number}", memory_of(memory_mb(unit(rng)))))

    def minutes(self) -> Iterator[list[Arrival]]:
        """See Trace."""
        rng = random.Random(self._seed + 1)
        heap = [(_first(source, rng), source.number) for source in self._sources]
        heapq.heapify(heap)
        for source in self._sources:
            source.left = source.tick = 0
        for minute in range(math.ceil(self.seconds / 60.0)):
            end = min((minute + 1) * 60.0, self.seconds)
            found: list[Arrival] = []
            while heap[0][0] < end:
                at, number = heap[0]
                source = self._sources[number]
                found.append((at, number, _duration(source, rng)))
                heapq.heapreplace(heap, (_next(source, at, rng), number))
            yield found


def _source(number: int, daily: float, timer: bool, rng: random.Random) -> _Source:
    execution = min(LONGEST, lognormal(unit(rng), *EXECUTION))
    while daily / DAY * execution > _BUSIEST:
        execution = lognormal(unit(rng), *EXECUTION)
    if timer:
        period = min(PERIODS, key=lambda seconds: abs(math.log(seconds * daily / DAY)))
        return _Source(number, execution, period=float(period), phase=rng.uniform(0.0, period))
    between = DAY / daily
    burst = max(1.0, min(lognormal(unit(rng), *BURST), daily / 4))
    # A burst takes at most a third of the time, or there would be no silence.
    gap = min(lognormal(unit(rng), *GAP), between / 3)
    return _Source(
        number, execution, burst=burst, gap=gap, silence=burst * between - (burst - 1) * gap,
        sigma=rng.uniform(*SILENCE),
    )  # fmt: skip


def _first(source: _Source, rng: random.Random) -> float:
    # In the midst of a silence: the trace has no beginning of its own.
    return source.phase if source.period else rng.random() * _silence(source, 0.0, rng)


def _next(source: _Source, now: float, rng: random.Random) -> float:
    if source.period:
        source.tick += 1
        due = source.phase + source.tick * source.period + rng.uniform(-0.5, 0.5) * JITTER * source.period
        return max(now, due)
    if source.left:
        source.left -= 1
        return now + rng.expovariate(1.0 / source.gap)
    # Geometric with the mean: that many more follow the first of the next burst.
    if source.burst > 1.0:
        source.left = int(math.log(1.0 - rng.random()) / math.log(1.0 - 1.0 / source.burst))
    return now + _silence(source, now, rng)


def _silence(source: _Source, now: float, rng: random.Random) -> float:
    mean = source.silence / daytime(now)
    return lognormal(unit(rng), math.log(mean) - source.sigma**2 / 2, source.sigma)


def daytime(now: float) -> float:
    """How many times the average is invoked at this time; most at noon."""
    return 1.0 - (SWING - 1.0) / (SWING + 1.0) * math.cos(2.0 * math.pi * now / DAY)


def _duration(source: _Source, rng: random.Random) -> float:
    return min(LONGEST, lognormal(unit(rng), math.log(source.execution) - SPREAD**2 / 2, SPREAD))
