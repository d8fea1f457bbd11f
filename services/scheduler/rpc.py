"""The two streams that the scheduler serves, turned into events of the core. A peer that sends what makes no sense is
cut off; what it held is treated as that of any peer that left."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc

from lambent.domain.names import Tenant
from lambent.infra.batches import Outbox
from lambent.infra.tasks import TaskOwner
from lambent.internal.v1 import lease_service_pb2 as leases
from lambent.internal.v1 import lease_service_pb2_grpc as leases_grpc
from lambent.internal.v1 import worker_service_pb2 as workers
from lambent.internal.v1 import worker_service_pb2_grpc as workers_grpc
from services.scheduler.core import events as ev
from services.scheduler.shell import Shell

CallerStream = grpc.aio.ServicerContext[leases.CallerEvents, leases.LeaseEvents]
WorkerStream = grpc.aio.ServicerContext[workers.WorkerEvents, workers.WorkerInstructions]


class Nonsense(Exception):
    """A peer broke the protocol; the text says how."""


class LeaseService(leases_grpc.LeaseServiceServicer):
    """Callers."""

    def __init__(self, shell: Shell, token: str, scheduler_id: str, lease_seconds: float) -> None:
        """`token`: the cluster's shared secret."""
        self._shell = shell
        self._token = token
        self._welcome = leases.LeaseWelcome(scheduler_id=scheduler_id, lease_seconds=lease_seconds)

    async def Hold(self, request_iterator: AsyncIterator[leases.CallerEvents], context: CallerStream) -> None:  # type: ignore[override]
        """One caller's stream, from its hello to its end."""
        await _require_token(context, self._token)
        outbox: Outbox[leases.LeaseEvent] = Outbox()
        outbox.put(leases.LeaseEvent(welcome=self._welcome))

        async def write(events: Sequence[leases.LeaseEvent]) -> None:
            await context.write(leases.LeaseEvents(events=events))

        caller_id = ""
        try:
            async with _writing(outbox.run(write)) as writer:
                async for batch in request_iterator:
                    for event in batch.events:
                        if caller_id:
                            self._shell.feed(_caller_event(caller_id, event))
                        else:
                            caller_id = _require_hello(event.hello.caller_id, event.WhichOneof("event"))
                            held = tuple((lease.lease_id, lease.environment_id) for lease in event.hello.leases)
                            self._shell.caller_joined(ev.CallerJoined(caller_id, held), outbox)
                    if writer.done():
                        return
        except Nonsense as nonsense:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(nonsense))
        finally:
            if caller_id:
                self._shell.caller_left(caller_id, outbox)


class WorkerService(workers_grpc.WorkerServiceServicer):
    """Workers."""

    def __init__(self, shell: Shell, token: str, scheduler_id: str) -> None:
        """`token`: the cluster's shared secret."""
        self._shell = shell
        self._token = token
        self._welcome = workers.WorkerWelcome(scheduler_id=scheduler_id)

    async def Attach(self, request_iterator: AsyncIterator[workers.WorkerEvents], context: WorkerStream) -> None:  # type: ignore[override]
        """One worker's stream, from its hello to its end."""
        await _require_token(context, self._token)
        outbox: Outbox[workers.WorkerInstruction] = Outbox()
        outbox.put(workers.WorkerInstruction(welcome=self._welcome))

        async def write(instructions: Sequence[workers.WorkerInstruction]) -> None:
            await context.write(workers.WorkerInstructions(instructions=instructions))

        worker_id = ""
        try:
            async with _writing(outbox.run(write)) as writer:
                async for batch in request_iterator:
                    for event in batch.events:
                        if worker_id:
                            decoded = _worker_event(worker_id, event)
                            if decoded is not None:
                                self._shell.feed(decoded)
                        else:
                            worker_id = _require_hello(event.hello.worker_id, event.WhichOneof("event"))
                            self._shell.worker_joined(_worker_joined(event.hello), outbox)
                    if writer.done():
                        return
        except Nonsense as nonsense:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(nonsense))
        finally:
            if worker_id:
                self._shell.worker_left(worker_id, outbox)


@asynccontextmanager
async def _writing(work: object) -> AsyncIterator[asyncio.Task[None]]:
    """Run an outbox's writer beside the reading of its stream."""
    owner = TaskOwner("stream")
    assert asyncio.iscoroutine(work)
    try:
        yield owner.start("writer", work)
    finally:
        await owner.close()


async def _require_token(context: CallerStream | WorkerStream, token: str) -> None:
    """Cut off whoever does not know the cluster's secret."""
    shown = dict(context.invocation_metadata() or ()).get("authorization", "")
    if not hmac.compare_digest(str(shown).encode(), f"Bearer {token}".encode()):
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the cluster's token is missing or wrong")


def _require_hello(name: str, kind: str | None) -> str:
    if kind != "hello" or not name:
        raise Nonsense("the first event must be a hello with a name")
    return name


def _need(need: leases.Need) -> ev.Need:
    if not need.account or not need.deployment_id or need.memory_mb <= 0:
        raise Nonsense("a need without account, deployment or memory")
    return ev.Need(
        Tenant(need.account, need.region), need.function_name, need.version, need.deployment_id, need.generation,
        need.memory_mb,
    )  # fmt: skip


def _caller_event(caller_id: str, event: leases.CallerEvent) -> ev.Event:
    match event.WhichOneof("event"):
        case "acquire":
            wanted = event.acquire
            ticket = ev.Ticket(caller_id, wanted.ticket)
            return ev.EnvironmentWanted(ticket, wanted.request_id, _need(wanted.need), wanted.deployment)
        case "cancel":
            return ev.WantCancelled(ev.Ticket(caller_id, event.cancel.ticket))
        case "release":
            return ev.LeaseReleased(caller_id, event.release.lease_id, event.release.reusable)
        case "idle_returned":
            return ev.IdleReturned(caller_id, event.idle_returned.round)
        case "function_changed":
            changed = event.function_changed
            return ev.FunctionChanged(
                Tenant(changed.account, changed.region), changed.function_name, changed.generation
            )
        case kind:
            raise Nonsense(f"an event of kind {kind} after the hello")


def _worker_joined(hello: workers.WorkerHello) -> ev.WorkerJoined:
    running = tuple(
        ev.Running(
            item.environment_id,
            item.slot,
            ev.Need(
                Tenant(item.account, item.region), item.function_name, item.version, item.deployment_id,
                item.generation, item.memory_mb,
            ),
            item.busy,
            item.ready,
        )
        for item in hello.running
    )  # fmt: skip
    return ev.WorkerJoined(hello.worker_id, hello.address, hello.memory_mb, hello.environments, running)


def _worker_event(worker_id: str, event: workers.WorkerEvent) -> ev.Event | None:
    match event.WhichOneof("event"):
        case "ready":
            return ev.EnvironmentReady(worker_id, event.ready.environment_id, event.ready.slot)
        case "gone":
            return ev.EnvironmentGone(worker_id, event.gone.environment_id, event.gone.reason)
        case "draining":
            return ev.WorkerDraining(worker_id)
        case "heartbeat":
            return None
        case kind:
            raise Nonsense(f"an event of kind {kind} after the hello")
