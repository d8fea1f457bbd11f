"""LogGroupService: CloudWatch Logs over what functions wrote."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import ParamSpec, Protocol, TypeVar

from lambent.domain import log_filters
from lambent.domain.clock import Clock
from lambent.domain.errors import AwsError
from lambent.domain.limits import Limits
from lambent.domain.names import Tenant
from lambent.infra import log_store
from lambent.infra.log_store import EVER, Change, LogStore
from lambent.v1 import log_group_service_pb2 as pb
from services.frontend.operations import log_events, paging
from services.frontend.operations.log_events import Boundary
from services.frontend.transport.call import Call

P = ParamSpec("P")
T = TypeVar("T")

# How long groups can be kept. Source: API_PutRetentionPolicy.
RETENTION_DAYS = (
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
)  # fmt: skip
# Requests that read logs at the same time.
SEARCHES = 2
_FORWARD, _BACKWARD, _END = "f/", "b/", "/s"


class _OfGroup(Protocol):
    """A request on one group, by name or by identifier."""

    @property
    def log_group_name(self) -> str: ...
    @property
    def log_group_identifier(self) -> str: ...


class _OfPage(Protocol):
    """A request of one page of descriptions."""

    @property
    def limit(self) -> int: ...


class LogGroupOperations:
    """The operations of lambent.v1.LogGroupService."""

    def __init__(self, logs: LogStore, limits: Limits, clock: Clock) -> None:
        self._logs = logs
        self._limits = limits
        self._clock = clock
        # A search holds a core for as long as it takes, and invocations want theirs.
        self._searches = asyncio.Semaphore(SEARCHES)

    async def _read(self, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Ask the store, in a thread."""
        async with self._searches:
            return await asyncio.to_thread(read, *args, **kwargs)

    async def describe_log_groups(
        self, request: pb.DescribeLogGroupsRequest, call: Call
    ) -> pb.DescribeLogGroupsResponse:
        """One page, by name."""
        prefix, part = request.log_group_name_prefix, request.log_group_name_pattern
        if prefix and part:
            raise _invalid("LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.")
        named = {_group_of(each, call.tenant) for each in request.log_group_identifiers}
        after = paging.key_of(request.next_token, log_events.invalid_token()) if request.HasField("next_token") else ""
        size = self._page_size(request)

        def describe() -> tuple[list[pb.LogGroup], str | None]:
            groups = self._logs.groups(call.tenant) if request.log_group_class in ("", "STANDARD") else []
            wanted = (
                group
                for group in groups
                if group.name > after
                and group.name.startswith(prefix)
                and part in group.name
                and (not named or group.name in named)
            )
            page, token = paging.page(wanted, lambda group: group.name, size)
            return [self._group_message(group, call.tenant) for group in page], token

        found, token = await self._read(describe)
        return pb.DescribeLogGroupsResponse(log_groups=found, next_token=token)

    def _group_message(self, group: log_store.LogGroup, tenant: Tenant) -> pb.LogGroup:
        arn = _arn(tenant, group.name)
        return pb.LogGroup(
            log_group_name=group.name,
            creation_time=group.created_ms,
            retention_in_days=group.retention_days,
            metric_filter_count=0,
            arn=f"{arn}:*",
            stored_bytes=self._logs.stored_bytes(tenant, group.name),
            log_group_class="STANDARD",
            log_group_arn=arn,
        )

    async def describe_log_streams(
        self, request: pb.DescribeLogStreamsRequest, call: Call
    ) -> pb.DescribeLogStreamsResponse:
        """One page, by name or by the last event."""
        by_time = request.order_by == "LastEventTime"
        if by_time and request.HasField("log_stream_name_prefix"):
            raise _invalid("Cannot order by LastEventTime with a logStreamNamePrefix.")
        group = await self._group(request, call)
        streams = await self._read(self._logs.streams, call.tenant, group)

        def key(stream: log_store.LogStream) -> str:
            return f"{stream.last_ms:020d} {stream.name}" if by_time else stream.name

        matching = [each for each in streams.values() if each.name.startswith(request.log_stream_name_prefix)]
        ordered = sorted(matching, key=key, reverse=request.descending)
        if request.HasField("next_token"):
            after = paging.key_of(request.next_token, log_events.invalid_token())
            ordered = [each for each in ordered if (key(each) < after if request.descending else key(each) > after)]
        page, token = paging.page(ordered, key, self._page_size(request))
        arn = _arn(call.tenant, group)
        shown = [
            pb.LogStream(
                log_stream_name=stream.name,
                creation_time=stream.first_ms,
                first_event_timestamp=stream.first_ms,
                last_event_timestamp=stream.last_ms,
                last_ingestion_time=stream.last_ms,
                arn=f"{arn}:log-stream:{stream.name}",
                stored_bytes=stream.stored_bytes,
            )
            for stream in page
        ]
        return pb.DescribeLogStreamsResponse(log_streams=shown, next_token=token)

    async def get_log_events(self, request: pb.GetLogEventsRequest, call: Call) -> pb.GetLogEventsResponse:
        """One page of a stream, from its end, its beginning, or a token on."""
        group = await self._group(request, call)
        stream = (await self._read(self._logs.streams, call.tenant, group)).get(request.log_stream_name)
        if stream is None:
            raise AwsError("ResourceNotFoundException", "The specified log stream does not exist.")
        start_ms = max(request.start_time, stream.first_ms)
        end_ms = request.end_time if request.HasField("end_time") else EVER
        ahead, place = request.start_from_head, Boundary(start_ms if request.start_from_head else end_ms)
        if request.HasField("next_token"):
            ahead, place = _directed(request.next_token)
        most = request.limit or self._limits.log_page_events
        most_bytes = self._limits.log_page_bytes

        def read() -> log_events.Page:
            first = max(start_ms, place.time_ms) if ahead else start_ms
            last = end_ms if ahead else min(end_ms, place.time_ms + 1)
            found = log_events.events(self._logs.scan(call.tenant, group, first, last, stream.name))
            if ahead:
                return log_events.forward(found, place, most=most, most_bytes=most_bytes, most_searched=most_bytes)
            # Without a token, whatever comes later comes after an empty page.
            nothing = place if request.HasField("next_token") else Boundary(start_ms)
            return log_events.backward(found, place, nothing=nothing, most=most, most_bytes=most_bytes)

        page = await self._read(read)
        return pb.GetLogEventsResponse(
            events=[
                pb.OutputLogEvent(timestamp=each.place.time_ms, message=each.message, ingestion_time=each.place.time_ms)
                for each in page.events
            ],
            next_forward_token=f"{_FORWARD}{log_events.write_token(page.after)}{_END}",
            next_backward_token=f"{_BACKWARD}{log_events.write_token(page.before)}{_END}",
        )

    async def filter_log_events(self, request: pb.FilterLogEventsRequest, call: Call) -> pb.FilterLogEventsResponse:
        """One page of a group's events that a pattern means."""
        names, prefix = frozenset(request.log_stream_names), request.log_stream_name_prefix
        if names and prefix:
            raise _invalid("logStreamNames and logStreamNamePrefix are mutually exclusive parameters.")
        pattern = log_filters.parse(request.filter_pattern)
        start, end_ms = Boundary(request.start_time), request.end_time + 1 if request.HasField("end_time") else EVER
        if request.HasField("next_token"):
            start = log_events.read_token(request.next_token)
        group = await self._group(request, call)
        limits = self._limits
        only = next(iter(names)) if len(names) == 1 else None

        def search() -> log_events.Page:
            chunks = self._logs.scan(call.tenant, group, start.time_ms, end_ms, only)
            return log_events.forward(
                log_events.events(chunks),
                start,
                most=request.limit or limits.log_page_events,
                most_bytes=limits.log_page_bytes,
                most_searched=limits.log_search_bytes,
                wanted=log_events.of_filter(pattern, names, prefix),
            )

        page = await self._read(search)
        return pb.FilterLogEventsResponse(
            events=[
                pb.FilteredLogEvent(
                    log_stream_name=each.stream,
                    timestamp=each.place.time_ms,
                    message=each.message,
                    ingestion_time=each.place.time_ms,
                    event_id=each.id,
                )
                for each in page.events
            ],
            next_token=None if page.whole else log_events.write_token(page.after),
        )

    async def create_log_group(self, request: pb.CreateLogGroupRequest, call: Call) -> pb.CreateLogGroupResponse:
        """Make a group before anything is written to it."""
        if request.kms_key_id or request.deletion_protection_enabled:
            raise _invalid("Keys and deletion protection of log groups are not served yet.")
        if request.log_group_class not in ("", "STANDARD"):
            raise _invalid("No other class of log groups than STANDARD is served.")
        made_ms = int(self._clock.epoch() * 1000)
        group = log_store.LogGroup(request.log_group_name, made_ms, tags=dict(request.tags))
        if not await self._read(self._logs.create, call.tenant, group):
            raise AwsError("ResourceAlreadyExistsException", "The specified log group already exists")
        return pb.CreateLogGroupResponse()

    async def delete_log_group(self, request: pb.DeleteLogGroupRequest, call: Call) -> pb.DeleteLogGroupResponse:
        """Forget a group and its events."""
        if not await self._read(self._logs.delete, call.tenant, request.log_group_name):
            raise _no_group()
        return pb.DeleteLogGroupResponse()

    async def put_retention_policy(
        self, request: pb.PutRetentionPolicyRequest, call: Call
    ) -> pb.PutRetentionPolicyResponse:
        """Keep a group's events for so many days."""
        days = request.retention_in_days
        if days not in RETENTION_DAYS:
            raise _invalid(
                f"1 validation error detected: Value '{days}' at 'retentionInDays' failed to satisfy constraint: "
                f"Member must satisfy enum value set: [{', '.join(map(str, RETENTION_DAYS))}]"
            )
        await self._change(call, request.log_group_name, lambda group: replace(group, retention_days=days))
        return pb.PutRetentionPolicyResponse()

    async def delete_retention_policy(
        self, request: pb.DeleteRetentionPolicyRequest, call: Call
    ) -> pb.DeleteRetentionPolicyResponse:
        """Keep a group's events as long as those of all groups."""
        await self._change(call, request.log_group_name, lambda group: replace(group, retention_days=None))
        return pb.DeleteRetentionPolicyResponse()

    async def list_tags_for_resource(
        self, request: pb.LogGroupServiceListTagsForResourceRequest, call: Call
    ) -> pb.LogGroupServiceListTagsForResourceResponse:
        """Tags of a group."""
        group = await self._read(self._logs.group, call.tenant, _group_of(request.resource_arn, call.tenant))
        if group is None:
            raise _no_group()
        return pb.LogGroupServiceListTagsForResourceResponse(tags=group.tags)

    async def tag_resource(
        self, request: pb.LogGroupServiceTagResourceRequest, call: Call
    ) -> pb.LogGroupServiceTagResourceResponse:
        """Add tags to a group."""

        def tag(group: log_store.LogGroup) -> log_store.LogGroup:
            tags = group.tags | dict(request.tags)
            if len(tags) > self._limits.tags:
                raise AwsError("TooManyTagsException", f"A log group can have at most {self._limits.tags} tags.")
            return replace(group, tags=tags)

        await self._change(call, _group_of(request.resource_arn, call.tenant), tag)
        return pb.LogGroupServiceTagResourceResponse()

    async def untag_resource(
        self, request: pb.LogGroupServiceUntagResourceRequest, call: Call
    ) -> pb.LogGroupServiceUntagResourceResponse:
        """Remove tags from a group."""
        gone = frozenset(request.tag_keys)

        def untag(group: log_store.LogGroup) -> log_store.LogGroup:
            return replace(group, tags={key: each for key, each in group.tags.items() if key not in gone})

        await self._change(call, _group_of(request.resource_arn, call.tenant), untag)
        return pb.LogGroupServiceUntagResourceResponse()

    async def _change(self, call: Call, group: str, change: Change) -> None:
        if not await self._read(self._logs.change, call.tenant, group, change):
            raise _no_group()

    async def _group(self, request: _OfGroup, call: Call) -> str:
        """The name of the group that a request is on."""
        if bool(request.log_group_name) == bool(request.log_group_identifier):
            raise _invalid("Exactly one of logGroupName and logGroupIdentifier must be specified.")
        name = request.log_group_name or _group_of(request.log_group_identifier, call.tenant)
        if await self._read(self._logs.group, call.tenant, name) is None:
            raise _no_group()
        return name

    def _page_size(self, request: _OfPage) -> int:
        return request.limit or self._limits.list_page_items


def _arn(tenant: Tenant, group: str) -> str:
    return f"arn:aws:logs:{tenant.region}:{tenant.account}:log-group:{group}"


def _group_of(identifier: str, tenant: Tenant) -> str:
    """The name that a name or an ARN, with or without `:*`, means; what is not the caller's means nothing that is."""
    return identifier.removeprefix(_arn(tenant, "")).removesuffix(":*")


def _directed(token: str) -> tuple[bool, Boundary]:
    """Whether a token of GetLogEvents leads ahead, and from where."""
    ahead = token.startswith(_FORWARD)
    if not (ahead or token.startswith(_BACKWARD)) or not token.endswith(_END):
        raise log_events.invalid_token()
    return ahead, log_events.read_token(token[2 : -len(_END)])


def _invalid(text: str) -> AwsError:
    return AwsError("InvalidParameterException", text)


def _no_group() -> AwsError:
    return AwsError("ResourceNotFoundException", "The specified log group does not exist.")
