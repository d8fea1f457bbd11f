"""All environments of one worker: slots are given out, the scheduler's orders carried out, news reported."""

from __future__ import annotations

import asyncio
import dataclasses
import heapq
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from google.protobuf.message import DecodeError

from lambent.domain.clock import Clock, Ids
from lambent.domain.limits import Limits
from lambent.infra.log_store import LogWriter
from lambent.infra.tasks import TaskOwner
from lambent.internal.v1.deployment_pb2 import Deployment
from services.worker.artifacts.cache import Unpacked
from services.worker.artifacts.deployments import Artifacts
from services.worker.artifacts.making import PackageUnavailable
from services.worker.core import zygote_tree as tree
from services.worker.core.environment import State
from services.worker.core.reasons import Reason
from services.worker.counters import InvocationRecord, WorkerCounters
from services.worker.credentials import Credentials
from services.worker.endpoints import Endpoints
from services.worker.environment import Environment
from services.worker.freezing import Freezer
from services.worker.guests import Programs
from services.worker.sandbox.port import SandboxPool, SandboxUnavailable
from services.worker.snapshots import Found, Snapshots, SnapshotSettings, spec_of

_log = logging.getLogger(__name__)

# How long a draining worker's environments of provisioned concurrency serve on.
PROVISIONED_SECONDS = 30.0


class Reporter(Protocol):
    """Whom the scheduler's news go through."""

    def ready(self, environment_id: str, slot: int, *, init_failed: bool) -> None: ...

    def gone(self, environment_id: str, reason: str) -> None: ...


class Owner(Protocol):
    """Whom environments tell of themselves."""

    def became_ready(self, environment: Environment) -> None: ...

    def went(self, environment: Environment, reason: Reason) -> None: ...


@dataclass(slots=True)
class Shared:
    """What environments share (the `Host` of services/worker/environment.py)."""

    loop: asyncio.AbstractEventLoop
    clock: Clock
    limits: Limits
    logs: LogWriter
    pool: SandboxPool
    programs: Programs
    ids: Ids
    tasks: TaskOwner
    counters: WorkerCounters
    freezer: Freezer
    credentials: Credentials
    endpoints: Endpoints
    on_invocation: Callable[[InvocationRecord], None] | None
    owner: Owner | None = None

    def environment_ready(self, environment: Environment) -> None:
        if self.owner is not None:
            self.owner.became_ready(environment)

    def environment_gone(self, environment: Environment, reason: Reason) -> None:
        if self.owner is not None:
            self.owner.went(environment, reason)


