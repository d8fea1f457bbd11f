"""Makes functions Inactive that are attached to a network and were not invoked for long."""

from __future__ import annotations

import logging

from lambent.domain.clock import Clock, Ids
from lambent.domain.idleness import reclaim
from lambent.domain.names import Tenant
from lambent.infra.functions.attached import AttachedFunctions
from lambent.infra.functions.directory import FunctionDirectory
from lambent.infra.functions.port import NOBODY, Edit, FunctionStore
from lambent.infra.tasks import every

_log = logging.getLogger(__name__)


class Reclaimer:
    """Any number of frontends may have one: of two that decide the same, the second changes nothing."""

    def __init__(
        self,
        store: FunctionStore,
        attached: AttachedFunctions,
        directory: FunctionDirectory,
        clock: Clock,
        ids: Ids,
        *,
        idle_seconds: float,
    ) -> None:
        self._store = store
        self._attached = attached
        self._directory = directory
        self._clock = clock
        self._ids = ids
        self._idle_seconds = idle_seconds

    async def keep_looking(self, seconds: float) -> None:
        """`look`, every so many seconds, for ever."""
        await every(seconds, self.look, "idle functions are looked for later")

    async def look(self) -> None:
        """Take the network back from every function that has been idle for long enough. Raises
        ServiceUnavailableException."""
        since = self._clock.epoch() - self._idle_seconds
        for tenant, name in await self._attached.unused_since(since):
            await self._look_at(tenant, name, since)

    async def _look_at(self, tenant: Tenant, name: str, since: float) -> None:
        record = await self._store.get(tenant, name)
        if record is None or not record.configuration.attached:
            await self._attached.remove(tenant, name)
            return
        provisioned = bool((await self._store.settings(tenant)).of(name))
        after = reclaim(record, idle_since=since, provisioned=provisioned, revision_id=self._ids.uuid())
        if after is None:
            return
        edit = Edit(tenant, name, NOBODY, revision=record.revision_id, record=after)
        if await self._store.change(edit, 0) is None:
            _log.info("a function is Inactive now", extra={"account": tenant.account, "function": name})
        self._directory.forget(tenant, name, 0, NOBODY)
