"""The second half of every change of a function: Pending becomes Active, InProgress becomes Successful.

The first half (what the client asked for) is kept with the change; this half follows at once, by the frontend that
took the change, or, should that one die, by whichever frontend next looks at the function. Whoever is second changes
nothing.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging

from lambent.domain.clock import Clock, Ids
from lambent.domain.errors import AwsError
from lambent.domain.functions import Deployed, FunctionRecord, State, UpdateStatus
from lambent.domain.idleness import restored
from lambent.domain.limits import Limits
from lambent.domain.names import LATEST
from lambent.infra.code_store import CodeStore
from lambent.infra.functions.directory import FunctionDirectory
from lambent.infra.functions.port import NOBODY, Edit, FunctionStore
from lambent.infra.functions.waking import GRACE_SECONDS
from lambent.infra.tasks import TaskOwner

_log = logging.getLogger(__name__)


def in_progress(record: FunctionRecord) -> bool:
    """Whether a change waits for its second half."""
    return record.state is State.PENDING or record.update_status is UpdateStatus.IN_PROGRESS


def settle(record: FunctionRecord, *, code_present: bool, revision_id: str, deployment_id: str) -> FunctionRecord:
    """The record after the second half. Without its packages a creation fails, and an update leaves the old code be.
    What was inactive runs what it ran."""
    back = restored(record, revision_id=revision_id)
    if back is not None:
        return back
    if not code_present:
        failed = {"state": State.FAILED} if record.state is State.PENDING else {"update_status": UpdateStatus.FAILED}
        return dataclasses.replace(record, revision_id=revision_id, **failed)
    return dataclasses.replace(
        record,
        revision_id=revision_id,
        state=State.ACTIVE,
        update_status=UpdateStatus.SUCCESSFUL,
        serving=Deployed(deployment_id, record.generation, record.configuration, record.code),
    )


class Settler:
    """Carries out second halves."""

    def __init__(
        self,
        store: FunctionStore,
        code: CodeStore,
        directory: FunctionDirectory,
        limits: Limits,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self._store = store
        self._code = code
        self._directory = directory
        self._limits = limits
        self._clock = clock
        self._ids = ids
        self._tasks = TaskOwner("settler")

    def begin(self, record: FunctionRecord) -> None:
        """This frontend took the change: finish it now, beside the answer."""
        self._tasks.start(f"settle {record.name}", self._settle_logged(record))

    async def look(self, record: FunctionRecord) -> FunctionRecord:
        """The record as it should be by now; finishes what its frontend left undone."""
        if not in_progress(record) or self._clock.epoch() < record.changed + GRACE_SECONDS:
            return record
        return await self._settle(record)

    async def close(self) -> None:
        """Let what has begun end."""
        await self._tasks.drain(GRACE_SECONDS)
        await self._tasks.close()

    async def _settle_logged(self, record: FunctionRecord) -> None:
        try:
            await self._settle(record)
        except AwsError as error:
            _log.warning("a change waits for its second half", extra={"function": record.name, "reason": str(error)})

    async def _settle(self, record: FunctionRecord) -> FunctionRecord:
        kept = [record.code, *(layer.code for layer in record.configuration.layers)]
        codes = [code for code in kept if code.image is None]  # images are where they were found
        present = await asyncio.to_thread(lambda: all(code.sha256 in self._code for code in codes))
        settled = settle(record, code_present=present, revision_id=self._ids.uuid(), deployment_id=self._ids.token(16))
        outdates = NOBODY if record.away else LATEST
        edit = Edit(
            record.tenant, record.name, outdates, record.generation, revision=record.revision_id, record=settled
        )  # fmt: skip
        obstacle = await self._store.change(edit, self._limits.code_storage_bytes)
        self._directory.forget(record.tenant, record.name, record.generation, outdates)
        return settled if obstacle is None else record
