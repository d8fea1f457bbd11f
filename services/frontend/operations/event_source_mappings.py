"""EventSourceService: queues and streams whose records functions are invoked with. What may be set is decided by
lambent/domain/event_sources.py; what is set, pollers do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from lambent.domain import event_sources, kafka_records, tenancy
from lambent.domain.clock import Clock, Ids
from lambent.domain.destinations import Destination
from lambent.domain.errors import invalid_parameter
from lambent.domain.event_sources import EVENT_COUNT, UNBOUNDED, EventSourceMapping, Wanted
from lambent.domain.functions import Function
from lambent.domain.limits import Limits
from lambent.domain.names import LATEST, FunctionRef, Tenant, parse
from lambent.domain.tags import check_tags
from lambent.infra.connections import Connections
from lambent.infra.event_sources.port import EventSourceStore
from lambent.infra.functions.port import FunctionStore
from lambent.v1 import event_source_service_pb2 as pb
from services.frontend.operations import paging
from services.frontend.operations.editing import MappingDecision, edit_mapping
from services.frontend.operations.event_source_checks import SourceChecks
from services.frontend.operations.timestamps import timestamp
from services.frontend.operations.unserved import UNSERVED_OF_EVENT_SOURCES, means_nothing, refuse_unserved, sent
from services.frontend.transport.call import Call

_Change = pb.CreateEventSourceMappingRequest | pb.UpdateEventSourceMappingRequest

_SERVER = re.compile(r"[A-Za-z0-9._-]{1,255}:\d{1,5}")
# Members whose values say that nothing is wanted although they are neither zero nor empty, and these values.
_NOTHING: Mapping[str, object] = {"MaximumRecordAgeInSeconds": UNBOUNDED, "MaximumRetryAttempts": UNBOUNDED}


class EventSourceOperations:
    """The operations of lambent.v1.EventSourceService."""

    def __init__(
        self, *, store: EventSourceStore, functions: FunctionStore, connections: Connections, limits: Limits,
        clock: Clock, ids: Ids,
    ) -> None:  # fmt: skip
        self._store = store
        self._functions = functions
        self._checks = SourceChecks(connections, clock)
        self._limits = limits
        self._clock = clock
        self._ids = ids

    async def create_event_source_mapping(
        self, request: pb.CreateEventSourceMappingRequest, call: Call
    ) -> pb.EventSourceMappingConfiguration:
        """A new mapping."""
        ref = parse(request.function_name, None, call.tenant)
        refuse_unserved(request, UNSERVED_OF_EVENT_SOURCES)
        source = _source(request, call.tenant)
        wanted, tags = _wanted(request, None), dict(request.tags)
        check_tags(tags, self._limits)
        mapping = event_sources.create(
            self._ids.uuid(), source, ref, wanted, tags, self._clock.epoch(), self._limits
        )  # fmt: skip
        await self._check(ref, source, mapping.topic)
        taken = await self._store.create(mapping)
        if taken is not None:
            raise event_sources.exists(mapping, taken.uuid)
        return _message(mapping)

    async def get_event_source_mapping(
        self, request: pb.GetEventSourceMappingRequest, call: Call
    ) -> pb.EventSourceMappingConfiguration:
        """What is set."""
        mapping = await self._store.get(call.tenant, request.uuid)
        if mapping is None:
            raise event_sources.missing()
        return _message(mapping)

    async def update_event_source_mapping(
        self, request: pb.UpdateEventSourceMappingRequest, call: Call
    ) -> pb.EventSourceMappingConfiguration:
        """Changes the members that are sent."""
        named = parse(request.function_name, None, call.tenant) if request.HasField("function_name") else None
        refuse_unserved(request, UNSERVED_OF_EVENT_SOURCES)
        wanted = _wanted(request, named)
        checked = named is None

        async def decide(before: EventSourceMapping) -> EventSourceMapping:
            nonlocal checked
            after = event_sources.update(before, wanted, self._clock.epoch(), self._limits)
            if not checked:
                await self._check(after.ref, event_sources.source_of(after.source_arn), after.topic)
                checked = True
            return after

        return _message(await self._edit(call.tenant, request.uuid, decide))

    async def delete_event_source_mapping(
        self, request: pb.DeleteEventSourceMappingRequest, call: Call
    ) -> pb.EventSourceMappingConfiguration:
        """Ends a mapping, which is gone once its batches have ended."""

        async def decide(before: EventSourceMapping) -> EventSourceMapping:
            return event_sources.delete(before, self._clock.epoch())

        return _message(await self._edit(call.tenant, request.uuid, decide))

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

    async def _edit(self, tenant: Tenant, uuid: str, decide: MappingDecision) -> EventSourceMapping:
        return await edit_mapping(self._store, tenant, uuid, decide, event_sources.missing())

    async def _check(self, ref: FunctionRef, source: Destination, topic: str) -> None:
        """That there is such a function and such a source, and that they go together. Raises
        InvalidParameterValueException and, where the source does not answer, ServiceUnavailableException."""
        qualifier = ref.qualifier or LATEST
        function = await self._functions.find(ref.tenant, ref.name, qualifier)
        if function is None or not function.stands_for(qualifier):
            raise event_sources.no_function()
        if function.record.configuration.isolated:
            raise tenancy.unsupported("An event source mapping")
        timeout = _timeout(function, function.stands_for(qualifier)[0])
        await self._checks.check(ref.tenant, source, topic, timeout)


def _source(request: pb.CreateEventSourceMappingRequest, tenant: Tenant) -> Destination:
    """What is to be read. Raises InvalidParameterValueException."""
    if means_nothing(request.self_managed_event_source):
        source = event_sources.source_of(request.event_source_arn)
        if kafka_records.own_servers(source):
            raise invalid_parameter("Unrecognized event source.")
        return source
    if request.event_source_arn:
        raise invalid_parameter("EventSourceArn and SelfManagedEventSource cannot be given together.")
    endpoints = request.self_managed_event_source.endpoints
    servers = [each.string_value for each in endpoints[kafka_records.ENDPOINTS].values]
    if set(endpoints) != {kafka_records.ENDPOINTS} or not servers or not all(map(_SERVER.fullmatch, servers)):
        raise invalid_parameter(
            f"SelfManagedEventSource: Endpoints must have {kafka_records.ENDPOINTS} alone, a list of HOST:PORT."
        )
    return kafka_records.self_managed(tenant, servers)


def _timeout(function: Function, version: str) -> int:
    """Of one of its versions, in seconds."""
    configuration = (
        function.record.configuration if version == LATEST else function.versions[version].deployed.configuration
    )
    return configuration.timeout


def _wanted(request: _Change, ref: FunctionRef | None) -> Wanted:
    """What a request says of a mapping's settings. Raises InvalidParameterValueException."""
    scaling = request.HasField("scaling_config")
    patterns = tuple(each.pattern for each in request.filter_criteria.filters)
    maximum = request.scaling_config.maximum_concurrency if scaling else 0
    wanted = Wanted(
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
        members=tuple(
            name for name, value in sent(request) if not means_nothing(value) and value != _NOTHING.get(name)
        ),
    )
    return _with_kafka(_with_stream(wanted, request), request)


