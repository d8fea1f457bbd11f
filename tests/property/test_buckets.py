"""Rates: what a bucket gives in any stretch of time, against the definition."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.core.buckets import Bucket, Rate

rates = st.builds(Rate, st.floats(0.5, 1000.0), st.integers(1, 50))
steps = st.lists(st.tuples(st.floats(0.0, 5.0), st.integers(1, 60)), min_size=1, max_size=60)


@given(rates, steps)
def test_no_stretch_of_time_gives_more_than_the_rate_and_one_bucket(
    rate: Rate, wishes: list[tuple[float, int]]
) -> None:
    bucket, now, given_at = Bucket(rate), 100.0, list[tuple[float, int]]()
    for pause, wanted in wishes:
        now += pause
        taken = bucket.take(wanted, now)
        assert 0 <= taken <= wanted
        given_at.append((now, taken))
        # It is greedy: less than was wanted means that less than one more is there.
        assert taken == wanted or not bucket.take_one(now)
    for first in range(len(given_at)):
        total = 0
        for time, taken in given_at[first:]:
            total += taken
            assert total <= rate.at_once + rate.per_second * (time - given_at[first][0]) + 0.01 * len(given_at)


@given(rates, st.integers(1, 40))
def test_what_is_put_back_can_be_taken_again_at_once(rate: Rate, wanted: int) -> None:
    bucket = Bucket(rate)
    taken = bucket.take(wanted, 10.0)
    bucket.put_back(taken)
    assert bucket.take(wanted, 10.0) == taken


@given(rates)
def test_next_at_is_when_the_next_one_is_there(rate: Rate) -> None:
    bucket = Bucket(rate)
    while bucket.take_one(5.0):
        pass
    due = bucket.next_at(5.0)
    assert due > 5.0
    assert not bucket.take_one(5.0 + (due - 5.0) * 0.9)
    assert bucket.take_one(due)


def test_a_rate_of_zero_gives_nothing_for_ever() -> None:
    bucket = Bucket(Rate(0.0, 0.0))
    assert not bucket.take_one(1e9)
    assert bucket.take(5, 1e9) == 0
    bucket.change(Rate(1.0, 1.0))
    assert bucket.take_one(1e9)
