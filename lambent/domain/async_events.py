"""What becomes of an asynchronous event: when it is tried again and when it is given up. Pure: `now` is a parameter.

Two clocks. A function that fails is tried again after one wait, then after twice that, as often as its configuration
says. A throttle or a fault of the platform is no attempt: the event is put off, each time for twice as long, until it
is too old. Sources: https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html and
https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-configuring.html
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from lambent.domain.limits import Limits


class Outcome(StrEnum):
    """What came of running an event once."""

    SUCCEEDED = "Succeeded"
    FUNCTION_ERROR = "FunctionError"  # the handler ran and failed, timed out or ended its process
    THROTTLED = "Throttled"  # a limit stood against it; nothing ran
    SYSTEM_ERROR = "SystemError"  # the platform failed: no worker, a worker lost, an environment that did not start
    ZERO_RESERVED = "ZeroReserved"  # the function's reserved concurrency is 0; nothing ran
    IN_LOOP = "InLoop"  # the function has run too often in the event's chain of requests; nothing ran
    NOT_FOUND = "NotFound"  # the function, or what the qualifier named, is gone; nothing ran


class Condition(StrEnum):
    """Why an event has ended; what destinations are told. The last two are ours, the others are AWS's words."""

    SUCCESS = "Success"
    RETRIES_EXHAUSTED = "RetriesExhausted"
    EVENT_AGE_EXCEEDED = "EventAgeExceeded"
    ZERO_RESERVED_CONCURRENCY = "ZeroReservedConcurrency"
    RECURSIVE_LOOP = "RecursiveLoop"
    NOT_FOUND = "FunctionNotFound"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long and how often; a function's own configuration over AWS's clocks."""

    retry_attempts: int  # attempts after the first, 0 to 2 on AWS
    event_age_seconds: float  # an event that would be this old at its next attempt is given up
    error_wait_seconds: float  # before the second attempt; before the third, twice as long
    backoff_seconds: float  # first wait after a throttle or a system error
    backoff_max_seconds: float  # the waits double up to this

    @staticmethod
    def standard(limits: Limits) -> RetryPolicy:
        """For a function that has configured nothing."""
        return RetryPolicy(
            limits.async_retry_attempts,
            limits.async_event_age_seconds,
            limits.async_retry_seconds,
            limits.async_backoff_seconds,
            limits.async_backoff_max_seconds,
        )


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an event has come; epoch seconds."""

    accepted: float  # from then its age counts
    attempts: int = 0  # times that the handler ran
    deferrals: int = 0  # times in a row that it was put off without an attempt


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again at `at`."""

    at: float
    progress: Progress
    reason: Outcome


@dataclass(frozen=True, slots=True)
class End:
    """No more attempts."""

    condition: Condition
    progress: Progress


Decision = Retry | End


def too_old(progress: Progress, policy: RetryPolicy, now: float) -> End | None:
    """Asked before every attempt: an event that has waited too long is given up instead."""
    if now - progress.accepted < policy.event_age_seconds:
        return None
    return End(Condition.EVENT_AGE_EXCEEDED, progress)


def decide(progress: Progress, outcome: Outcome, policy: RetryPolicy, now: float) -> Decision:
    """What to do after an event was run, or could not be."""
    match outcome:
        case Outcome.SUCCEEDED:
            return End(Condition.SUCCESS, _attempted(progress))
        case Outcome.FUNCTION_ERROR:
            return _after_error(_attempted(progress), policy, now)
        case Outcome.ZERO_RESERVED:
            return End(Condition.ZERO_RESERVED_CONCURRENCY, progress)
        case Outcome.IN_LOOP:
            return End(Condition.RECURSIVE_LOOP, progress)
        case Outcome.NOT_FOUND:
            return End(Condition.NOT_FOUND, progress)
        case Outcome.THROTTLED | Outcome.SYSTEM_ERROR:
            return _put_off(progress, outcome, policy, now)


def _attempted(progress: Progress) -> Progress:
    return replace(progress, attempts=progress.attempts + 1, deferrals=0)


def _after_error(progress: Progress, policy: RetryPolicy, now: float) -> Decision:
    if progress.attempts > policy.retry_attempts:
        return End(Condition.RETRIES_EXHAUSTED, progress)
    at = now + policy.error_wait_seconds * progress.attempts
    # AWS looks ahead: an event that would be too old by then does not wait for it.
    return too_old(progress, policy, at) or Retry(at, progress, Outcome.FUNCTION_ERROR)


def _put_off(progress: Progress, outcome: Outcome, policy: RetryPolicy, now: float) -> Decision:
    end = too_old(progress, policy, now)
    if end is not None:
        return end
    # Beyond 2**32 the wait has long been cut to the maximum.
    wait = min(policy.backoff_seconds * 2.0 ** min(progress.deferrals, 32), policy.backoff_max_seconds)
    # Not beyond the age at which it is given up, so that this is known when it happens.
    at = min(now + wait, progress.accepted + policy.event_age_seconds)
    return Retry(at, replace(progress, deferrals=progress.deferrals + 1), outcome)
