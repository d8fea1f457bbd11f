"""How long environments are kept, decision by decision; whole histories are in tests/simulation."""

from __future__ import annotations

import dataclasses

import pytest

from services.scheduler.core import events as ev
from services.scheduler.core import instructions as ins
from services.scheduler.core.break_even import BreakEven
from services.scheduler.core.buckets import Rate
from services.scheduler.core.hybrid_histogram import Histogram, HistogramTimes, HybridHistogram
from services.scheduler.core.keep_alive import FORGET_SECONDS
from services.scheduler.core.policies import Policies, Ramp, keep_alive_policies
from services.scheduler.core.reasons import Reason
from tests.unit.test_scheduler_core import POLICIES, Bench, need

HYBRID = dataclasses.replace(
    POLICIES, keep_alive=600.0, keep_alive_policy=HybridHistogram(samples=3), requests_per_execution=1000.0
)


class Clocked:
    """A function that is used for a second at a time, and a worker that starts whatever it is told to."""

    def __init__(self, policies: Policies = HYBRID, *, memory_mb: int = 1024) -> None:
        self.bench = Bench(policies, memory_mb=memory_mb)
        self.stops: list[tuple[float, Reason]] = []
        self.starts: list[float] = []

    def feed(self, event: ev.Event) -> list[ins.Instruction]:
        """An event; workers do at once what they are told."""
        out = self.bench.feed(event)
        for item in list(out):
            if isinstance(item, ins.Start):
                self.starts.append(self.bench.now)
                out += self.feed(ev.EnvironmentReady("w", item.environment_id, 0))
            elif isinstance(item, ins.Stop):
                self.stops.append((self.bench.now, item.reason))
                out += self.feed(ev.EnvironmentGone("w", item.environment_id, item.reason))
        return out

    def until(self, at: float) -> None:
        """Time passes, and nothing else happens."""
        while self.bench.core.due_at <= at:
            self.bench.now = max(self.bench.now, self.bench.core.due_at)
            self.feed(ev.TimePassed())
        self.bench.now = at
        self.feed(ev.TimePassed())

    def use(self, name: str = "f", *, generation: int = 1) -> ins.Grant:
        """One invocation of a second."""
        [grant] = [item for item in self._want(name, generation) if isinstance(item, ins.Grant)]
        self.until(self.bench.now + 1.0)
        self.feed(ev.LeaseReleased("c", grant.lease_id, reusable=True))
        return grant

    def _want(self, name: str, generation: int) -> list[ins.Instruction]:
        ticket = ev.Ticket("c", next(self.bench.tickets))
        return self.feed(ev.EnvironmentWanted(ticket, "r", need(name, generation=generation), b"d"))

    def uses(self, count: int, gap: float) -> list[Reason]:
        """Many, with the same gap between them. Answers how each was served."""
        found = []
        for _ in range(count):
            found.append(self.use().reason)
            self.until(self.bench.now + gap)
        return found


def test_the_windows_are_the_percentiles_with_their_margins() -> None:
    times = Histogram(0.05, 0.99, 60.0)
    for _ in range(20):
        times.add(10 * 60 + 5.0)
    windows = HybridHistogram().windows(times, 300.0)
    assert (windows.begin, windows.end) == pytest.approx((540.0, 726.0))
    assert windows.because == "Histogram"
    times.add(3.0)
    # One in 21 is just below the twentieth part that may be missed.
    assert HybridHistogram().windows(times, 300.0).begin == pytest.approx(540.0)
    times.add(3.0)
    assert HybridHistogram().windows(times, 300.0).begin == 0.0


@pytest.mark.parametrize(
    ("idle", "reason"),
    [
        ([600.0] * 9, "FewSamples"),
        ([20_000.0] * 11 + [600.0] * 10, "BeyondHistogram"),
        ([60.0 * n for n in range(240)], "NoPattern"),
    ],
)
def test_a_histogram_that_says_little_leaves_the_fixed_time(idle: list[float], reason: str) -> None:
    times = Histogram(0.05, 0.99, 60.0)
    for seconds in idle:
        times.add(seconds)
    windows = HybridHistogram().windows(times, 300.0)
    assert (windows.begin, windows.end, windows.because) == (0.0, 300.0, reason)


def test_policies_are_chosen_by_name() -> None:
    histogram, break_even = HybridHistogram(), BreakEven()
    named = {"fixed": None, "hybrid-histogram": histogram, "break-even": break_even}
    assert keep_alive_policies(histogram, break_even) == named


def test_an_environment_goes_at_once_and_another_is_there_in_time() -> None:
    world = Clocked()
    assert world.uses(4, 1200.0) == [Reason.COLD] * 4
    # Idle times of twenty minutes are known since the fourth: 1,080 to 1,386 seconds after a use one is kept.
    began = world.bench.now
    assert world.use().reason is Reason.WARM
    assert world.stops[-1] == (began + 1.0, Reason.NOT_DUE)
    world.starts.clear()
    world.until(began + 1.0 + 1200.0)
    assert world.starts == [began + 1.0 + 1080.0]
    grant = world.use()
    assert grant.reason is Reason.WARM


