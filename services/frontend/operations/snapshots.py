"""The second half of a publication with SnapStart: the version's init phase runs once, and the version becomes Active.

The frontend that took the publication has an environment made, which makes the snapshot on some worker; nothing runs in
it. Should that frontend die, whichever next looks at the version goes on. That two do so at once is harmless.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging

import msgspec

from lambent.domain.clock import Clock, Ids
from lambent.domain.concurrency import ConcurrencyState
from lambent.domain.errors import AwsError
from lambent.domain.functions import Function, FunctionRecord, Snapshot, State, VersionRecord
from lambent.domain.limits import Limits
from lambent.domain.names import FunctionRef
from lambent.infra.frames import Prepared
from lambent.infra.functions.port import NOBODY, Edit, FunctionStore
from lambent.infra.functions.targets import target_of
from lambent.infra.invoker.invoker import Invoker, Outcome
from lambent.infra.secrets import SecretBox
from lambent.infra.tasks import TaskOwner
from services.frontend.operations.editing import Editor

_log = logging.getLogger(__name__)

# How long the frontend that took a publication is left to begin with it before another one does.
GRACE_SECONDS = 5.0
# Between two attempts to have an environment made.
_AGAIN_SECONDS = 1.0
# Beyond the init phase: for throttles, workers that are not there yet, and the package on its way.
_SPARE_SECONDS = 60.0


def concluded(outcome: Outcome) -> Snapshot:
    """What a version's init phase came to."""
    result = outcome.result
    if result.error is None:
        prepared = msgspec.json.decode(outcome.payload, type=Prepared)
        return Snapshot(State.ACTIVE, prepared.snapshot)
    kind = result.error_type or "Unknown"
    code = "FunctionError.InitTimeout" if kind == "Sandbox.Timedout" else "FunctionError.RuntimeInitError"
    return Snapshot(State.FAILED, reason_code=code, reason=f"The init phase failed: {kind}: {_message(outcome)}")


def _message(outcome: Outcome) -> str:
    try:
        document = msgspec.json.decode(outcome.payload)
    except msgspec.DecodeError:
        return ""
    return str(document.get("errorMessage", ""))[:1024] if isinstance(document, dict) else ""


class SnapshotMaker:
    """Carries second halves out."""

    def __init__(
        self,
        store: FunctionStore,
        editor: Editor,
        invoker: Invoker,
        secrets: SecretBox,
        limits: Limits,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self._store = store
        self._editor = editor
        self._invoker = invoker
        self._secrets = secrets
        self._limits = limits
        self._clock = clock
        self._ids = ids
        self._under_way: set[str] = set()  # deployment ids
        self._tasks = TaskOwner("snapshots")

    def begin(self, record: FunctionRecord, version: VersionRecord) -> None:
        """This frontend took the publication: finish it now, beside the answer. Nothing where it is finished."""
        key = version.deployed.deployment_id
        if version.state is State.PENDING and key not in self._under_way:
            self._under_way.add(key)
            ref = FunctionRef(record.tenant, record.name, version.number)
            self._tasks.start(f"snapshot of {record.name}:{version.number}", self._finish(ref, version))

    def look(self, record: FunctionRecord, version: VersionRecord) -> None:
        """Go on with what its frontend left undone."""
        if self._clock.epoch() >= version.last_modified + GRACE_SECONDS:
            self.begin(record, version)

    async def close(self) -> None:
        """Give up what is under way: whoever looks next goes on with it."""
        await self._tasks.close()

    async def _finish(self, ref: FunctionRef, version: VersionRecord) -> None:
        try:
            await self._keep(ref, version, await self._made(ref, version))
        except AwsError as error:  # the function is gone, or the store is away
            _log.warning("a version stays Pending", extra={"function": ref.arn, "reason": str(error)})
        finally:
            self._under_way.discard(version.deployed.deployment_id)

    async def _made(self, ref: FunctionRef, version: VersionRecord) -> Snapshot:
        """What becomes of the version, once an environment could be made or there was time enough for it."""
        timeout = float(version.deployed.configuration.timeout)
        seconds = max(self._limits.snapshot_init_seconds, timeout) + _SPARE_SECONDS
        cause = "it took too long"
        try:
            async with asyncio.timeout(seconds):
                while True:
                    try:
                        outcome = await self._prepare(ref, version)
                        return Snapshot(State.ACTIVE) if outcome is None else concluded(outcome)
                    except AwsError as error:
                        cause = str(error)
                    await asyncio.sleep(_AGAIN_SECONDS)
        except TimeoutError:
            reason = f"No environment could be made: {cause}"
            return Snapshot(State.FAILED, reason_code="InternalError", reason=reason)

    async def _prepare(self, ref: FunctionRef, version: VersionRecord) -> Outcome | None:
        function = await self._store.find(ref.tenant, ref.name, version.number)
        target = None if function is None else target_of(self._secrets, function, version.number, pending=True)
        return None if target is None else await self._invoker.prepare(target, self._ids.uuid())

    async def _keep(self, ref: FunctionRef, version: VersionRecord, snapshot: Snapshot) -> None:
        def decide(function: Function, settings: ConcurrencyState) -> Edit | None:
            found = function.versions.get(version.number)
            if found is None or found.state is not State.PENDING:
                return None
            after = dataclasses.replace(found, snapshot=snapshot, revision_id=self._ids.uuid())
            return Edit(ref.tenant, ref.name, NOBODY, versions={version.number: after})

        await self._editor.edit(ref, decide)
