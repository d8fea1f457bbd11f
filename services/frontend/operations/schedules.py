"""ScheduleService: EventBridge Scheduler's schedules and their groups. What may be set is decided by
lambent/domain/event_schedules.py; what is due, pollers act on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Protocol

from lambent.domain import event_schedules
from lambent.domain.clock import Clock
from lambent.domain.errors import AwsError
from lambent.domain.event_schedules import DEFAULT, Group, Schedule
from lambent.domain.limits import Limits
from lambent.domain.names import Tenant
from lambent.domain.tags import check_tags
from lambent.domain.turns import first_revision
from lambent.infra.due.port import DueStore
from lambent.v1 import schedule_service_pb2 as pb
from services.frontend.operations import paging
from services.frontend.operations.editing import RecordEditor
from services.frontend.operations.schedule_messages import (
    DISABLED,
    group_message,
    group_summary,
    schedule_message,
    summary,
    wanted,
)
from services.frontend.transport.call import Call

LARGEST_PAGE = 100
# From the tags that there are to those that there are to be.
_TagChange = Callable[[Mapping[str, str]], dict[str, str]]


class Paged(Protocol):
    """A request of one page."""

    @property
    def max_results(self) -> int: ...
    @property
    def next_token(self) -> str: ...


class ScheduleOperations:
    """The operations of lambent.v1.ScheduleService."""

    def __init__(self, *, store: DueStore[Schedule], groups: DueStore[Group], limits: Limits, clock: Clock) -> None:
        self._store = store
        self._schedule_editor = RecordEditor(store, full=_full, crowded=_too_many_changes)
        self._groups = groups
        self._group_editor = RecordEditor(groups, full=_full, crowded=_too_many_changes)
        self._limits = limits
        self._clock = clock

    # Schedules

    async def create_schedule(self, request: pb.CreateScheduleRequest, call: Call) -> pb.CreateScheduleResponse:
        """A new one. The same request again is answered as before."""
        group = await self._group(call.tenant, request.group_name or DEFAULT)
        said = wanted(request)

        def decide(before: Schedule | None) -> Schedule:
            made = event_schedules.create(call.tenant, group.name, request.name, said, self._clock.epoch())
            if before is None:
                return made
            if not said.token or said.token != before.wanted.token:
                raise AwsError("ConflictException", f"Schedule {request.name} already exists.")
            return before

        key = _key(group.name, request.name)
        made = await self._schedule_editor.edit(call.tenant, key, decide, self._limits.schedules)
        assert made is not None
        if group.name != DEFAULT and await self._groups.get(call.tenant, group.name) is None:
            # It was deleted meanwhile, with all that it had then.
            await self._ended(call.tenant, key)
            raise event_schedules.no_group(group.name)
        return pb.CreateScheduleResponse(schedule_arn=made.arn)

    async def get_schedule(self, request: pb.GetScheduleRequest, call: Call) -> pb.GetScheduleResponse:
        """What is set."""
        schedule = await self._store.get(call.tenant, _key(request.group_name, request.name))
        if schedule is None:
            raise event_schedules.no_schedule(request.name)
        return schedule_message(schedule)

    async def update_schedule(self, request: pb.UpdateScheduleRequest, call: Call) -> pb.UpdateScheduleResponse:
        """All of it, anew."""
        said = wanted(request)

        def decide(before: Schedule | None) -> Schedule:
            if before is None:
                raise event_schedules.no_schedule(request.name)
            return event_schedules.update(before, said, self._clock.epoch())

        updated = await self._schedule_editor.edit(call.tenant, _key(request.group_name, request.name), decide)
        assert updated is not None
        return pb.UpdateScheduleResponse(schedule_arn=updated.arn)

    async def delete_schedule(self, request: pb.DeleteScheduleRequest, call: Call) -> pb.DeleteScheduleResponse:
        """Ends it."""

        def decide(before: Schedule | None) -> None:
            if before is None:
                raise event_schedules.no_schedule(request.name)

        await self._schedule_editor.edit(call.tenant, _key(request.group_name, request.name), decide)
        return pb.DeleteScheduleResponse()

    async def list_schedules(self, request: pb.ListSchedulesRequest, call: Call) -> pb.ListSchedulesResponse:
        """One page, by group and name."""
        group, prefix = request.group_name, request.name_prefix
        if group:
            await self._group(call.tenant, group)
        within = f"{group}/{prefix}" if group else ""

        def chosen(schedule: Schedule) -> bool:
            state = not request.state or schedule.wanted.enabled == (request.state != DISABLED)
            return state and schedule.name.startswith(prefix)

        found, token = await self._page(request, call.tenant, within, chosen)
        return pb.ListSchedulesResponse(schedules=[summary(each) for each in found], next_token=token)

    # Groups

    async def create_schedule_group(
        self, request: pb.CreateScheduleGroupRequest, call: Call
    ) -> pb.CreateScheduleGroupResponse:
        """A new one."""
        tags = {tag.key: tag.value for tag in request.tags}
        self._check_tags(tags)
        now = self._clock.epoch()

        def decide(before: Group | None) -> Group:
            if request.name == DEFAULT or before is not None:
                raise AwsError("ConflictException", f"Schedule group {request.name} already exists.")
            return Group(call.tenant, request.name, now, tags or None, first_revision(now))

        # One is always there.
        made = await self._group_editor.edit(call.tenant, request.name, decide, self._limits.schedule_groups - 1)
        assert made is not None
        return pb.CreateScheduleGroupResponse(schedule_group_arn=made.arn)

    async def get_schedule_group(self, request: pb.GetScheduleGroupRequest, call: Call) -> pb.GetScheduleGroupResponse:
        """What there is of it."""
        return group_message(await self._group(call.tenant, request.name))

    async def delete_schedule_group(
        self, request: pb.DeleteScheduleGroupRequest, call: Call
    ) -> pb.DeleteScheduleGroupResponse:
        """Ends it, and all that is in it."""
        if request.name == DEFAULT:
            raise AwsError("ValidationException", "The default schedule group cannot be deleted.")
        await self._group(call.tenant, request.name)
        # The group last, so that whoever was cut off can begin again; then what has come to it meanwhile.
        await self._emptied(call.tenant, request.name)
        await self._group_editor.edit(call.tenant, request.name, lambda _: None)
        await self._emptied(call.tenant, request.name)
        return pb.DeleteScheduleGroupResponse()

    async def list_schedule_groups(
        self, request: pb.ListScheduleGroupsRequest, call: Call
    ) -> pb.ListScheduleGroupsResponse:
        """One page, by name."""
        size, after = _size(request), _after(request)
        found = list(await self._groups.page(call.tenant, request.name_prefix, after, size + 1))
        if (
            DEFAULT.startswith(request.name_prefix)
            and after < DEFAULT
            and await self._groups.get(call.tenant, DEFAULT) is None
        ):
            found = sorted((*found, Group(call.tenant, DEFAULT, 0.0)), key=lambda group: group.name)
        page, token = paging.page(found, lambda group: group.name, size)
        return pb.ListScheduleGroupsResponse(schedule_groups=[group_summary(each) for each in page], next_token=token)

    # Tags of groups

    async def list_tags_for_resource(
        self, request: pb.ScheduleServiceListTagsForResourceRequest, call: Call
    ) -> pb.ScheduleServiceListTagsForResourceResponse:
        """Those of a group."""
        group = await self._group(call.tenant, _group_of(request.resource_arn, call.tenant))
        tags = [pb.ScheduleTag(key=key, value=value) for key, value in (group.tags or {}).items()]
        return pb.ScheduleServiceListTagsForResourceResponse(tags=tags)

    async def tag_resource(
        self, request: pb.ScheduleServiceTagResourceRequest, call: Call
    ) -> pb.ScheduleServiceTagResourceResponse:
        """Adds some, or changes them."""
        added = {tag.key: tag.value for tag in request.tags}
        await self._retag(request.resource_arn, call.tenant, lambda tags: {**tags, **added})
        return pb.ScheduleServiceTagResourceResponse()

    async def untag_resource(
        self, request: pb.ScheduleServiceUntagResourceRequest, call: Call
    ) -> pb.ScheduleServiceUntagResourceResponse:
        """Takes some away."""
        gone = frozenset(request.tag_keys)
        await self._retag(
            request.resource_arn, call.tenant,
            lambda tags: {key: each for key, each in tags.items() if key not in gone},
        )  # fmt: skip
        return pb.ScheduleServiceUntagResourceResponse()

    async def _retag(self, arn: str, tenant: Tenant, change: _TagChange) -> None:
        name = _group_of(arn, tenant)

        def decide(kept: Group | None) -> Group:
            # The default group is kept once it has something to keep.
            before = event_schedules.group_of(kept, tenant, name)
            tags = change(before.tags or {})
            self._check_tags(tags)
            return replace(before, tags=tags or None, revision=before.revision + 1)

        await self._group_editor.edit(tenant, name, decide, self._limits.schedule_groups)

    def _check_tags(self, tags: Mapping[str, str]) -> None:
        check_tags(tags, self._limits, partial(AwsError, "ValidationException"))

    # The store

    async def _group(self, tenant: Tenant, name: str) -> Group:
        """Raises ResourceNotFoundException."""
        return event_schedules.group_of(await self._groups.get(tenant, name), tenant, name)

    async def _ended(self, tenant: Tenant, key: str) -> None:
        await self._schedule_editor.edit(tenant, key, lambda _: None)

    async def _emptied(self, tenant: Tenant, group: str) -> None:
        while schedules := await self._store.page(tenant, f"{group}/", "", LARGEST_PAGE):
            for schedule in schedules:
                await self._ended(tenant, schedule.key)

    async def _page(
        self, request: Paged, tenant: Tenant, prefix: str, chosen: Callable[[Schedule], bool]
    ) -> tuple[list[Schedule], str | None]:
        size, after = _size(request), _after(request)
        found: list[Schedule] = []
        while len(found) <= size:
            schedules = await self._store.page(tenant, prefix, after, LARGEST_PAGE)
            if not schedules:
                break
            found += [schedule for schedule in schedules if chosen(schedule)]
            after = schedules[-1].key
        return paging.page(found, lambda schedule: schedule.key, size)


def _key(group: str, name: str) -> str:
    return f"{group or DEFAULT}/{name}"


def _size(request: Paged) -> int:
    return request.max_results or LARGEST_PAGE


def _after(request: Paged) -> str:
    """The key after which the page begins. Raises ValidationException."""
    return paging.key_of(request.next_token, AwsError("ValidationException", "NextToken is not valid."))


def _group_of(arn: str, tenant: Tenant) -> str:
    """The name of the group that an ARN means. Raises ResourceNotFoundException for what is another tenant's."""
    prefix = Group(tenant, "", 0.0).arn
    if not arn.startswith(prefix):
        raise event_schedules.no_group(arn)
    return arn.removeprefix(prefix)


def _full() -> AwsError:
    return AwsError("ServiceQuotaExceededException", "The quota of this account is reached.")


def _too_many_changes(name: str) -> AwsError:
    return AwsError("ConflictException", f"{name} was modified concurrently; try again shortly.")