def _with_kafka(wanted: Wanted, request: _Change) -> Wanted:
    """The same with what a request says of what only topics have. Raises InvalidParameterValueException."""
    groups = set()
    for config in (request.amazon_managed_kafka_event_source_config, request.self_managed_kafka_event_source_config):
        if config.HasField("schema_registry_config"):
            raise invalid_parameter("SchemaRegistryConfig: schema registries are not served; records come as they are.")
        if config.consumer_group_id:
            groups.add(config.consumer_group_id)
    if len(groups) > 1:
        raise invalid_parameter("ConsumerGroupId is said twice.")
    access = tuple((each.type, each.uri) for each in request.source_access_configurations)
    topics = tuple(request.topics) if isinstance(request, pb.CreateEventSourceMappingRequest) else ()
    return replace(wanted, topics=topics, group=next(iter(groups), None), access=access or None)


def _with_stream(wanted: Wanted, request: _Change) -> Wanted:
    """The same with what a request says of what only streams have."""
    destinations = request.destination_config
    position, time = None, None
    if isinstance(request, pb.CreateEventSourceMappingRequest):
        position = request.starting_position or None
        time = request.starting_position_timestamp if request.HasField("starting_position_timestamp") else None
    return replace(
        wanted,
        position=position,
        position_time=None if time is None else time.seconds + time.nanos / 1e9,
        parallel=request.parallelization_factor if request.HasField("parallelization_factor") else None,
        age_seconds=(
            request.maximum_record_age_in_seconds if request.HasField("maximum_record_age_in_seconds") else None
        ),
        retries=request.maximum_retry_attempts if request.HasField("maximum_retry_attempts") else None,
        bisects=request.bisect_batch_on_function_error if request.HasField("bisect_batch_on_function_error") else None,
        tumbling_seconds=request.tumbling_window_in_seconds if request.HasField("tumbling_window_in_seconds") else None,
        on_success=destinations.on_success.destination,
        on_failure=destinations.on_failure.destination if request.HasField("destination_config") else None,
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
        event_source_arn=None if mapping.servers else mapping.source_arn,
        function_arn=mapping.ref.arn,
        function_response_types=[event_sources.BATCH_ITEM_FAILURES] if mapping.reports_failures else [],
        last_modified=timestamp(mapping.modified),
        last_processing_result=mapping.last_result or None,
        state=mapping.state.value,
        state_transition_reason=mapping.reason,
    )
    for pattern in mapping.filters:
        message.filter_criteria.filters.add(pattern=pattern)
    if mapping.maximum_concurrency is not None:
        message.scaling_config.maximum_concurrency = mapping.maximum_concurrency
    if mapping.counted:
        message.metrics_config.metrics.append(EVENT_COUNT)
    if mapping.of_stream:
        _add_stream(message, mapping)
    if mapping.topic:
        _add_kafka(message, mapping)
    return message


