"""How asynchronous events of a function, version or alias are run: what may be set, decided over plain values.

Sources: https://docs.aws.amazon.com/lambda/latest/api/API_PutFunctionEventInvokeConfig.html and AWS's recorded answers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lambent.domain import destinations
from lambent.domain.async_events import RetryPolicy
from lambent.domain.errors import AwsError, invalid_parameter
from lambent.domain.names import FunctionRef


@dataclass(frozen=True, slots=True)
class EventInvokeConfig:
    """What is set; None: the default."""

    last_modified: float  # epoch seconds
    retry_attempts: int | None = None
    event_age_seconds: int | None = None
    on_success: str | None = None  # ARN
    on_failure: str | None = None  # ARN

    def policy(self, standard: RetryPolicy) -> RetryPolicy:
        """The rules for its events."""
        return replace(
            standard,
            retry_attempts=standard.retry_attempts if self.retry_attempts is None else self.retry_attempts,
            event_age_seconds=standard.event_age_seconds if self.event_age_seconds is None else self.event_age_seconds,
        )


@dataclass(frozen=True, slots=True)
class Wanted:
    """The members that a request carries; None: it does not. An empty destination is none."""

    retry_attempts: int | None
    event_age_seconds: int | None
    on_success: str | None
    on_failure: str | None


def put(wanted: Wanted, now: float) -> EventInvokeConfig:
    """What a Put sets."""
    return merge(EventInvokeConfig(now), wanted, now)


def merge(before: EventInvokeConfig, wanted: Wanted, now: float) -> EventInvokeConfig:
    """What an Update leaves."""
    if wanted == Wanted(None, None, None, None):
        raise invalid_parameter("You must specify at least one of error handling or destination setting.")
    return EventInvokeConfig(
        now,
        before.retry_attempts if wanted.retry_attempts is None else wanted.retry_attempts,
        before.event_age_seconds if wanted.event_age_seconds is None else wanted.event_age_seconds,
        before.on_success if wanted.on_success is None else wanted.on_success or None,
        before.on_failure if wanted.on_failure is None else wanted.on_failure or None,
    )


def functions_told(ref: FunctionRef, wanted: Wanted) -> list[destinations.Destination]:
    """The functions that a request wants told, which must exist. Raises AWS's error for what cannot be told."""
    told = []
    for arn, services in (
        (wanted.on_success, destinations.ON_SUCCESS), (wanted.on_failure, destinations.ON_FAILURE),
    ):  # fmt: skip
        if not arn:
            continue
        destination = destinations.parse(arn, services)
        if destination is None:
            raise invalid_parameter(
                "The provided destination config DestinationConfig("
                f"onSuccess={_shown('OnSuccess', wanted.on_success)}, "
                f"onFailure={_shown('OnFailure', wanted.on_failure)}) is invalid."
            )
        if destination.service != "lambda":
            continue
        if (destination.region, destination.account) != (ref.tenant.region, ref.tenant.account):
            raise unknown_function(arn)
        if destination.function[0] == ref.name:
            raise invalid_parameter("You can't specify the function as a destination for itself.")
        told.append(destination)
    return told


def unknown_function(arn: str) -> AwsError:
    """AWS's answer to a function as destination that there is not."""
    return invalid_parameter(f"The destination ARN {arn} is invalid.")


def nothing_set(ref: FunctionRef) -> AwsError:
    """AWS's answer where there is no configuration."""
    qualified = FunctionRef(ref.tenant, ref.name, ref.qualifier or "$LATEST")
    return AwsError("ResourceNotFoundException", f"The function {qualified.arn} doesn't have an EventInvokeConfig")


def no_function() -> AwsError:
    """AWS's answer of these operations where the function or what the qualifier names is not there."""
    return AwsError("ResourceNotFoundException", "The function doesn't exist.")


def _shown(kind: str, arn: str | None) -> str:
    return f"{kind}(destination={arn})" if arn else "null"
