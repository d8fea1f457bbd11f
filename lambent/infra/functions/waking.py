"""An invocation of a function that is Inactive: it is refused, and brings the function back."""

from __future__ import annotations

import logging

from lambent.domain.clock import Clock, Ids
from lambent.domain.errors import AwsError
from lambent.domain.functions import FunctionRecord
from lambent.domain.idleness import restored, wake
from lambent.infra.functions.attached import AttachedFunctions
from lambent.infra.functions.directory import FunctionDirectory
from lambent.infra.functions.port import NOBODY, Edit, FunctionStore
from lambent.infra.tasks import TaskOwner

_log = logging.getLogger(__name__)
# How long whoever began with it is left to finish it; likewise at shutdown.
GRACE_SECONDS = 2.0


class Waker:
    """Makes functions Pending, and Active shortly after."""

    def __init__(
        self, store: FunctionStore, attached: AttachedFunctions, directory: FunctionDirectory, clock: Clock, ids: Ids
    ) -> None:
        self._store = store
        self._attached = attached
        self._directory = directory
        self._clock = clock
        self._ids = ids
        self._tasks = TaskOwner("waker")

    async def wake(self, record: FunctionRecord) -> bool:
        """Bring a function back. False: it is not inactive, nor on its way. Raises ServiceUnavailableException."""
        now = self._clock.epoch()
        pending = wake(record, now=now, revision_id=self._ids.uuid())
        if pending is None:
            if record.away and now > record.changed + GRACE_SECONDS:
                await self._restore(record)  # whoever began with it is gone
            return record.away
        await self._attached.add(record.tenant, record.name, now)
        if await self._keep(record, pending):
            self._tasks.start(f"restore {record.name}", self._restore(pending))
        return True

    async def close(self) -> None:
        """Let what has begun end."""
        await self._tasks.drain(GRACE_SECONDS)
        await self._tasks.close()

    async def _restore(self, pending: FunctionRecord) -> None:
        back = restored(pending, revision_id=self._ids.uuid())
        assert back is not None
        try:
            await self._keep(pending, back)
        except AwsError as error:
            _log.warning("a function stays Pending", extra={"function": pending.name, "reason": str(error)})

    async def _keep(self, before: FunctionRecord, after: FunctionRecord) -> bool:
        edit = Edit(before.tenant, before.name, NOBODY, revision=before.revision_id, record=after)
        obstacle = await self._store.change(edit, 0)
        self._directory.forget(before.tenant, before.name, 0, NOBODY)
        return obstacle is None
