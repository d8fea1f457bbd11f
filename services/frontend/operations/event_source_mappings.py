"""EventSourceService: queues whose messages functions are invoked with. What may be set is decided by
lambent/domain/event_sources.py; what is set, pollers do."""

from __future__ import annotations

from lambent.domain import event_sources
from lambent.domain.clock import Clock, Ids
from lambent.domain.destinations import Destination
from lambent.domain.errors import AwsError, invalid_parameter
from lambent.domain.event_sources import EVENT_COUNT, EventSourceMapping, Wanted
from lambent.domain.functions import Function
from lambent.domain.limits import Limits
from lambent.domain.names import LATEST, FunctionRef, Tenant, parse
from lambent.domain.tags import check_tags
from lambent.infra.connections import Connections
from lambent.infra.event_sources.port import EventSourceStore, Taken
from lambent.infra.functions.port import FunctionStore
from lambent.infra.sqs_queue import QueueError, SqsQueue
from lambent.v1 import event_source_service_pb2 as pb
from services.frontend.operations import paging
from services.frontend.operations.editing import ATTEMPTS
from services.frontend.operations.timestamps import timestamp
from services.frontend.operations.unserved import UNSERVED_OF_EVENT_SOURCES, means_nothing, refuse_unserved, sent
from services.frontend.transport.call import Call

_Change = pb.CreateEventSourceMappingRequest | pb.UpdateEventSourceMappingRequest

# Members that other event sources have, and queues do not.
_OF_OTHER_SOURCES = frozenset(
    {
        "BisectBatchOnFunctionError",
        "DestinationConfig",
        "MaximumRecordAgeInSeconds",
        "MaximumRetryAttempts",
        "ParallelizationFactor",
        "Queues",
        "SourceAccessConfigurations",
        "StartingPosition",
        "StartingPositionTimestamp",
        "Topics",
        "TumblingWindowInSeconds",
    }
)


class EventSourceOperations:
    """The operations of lambent.v1.EventSourceService."""

    def __init__(
        self, *, store: EventSourceStore, functions: FunctionStore, connections: Connections, limits: Limits,
        clock: Clock, ids: Ids,
    ) -> None:  # fmt: skip
        self._store = store
        self._functions = functions
        self._connections = connections
        self._limits = limits
        self._clock = clock
        self._ids = ids

    async def create_event_source_mapping(
        self, request: pb.CreateEventSourceMappingRequest, call: Call
    ) -> pb.EventSourceMappingConfiguration:
        """A new mapping."""
        ref = parse(request.function_name, None, call.tenant)
        refuse_unserved(request, UNSERVED_OF_EVENT_SOURCES)
        source = event_sources.source_of(request.event_source_arn)
        wanted, tags = _wanted(request, None), dict(request.tags)
        check_tags(tags, self._limits)
        mapping = event_sources.create(
            self._ids.uuid(), source, ref, wanted, tags, self._clock.epoch(), self._limits
        )  # fmt: skip
        await self._check(ref, source)
        taken = await self._store.create(mapping)
        if taken is not None:
            raise event_sources.exists(mapping, taken.uuid)
        return _message(mapping)

    async def get_event_source_mapping(
        self, request: pb.GetEventSourceMappingRequest, call: Call
    ) -> pb.EventSourceMappingConfiguration:
        """What is set."""
        return _message(await self._mapping(call.tenant, request.uuid))

    async def update_event_source_mapping(
        self, request: pb.UpdateEventSourceMappingRequest, call: Call
    ) -> pb.EventSourceMappingConfiguration:
        """Changes the members that are sent."""
        named = parse(request.function_name, None, call.tenant) if request.HasField("function_name") else None
        refuse_unserved(request, UNSERVED_OF_EVENT_SOURCES)
        wanted = _wanted(request, named)
        unchecked = named is not None
        for _ in range(ATTEMPTS):
            before = await self._mapping(call.tenant, request.uuid)
            after = event_sources.update(before, wanted, self._clock.epoch(), self._limits)
            if unchecked:
                await self._check(after.ref, event_sources.source_of(after.source_arn))
                unchecked = False
            done = await self._store.change(before, after)
            if isinstance(done, Taken):
                raise event_sources.exists(after, done.uuid)
            if done:
                return _message(after)
        raise event_sources.too_many_changes()

    async def delete_event_source_mapping(
        self, request: pb.DeleteEventSourceMappingRequest, call: Call
    ) -> pb.EventSourceMappingConfiguration:
        """Ends a mapping, which is gone once its batches have ended."""
        for _ in range(ATTEMPTS):
            before = await self._mapping(call.tenant, request.uuid)
            after = event_sources.delete(before, self._clock.epoch())
            if await self._store.change(before, after) is True:
                return _message(after)
        raise event_sources.too_many_changes()

    async def list_event_source_mappings(
        self, request: pb.ListEventSourceMappingsRequest, call: Call
    ) -> pb.ListEventSourceMappingsResponse:
        """One page, by UUID. Markers carry the last UUID of the page before."""
        of_function = parse(request.function_name, None, call.tenant).arn if request.HasField("function_name") else None
        of_source = request.event_source_arn if request.HasField("event_source_arn") else None
        after = paging.marker_after(request) if request.HasField("marker") else ""
        found, marker = paging.page(
            (
                mapping
                for mapping in await self._store.list(call.tenant)
                if mapping.uuid > after
                and of_function in (None, mapping.ref.arn)
                and of_source in (None, mapping.source_arn)
            ),
            lambda mapping: mapping.uuid,
            paging.page_size(request, self._limits, self._limits.event_source_page_items),
        )
        return pb.ListEventSourceMappingsResponse(
            next_marker=marker, event_source_mappings=[_message(mapping) for mapping in found]
        )

    async def _mapping(self, tenant: Tenant, uuid: str) -> EventSourceMapping:
        """Raises ResourceNotFoundException."""
        mapping = await self._store.get(tenant, uuid)
        if mapping is None:
            raise event_sources.missing()
        return mapping

    async def _check(self, ref: FunctionRef, source: Destination) -> None:
        """That there is such a function and such a queue, and that they go together. Raises
        InvalidParameterValueException and, where the queue does not answer, ServiceUnavailableException."""
        qualifier = ref.qualifier or LATEST
        function = await self._functions.find(ref.tenant, ref.name, qualifier)
        if function is None or not function.stands_for(qualifier):
            raise event_sources.no_function()
        event_sources.check_visibility(
            await self._visibility_seconds(ref.tenant, source), _timeout(function, function.stands_for(qualifier)[0])
        )

    async def _visibility_seconds(self, tenant: Tenant, source: Destination) -> int:
        connection = self._connections.source(tenant, source)
        if connection is None:
            raise invalid_parameter(
                f"The queue {source.arn} cannot be read: the operator's table of connections (setting "
                "queue.connections) has no row that leads to it."
            )
        queue = SqsQueue(connection, source, tenant, self._clock)
        try:
            return await queue.visibility_seconds()
        except QueueError as error:
            if error.code:
                raise invalid_parameter(
                    f"Error occurred while ReceiveMessage. SQS Error Code: {error.code}. SQS Error Message: "
                    f"{error.message}"
                ) from None
            text = f"The queue {source.arn} does not answer as it should: {error.message}"
            raise AwsError("ServiceUnavailableException", text) from None
        finally:
            queue.close()


