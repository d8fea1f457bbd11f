"""The worker's line to the scheduler: dials in for ever, says what runs here, takes orders.

A scheduler that goes away disturbs nothing that runs. Whoever answers next is told by the hello what is here; news that
could not be sent meanwhile are part of that, so none is kept.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import grpc.aio

from lambent.infra import rpc
from lambent.infra.batches import Outbox, OutboxFull, heard
from lambent.infra.certificates import Certificates
from lambent.infra.tasks import TaskOwner
from lambent.internal.v1 import worker_service_pb2 as pb
from lambent.internal.v1.worker_service_pb2_grpc import WorkerServiceStub
from services.worker.core.environment import State
from services.worker.core.reasons import Reason
from services.worker.environments import Environments

_log = logging.getLogger(__name__)


class SchedulerAgent:
    """Speaks WorkerService.Attach."""

    def __init__(
        self,
        scheduler_address: str,
        token: str,
        environments: Environments,
        hello: Callable[[], pb.WorkerHello],
        certificates: Certificates | None = None,
    ) -> None:
        """`hello` makes the fixed part of the hello; what runs is added here. `certificates`: None for no TLS."""
        self._schedulers = rpc.Candidates(scheduler_address, certificates)
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._environments = environments
        self._hello = hello
        self._tasks = TaskOwner("agent")
        self._outbox: Outbox[pb.WorkerEvent] | None = None
        self._draining = False
        self.connected = asyncio.Event()
        self.scheduler_id = ""
        environments.reporter = self

    def start(self) -> None:
        """Begin to dial."""
        self._tasks.start("attach", self._run())

    # News

    def ready(self, environment_id: str, slot: int, *, init_failed: bool) -> None:
        """An environment takes invocations; `init_failed`: the function's own init phase did not end well."""
        ready = pb.EnvironmentReady(environment_id=environment_id, slot=slot, init_failed=init_failed)
        self._tell(pb.WorkerEvent(ready=ready))

    def gone(self, environment_id: str, reason: str) -> None:
        """An environment is no more, or could not be made."""
        self._tell(pb.WorkerEvent(gone=pb.EnvironmentGone(environment_id=environment_id, reason=reason)))

    def drain(self) -> None:
        """Say that nothing new is taken."""
        self._draining = True
        self._tell(pb.WorkerEvent(draining=pb.WorkerDraining()))

    def _tell(self, event: pb.WorkerEvent) -> None:
        if self._outbox is not None:
            try:
                self._outbox.put(event)
            except OutboxFull:
                self._outbox.close()  # the stream is given up
                self._outbox = None

    # The stream

    async def _run(self) -> None:
        rng = random.Random()
        delays = rpc.delays(rng)
        schedulers = self._schedulers
        try:
            while True:
                try:
                    await self._attach(WorkerServiceStub(await schedulers.channel()))
                    cause = "the stream ended"
                except grpc.aio.AioRpcError as error:
                    cause = f"{error.code().name}: {error.details()}"
                except (grpc.aio.UsageError, asyncio.InvalidStateError, TimeoutError) as error:
                    cause = str(error) or type(error).__name__
                if self.connected.is_set():
                    delays = rpc.delays(rng)
                    self.connected.clear()
                    _log.warning("scheduler lost", extra={"cause": cause})
                else:
                    _log.debug("scheduler not reachable", extra={"cause": cause})
                if schedulers.next():
                    await asyncio.sleep(next(delays))
        finally:
            await schedulers.close()

    async def _attach(self, stub: Any) -> None:
        call = stub.Attach(metadata=self._metadata, wait_for_ready=False)
        outbox: Outbox[pb.WorkerEvent] = Outbox()
        jobs = TaskOwner("attach", expected=(grpc.aio.AioRpcError,))
        try:
            # From here on news go to this stream; the hello that is made now says what was before.
            self._outbox = outbox
            outbox.put(pb.WorkerEvent(hello=self._full_hello()))
            if self._draining:
                outbox.put(pb.WorkerEvent(draining=pb.WorkerDraining()))

            async def write(events: Sequence[pb.WorkerEvent]) -> None:
                await call.write(pb.WorkerEvents(events=events))

            writing = jobs.start("write", outbox.run(write))
            reading = jobs.start("read", self._read(call))
            done, _ = await asyncio.wait((writing, reading), return_when=asyncio.FIRST_COMPLETED)
            # Whatever ended first says why; the others are ended with it.
            for job in done:
                job.result()
        finally:
            if self._outbox is outbox:
                self._outbox = None
            await jobs.close()
            call.cancel()

    async def _read(self, call: Any) -> None:
        async for message in heard(call):
            for instruction in message.instructions:
                if instruction.WhichOneof("instruction") != "welcome":
                    self._obey(instruction)
                elif self._schedulers.outdated(instruction.welcome.term):
                    return
                else:
                    self._welcomed(instruction.welcome)
                # A thousand orders may come at once. Invocations do not wait for the last of them.
                await asyncio.sleep(0)

    def _obey(self, instruction: pb.WorkerInstruction) -> None:
        kind = instruction.WhichOneof("instruction")
        if kind == "start":
            order = instruction.start
            if self._draining:
                self.gone(order.environment_id, Reason.DRAINED)
            else:
                self._environments.start(
                    order.environment_id, order.generation, order.deployment, provisioned=order.provisioned
                )
        elif kind == "stop":
            self._environments.stop(instruction.stop.environment_id, Reason.STOPPED)
        elif kind == "drain" and not self._draining:
            _log.info("draining, as the scheduler wants", extra={"reason": instruction.drain.reason})
            self.drain()
            self._tasks.start("retire", self._environments.retire())

    def _welcomed(self, welcome: pb.WorkerWelcome) -> None:
        self.scheduler_id = welcome.scheduler_id
        self.connected.set()
        _log.info("attached to a scheduler", extra={"scheduler": self.scheduler_id})

    def _full_hello(self) -> pb.WorkerHello:
        hello = self._hello()
        self._environments.forget_queued()
        for environment in self._environments.running():
            deployment = environment.deployment
            hello.running.append(
                pb.RunningEnvironment(
                    environment_id=environment.id,
                    slot=environment.slot,
                    account=deployment.account,
                    region=deployment.region,
                    function_name=deployment.function_name,
                    version=deployment.version,
                    deployment_id=deployment.deployment_id,
                    generation=environment.generation,
                    memory_mb=deployment.memory_mb,
                    busy=environment.busy,
                    ready=environment.state is not State.STARTING,
                    provisioned=environment.provisioned,
                )
            )
        return hello

    async def close(self) -> None:
        """Hang up."""
        await self._tasks.close()