def _add_kafka(message: pb.EventSourceMappingConfiguration, mapping: EventSourceMapping) -> None:
    """What only topics' mappings are answered with."""
    message.topics.append(mapping.topic)
    for kind, uri in mapping.access:
        message.source_access_configurations.add(type=kind, uri=uri)
    if mapping.servers:
        message.self_managed_kafka_event_source_config.consumer_group_id = mapping.group
        listed = message.self_managed_event_source.endpoints[kafka_records.ENDPOINTS]
        listed.extend(mapping.servers)
    else:
        message.amazon_managed_kafka_event_source_config.consumer_group_id = mapping.group
    # Topics have neither.
    message.ClearField("parallelization_factor")
    message.ClearField("tumbling_window_in_seconds")


def _add_stream(message: pb.EventSourceMappingConfiguration, mapping: EventSourceMapping) -> None:
    """What only streams' mappings are answered with, whether it was set or not."""
    message.starting_position = mapping.position
    if mapping.position_time is not None:
        message.starting_position_timestamp.CopyFrom(timestamp(mapping.position_time))
    message.parallelization_factor = mapping.parallel
    message.maximum_record_age_in_seconds = UNBOUNDED if mapping.age_seconds is None else mapping.age_seconds
    message.maximum_retry_attempts = UNBOUNDED if mapping.retries is None else mapping.retries
    message.bisect_batch_on_function_error = mapping.bisects
    message.tumbling_window_in_seconds = mapping.tumbling_seconds
    # It is answered although it may be empty.
    message.destination_config.on_failure.SetInParent()
    if mapping.on_failure is not None:
        message.destination_config.on_failure.destination = mapping.on_failure
