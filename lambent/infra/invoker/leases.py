"""The caller's end of the lease stream: carries the pool's wishes to the scheduler and its answers back, and dials
again for as long as it takes. While the stream is down, leases that are held go on being used until they run out."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from typing import Protocol, cast

import grpc

from lambent.domain.clock import Clock
from lambent.domain.names import Tenant
from lambent.infra import rpc
from lambent.infra.batches import Outbox
from lambent.infra.invoker.pool import Acquire, Cancel, Lease, LeasePool, Release, Returned, Waiter
from lambent.infra.tasks import TaskOwner
from lambent.internal.v1 import lease_service_pb2 as pb
from lambent.internal.v1 import lease_service_pb2_grpc as pb_grpc

_log = logging.getLogger(__name__)

# Share of the lease time after a broken stream in which a caller still uses its leases: the scheduler, whose clock
# may run faster, must not have given an environment to another by then.
SAFE_SHARE = 0.8
TICK_SECONDS = 0.25


class Asking(Waiter, Protocol):
    """A waiter that can say what it needs."""

    def acquire(self, ticket: int) -> pb.Acquire:
        """The message that asks for an environment."""
        ...


class LeaseStream:
    """One stream to the scheduler and the pool behind it."""

    def __init__(
        self, address: str, token: str, caller_id: str, pool: LeasePool, clock: Clock, rng: random.Random
    ) -> None:
        """`token`: the cluster's shared secret."""
        self.pool = pool
        self.connected = asyncio.Event()
        self._address = address
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._caller_id = caller_id
        self._clock = clock
        self._rng = rng
        self._tasks = TaskOwner("leases")
        self._outbox: Outbox[pb.CallerEvent] = Outbox()
        self._lease_seconds = 0.0

    def start(self) -> None:
        """Dial, and keep dialling."""
        self._tasks.start("stream", self._keep_stream())
        self._tasks.start("tick", self._tick())

    async def close(self) -> None:
        """Give everything back and hang up."""
        for lease in list(self.pool.leases.values()):
            self.pool.revoked(lease.id)
            self._outbox.put(pb.CallerEvent(release=pb.ReleaseLease(lease_id=lease.id, reusable=True)))
        self._outbox.close()
        await self._tasks.close()

    def flush(self) -> None:
        """Send what the pool wants said."""
        out = self.pool.out
        if not out:
            return
        self.pool.out = []
        for item in out:
            match item:
                case Acquire(ticket, waiter):
                    self._outbox.put(pb.CallerEvent(acquire=cast(Asking, waiter).acquire(ticket)))
                case Cancel(ticket):
                    self._outbox.put(pb.CallerEvent(cancel=pb.CancelAcquire(ticket=ticket)))
                case Release(lease_id, reusable):
                    self._outbox.put(pb.CallerEvent(release=pb.ReleaseLease(lease_id=lease_id, reusable=reusable)))
                case Returned(round):
                    self._outbox.put(pb.CallerEvent(idle_returned=pb.IdleReturned(round=round)))

    def function_changed(self, tenant: Tenant, function_name: str, generation: int, version: str) -> None:
        """Tell the scheduler that environments of earlier generations are not wanted again.

        `version`: whose, $LATEST or a number; empty: of every version.
        """
        if self.pool.connected:
            changed = pb.FunctionChanged(
                account=tenant.account,
                region=tenant.region,
                function_name=function_name,
                generation=generation,
                version=version,
            )
            self._outbox.put(pb.CallerEvent(function_changed=changed))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.pool.tick(self._clock.monotonic())
            self.flush()

    async def _keep_stream(self) -> None:
        delays = rpc.delays(self._rng)
        async with rpc.channel(self._address) as channel:
            while True:
                try:
                    await self._hold(pb_grpc.LeaseServiceStub(channel))
                except grpc.RpcError as error:
                    _log.debug("lease stream broke", extra={"reason": str(error)})
                if self.connected.is_set():
                    self.connected.clear()
                    self.pool.lost(self._clock.monotonic() + self._lease_seconds * SAFE_SHARE)
                    _log.warning("scheduler lost; held leases go on", extra={"leases": len(self.pool.leases)})
                    delays = rpc.delays(self._rng)
                await asyncio.sleep(next(delays))

    async def _hold(self, stub: pb_grpc.LeaseServiceAsyncStub) -> None:
        """One stream from hello to its end."""
        outbox: Outbox[pb.CallerEvent] = Outbox()
        call = stub.Hold(metadata=self._metadata)
        held = [pb.HeldLease(lease_id=x.id, environment_id=x.environment_id) for x in self.pool.leases.values()]
        await call.write(
            pb.CallerEvents(events=[pb.CallerEvent(hello=pb.CallerHello(caller_id=self._caller_id, leases=held))])
        )
        held_ids = {lease.lease_id for lease in held}

        async def write(events: Sequence[pb.CallerEvent]) -> None:
            await call.write(pb.CallerEvents(events=events))

        writers = TaskOwner("lease-writer")
        try:
            async for batch in call:
                for event in batch.events:
                    if event.WhichOneof("event") == "welcome":
                        self._welcome(event.welcome, outbox, held_ids)
                        writers.start("write", outbox.run(write))
                    else:
                        self._receive(event)
                self.flush()
        finally:
            call.cancel()
            await writers.close()

    def _welcome(self, welcome: pb.LeaseWelcome, outbox: Outbox[pb.CallerEvent], said: set[int]) -> None:
        self._lease_seconds = welcome.lease_seconds
        self._outbox = outbox
        for lease in self.pool.joined():
            said.discard(lease.id)
        for lease_id in said:
            # Given up between the hello and its answer.
            outbox.put(pb.CallerEvent(release=pb.ReleaseLease(lease_id=lease_id, reusable=False)))
        self.connected.set()

    def _receive(self, event: pb.LeaseEvent) -> None:
        now = self._clock.monotonic()
        match event.WhichOneof("event"):
            case "granted":
                self._granted(event.granted, now)
            case "refused":
                self.pool.refused(event.refused.ticket, event.refused.reason, event.refused.retry_after_seconds)
            case "recall_idle":
                recall = event.recall_idle
                tenant = Tenant(recall.account, recall.region) if recall.account else None
                self.pool.recalled(recall.round, tenant, recall.function_name or None, recall.hold_seconds, now)
            case "revoked":
                self.pool.revoked(event.revoked.lease_id)

    def _granted(self, granted: pb.LeaseGranted, now: float) -> None:
        waiter = self.pool.waiter_of(granted.ticket)
        if waiter is None:
            # It crossed a cancellation: straight back.
            self._outbox.put(pb.CallerEvent(release=pb.ReleaseLease(lease_id=granted.lease_id, reusable=True)))
            return
        lease = Lease(
            granted.lease_id, granted.environment_id, granted.worker_id, granted.worker_address, granted.slot,
            waiter.deployment_id, waiter.tenant, waiter.function_name, granted.reason,
        )  # fmt: skip
        self.pool.granted(granted.ticket, lease, now)
