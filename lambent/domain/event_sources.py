"""Event source mappings: a queue or a stream whose records a function is invoked with. What may be set for one, and its
states.

A mapping's record says what is wanted, and how far that has come: who changes it leaves a state that passes, and the
poller that reads its source settles it.

Sources: https://docs.aws.amazon.com/lambda/latest/api/API_CreateEventSourceMapping.html,
https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html, services-kinesis-parameters.html and
services-ddb-params.html there, and AWS's recorded answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeVar

from lambent.domain.destinations import Destination, parse, resource_of
from lambent.domain.errors import AwsError, invalid_parameter
from lambent.domain.event_patterns import any_of, for_queue
from lambent.domain.kafka_records import KAFKA, own_servers
from lambent.domain.limits import Limits
from lambent.domain.names import FunctionRef, Tenant

T = TypeVar("T")

# Services whose resources can be event sources.
QUEUE, KINESIS, DYNAMODB = "sqs", "kinesis", "dynamodb"
SOURCES = (QUEUE, KINESIS, DYNAMODB, KAFKA)
# Where a stream is begun to be read (StartingPosition).
OLDEST, NEWEST, SINCE = "TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"
BATCH_ITEM_FAILURES = "ReportBatchItemFailures"
EVENT_COUNT = "EventCount"
# StateTransitionReason of everything that a user does, of queues and of streams.
USER_INITIATED, USER_ACTION = "USER_INITIATED", "User action"
# LastProcessingResult of a stream until something of it has been processed.
NOTHING_PROCESSED = "No records processed"
# In requests and answers: no bound of a record's age, or of attempts at a batch.
UNBOUNDED = -1
# The least age that can be set, in seconds, and the most.
LEAST_AGE, MOST_AGE = 60, 604_800
# Services that are told of a stream's batches that are given up.
ON_FAILURE = ("sqs", "sns", "s3")
# Records in a batch where a request does not say it.
DEFAULT_BATCH_SIZE, DEFAULT_STREAM_BATCH_SIZE = 10, 100
# Most messages that one ReceiveMessage answers, and so the largest batch that needs no window.
RECEIVED_AT_ONCE = 10

# Members of requests, as AWS calls them, that only some sources have.
_OF_STREAMS = frozenset(
    {
        "BisectBatchOnFunctionError",
        "DestinationConfig",
        "MaximumRecordAgeInSeconds",
        "MaximumRetryAttempts",
        "ParallelizationFactor",
        "StartingPosition",
        "StartingPositionTimestamp",
        "TumblingWindowInSeconds",
    }
)
_OF_QUEUES = frozenset({"ScalingConfig"})
_OF_KAFKA = frozenset(
    {
        "AmazonManagedKafkaEventSourceConfig",
        "SelfManagedEventSource",
        "SelfManagedKafkaEventSourceConfig",
        "SourceAccessConfigurations",
        "Topics",
    }
)
# What SourceAccessConfigurations may say: it makes no difference here, and is kept and told.
_NETWORK = ("VPC_SUBNET", "VPC_SECURITY_GROUP")
# Of services that are no sources here; of streams, what topics have not.
_OF_BROKERS = frozenset({"Queues"})
_NOT_OF_TOPICS = frozenset({"ParallelizationFactor", "TumblingWindowInSeconds"})
_OTHERS: Mapping[str, frozenset[str]] = {
    QUEUE: _OF_BROKERS | _OF_KAFKA | _OF_STREAMS,
    KINESIS: _OF_BROKERS | _OF_KAFKA | _OF_QUEUES,
    DYNAMODB: _OF_BROKERS | _OF_KAFKA | _OF_QUEUES,
    KAFKA: _OF_BROKERS | _OF_QUEUES | _NOT_OF_TOPICS,
}
# What an ARN names after its account, where it names a stream.
_STREAMS: Mapping[str, re.Pattern[str]] = {
    KINESIS: re.compile(r"stream/[a-zA-Z0-9_.-]{1,128}"),
    DYNAMODB: re.compile(r"table/[a-zA-Z0-9_.-]{3,255}/stream/[a-zA-Z0-9:.-]+"),
    KAFKA: re.compile(r"cluster/[a-zA-Z0-9_-]{1,64}/[a-zA-Z0-9-]+|self-managed/.+"),
}
_CONSUMER = re.compile(r"(stream/[^/]+)/consumer/.+")


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
    batch_size: int = DEFAULT_BATCH_SIZE  # records
    window_seconds: int = 0  # how long a batch waits for more records
    filters: tuple[str, ...] = ()  # patterns; none: every record
    reports_failures: bool = False  # the function says which records failed
    maximum_concurrency: int | None = None  # of a queue: batches at once; None: as many as scaling comes to
    counted: bool = False  # its events are counted (MetricsConfig)
    result: str = ""  # LastProcessingResult; empty: nothing to say
    tags: Mapping[str, str] | None = None  # None: none
    revision: int = 0  # of this record, one more at each change

    # Of streams.
    position: str = ""  # OLDEST, NEWEST or SINCE
    position_time: float | None = None  # epoch seconds, with SINCE
    parallel: int = 1  # batches of a shard at once
    age_seconds: int | None = None  # how old a record may become; None: as old as the stream keeps it
    retries: int | None = None  # attempts at a batch after the first; None: until it succeeds
    bisects: bool = False  # a batch that fails is tried again in halves
    on_failure: str | None = None  # ARN of who is told of a batch that is given up
    tumbling_seconds: int = 0  # how long the function's state is handed from batch to batch; 0: it is not

    # Of Kafka.
    topic: str = ""
    group: str = ""  # the consumer group whose offsets say how far it has come
    access: tuple[tuple[str, str], ...] = ()  # SourceAccessConfigurations, which are kept and told: type and URI

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
        topic = f" {self.topic}" if self.topic else ""
        return f"{self.source_arn}{topic} {self.ref.arn}"

    @property
    def servers(self) -> tuple[str, ...]:
        """Of Kafka, where the cluster has no ARN: its bootstrap servers."""
        return own_servers(source_of(self.source_arn))

    @property
    def of_stream(self) -> bool:
        """Whether its source is a stream."""
        return is_stream(source_of(self.source_arn))

    @property
    def reason(self) -> str:
        """Why it is in its state (StateTransitionReason)."""
        return USER_ACTION if self.of_stream else USER_INITIATED

    @property
    def last_result(self) -> str:
        """What came of the last batch (LastProcessingResult); empty: nothing to say."""
        return self.result or (NOTHING_PROCESSED if self.of_stream else "")

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
    """The members that a request carries; None: it does not. Units are those of EventSourceMapping."""

    ref: FunctionRef | None = None
    enabled: bool | None = None
    batch_size: int | None = None
    window_seconds: int | None = None
    filters: tuple[str, ...] | None = None
    reports_failures: bool | None = None
    maximum_concurrency: int | None = None
    scaling: bool = False  # a ScalingConfig is among them, though it may be empty, which takes the maximum away
    counted: bool | None = None
    members: tuple[str, ...] = ()  # all that are sent and say something, as AWS calls them

    # Of streams.
    position: str | None = None
    position_time: float | None = None
    parallel: int | None = None
    age_seconds: int | None = None  # UNBOUNDED: as old as the stream keeps it
    retries: int | None = None  # UNBOUNDED: until it succeeds
    bisects: bool | None = None
    on_success: str = ""  # an ARN, which is refused
    on_failure: str | None = None  # empty: nobody is told any more
    tumbling_seconds: int | None = None

    # Of Kafka.
    topics: tuple[str, ...] = ()
    group: str | None = None
    access: tuple[tuple[str, str], ...] | None = None


def source_of(arn: str) -> Destination:
    """The resource that an ARN names. Raises InvalidParameterValueException where it can be no event source here."""
    source = resource_of(arn, SOURCES)
    if source is None:
        raise invalid_parameter("Unrecognized event source.")
    if is_stream(source) and not names_stream(source):
        raise _no_stream(source)
    return source


def names_stream(source: Destination) -> bool:
    """Whether it is a stream itself, rather than something else of its service, such as a table."""
    return is_stream(source) and _STREAMS[source.service].fullmatch(source.resource) is not None


def is_stream(source: Destination) -> bool:
    """Whether it is a stream rather than a queue."""
    return source.service in _STREAMS


def _no_stream(source: Destination) -> AwsError:
    told = "Unrecognized event source."
    consumer = _CONSUMER.fullmatch(source.resource) if source.service == KINESIS else None
    if consumer is not None:
        stream = source.arn.removesuffix(source.resource) + consumer[1]
        told += f" Enhanced fan-out is not served: give the stream's own ARN, {stream}, instead of its consumer's."
    return invalid_parameter(told)


def create(
    uuid: str, source: Destination, ref: FunctionRef, wanted: Wanted, tags: Mapping[str, str], now: float,
    limits: Limits,
) -> EventSourceMapping:  # fmt: skip
    """A new mapping. Raises InvalidParameterValueException."""
    _check_members(source, wanted)
    enabled = wanted.enabled is not False
    mapping = EventSourceMapping(
        ref.tenant, uuid, source.arn, ref.name, ref.qualifier, MappingState.CREATING, enabled, now,
        tags=dict(tags) or None,
    )  # fmt: skip
    if is_stream(source):
        position, time = _begin(source, wanted, now)
        mapping = replace(mapping, batch_size=DEFAULT_STREAM_BATCH_SIZE, position=position, position_time=time)
    if source.service == KAFKA:
        if len(wanted.topics) != 1:
            raise invalid_parameter("Topics must name one topic.")
        mapping = replace(mapping, topic=wanted.topics[0], group=wanted.group or uuid)
    return _checked(_with(mapping, source, wanted), source, limits)


def update(before: EventSourceMapping, wanted: Wanted, now: float, limits: Limits) -> EventSourceMapping:
    """What an Update leaves. Raises InvalidParameterValueException and ResourceInUseException."""
    source = source_of(before.source_arn)
    _check_members(source, wanted)
    if before.state not in SETTLED:
        raise in_use("update")
    if wanted.group not in (None, before.group):
        raise invalid_parameter("ConsumerGroupId cannot be updated.")
    after = _with(before, source, wanted)
    if wanted.enabled is None or wanted.enabled == before.enabled:
        state = MappingState.UPDATING
    else:
        state = MappingState.ENABLING if wanted.enabled else MappingState.DISABLING
        after = replace(after, enabled=wanted.enabled)
    return _checked(after.next(state=state, modified=now), source, limits)


def delete(before: EventSourceMapping, now: float) -> EventSourceMapping:
    """What a Delete leaves until nothing of it runs any more. Raises ResourceInUseException."""
    if before.state not in SETTLED:
        raise in_use("delete")
    return before.next(state=MappingState.DELETING, enabled=False, modified=now)


def _check_members(source: Destination, wanted: Wanted) -> None:
    """That a request says only what there is for such a source. Raises InvalidParameterValueException."""
    for name in wanted.members:
        if name in _OTHERS[source.service]:
            raise invalid_parameter(f"Unsupported {name} parameter for given event source mapping type.")
    if wanted.on_success:
        raise invalid_parameter(
            "DestinationConfig: an event source mapping tells nobody of a success; only OnFailure can be set."
        )


def _begin(source: Destination, wanted: Wanted, now: float) -> tuple[str, float | None]:
    """Where a new mapping begins to read its stream, and the time where that is one. Raises
    InvalidParameterValueException."""
    if not wanted.position:
        raise invalid_parameter(
            "1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: Member must "
            "not be null."
        )
    time = wanted.position_time
    if wanted.position != SINCE:
        if time is not None:
            raise invalid_parameter(f"StartingPositionTimestamp can be given only with StartingPosition {SINCE}.")
        return wanted.position, None
    if source.service == DYNAMODB:
        raise invalid_parameter(f"Unsupported starting position for arn type: {source.arn}")
    if time is None:
        raise invalid_parameter(f"StartingPosition {SINCE} needs a StartingPositionTimestamp.")
    if time > now:
        raise invalid_parameter("StartingPositionTimestamp must not be in the future.")
    if time < 0:
        raise invalid_parameter("StartingPositionTimestamp must not be before 1970.")
    return wanted.position, time


def _with(mapping: EventSourceMapping, source: Destination, wanted: Wanted) -> EventSourceMapping:
    """The mapping with what a request says of its settings."""
    ref = wanted.ref or mapping.ref
    after = replace(
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
    after = _with_stream(after, wanted) if is_stream(source) else after
    return replace(after, access=_said(wanted.access, after.access))


def _with_stream(mapping: EventSourceMapping, wanted: Wanted) -> EventSourceMapping:
    """The same of settings that only streams have."""
    return replace(
        mapping,
        parallel=_said(wanted.parallel, mapping.parallel),
        age_seconds=_bound(wanted.age_seconds, mapping.age_seconds),
        retries=_bound(wanted.retries, mapping.retries),
        bisects=_said(wanted.bisects, mapping.bisects),
        on_failure=_said(wanted.on_failure, mapping.on_failure) or None,
        tumbling_seconds=_said(wanted.tumbling_seconds, mapping.tumbling_seconds),
    )


def _said(value: T | None, before: T) -> T:
    return before if value is None else value


def _bound(value: int | None, before: int | None) -> int | None:
    if value is None:
        return before
    return None if value == UNBOUNDED else value


def _checked(mapping: EventSourceMapping, source: Destination, limits: Limits) -> EventSourceMapping:
    """The same, where it makes sense. Raises InvalidParameterValueException."""
    if len(mapping.filters) > limits.event_source_filters:
        raise invalid_parameter(f"A mapping has at most {limits.event_source_filters} filters.")
    if is_stream(source):
        _check_stream(mapping)
    else:
        _check_queue(mapping, source)
    return mapping


def _check_queue(mapping: EventSourceMapping, source: Destination) -> None:
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
    for_queue(mapping.filters)


def _check_stream(mapping: EventSourceMapping) -> None:
    if mapping.age_seconds is not None and not LEAST_AGE <= mapping.age_seconds <= MOST_AGE:
        raise invalid_parameter(f"MaximumRecordAgeInSeconds must be {UNBOUNDED}, or {LEAST_AGE} to {MOST_AGE}.")
    if mapping.tumbling_seconds and mapping.parallel > 1:
        raise invalid_parameter(
            "ParallelizationFactor must be 1 where TumblingWindowInSeconds is set: a shard has one state."
        )
    if mapping.on_failure is not None and parse(mapping.on_failure, ON_FAILURE) is None:
        raise invalid_parameter(
            f"The destination ARN {mapping.on_failure} is invalid: it must be of an SQS standard queue, an SNS "
            "standard topic or an S3 bucket."
        )
    for kind, _ in mapping.access:
        if not kind.startswith(_NETWORK):
            raise invalid_parameter(
                f"SourceAccessConfigurations: {kind} is not served: how brokers are logged in to is said in the "
                "operator's table of connections (setting queue.connections)."
            )
    any_of(mapping.filters)


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
    source, function = f'(" {mapping.source_arn} ")', f'(" {mapping.function} ")'
    if mapping.servers:
        told = f"The topic {mapping.topic} of {', '.join(mapping.servers)} is mapped to function {function} already."
    elif mapping.of_stream:
        told = f"The event source arn {source} and function {function} provided mapping already exists."
    else:
        told = f"An event source mapping with SQS arn {source} and function {function} already exists."
    return AwsError(
        "ResourceConflictException", f"{told} Please update or delete the existing mapping with UUID {uuid}"
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
