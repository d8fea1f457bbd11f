"""Histograms of idle times against their definition, recomputed from all samples."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.core.hybrid_histogram import BINS, Histogram, HybridHistogram

idle_times = st.lists(st.floats(0.0, 20_000.0) | st.sampled_from([5.0, 65.0, 610.0, 3605.0]), max_size=250)


@given(idle_times, st.floats(0.01, 0.5), st.floats(0.5, 1.0))
def test_percentiles_and_variation_are_those_of_the_counts(idle: list[float], head: float, tail: float) -> None:
    times = Histogram(head, tail, 60.0)
    inside: list[int] = []
    for seconds in idle:
        times.add(seconds)
        if seconds < BINS * 60.0:
            inside.append(int(seconds / 60.0))
    assert (times.samples, times.beyond) == (len(inside), len(idle) - len(inside))
    if not inside:
        return
    counts = [inside.count(number) for number in range(BINS)]
    for share, at in ((head, times.head), (tail, times.tail - 60.0)):
        number = round(at / 60.0)
        assert sum(counts[: number + 1]) >= share * len(inside)
        assert number == 0 or sum(counts[:number]) < share * len(inside)
    assert times.variation == pytest.approx(statistics.pstdev(counts) / statistics.fmean(counts), abs=1e-6)


@given(st.lists(st.integers(0, 12), min_size=300, max_size=2000))
def test_a_long_history_takes_no_more_memory_and_windows_stay_in_order(idle: list[int]) -> None:
    times, policy = Histogram(0.05, 0.99, 60.0), HybridHistogram()
    for minutes in idle:
        times.add(minutes * 60.0 + 1.0)
        windows = policy.windows(times, 600.0)
        assert 0.0 <= windows.begin < windows.end
    assert len(times.counts) == BINS
    assert times.samples == sum(times.counts)