def _timeout(function: Function, version: str) -> int:
    """Of one of its versions, in seconds."""
    configuration = (
        function.record.configuration if version == LATEST else function.versions[version].deployed.configuration
    )
    return configuration.timeout


def _wanted(request: _Change, ref: FunctionRef | None) -> Wanted:
    """What a request says of a mapping's settings. Raises InvalidParameterValueException."""
    for name, value in sent(request):
        if name in _OF_OTHER_SOURCES and not means_nothing(value):
            raise invalid_parameter(f"Unsupported {name} parameter for given event source mapping type.")
    scaling = request.HasField("scaling_config")
    patterns = tuple(each.pattern for each in request.filter_criteria.filters)
    maximum = request.scaling_config.maximum_concurrency if scaling else 0
    return Wanted(
        ref=ref,
        enabled=request.enabled if request.HasField("enabled") else None,
        batch_size=request.batch_size if request.HasField("batch_size") else None,
        window_seconds=(
            request.maximum_batching_window_in_seconds
            if request.HasField("maximum_batching_window_in_seconds")
            else None
        ),
        filters=patterns if request.HasField("filter_criteria") else None,
        reports_failures=_reports(request),
        maximum_concurrency=maximum or None,
        scaling=scaling,
        counted=_counted(request),
    )


def _reports(request: _Change) -> bool | None:
    """Whether the function is to report failures; one empty item stands for an empty list (`clearable` in
    options.proto)."""
    types = list(request.function_response_types)
    return types != [""] if types else None


def _counted(request: _Change) -> bool | None:
    """Whether events are to be counted."""
    if not request.HasField("metrics_config"):
        return None
    for metric in request.metrics_config.metrics:
        if metric != EVENT_COUNT:
            raise invalid_parameter(f"Unsupported metric {metric} for given event source mapping type.")
    return bool(request.metrics_config.metrics)


def _message(mapping: EventSourceMapping) -> pb.EventSourceMappingConfiguration:
    message = pb.EventSourceMappingConfiguration(
        uuid=mapping.uuid,
        event_source_mapping_arn=mapping.arn,
        batch_size=mapping.batch_size,
        maximum_batching_window_in_seconds=mapping.window_seconds,
        event_source_arn=mapping.source_arn,
        function_arn=mapping.ref.arn,
        function_response_types=[event_sources.BATCH_ITEM_FAILURES] if mapping.reports_failures else [],
        last_modified=timestamp(mapping.modified),
        last_processing_result=mapping.result or None,
        state=mapping.state.value,
        state_transition_reason=event_sources.USER_INITIATED,
    )
    for pattern in mapping.filters:
        message.filter_criteria.filters.add(pattern=pattern)
    if mapping.maximum_concurrency is not None:
        message.scaling_config.maximum_concurrency = mapping.maximum_concurrency
    if mapping.counted:
        message.metrics_config.metrics.append(EVENT_COUNT)
    return message
