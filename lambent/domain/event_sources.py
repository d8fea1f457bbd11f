"""Event source mappings: a queue whose messages a function is invoked with. What may be set for one, and its states.

A mapping's record says what is wanted, and how far that has come: who changes it leaves a state that passes, and the
poller that reads its queue settles it.

Sources: https://docs.aws.amazon.com/lambda/latest/api/API_CreateEventSourceMapping.html,
https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html and AWS's recorded answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeVar

from lambent.domain.destinations import Destination, resource_of
from lambent.domain.errors import AwsError, invalid_parameter
from lambent.domain.event_patterns import for_queue
from lambent.domain.limits import Limits
from lambent.domain.names import FunctionRef, Tenant

T = TypeVar("T")

# Services whose resources can be event sources.
SOURCES = ("sqs",)
BATCH_ITEM_FAILURES = "ReportBatchItemFailures"
EVENT_COUNT = "EventCount"
# StateTransitionReason of everything that a user does.
USER_INITIATED = "USER_INITIATED"
DEFAULT_BATCH_SIZE = 10
# Most messages that one ReceiveMessage answers, and so the largest batch that needs no window.
RECEIVED_AT_ONCE = 10


class MappingState(Enum):
    """State of a mapping, as AWS calls it."""

    CREATING = "Creating"
    ENABLING = "Enabling"
    ENABLED = "Enabled"
    DISABLING = "Disabling"
    DISABLED = "Disabled"
    UPDATING = "Updating"
    DELETING = "Deleting"


# States that nobody has to settle; in all others a mapping is in use, and is neither changed nor deleted.
SETTLED = frozenset({MappingState.ENABLED, MappingState.DISABLED})


@dataclass(frozen=True, slots=True)
class EventSourceMapping:
    """One mapping."""

    tenant: Tenant
    uuid: str
    source_arn: str
    function: str  # its name
    qualifier: str | None  # version or alias; None: the function as such, which is $LATEST
    state: MappingState
    enabled: bool  # whether it is, or will be once its state is settled
    modified: float  # epoch seconds
    batch_size: int = DEFAULT_BATCH_SIZE  # messages
    window_seconds: int = 0  # how long a batch waits for more messages
    filters: tuple[str, ...] = ()  # patterns; none: every message
    reports_failures: bool = False  # the function says which messages failed
    maximum_concurrency: int | None = None  # batches at once; None: as many as scaling comes to
    counted: bool = False  # its events are counted (MetricsConfig)
    result: str = ""  # LastProcessingResult; empty: nothing to say
    tags: Mapping[str, str] | None = None  # None: none
    revision: int = 0  # of this record, one more at each change

    @property
    def arn(self) -> str:
        """`arn:aws:lambda:REGION:ACCOUNT:event-source-mapping:UUID`."""
        return mapping_arn(self.tenant, self.uuid)

    @property
    def ref(self) -> FunctionRef:
        """The function that is invoked."""
        return FunctionRef(self.tenant, self.function, self.qualifier)

    @property
    def pair(self) -> str:
        """What no two mappings of a tenant have in common: the source and the function's ARN."""
        return f"{self.source_arn} {self.ref.arn}"

    def next(self, **changes: object) -> EventSourceMapping:
        """The record after a change."""
        return replace(self, revision=self.revision + 1, **changes)  # type: ignore[arg-type]

    def settled(self) -> EventSourceMapping | None:
        """What follows once the poller has done what the state asks for; None: the mapping is no more."""
        if self.state is MappingState.DELETING:
            return None
        return self.next(state=MappingState.ENABLED if self.enabled else MappingState.DISABLED)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The members that a request carries; None: it does not."""

    ref: FunctionRef | None = None
    enabled: bool | None = None
    batch_size: int | None = None
    window_seconds: int | None = None
    filters: tuple[str, ...] | None = None
    reports_failures: bool | None = None
    maximum_concurrency: int | None = None
    scaling: bool = False  # a ScalingConfig is among them, though it may be empty, which takes the maximum away
    counted: bool | None = None


def source_of(arn: str) -> Destination:
    """The resource that an ARN names. Raises InvalidParameterValueException where it can be no event source here."""
    source = resource_of(arn, SOURCES)
    if source is None:
        raise invalid_parameter("Unrecognized event source.")
    return source


def create(
    uuid: str, source: Destination, ref: FunctionRef, wanted: Wanted, tags: Mapping[str, str], now: float,
    limits: Limits,
) -> EventSourceMapping:  # fmt: skip
    """A new mapping. Raises InvalidParameterValueException."""
    enabled = wanted.enabled is not False
    mapping = EventSourceMapping(
        ref.tenant, uuid, source.arn, ref.name, ref.qualifier, MappingState.CREATING, enabled, now,
        tags=dict(tags) or None,
    )  # fmt: skip
    return _checked(_with(mapping, wanted), source, limits)


def update(before: EventSourceMapping, wanted: Wanted, now: float, limits: Limits) -> EventSourceMapping:
    """What an Update leaves. Raises InvalidParameterValueException and ResourceInUseException."""
    if before.state not in SETTLED:
        raise in_use("update")
    after = _with(before, wanted)
    if wanted.enabled is None or wanted.enabled == before.enabled:
        state = MappingState.UPDATING
    else:
        state = MappingState.ENABLING if wanted.enabled else MappingState.DISABLING
        after = replace(after, enabled=wanted.enabled)
    after = after.next(state=state, modified=now)
    return _checked(after, source_of(before.source_arn), limits)


def delete(before: EventSourceMapping, now: float) -> EventSourceMapping:
    """What a Delete leaves until nothing of it runs any more. Raises ResourceInUseException."""
    if before.state not in SETTLED:
        raise in_use("delete")
    return before.next(state=MappingState.DELETING, enabled=False, modified=now)


def _with(mapping: EventSourceMapping, wanted: Wanted) -> EventSourceMapping:
    """The mapping with what a request says of its settings."""
    ref = wanted.ref or mapping.ref
    return replace(
        mapping,
        function=ref.name,
        qualifier=ref.qualifier,
        batch_size=_said(wanted.batch_size, mapping.batch_size),
        window_seconds=_said(wanted.window_seconds, mapping.window_seconds),
        filters=_said(wanted.filters, mapping.filters),
        reports_failures=_said(wanted.reports_failures, mapping.reports_failures),
        maximum_concurrency=wanted.maximum_concurrency if wanted.scaling else mapping.maximum_concurrency,
        counted=_said(wanted.counted, mapping.counted),
    )


def _said(value: T | None, before: T) -> T:
    return before if value is None else value


def _checked(mapping: EventSourceMapping, source: Destination, limits: Limits) -> EventSourceMapping:
    """The same, where it makes sense. Raises InvalidParameterValueException."""
    if source.ordered:
        if mapping.batch_size > RECEIVED_AT_ONCE:
            raise invalid_parameter(f"A batch of a FIFO queue has at most {RECEIVED_AT_ONCE} messages.")
        if mapping.window_seconds:
            raise invalid_parameter("Maximum batch window in seconds is not supported for FIFO queues.")
    elif mapping.batch_size > RECEIVED_AT_ONCE and not mapping.window_seconds:
        raise invalid_parameter(
            "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than "
            f"{RECEIVED_AT_ONCE}"
        )
    if len(mapping.filters) > limits.event_source_filters:
        raise invalid_parameter(f"A mapping has at most {limits.event_source_filters} filters.")
    for_queue(mapping.filters)
    return mapping


def check_visibility(visibility_seconds: int, timeout_seconds: int) -> None:
    """A message must stay hidden for as long as a function may work on it. Raises InvalidParameterValueException."""
    if visibility_seconds < timeout_seconds:
        raise invalid_parameter(
            f"Queue visibility timeout: {visibility_seconds} seconds is less than Function timeout: "
            f"{timeout_seconds} seconds"
        )


def mapping_arn(tenant: Tenant, uuid: str) -> str:
    """`arn:aws:lambda:REGION:ACCOUNT:event-source-mapping:UUID`."""
    return f"arn:aws:lambda:{tenant.region}:{tenant.account}:event-source-mapping:{uuid}"


def exists(mapping: EventSourceMapping, uuid: str) -> AwsError:
    """AWS's answer where a source and a function are mapped already, by the mapping `uuid`."""
    return AwsError(
        "ResourceConflictException",
        f'An event source mapping with SQS arn (" {mapping.source_arn} ") and function (" {mapping.function} ") '
        f"already exists. Please update or delete the existing mapping with UUID {uuid}",
    )


def in_use(what: str) -> AwsError:
    """AWS's answer to a change of a mapping whose state is not settled. `what`: update or delete."""
    return AwsError("ResourceInUseException", f"Cannot {what} the event source mapping because it is in use.")


def missing() -> AwsError:
    """AWS's answer where there is no such mapping."""
    return AwsError("ResourceNotFoundException", "The resource you requested does not exist.")


def too_many_changes() -> AwsError:
    """The answer where others have changed a mapping again and again between reading and writing it."""
    return AwsError(
        "ServiceUnavailableException", "Too many changes of this event source mapping at once; try again shortly."
    )


def no_function() -> AwsError:
    """AWS's answer to a mapping for a function, version or alias that is not there."""
    return invalid_parameter("Function does not exist")
