"""Feeds the core and carries out what it says. One loop, one consumer, no locks: `feed` runs to its end.

Instructions to peers go into the outbox of the peer's stream; one that has no stream is dropped, since what a peer
holds is settled when it joins again.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Callable
from typing import Protocol, TypeVar

from lambent.domain.clock import Clock
from lambent.infra.batches import Outbox
from lambent.internal.v1 import lease_service_pb2 as leases
from lambent.internal.v1 import worker_service_pb2 as workers
from services.scheduler.core import events as ev
from services.scheduler.core import instructions as ins
from services.scheduler.core.machine import Scheduler

_log = logging.getLogger(__name__)

Message = TypeVar("Message")


class Leading(Protocol):
    """Whether this scheduler leads."""

    @property
    def leads(self) -> bool:
        """To be asked before anything is decided or sent."""
        ...


class NotLeading(Exception):
    """Another scheduler leads, or nobody does; nothing may be decided here."""


class Shell:
    """The core with its outboxes and its timer, while this scheduler leads."""

    def __init__(self, make_core: Callable[[int], Scheduler], clock: Clock, *, hold_off: float) -> None:
        """`make_core`: from the term. `hold_off`: how many seconds callers keep nothing idle in a recalled scope."""
        self.leading: Leading | None = None  # None: nobody decides who leads, so nobody does
        self.term = 0
        self._make_core = make_core
        self._core: Scheduler | None = None
        self.decisions: Counter[str] = Counter()  # reason → how often
        self._clock = clock
        self._hold_off = hold_off
        self._callers: dict[str, Outbox[leases.LeaseEvent]] = {}
        self._workers: dict[str, Outbox[workers.WorkerInstruction]] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def leads(self) -> bool:
        """Whether anything may be decided or sent here at this instant."""
        return self._core is not None and self.leading is not None and self.leading.leads

    @property
    def core(self) -> Scheduler:
        """The core. Raises NotLeading."""
        if self._core is None or not self.leads:
            raise NotLeading
        return self._core

    def lead(self, term: int) -> None:
        """Begin, knowing nothing: callers and workers come and say what there is."""
        self.term = term
        self._core = self._make_core(term)
        self.feed(ev.TimePassed())

    def step_down(self) -> None:
        """Forget everything, stop keeping time, and end every stream: the peers go to whoever leads now."""
        self._core = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for caller in self._callers.values():
            caller.close()
        for worker in self._workers.values():
            worker.close()
        self._callers.clear()
        self._workers.clear()

    def feed(self, event: ev.Event) -> None:
        """One event in, its instructions out. Raises NotLeading."""
        for instruction in self.core.handle(event, now=self._clock.monotonic()):
            self._carry_out(instruction)

    def _time_passed(self) -> None:
        try:
            self.feed(ev.TimePassed())
        except NotLeading:
            _log.info("time passes for another scheduler")

    def caller_joined(self, event: ev.CallerJoined, outbox: Outbox[leases.LeaseEvent]) -> None:
        """A caller's stream is up; an older stream of the same caller is ended."""
        self._replace(self._callers, event.caller_id, outbox)
        self.feed(event)

    def caller_left(self, caller_id: str, outbox: Outbox[leases.LeaseEvent]) -> None:
        """A caller's stream is down."""
        if self._callers.get(caller_id) is outbox:
            del self._callers[caller_id]
            self._left(ev.CallerLeft(caller_id))

    def worker_joined(self, event: ev.WorkerJoined, outbox: Outbox[workers.WorkerInstruction]) -> None:
        """A worker's stream is up; an older stream of the same worker is ended."""
        self._replace(self._workers, event.worker_id, outbox)
        _log.info("worker joined", extra={"worker": event.worker_id, "environments": len(event.running)})
        self.feed(event)

    def worker_left(self, worker_id: str, outbox: Outbox[workers.WorkerInstruction]) -> None:
        """A worker's stream is down."""
        if self._workers.get(worker_id) is outbox:
            del self._workers[worker_id]
            _log.info("worker left", extra={"worker": worker_id})
            self._left(ev.WorkerLeft(worker_id))

    def lose_worker(self, worker_id: str) -> None:
        """A worker is no more. Should it live nevertheless, its stream ends, and it comes anew. Raises NotLeading."""
        if worker_id in self.core.workers:
            self.feed(ev.WorkerLost(worker_id))
            outbox = self._workers.pop(worker_id, None)
            if outbox is not None:
                outbox.close()

    def drain_worker(self, worker_id: str, reason: str) -> None:
        """Place nothing more on a worker, and tell it. Raises NotLeading."""
        if worker_id in self.core.workers:
            self.feed(ev.WorkerDraining(worker_id))
            self._to_worker(worker_id, workers.WorkerInstruction(drain=workers.DrainWorker(reason=reason)))

    def _left(self, event: ev.CallerLeft | ev.WorkerLeft) -> None:
        try:
            self.feed(event)
        except NotLeading:
            _log.debug("a peer left a scheduler that leads no more")

    @staticmethod
    def _replace(outboxes: dict[str, Outbox[Message]], name: str, outbox: Outbox[Message]) -> None:
        older = outboxes.get(name)
        if older is not None:
            older.close()
        outboxes[name] = outbox

    def _carry_out(self, instruction: ins.Instruction) -> None:
        match instruction:
            case ins.Grant():
                self.decisions[instruction.reason] += 1
                granted = leases.LeaseGranted(
                    ticket=instruction.ticket.number,
                    lease_id=instruction.lease_id,
                    environment_id=instruction.environment_id,
                    worker_id=instruction.worker_id,
                    worker_address=instruction.address,
                    slot=instruction.slot,
                    reason=instruction.reason,
                    provisioned=instruction.provisioned,
                    spillover=instruction.spillover,
                    rate_scope=_scope(instruction.scope),
                    requests=instruction.requests,
                )
                self.to_caller(instruction.ticket.caller_id, leases.LeaseEvent(granted=granted))
            case ins.Refuse(ticket, reason, retry_after):
                self.decisions[reason] += 1
                refused = leases.AcquireRefused(ticket=ticket.number, reason=reason, retry_after_seconds=retry_after)
                self.to_caller(ticket.caller_id, leases.LeaseEvent(refused=refused))
            case ins.Recall(caller_id, number, tenant, function_name, hold_off):
                recall = leases.RecallIdle(
                    round=number,
                    account=tenant.account if tenant else "",
                    region=tenant.region if tenant else "",
                    function_name=function_name or "",
                    hold_seconds=self._hold_off if hold_off else 0.0,
                )
                self.to_caller(caller_id, leases.LeaseEvent(recall_idle=recall))
            case ins.Revoke(caller_id, lease_id, reason):
                self.decisions[reason] += 1
                revoked = leases.LeaseRevoked(lease_id=lease_id, reason=reason)
                self.to_caller(caller_id, leases.LeaseEvent(revoked=revoked))
            case ins.Retire(caller_id, tenant, function_name):
                retire = leases.RetireLeases(
                    account=tenant.account, region=tenant.region, function_name=function_name or ""
                )
                self.to_caller(caller_id, leases.LeaseEvent(retire=retire))
            case ins.Applied(caller_id, tenant, revision):
                applied = leases.SettingsApplied(account=tenant.account, region=tenant.region, revision=revision)
                self.to_caller(caller_id, leases.LeaseEvent(settings_applied=applied))
            case ins.Permit(caller_id, scope, requests, retry_after):
                permitted = leases.RequestsPermitted(
                    scope=_scope(scope), requests=requests, retry_after_seconds=retry_after
                )
                self.to_caller(caller_id, leases.LeaseEvent(requests_permitted=permitted))
            case ins.RecallRequests(caller_id, scope, number):
                wanted_back = leases.RecallRequests(scope=_scope(scope), round=number)
                self.to_caller(caller_id, leases.LeaseEvent(recall_requests=wanted_back))
            case ins.Start(worker_id, environment_id, generation, deployment, provisioned):
                start = workers.StartEnvironment(
                    environment_id=environment_id,
                    generation=generation,
                    deployment=deployment,
                    provisioned=provisioned,
                )
                self._to_worker(worker_id, workers.WorkerInstruction(start=start))
            case ins.Stop(worker_id, environment_id, reason):
                self.decisions[reason] += 1
                stop = workers.StopEnvironment(environment_id=environment_id, reason=reason)
                self._to_worker(worker_id, workers.WorkerInstruction(stop=stop))
            case ins.WakeAt(at):
                self._wake_at(at)

    def hears(self, caller_id: str) -> bool:
        """Whether a caller's stream is up."""
        return caller_id in self._callers

    def to_caller(self, caller_id: str, event: leases.LeaseEvent) -> None:
        """Send to a caller, if its stream is up."""
        outbox = self._callers.get(caller_id)
        if outbox is not None:
            outbox.put(event)

    def _to_worker(self, worker_id: str, instruction: workers.WorkerInstruction) -> None:
        outbox = self._workers.get(worker_id)
        if outbox is not None:
            outbox.put(instruction)

    def _wake_at(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if at != math.inf:
            delay = max(0.0, at - self._clock.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._time_passed)


def _scope(scope: ev.RateScope) -> leases.RateScope:
    return leases.RateScope(
        account=scope.tenant.account,
        region=scope.tenant.region,
        function_name=scope.function_name,
        version=scope.version,
    )