class Environments:
    """The environments by slot and by id."""

    def __init__(
        self,
        shared: Shared,
        artifacts: Artifacts,
        most: int,
        *,
        snapshots: SnapshotSettings | None = None,
        provisioning: int = 4,
    ) -> None:
        """`most`: environments. `snapshots`: None for none of them. `provisioning`: how many of provisioned concurrency
        start at once; nobody waits for one of them, and all at once would keep every invocation on this worker
        waiting."""
        self._shared = shared
        self._provisioning = provisioning
        self._queued: dict[str, tuple[int, bytes]] = {}  # orders for provisioned concurrency, in their order
        self._underway: set[str] = set()  # those that start
        self._artifacts = artifacts
        settings = snapshots or SnapshotSettings(0, 0, 1.0, 0)
        self._most = most
        self._free = list(range(most + settings.slots))  # a heap: low numbers first, so that user ids are few
        self._starting: dict[str, asyncio.Task[None]] = {}
        self.by_slot: list[Environment | None] = [None] * len(self._free)
        self.by_id: dict[str, Environment] = {}
        self.reporter: Reporter | None = None
        shared.owner = self
        self._snapshots = Snapshots(
            dataclasses.replace(shared, owner=None), settings, self._spare_slot, self._give_slot, self._promised_mb
        )  # fmt: skip

    def start(self, environment_id: str, generation: int, deployment_bytes: bytes, *, provisioned: bool) -> None:
        """Begin to make an environment. An order that is repeated is carried out once.

        `provisioned`: it is for provisioned concurrency, and waits for its turn.
        """
        if environment_id in self.by_id or environment_id in self._starting or environment_id in self._queued:
            return
        if provisioned:
            self._queued[environment_id] = (generation, deployment_bytes)
            self._start_queued()
        else:
            self._begin(environment_id, generation, deployment_bytes, provisioned=False)

    def _start_queued(self) -> None:
        if self._queued and len(self._underway) < self._provisioning:
            environment_id = next(iter(self._queued))
            generation, deployment = self._queued.pop(environment_id)
            self._underway.add(environment_id)
            self._begin(environment_id, generation, deployment, provisioned=True)
            self._start_another()

    def _start_another(self) -> None:
        """Not before whatever else this turn of the loop has to do."""
        self._shared.loop.call_soon(self._start_queued)

    def _started(self, environment_id: str) -> None:
        """It starts no more: it is ready, or gone."""
        if environment_id in self._underway:
            self._underway.discard(environment_id)
            self._start_another()

    def forget_queued(self) -> None:
        """The scheduler is told what there is: what has not been begun is its own to order anew."""
        self._queued.clear()

    def _begin(self, environment_id: str, generation: int, deployment_bytes: bytes, *, provisioned: bool) -> None:
        self._shared.counters.starts += 1
        try:
            deployment = Deployment.FromString(deployment_bytes)
        except DecodeError:
            self._failed(environment_id, Reason.NO_PACKAGE, "the deployment cannot be read")
            return
        unpacked = self._artifacts.known(deployment)
        if unpacked is not None and not deployment.snap_start:
            self._make(environment_id, generation, deployment, unpacked, provisioned=provisioned)
            return
        if unpacked is not None:
            found = self._snapshots.now(deployment, unpacked, provisioned=provisioned)
            if found is not None:
                self._make(environment_id, generation, deployment, unpacked, provisioned=provisioned, found=found)
                return
        work = self._fetch(environment_id, generation, deployment, provisioned=provisioned)
        self._starting[environment_id] = self._shared.tasks.start(f"start-{environment_id}", work)

    async def _fetch(self, environment_id: str, generation: int, deployment: Deployment, *, provisioned: bool) -> None:
        try:
            unpacked = await self._artifacts.unpacked(deployment)
        except PackageUnavailable as error:
            self._failed(environment_id, Reason.NO_PACKAGE, str(error))
        else:
            found = None
            if deployment.snap_start:
                found = await self._snapshots.obtain(deployment, unpacked, provisioned=provisioned)
            self._make(environment_id, generation, deployment, unpacked, provisioned=provisioned, found=found)
        finally:
            self._starting.pop(environment_id, None)
        if deployment.image and not self._starting:
            self._artifacts.trim(environment.deployment for environment in self.by_id.values())

    def _make(
        self,
        environment_id: str,
        generation: int,
        deployment: Deployment,
        unpacked: Unpacked,
        *,
        provisioned: bool,
        found: Found | None = None,
    ) -> None:
        snapshot = None if found is None else found.snapshot
        copy, slot = (None, None) if snapshot is None else self._snapshots.copy_of(snapshot)
        slot = self._take_slot() if slot is None else slot
        if slot is None:
            self._failed(environment_id, Reason.FULL, "no slot is free")
            return
        spec = spec_of(
            environment_id, slot, deployment, unpacked, self._shared.limits, background=provisioned,
            mounted=self._shared.programs.mounted(deployment),
        )  # fmt: skip
        environment = Environment(
            self._shared, spec, deployment, generation, self._shared.ids.token(16), provisioned=provisioned,
            snapshot=snapshot, copy=copy,
        )  # fmt: skip
        try:
            environment.start()
        except SandboxUnavailable as error:
            self._give_slot(slot)
            if snapshot is not None:  # it has ended just now
                lost = Found(None, tree.Reason.LOST)
                self._make(environment_id, generation, deployment, unpacked, provisioned=provisioned, found=lost)
            else:
                self._failed(environment_id, Reason.NO_SANDBOX, str(error))
            return
        if found is not None:
            environment.begins_as, environment.begun_by = found.reason, found.failed
        if snapshot is not None:
            self._snapshots.joined(snapshot)
        elif found is not None:
            environment.tell_fallback(found.reason, found.details)
        self.by_slot[slot] = environment
        self.by_id[environment_id] = environment

    def _take_slot(self) -> int | None:
        return heapq.heappop(self._free) if len(self.by_id) < self._most and self._free else None

    def _spare_slot(self) -> int | None:
        """One that no environment of those that this worker may have can need."""
        return heapq.heappop(self._free) if len(self._free) > self._most - len(self.by_id) else None

    def _give_slot(self, slot: int) -> None:
        heapq.heappush(self._free, slot)

    def _promised_mb(self) -> int:
        return sum(environment.deployment.memory_mb for environment in self.by_id.values())

    def _failed(self, environment_id: str, reason: Reason, cause: str) -> None:
        self._shared.counters.start_failures += 1
        self._started(environment_id)
        _log.error("environment not started", extra={"environment": environment_id, "reason": reason, "cause": cause})
        if self.reporter is not None:
            self.reporter.gone(environment_id, reason)

    def stop(self, environment_id: str, reason: Reason) -> None:
        """End an environment, whatever it does. One that is unknown is reported gone."""
        self._queued.pop(environment_id, None)
        starting = self._starting.pop(environment_id, None)
        if starting is not None:
            starting.cancel()
            self._started(environment_id)
        environment = self.by_id.get(environment_id)
        if environment is not None:
            environment.stop(reason)
        elif self.reporter is not None:
            self.reporter.gone(environment_id, reason)

    def became_ready(self, environment: Environment) -> None:
        """Its init phase has ended, well or not."""
        self._started(environment.id)
        if environment.snapshot is not None and environment.stillborn:
            self._snapshots.broke(environment.snapshot)
        if self.reporter is not None:
            # An environment whose init has failed has no process until its first invocation.
            failed = environment.state is State.COLD
            self.reporter.ready(environment.id, environment.slot, init_failed=failed)

    def went(self, environment: Environment, reason: Reason) -> None:
        """It has stopped."""
        self._started(environment.id)
        self._shared.freezer.gone(environment)
        self._shared.credentials.gone(environment)
        if self.by_id.pop(environment.id, None) is None:
            return
        self._shared.counters.stops += 1
        self.by_slot[environment.slot] = None
        self._give_slot(environment.slot)
        if environment.snapshot is not None:
            self._snapshots.left(environment.snapshot)
        if self.reporter is not None:
            self.reporter.gone(environment.id, reason)

    def running(self) -> Iterable[Environment]:
        """Every environment."""
        return list(self.by_id.values())

    def close(self) -> None:
        """End every environment and snapshot, now."""
        for environment in self.running():
            environment.stop(Reason.CLOSING)
        self._snapshots.close()
        self._shared.freezer.close()

    def show_logs(self) -> None:
        """Let who follows a log see what invocations that run for long have written."""
        for environment in self.by_id.values():
            if environment.busy:
                environment.show_log()

    async def retire(self) -> None:
        """Have every environment used once more at most, so that the scheduler can end it however busy it is; those of
        provisioned concurrency later, as it has others ready first."""
        for provisioned in (False, True):
            for environment in self.by_id.values():
                if environment.provisioned is provisioned:
                    environment.fresh_until = 0.0
            if not provisioned:
                await asyncio.sleep(PROVISIONED_SECONDS)

    def drain(self) -> int:
        """Stop those in which nothing goes on, and have the callers of the others told to use theirs no more; answers
        how many there still are."""
        for environment in self.running():
            if environment.busy or environment.state is State.SETTLING:
                environment.fresh_until = 0.0
            else:
                environment.stop(Reason.DRAINED)
        return len(self.by_id)