def test_one_that_nobody_used_goes_at_the_end_of_its_window() -> None:
    world = Clocked()
    world.uses(4, 1200.0)
    world.use()
    ended = world.bench.now
    world.stops.clear()
    world.starts.clear()
    world.until(ended + 5000.0)
    assert world.starts == [ended + 1080.0]
    [(stopped, reason)] = world.stops
    assert stopped == pytest.approx(ended + 1386.0)
    assert reason is Reason.IDLE
    assert world.bench.core.pools == {}


def test_short_idle_times_keep_it_for_less_than_the_fixed_time() -> None:
    world = Clocked()
    assert world.uses(5, 30.0) == [Reason.COLD, *[Reason.WARM] * 4]
    world.use()
    ended = world.bench.now
    world.until(ended + 1000.0)
    [(stopped, reason)] = world.stops
    assert stopped == pytest.approx(ended + 66.0)
    assert reason is Reason.IDLE


def test_a_use_that_comes_sooner_calls_the_start_off() -> None:
    world = Clocked()
    world.uses(4, 1200.0)
    world.use()
    world.until(world.bench.now + 100.0)
    assert world.use().reason is Reason.COLD
    world.starts.clear()
    # A fifth of the idle times are short now: it is kept from the first.
    world.until(world.bench.now + 1380.0)
    assert world.starts == []
    assert len(world.bench.core.environments) == 1


def test_nobody_is_evicted_for_one_started_ahead_and_it_is_the_first_to_go() -> None:
    world = Clocked(memory_mb=256)
    world.uses(4, 1200.0)
    world.use()
    world.until(world.bench.now + 1000.0)
    world.use("g")
    world.until(world.bench.now + 100.0)
    started_ahead = set(world.bench.core.ahead)
    assert len(started_ahead) == 1
    # Two environments fit, g's and the one started ahead: h takes the place of the latter, though g's idles longer.
    world.use("h")
    assert world.bench.core.ahead == {}
    assert world.stops[-1][1] is Reason.EVICTED
    assert {e.need.function_name for e in world.bench.core.environments.values()} == {"g", "h"}


def test_without_room_none_is_started_ahead() -> None:
    world = Clocked(memory_mb=128)
    world.uses(4, 1200.0)
    world.use()
    world.until(world.bench.now + 1000.0)
    world.use("g")
    world.starts.clear()
    world.until(world.bench.now + 200.0)
    assert world.starts == []
    assert [e.need.function_name for e in world.bench.core.environments.values()] == ["g"]


def test_the_ramp_counts_starts_ahead_too() -> None:
    ramp = Ramp("slow", Rate(0.0001, 6), Rate(1.0, 1), shared=True)
    world = Clocked(dataclasses.replace(HYBRID, ramp=ramp))
    world.uses(5, 1200.0)
    world.use()
    world.starts.clear()
    world.until(world.bench.now + 1200.0)
    assert world.starts == []


def test_a_function_that_was_changed_is_not_started_ahead_in_its_old_form() -> None:
    world = Clocked()
    world.uses(4, 1200.0)
    world.use()
    world.feed(ev.FunctionChanged(need().tenant, "f", 2))
    world.starts.clear()
    world.until(world.bench.now + 2000.0)
    assert world.starts == []
    # What is known of how it is used stays true.
    world.use(generation=2)
    ended = world.bench.now
    world.starts.clear()
    world.until(ended + 2000.0)
    assert world.starts == [ended + 1080.0]


def test_each_execution_at_once_has_idle_times_of_its_own() -> None:
    """Two at once every five minutes: both idle for five, whatever became of their environments."""
    world = Clocked(dataclasses.replace(HYBRID, concurrent_executions=10))
    for _ in range(4):
        grants = []
        for _ in range(2):
            out = world._want("f", 1)
            grants += [item for item in out if isinstance(item, ins.Grant)]
        for grant in grants:
            world.feed(ev.LeaseReleased("c", grant.lease_id, reusable=True))
        world.until(world.bench.now + 330.0)
    [habit] = world.bench.core.habits.values()
    assert isinstance(habit.times, HistogramTimes)
    assert habit.times.histogram.counts[5] == habit.times.histogram.samples == 6
    assert habit.busy == 0
    world.until(world.bench.now + 5000.0)
    assert world.bench.core.environments == {}


def test_what_nobody_uses_for_long_is_forgotten() -> None:
    world = Clocked()
    world.uses(2, 1200.0)
    world.until(world.bench.now + FORGET_SECONDS + 1000.0)
    world.use("g")
    world.until(world.bench.now + 1000.0)
    assert [name for _, name, _ in world.bench.core.habits] == ["g"]
