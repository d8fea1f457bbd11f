"""Break-even keep-alive on functions whose use is known; the choice itself is in tests/property."""

from __future__ import annotations

import dataclasses

import pytest

from services.scheduler.core.break_even import BreakEven
from services.scheduler.core.reasons import Reason
from tests.unit.test_keep_alive import HYBRID, Clocked
from tests.unit.test_scheduler_core import need

# A function of 128 MB: a cold start is worth 1,120 s of it.
PRICE = BreakEven(price=140.0)


def world() -> Clocked:
    return Clocked(dataclasses.replace(HYBRID, keep_alive_policy=PRICE))


def kept(*idle: float, memory_mb: int = 128, level: int = 1) -> float:
    """How long an environment is kept after these idle times."""
    times = PRICE.idle_times(600.0)
    for number, seconds in enumerate(idle):
        times.windows(level, memory_mb, now=10.0 * number)
        times.add(level, seconds)
    windows, _ = times.windows(level, memory_mb, now=10.0 * len(idle))
    assert windows.begin == 0.0
    return windows.end


def test_of_a_function_that_is_new_the_price_and_the_memory_decide() -> None:
    times = PRICE.idle_times(600.0)
    windows, _ = times.windows(1, 128, now=0.0)
    assert windows.because == "NothingKnown"
    assert 100.0 < windows.end < 1_120.0
    assert times.windows(1, 10_240, now=0.0)[0].end < windows.end / 10
    assert BreakEven(price=0.0).idle_times(600.0).windows(1, 128, now=0.0)[0].end == 0.0


def test_idle_times_that_are_cheap_to_bridge_are_bridged_and_no_more() -> None:
    assert 35.0 < kept(*[20.0, 35.0] * 10, memory_mb=2_048) < 70.0
    assert 500.0 < kept(*[30.0, 500.0] * 10) < 1_120.0


def test_idle_times_that_cost_more_than_a_cold_start_are_not_bridged() -> None:
    """Two hours are, at 128 MB, six cold starts' worth: it goes after hardly a moment, the sooner the more is known."""
    irregular = [4_000.0, 9_000.0, 21_000.0, 6_000.0, 14_000.0, 30_000.0] * 6
    assert kept(*irregular) < 30.0
    assert kept(*irregular) <= kept(*irregular[:3])


def test_the_size_of_an_environment_decides_between_functions_that_are_used_alike() -> None:
    idle = [100.0, 170.0, 260.0, 400.0] * 6
    assert kept(*idle, memory_mb=128) > 400.0
    assert kept(*idle, memory_mb=4_096) < 100.0


def test_each_level_is_kept_by_its_own_idle_times() -> None:
    times = PRICE.idle_times(600.0)
    for number in range(40):
        times.add(1, 20.0 + number)
        times.add(3, 20_000.0 + 500.0 * (number % 7))
    assert times.windows(1, 512, now=0.0)[0].end > 50.0
    assert times.windows(3, 512, now=0.0)[0].end < 20.0


def test_the_many_short_idle_times_of_a_busy_function_count() -> None:
    clocked = world()
    clocked.use()
    [habit] = clocked.bench.core.habits.values()
    assert habit.latest is not None
    assert habit.latest.because == "NothingKnown"
    clocked.uses(40, 0.2)
    assert habit.latest.because == "BreakEven"


def test_a_timer_is_let_go_and_there_again_in_time() -> None:
    clocked = world()
    clocked.uses(4, 3_000.0)
    began = clocked.bench.now
    assert clocked.use().reason is Reason.WARM
    # It would be kept from 2,935 s on: a fiftieth and the time for the start before fifty minutes.
    assert clocked.stops[-1] == (began + 1.0, Reason.NOT_DUE)
    clocked.starts.clear()
    clocked.until(began + 1.0 + 3_000.0)
    assert clocked.starts == [pytest.approx(began + 1.0 + 0.98 * 3_000.0 - 5.0)]
    assert clocked.use().reason is Reason.WARM
    ended = clocked.bench.now
    clocked.until(ended + 10_000.0)
    stopped, reason = clocked.stops[-1]
    assert stopped == pytest.approx(ended + 1.02 * 3_000.0)
    assert reason is Reason.BREAK_EVEN
    assert clocked.bench.core.environments == {}


def test_a_timer_that_stops_being_one_is_no_longer_started_ahead() -> None:
    clocked = world()
    clocked.uses(8, 3_000.0)
    for gap in (700.0, 5_000.0, 1_500.0, 9_000.0, 400.0):
        clocked.use()
        clocked.until(clocked.bench.now + gap)
    clocked.starts.clear()
    clocked.use()
    started = len(clocked.starts)
    clocked.until(clocked.bench.now + 20_000.0)
    assert len(clocked.starts) == started


def test_an_environment_goes_when_more_is_not_worth_it_and_explain_says_so() -> None:
    clocked = world()
    clocked.uses(6, 20.0)
    clocked.use()
    ended = clocked.bench.now
    clocked.until(ended + 2_000.0)
    stopped, reason = clocked.stops[-1]
    assert reason is Reason.BREAK_EVEN
    assert 20.0 < stopped - ended < 1_120.0
    clocked.use()
    [decision, *_] = clocked.bench.core.journal.of_function(need().tenant, "f")
    assert (decision.outcome, decision.reason) == ("Started", "Cold")
    assert "the last one ended: BreakEven" in decision.because
    numbers = dict(decision.numbers)
    assert numbers["kept idle from second"] == 0
    assert 20 < numbers["kept idle to second"] < 1_120
