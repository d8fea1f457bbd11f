"""Changes of what a function has published, of concurrency, of event source mappings, of rules and schedules: read,
decide, commit, and again if somebody was quicker.

The decision is a plain function of what was read; the commit is atomic and refused if any of it has changed since.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from typing import Generic
from weakref import WeakValueDictionary

from lambent.domain import event_sources
from lambent.domain.clock import Ids
from lambent.domain.concurrency import ConcurrencyState
from lambent.domain.errors import AwsError
from lambent.domain.event_sources import EventSourceMapping
from lambent.domain.functions import Function
from lambent.domain.limits import Limits
from lambent.domain.names import FunctionRef, Tenant, not_found
from lambent.infra.due.port import DueStore, R
from lambent.infra.event_sources.port import EventSourceStore, Taken
from lambent.infra.functions.concurrency_settings import SettingsLink
from lambent.infra.functions.directory import FunctionDirectory
from lambent.infra.functions.port import Edit, FunctionStore
from services.frontend.operations.lookups import storage_exceeded

# How often a decision is made anew before the caller is asked to come again.
ATTEMPTS = 32

# From a function and its tenant's settings to what changes; None: nothing has to. Raises AwsError.
Decision = Callable[[Function, ConcurrencyState], Edit | None]
# From a mapping that there is to what it is to be; itself where nothing is to change. Raises AwsError.
MappingDecision = Callable[[EventSourceMapping], Awaitable[EventSourceMapping]]


class Editor:
    """Carries decisions out."""

    def __init__(
        self, store: FunctionStore, directory: FunctionDirectory, link: SettingsLink, limits: Limits, ids: Ids
    ) -> None:
        self._store = store
        self._directory = directory
        self._link = link
        self._limits = limits
        self._ids = ids
        self._locks: WeakValueDictionary[Tenant, asyncio.Lock] = WeakValueDictionary()

    async def edit(self, ref: FunctionRef, decide: Decision) -> None:
        """Change a function as `decide` says. Settings that change are in force then, if the scheduler is there."""
        # One at a time in this process: among frontends, too few are ever quicker for an edit to come to nothing.
        lock = self._locks.setdefault(ref.tenant, asyncio.Lock())
        async with lock:
            settings_changed = await self._commit(ref, decide)
        if settings_changed:
            await self._link.apply(ref.tenant)

    async def _commit(self, ref: FunctionRef, decide: Decision) -> bool:
        """Whether the tenant's settings are other ones now."""
        tenant, name = ref.tenant, ref.name
        for _ in range(ATTEMPTS):
            settings = await self._store.settings(tenant)
            function = await self._store.read(tenant, name)
            if function is None:
                raise not_found(FunctionRef(tenant, name, None))
            edit = decide(function, settings)
            if edit is None:
                return False
            # What others decide on changes with all of these; and with the function's end.
            beside = edit.aliases or edit.event_configs or edit.policies or edit.urls or edit.tags is not None
            restamp = beside or None in edit.versions.values()
            after = None if edit.settings is settings else edit.settings
            edit = dataclasses.replace(
                edit,
                stamp=function.stamp,
                new_stamp=self._ids.uuid() if restamp else None,
                settings=after,
                settings_revision=settings.revision,
            )
            obstacle = await self._store.change(edit, self._limits.code_storage_bytes)
            if obstacle == "code-storage":
                raise storage_exceeded()
            if obstacle is None:
                self._directory.forget(tenant, name, edit.generation, edit.outdates)
                return after is not None
        raise AwsError("ServiceUnavailableException", "Too many changes of this function at once; try again shortly.")


async def edit_mapping(
    store: EventSourceStore, tenant: Tenant, uuid: str, decide: MappingDecision, absent: AwsError
) -> EventSourceMapping:
    """Change an event source mapping as `decide` says; answers what it is then. `absent`: raised where there is none.
    Raises ResourceConflictException where another has its source and function already."""
    for _ in range(ATTEMPTS):
        before = await store.get(tenant, uuid)
        if before is None:
            raise absent
        after = await decide(before)
        done = after is before or await store.change(before, after)
        if isinstance(done, Taken):
            raise event_sources.exists(after, done.uuid)
        if done:
            return after
    raise event_sources.too_many_changes()


class RecordEditor(Generic[R]):
    """Changes records that are due at times."""

    def __init__(self, store: DueStore[R], *, full: Callable[[], AwsError], crowded: Callable[[str], AwsError]) -> None:
        """`full`: where a tenant has as many as it may. `crowded`: of a key, where others are quicker again and
        again."""
        self._store = store
        self._full = full
        self._crowded = crowded

    async def edit(self, tenant: Tenant, key: str, decide: Callable[[R | None], R | None], most: int = 0) -> R | None:
        """Make of a record, or of there being none, what `decide` says; answers that. `most`: records that there may
        be, where one may come to them. Raises what `decide` does."""
        for _ in range(ATTEMPTS):
            before = await self._store.get(tenant, key)
            after = decide(before)
            if after is before:
                return after
            said = await self._store.replace(before, after, most)
            if said == "full":
                raise self._full()
            if said == "done":
                return after
        raise self._crowded(key)
