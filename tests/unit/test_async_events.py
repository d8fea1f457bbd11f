"""When an event is tried again and when it is given up: AWS's rules on virtual time."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambent.domain.async_events import Condition, Decision, End, Outcome, Progress, Retry, RetryPolicy, decide, too_old
from lambent.domain.limits import Limits

STANDARD = RetryPolicy.standard(Limits())


def policy(retries: int = 2, age: float = 21_600.0) -> RetryPolicy:
    return RetryPolicy(retries, age, 60.0, 1.0, 300.0)


def run(outcome: Outcome, rules: RetryPolicy) -> tuple[list[float], End, float]:
    """An event whose every attempt has one outcome: when it was tried, how it ended and when."""
    tried: list[float] = []
    now, progress = 0.0, Progress(0.0)
    while True:
        end = too_old(progress, rules, now)
        if end is not None:
            return tried, end, now
        tried.append(now)
        decision: Decision = decide(progress, outcome, rules, now)
        if isinstance(decision, End):
            return tried, decision, now
        assert decision.at > now
        now, progress = decision.at, decision.progress


def test_what_is_standard_is_awss() -> None:
    assert policy() == STANDARD


@pytest.mark.parametrize(
    ("rules", "tried", "condition", "count"),
    [
        (policy(), [0, 60, 180], Condition.RETRIES_EXHAUSTED, 3),
        (policy(retries=1), [0, 60], Condition.RETRIES_EXHAUSTED, 2),
        (policy(retries=0), [0], Condition.RETRIES_EXHAUSTED, 1),
        # It would be too old at its next attempt: it does not wait for that.
        (policy(age=60), [0], Condition.EVENT_AGE_EXCEEDED, 1),
        (policy(age=170), [0, 60], Condition.EVENT_AGE_EXCEEDED, 2),
    ],
)
def test_a_function_that_always_fails(rules: RetryPolicy, tried: list[float], condition: Condition, count: int) -> None:
    at, end, ended = run(Outcome.FUNCTION_ERROR, rules)
    assert at == tried
    assert (end.condition, end.progress.attempts) == (condition, count)
    assert ended == tried[-1]


@pytest.mark.parametrize("outcome", [Outcome.THROTTLED, Outcome.SYSTEM_ERROR])
def test_what_does_not_run_is_put_off_twice_as_long_each_time_until_it_is_too_old(outcome: Outcome) -> None:
    tried, end, ended = run(outcome, policy())
    waits = [after - before for before, after in itertools.pairwise(tried)]
    assert waits[:10] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]
    assert set(waits[10:]) == {300}
    assert (end.condition, end.progress.attempts) == (Condition.EVENT_AGE_EXCEEDED, 0)
    assert ended == 21_600


@pytest.mark.parametrize(
    ("outcome", "condition"),
    [
        (Outcome.ZERO_RESERVED, Condition.ZERO_RESERVED_CONCURRENCY),
        (Outcome.IN_LOOP, Condition.RECURSIVE_LOOP),
    ],
)
def test_what_time_does_not_help_ends_it_at_once(outcome: Outcome, condition: Condition) -> None:
    tried, end, _ = run(outcome, policy())
    assert tried == [0]
    assert end == End(condition, Progress(0.0))


def test_success_and_a_function_that_is_gone_end_it() -> None:
    assert decide(Progress(0.0), Outcome.SUCCEEDED, STANDARD, 1.0) == End(Condition.SUCCESS, Progress(0.0, 1))
    assert decide(Progress(0.0, 1, 3), Outcome.NOT_FOUND, STANDARD, 1.0) == End(
        Condition.NOT_FOUND, Progress(0.0, 1, 3)
    )


def test_throttles_are_no_attempts_and_an_attempt_starts_their_clock_anew() -> None:
    progress, now = Progress(0.0), 0.0
    for outcome, wait in (
        (Outcome.THROTTLED, 1), (Outcome.SYSTEM_ERROR, 2), (Outcome.FUNCTION_ERROR, 60), (Outcome.THROTTLED, 1),
        (Outcome.FUNCTION_ERROR, 120),
    ):  # fmt: skip
        decision = decide(progress, outcome, policy(), now)
        assert isinstance(decision, Retry)
        assert decision.at == now + wait
        assert decision.reason is outcome
        now, progress = decision.at, decision.progress
    end = decide(progress, Outcome.FUNCTION_ERROR, policy(), now)
    assert isinstance(end, End)
    assert (end.condition, end.progress.attempts) == (Condition.RETRIES_EXHAUSTED, 3)


@given(
    st.lists(st.sampled_from([Outcome.FUNCTION_ERROR, Outcome.THROTTLED, Outcome.SYSTEM_ERROR]), max_size=60),
    st.integers(0, 2),
    st.floats(60, 21_600),
)
def test_every_history_ends_by_its_age_and_within_its_attempts(
    outcomes: list[Outcome], retries: int, age: float
) -> None:
    rules, progress, now = policy(retries, age), Progress(0.0), 0.0
    for outcome in outcomes:
        if too_old(progress, rules, now) is not None:
            return
        decision = decide(progress, outcome, rules, now)
        assert decision.progress.attempts <= retries + 1
        if isinstance(decision, End):
            assert decision.condition in (Condition.RETRIES_EXHAUSTED, Condition.EVENT_AGE_EXCEEDED)
            return
        assert now < decision.at <= age
        now, progress = decision.at, decision.progress
