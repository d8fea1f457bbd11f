"""The caller's end of the lease stream: carries the pool's wishes to the scheduler and its answers back, and dials
again for as long as it takes. While the stream is down, leases that are held go on being used until they run out."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, cast

import grpc

from lambent.domain.clock import Clock
from lambent.domain.errors import AwsError
from lambent.domain.names import Tenant
from lambent.infra import rpc
from lambent.infra.batches import Outbox, heard
from lambent.infra.certificates import Certificates
from lambent.infra.invoker.budgets import Scope
from lambent.infra.invoker.pool import (
    Acquire,
    Cancel,
    GiveBack,
    Lease,
    LeasePool,
    Release,
    Report,
    Returned,
    Waiter,
    Wish,
)
from lambent.infra.tasks import TaskOwner
from lambent.internal.v1 import lease_service_pb2 as pb
from lambent.internal.v1 import lease_service_pb2_grpc as pb_grpc

_log = logging.getLogger(__name__)

# Share of the lease time after a broken stream in which a caller still uses its leases: the scheduler, whose clock
# may run faster, must not have given an environment to another by then.
SAFE_SHARE = 0.8
TICK_SECONDS = 0.25


# What is told of one tenant, in whole and by revision.
Settings = pb.ConcurrencySettings | pb.ScalingSettings
# Answers the settings of every tenant that has any. Raises AwsError while the store is away.
Loader = Callable[[], Awaitable[Sequence[Settings]]]


class Asking(Waiter, Protocol):
    """A waiter that can say what it needs."""

    def acquire(self, ticket: int, on_demand: bool) -> pb.Acquire:
        """The message that asks for an environment; `on_demand`: not one of provisioned concurrency."""
        ...


class LeaseStream:
    """One stream to the scheduler and the pool behind it."""

    def __init__(
        self, address: str, token: str, caller_id: str, pool: LeasePool, clock: Clock, rng: random.Random,
        certificates: Certificates | None = None, *, background: bool = False,
    ) -> None:  # fmt: skip
        """`address`: of the schedulers, separated by commas. `token`: the cluster's shared secret. `certificates`: None
        for no TLS. `background`: nobody waits for the invocations."""
        self.pool = pool
        self.connected = asyncio.Event()
        self._schedulers = rpc.Candidates(address, certificates)
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._caller_id = caller_id
        self._background = background
        self._clock = clock
        self._rng = rng
        self._tasks = TaskOwner("leases")
        self._outbox: Outbox[pb.CallerEvent] = Outbox()
        self._lease_seconds = 0.0
        self._loaders: list[Loader] = []
        # Each tenant's newest of each kind, as every scheduler is to be told.
        self._newest: dict[tuple[type[Settings], Tenant], Settings] = {}
        self._loaded = False
        self._applied: dict[Tenant, int] = {}  # revision of the settings that the scheduler has in force
        self._settings_news = asyncio.Condition()
        self._carry_out: Callable[[pb.ScalingOrder], None] | None = None

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
                case Acquire(ticket, waiter, on_demand):
                    self._outbox.put(pb.CallerEvent(acquire=cast(Asking, waiter).acquire(ticket, on_demand)))
                case Cancel(ticket):
                    self._outbox.put(pb.CallerEvent(cancel=pb.CancelAcquire(ticket=ticket)))
                case Release(lease_id, reusable):
                    self._outbox.put(pb.CallerEvent(release=pb.ReleaseLease(lease_id=lease_id, reusable=reusable)))
                case Returned(round):
                    self._outbox.put(pb.CallerEvent(idle_returned=pb.IdleReturned(round=round)))
                case Wish(scope, requests):
                    wanted = pb.RequestsWanted(scope=_scope_message(scope), requests=requests)
                    self._outbox.put(pb.CallerEvent(requests_wanted=wanted))
                case GiveBack(scope, requests, round):
                    returned = pb.RequestsReturned(scope=_scope_message(scope), requests=requests, round=round)
                    self._outbox.put(pb.CallerEvent(requests_returned=returned))
                case Report(scope, use):
                    used = pb.ProvisionedUse(
                        scope=_scope_message(scope), invocations=use.invocations, concurrent=use.concurrent,
                        most=use.most, busy_seconds=use.busy_seconds,
                    )  # fmt: skip
                    self._outbox.put(pb.CallerEvent(provisioned_use=used))

    def function_changed(self, tenant: Tenant, function_name: str, generation: int, version: str) -> None:
        """Tell the scheduler that environments of earlier generations are not wanted again.

        `version`: whose environments, $LATEST or a number; empty: of every version.
        """
        if self.pool.connected:
            changed = pb.FunctionChanged(
                account=tenant.account, region=tenant.region, function_name=function_name, generation=generation,
                version=version,
            )  # fmt: skip
            self._outbox.put(pb.CallerEvent(function_changed=changed))

    # What tenants have set

    def on_connected(self, load: Loader) -> None:
        """`load` answers the settings of every tenant that has any; they are told to each scheduler before anything is
        asked of it. To be called before `start`."""
        self._loaders.append(load)

    def send_settings(self, message: Settings) -> None:
        """Tell the scheduler a tenant's settings; without one the next is told them."""
        self._newest[type(message), Tenant(message.account, message.region)] = message
        if self.pool.connected:
            self._outbox.put(_settings_event(message))

    async def settings_applied(self, account: str, region: str, revision: int) -> None:
        """Wait until the scheduler has this revision of a tenant's settings, or a later one, in force."""
        tenant = Tenant(account, region)
        async with self._settings_news:
            await self._settings_news.wait_for(lambda: self._applied.get(tenant, 0) >= revision)

    async def _note_applied(self, applied: pb.SettingsApplied) -> None:
        async with self._settings_news:
            self._applied[Tenant(applied.account, applied.region)] = applied.revision
            self._settings_news.notify_all()

    # What the scheduler decides about capacities

    def on_order(self, carry_out: Callable[[pb.ScalingOrder], None]) -> None:
        """`carry_out` is given what the scheduler orders; it answers by `send_outcome`. To be called before `start`."""
        self._carry_out = carry_out

    def send_outcome(self, outcome: pb.ScalingOutcome) -> None:
        """Answer an order. Without a scheduler nobody waits for it."""
        if self.pool.connected:
            self._outbox.put(pb.CallerEvent(scaling_outcome=outcome))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.pool.tick(self._clock.monotonic())
            self.flush()

    async def _keep_stream(self) -> None:
        delays = rpc.delays(self._rng)
        schedulers = self._schedulers
        try:
            while True:
                try:
                    await self._hold(pb_grpc.LeaseServiceStub(await schedulers.channel()))
                except (grpc.RpcError, AwsError, TimeoutError) as error:
                    _log.debug("lease stream broke", extra={"reason": str(error)})
                if self.connected.is_set():
                    self.connected.clear()
                    self.pool.lost(self._clock.monotonic() + self._lease_seconds * SAFE_SHARE)
                    _log.warning("scheduler lost; held leases go on", extra={"leases": len(self.pool.leases)})
                    delays = rpc.delays(self._rng)
                if schedulers.next():
                    await asyncio.sleep(next(delays))
        finally:
            await schedulers.close()

    async def _hold(self, stub: pb_grpc.LeaseServiceAsyncStub) -> None:
        """One stream from hello to its end."""
        outbox: Outbox[pb.CallerEvent] = Outbox()
        call = stub.Hold(metadata=self._metadata)
        held = [pb.HeldLease(lease_id=x.id, environment_id=x.environment_id) for x in self.pool.leases.values()]
        hello = pb.CallerHello(
            caller_id=self._caller_id, leases=held, takes_orders=self._carry_out is not None,
            background=self._background,
        )  # fmt: skip
        await call.write(pb.CallerEvents(events=[pb.CallerEvent(hello=hello)]))
        held_ids = {lease.lease_id for lease in held}

        async def write(events: Sequence[pb.CallerEvent]) -> None:
            await call.write(pb.CallerEvents(events=events))

        writers = TaskOwner("lease-writer")
        try:
            async for batch in heard(call):
                for event in batch.events:
                    match event.WhichOneof("event"):
                        case "welcome" if self._schedulers.outdated(event.welcome.term):
                            return
                        case "welcome":
                            await self._learn_settings()
                            self._welcome(event.welcome, outbox, held_ids)
                            writers.start("write", outbox.run(write))
                        case "settings_applied":
                            await self._note_applied(event.settings_applied)
                        case _:
                            self._receive(event)
                self.flush()
        finally:
            call.cancel()
            await writers.close()

    async def _learn_settings(self) -> None:
        """Load every tenant's settings. While the store is away, those that were told before are told again; raises
        AwsError if there were none yet, since nothing may be asked for under limits that are not known."""
        try:
            loaded = [message for load in self._loaders for message in await load()]
        except AwsError:
            if not self._loaded:
                raise
            return
        self._loaded = True
        for message in loaded:
            key = (type(message), Tenant(message.account, message.region))
            # A change that came while they were loaded is newer than what was loaded.
            if key not in self._newest or self._newest[key].revision < message.revision:
                self._newest[key] = message

    def _welcome(self, welcome: pb.LeaseWelcome, outbox: Outbox[pb.CallerEvent], said: set[int]) -> None:
        self._lease_seconds = welcome.lease_seconds
        self._outbox = outbox
        self._applied.clear()
        # First of all: what is asked for after this is granted within these limits.
        for message in self._newest.values():
            outbox.put(_settings_event(message))
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
            case "retire":
                retire = event.retire
                self.pool.retired(Tenant(retire.account, retire.region), retire.function_name or None)
            case "requests_permitted":
                permitted = event.requests_permitted
                self.pool.permitted(_scope(permitted.scope), permitted.requests, permitted.retry_after_seconds, now)
            case "recall_requests":
                self.pool.permissions_recalled(_scope(event.recall_requests.scope), event.recall_requests.round)
            case "scaling_order" if self._carry_out is not None:
                self._carry_out(event.scaling_order)

    def _granted(self, granted: pb.LeaseGranted, now: float) -> None:
        waiter = self.pool.waiter_of(granted.ticket)
        budget = self.pool.budget(_scope(granted.rate_scope))
        budget.left += granted.requests
        if waiter is None:
            # It crossed a cancellation: straight back.
            self._outbox.put(pb.CallerEvent(release=pb.ReleaseLease(lease_id=granted.lease_id, reusable=True)))
            return
        lease = Lease(
            granted.lease_id, granted.environment_id, granted.worker_id, granted.worker_address, granted.slot,
            waiter.deployment_id, waiter.tenant, waiter.function_name, granted.reason, budget,
            granted.provisioned, granted.spillover,
        )  # fmt: skip
        self.pool.granted(granted.ticket, lease, now)


def _settings_event(message: Settings) -> pb.CallerEvent:
    match message:
        case pb.ConcurrencySettings():
            return pb.CallerEvent(settings=message)
        case pb.ScalingSettings():
            return pb.CallerEvent(scaling_settings=message)


def _scope_message(scope: Scope) -> pb.RateScope:
    return pb.RateScope(
        account=scope.tenant.account, region=scope.tenant.region, function_name=scope.function_name,
        version=scope.version,
    )  # fmt: skip


def _scope(message: pb.RateScope) -> Scope:
    return Scope(Tenant(message.account, message.region), message.function_name, message.version)
