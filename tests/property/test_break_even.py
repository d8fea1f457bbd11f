"""Break-even keep-alive: the pure choice against the least of all choices, and what must hold whatever was seen."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from services.scheduler.core.break_even import BINS, EDGES, MIDDLES, BreakEven, LevelTimes, keep_for
from services.scheduler.core.reasons import Reason

gigabytes = st.floats(0.125, 10.0)
prices = st.floats(0.0, 2_000.0)
counts = st.dictionaries(st.integers(0, BINS - 1), st.integers(1, 9), min_size=1, max_size=6)
idle_times = st.lists(
    st.tuples(
        st.integers(1, 12), st.floats(0.0, 200_000.0) | st.sampled_from([0.4, 60.0, 299.0, 600.0, 603.0, 3600.0])
    ),
    max_size=60,
)


def cost(weights: list[float], until: float, memory: float, price: float) -> float:
    """By definition: memory until the use or the end, whichever is first, and the price where the end was."""
    return sum(
        weight * (memory * middle if edge <= until else memory * until + price)
        for weight, middle, edge in zip(weights, MIDDLES, EDGES, strict=True)
    )


@given(counts, gigabytes, prices)
def test_the_choice_is_the_least_of_all(by_bin: dict[int, int], memory: float, price: float) -> None:
    weights = [float(by_bin.get(number, 0)) for number in range(BINS)]
    total = sum(weights)
    choice = keep_for(weights, total, memory, price)
    least = min(cost(weights, until, memory, price) for until in (0.0, *EDGES))
    assert choice.begin == 0.0
    assert choice.cost * total == pytest.approx(least)
    assert cost(weights, choice.end, memory, price) == pytest.approx(least)


@given(counts, gigabytes, prices, prices)
def test_a_higher_price_never_keeps_for_less(by_bin: dict[int, int], memory: float, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assume(high > low * 1.000001)  # or rounding decides between equals
    weights = [float(by_bin.get(number, 0)) for number in range(BINS)]
    total = sum(weights)
    assert keep_for(weights, total, memory, low).end <= keep_for(weights, total, memory, high).end


@given(counts, gigabytes, gigabytes, prices)
def test_more_memory_is_never_kept_for_longer(by_bin: dict[int, int], one: float, other: float, price: float) -> None:
    small, large = sorted((one, other))
    assume(large > small * 1.000001)
    weights = [float(by_bin.get(number, 0)) for number in range(BINS)]
    total = sum(weights)
    assert keep_for(weights, total, large, price).end <= keep_for(weights, total, small, price).end


@given(idle_times, st.integers(1, 12), st.integers(128, 10_240), prices)
def test_windows_are_in_order_whatever_was_seen(
    seen: list[tuple[int, float]], level: int, memory_mb: int, price: float
) -> None:
    times = BreakEven(price).idle_times(600.0)
    for number, (of_level, seconds) in enumerate(seen):
        times.add(of_level, seconds)
        windows, until = times.windows(level, memory_mb, now=10.0 * number)
        assert until < 1e6
        assert 0.0 <= windows.begin <= windows.end < 1e6
        assert not windows.begin or windows.begin < windows.end
        assert windows.ends is Reason.BREAK_EVEN


@given(st.lists(st.floats(0.0, 5_000.0), min_size=300, max_size=1_500))
def test_a_long_history_takes_no_more_memory(seen: list[float]) -> None:
    times = BreakEven().idle_times(600.0)
    for seconds in seen:
        times.add(1, seconds)
    [level] = times.levels
    assert len(level.counts) == BINS
    assert level.samples == sum(level.counts) <= len(seen)


@given(st.lists(st.tuples(st.integers(0, 6_000), st.sampled_from([0.3, 7.0]), st.floats(60.0, 5_000.0)), max_size=6))
def test_idle_times_that_are_told_in_one_go_are_as_those_told_one_by_one(seen: list[tuple[int, float, float]]) -> None:
    together, singly = LevelTimes(), LevelTimes()
    for many, alike, seconds in seen:
        for times in (together, singly):
            times.add(seconds, 1)
        together.add(alike, many)
        for _ in range(many):
            singly.add(alike, 1)
        assert together.counts == singly.counts
        assert together.samples == singly.samples
