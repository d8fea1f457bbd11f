"""The scheduler's one way in: `Scheduler.handle(event, now=...) -> list[Instruction]`.

A request is first admitted (it takes a slot from the ledger), then served: by an idle environment, or by whichever
comes first of one that is freed and one that is started for it. When a limit or the workers' room stands against it,
idle leases are recalled from the callers before it is refused: nothing is throttled while a slot that it may use is
idle anywhere. State is soft: after a restart it is rebuilt from what callers and workers say of themselves.

Top of three levels (Book < Serving < Scheduler): events, membership, and the passing of time.
"""

from __future__ import annotations

import math

from lambent.domain.clock import Ids
from services.scheduler.core import events as ev
from services.scheduler.core import instructions as ins
from services.scheduler.core.environment import Change, Environment, State
from services.scheduler.core.placement import Worker
from services.scheduler.core.pools import Caller, Request
from services.scheduler.core.reasons import Reason
from services.scheduler.core.serving import Policies, Serving


class Scheduler(Serving):
    """All state of one scheduler. Not to be shared between threads; nothing here blocks."""

    def __init__(self, policies: Policies, ids: Ids, *, first_lease_id: int, now: float) -> None:
        """`first_lease_id` must exceed every lease id of an earlier scheduler that may still be held."""
        super().__init__(policies, ids, first_lease_id=first_lease_id)
        self.claims: dict[str, tuple[str, int]] = {}  # environment id → (caller, lease): said before its worker joined
        self._rebuilt_at = now + policies.rebuild
        self._absent_callers: dict[str, None] = {}
        self._absent_workers: dict[str, None] = {}
        self._wake_at = math.inf

    def handle(self, event: ev.Event, *, now: float) -> list[ins.Instruction]:
        """Take one event in and answer what is to be done. `now`: monotonic seconds, never less than before."""
        self.out = []
        match event:
            case ev.EnvironmentWanted():
                self._wanted(event, now)
            case ev.LeaseReleased():
                self._released(event, now)
            case ev.WantCancelled():
                self._cancelled(event.ticket, now)
            case ev.EnvironmentReady():
                self._ready(event, now)
            case ev.EnvironmentGone():
                self._gone(event, now)
            case ev.IdleReturned():
                self.idle_returned(event.caller_id, event.round, now)
            case ev.FunctionChanged():
                self.changed(event.tenant, event.function_name, event.generation)
            case ev.CallerJoined():
                self._caller_joined(event, now)
            case ev.CallerLeft():
                self._caller_left(event.caller_id, now)
            case ev.WorkerJoined():
                self._worker_joined(event, now)
            case ev.WorkerLeft():
                self._worker_left(event.worker_id, now)
            case ev.WorkerDraining():
                self._draining(event.worker_id)
            case ev.TimePassed():
                # Timers may be a little early: what was asked for is asked for again unless it has fallen due.
                self._wake_at = math.inf
        self._pass_time(now)
        self.tidy()
        return self.out

    # Requests and leases

    def _wanted(self, event: ev.EnvironmentWanted, now: float) -> None:
        request = Request(event.ticket, event.request_id, event.need, event.deployment, now)
        self.callers[event.ticket.caller_id].requests[request.ticket] = request
        self.changed(event.need.tenant, event.need.function_name, event.need.generation)
        if not self.rebuilding:
            self.admit(request, now)

    def _cancelled(self, ticket: ev.Ticket, now: float) -> None:
        request = self.callers[ticket.caller_id].requests.get(ticket)
        if request is not None:
            self.drop(request)
            if request.admitted:
                self.slot_freed(request.need, now)

    def _released(self, event: ev.LeaseReleased, now: float) -> None:
        environment_id = self.callers[event.caller_id].leases.get(event.lease_id)
        if environment_id is not None:
            self.end_lease(self.environments[environment_id], reusable=event.reusable, now=now)
        else:
            self._drop_claims(event.caller_id, event.lease_id)

    # Environments

    def _ready(self, event: ev.EnvironmentReady, now: float) -> None:
        environment = self.environments.get(event.environment_id)
        if environment is None or environment.worker_id != event.worker_id:
            self.out.append(ins.Stop(event.worker_id, event.environment_id, Reason.UNCLAIMED))
            return
        environment.slot = event.slot
        if environment.state is State.STARTING:
            pool = self.pool(environment.need.deployment_id)
            pool.starting.discard(environment.id)
            pool.failures = 0
            environment.change(Change.READY)
            self.free(environment, Reason.COLD, now)

    def _gone(self, event: ev.EnvironmentGone, now: float) -> None:
        environment = self.environments.get(event.environment_id)
        if environment is not None and environment.worker_id == event.worker_id:
            self.forget(environment, Reason.ENVIRONMENT_GONE, now)

    # Callers

    def _caller_joined(self, event: ev.CallerJoined, now: float) -> None:
        caller = self.callers.setdefault(event.caller_id, Caller(event.caller_id))
        caller.connected = True
        self._absent_callers.pop(caller.id, None)
        self._drop_claims(caller.id, None)
        said = dict(event.leases)
        for lease_id, environment_id in list(caller.leases.items()):
            if said.get(lease_id) != environment_id:
                # A grant or a release was lost with the stream; what runs there is not known.
                self.end_lease(self.environments[environment_id], reusable=False, now=now)
        for lease_id, environment_id in said.items():
            if lease_id not in caller.leases:
                self._claim(caller, lease_id, environment_id)

    def _claim(self, caller: Caller, lease_id: int, environment_id: str) -> None:
        """A caller says that it holds a lease that this scheduler did not give it."""
        environment = self.environments.get(environment_id)
        if environment is None and self.rebuilding:
            self.claims[environment_id] = (caller.id, lease_id)
        elif environment is not None and environment.state in (State.UNCLAIMED, State.IDLE):
            self._recognise(environment, caller, lease_id)
        else:
            self.out.append(ins.Revoke(caller.id, lease_id, Reason.CLAIM_REFUSED))

    def _drop_claims(self, caller_id: str, lease_id: int | None) -> None:
        """The caller no longer claims this lease (None: any) of an environment that no worker has reported yet."""
        for environment_id, claim in list(self.claims.items()):
            if claim[0] == caller_id and lease_id in (None, claim[1]):
                del self.claims[environment_id]

    def _recognise(self, environment: Environment, caller: Caller, lease_id: int) -> None:
        self.ledger.recognise(environment.need.tenant, environment.need.function_name)
        self.bind(environment, caller, lease_id)
        self.next_lease = max(self.next_lease, lease_id + 1)

    def _caller_left(self, caller_id: str, now: float) -> None:
        caller = self.callers[caller_id]
        caller.connected = False
        caller.left_at = now
        self._absent_callers[caller_id] = None
        for request in list(caller.requests.values()):
            self._cancelled(request.ticket, now)
        for number in self.recalls.open_for(caller_id):
            self.idle_returned(caller_id, number, now)

    def _expire_caller(self, caller: Caller) -> None:
        """The caller is lost. What it ran may still run: slots stay taken until the environments are gone."""
        for environment_id in list(caller.leases.values()):
            environment = self.environments[environment_id]
            self.unbind(environment)
            self.stop(environment, Reason.LEASE_EXPIRED)
        del self.callers[caller.id]

    # Workers

    def _worker_joined(self, event: ev.WorkerJoined, now: float) -> None:
        worker = self.workers.get(event.worker_id)
        if worker is None:
            worker = self.workers[event.worker_id] = Worker(
                event.worker_id, event.address, event.memory_mb, event.environments
            )
        worker.address, worker.memory_mb, worker.environments = event.address, event.memory_mb, event.environments
        worker.connected, worker.draining = True, False
        self._absent_workers.pop(worker.id, None)
        said = {running.environment_id: running for running in event.running}
        for environment in [e for e in self.environments.values() if e.worker_id == worker.id]:
            if environment.id not in said:
                self.forget(environment, Reason.ENVIRONMENT_GONE, now)
        for running in event.running:
            known = self.environments.get(running.environment_id)
            if known is None:
                self._adopt(worker.id, running, now)
            else:
                self._confirm(known, running, now)
        self.retry_unplaced()

    def _confirm(self, environment: Environment, running: ev.Running, now: float) -> None:
        """A worker came back with an environment that is known here."""
        environment.slot = running.slot
        if environment.state is State.STOPPING:
            self.out.append(ins.Stop(environment.worker_id, environment.id, Reason.UNCLAIMED))
        elif environment.state is State.STARTING and running.ready:
            self._ready(ev.EnvironmentReady(environment.worker_id, environment.id, running.slot), now)
        elif environment.state is State.UNCLAIMED and not self.rebuilding:
            self._settle(environment, now)

    def _adopt(self, worker_id: str, running: ev.Running, now: float) -> None:
        """A worker reports an environment from before this scheduler began."""
        need = running.need
        key = (need.tenant, need.function_name)
        self.generations[key] = max(need.generation, self.generations.get(key, 0))
        state = State.UNCLAIMED if running.ready else State.STARTING
        environment = Environment(
            running.environment_id, worker_id, need, state, running.slot, reported_busy=running.busy
        )
        self.add(environment)
        claim = self.claims.pop(environment.id, None)
        if claim is not None and state is State.UNCLAIMED and claim[0] in self.callers:
            self._recognise(environment, self.callers[claim[0]], claim[1])
        elif state is State.UNCLAIMED and not self.rebuilding:
            self._settle(environment, now)

    def _settle(self, environment: Environment, now: float) -> None:
        """Nobody came back for an UNCLAIMED environment: use it, or end it if it runs something."""
        if environment.reported_busy:
            self.ledger.recognise(environment.need.tenant, environment.need.function_name)
            environment.slot_held = True
            self.stop(environment, Reason.UNCLAIMED)
        else:
            environment.change(Change.UNCLAIM)
            self.free(environment, Reason.FREED, now)

    def _worker_left(self, worker_id: str, now: float) -> None:
        worker = self.workers[worker_id]
        worker.connected = False
        worker.left_at = now
        self._absent_workers[worker_id] = None
        for environment in [e for e in self.environments.values() if e.worker_id == worker_id]:
            if environment.state is State.IDLE:
                self.lose(environment)

    def _expire_worker(self, worker: Worker, now: float) -> None:
        for environment in [e for e in self.environments.values() if e.worker_id == worker.id]:
            self.forget(environment, Reason.WORKER_LOST, now)
        del self.workers[worker.id]

    def _draining(self, worker_id: str) -> None:
        worker = self.workers[worker_id]
        worker.draining = True
        for environment in [self.environments[i] for i in self.idle_order]:
            if environment.worker_id == worker_id:
                self.stop(environment, Reason.OUTDATED)

    # Time

    def _pass_time(self, now: float) -> None:
        """Do what has fallen due, and ask to be woken for the next thing that will."""
        if self.rebuilding and now >= self._rebuilt_at:
            self._end_rebuild(now)
        for caller in [self.callers[i] for i in self._absent_callers]:
            if now >= caller.left_at + self.policies.lease:
                del self._absent_callers[caller.id]
                self._expire_caller(caller)
        for worker in [self.workers[i] for i in self._absent_workers]:
            if now >= worker.left_at + self.policies.worker_grace:
                del self._absent_workers[worker.id]
                self._expire_worker(worker, now)
        while self.unplaced:
            request = next(iter(self.unplaced.values()))
            if now < request.since + self.policies.capacity_wait:
                break
            self.refuse(request, Reason.NO_CAPACITY if self.workers else Reason.NO_WORKERS)
            self.slot_freed(request.need, now)
        while self.idle_order:
            environment = self.environments[next(iter(self.idle_order))]
            if now < environment.idle_since + self.policies.keep_alive:
                break
            self.stop(environment, Reason.IDLE)
        wake_at = self._next_deadline()
        if wake_at != self._wake_at:
            self._wake_at = wake_at
            self.out.append(ins.WakeAt(wake_at))

    def _next_deadline(self) -> float:
        deadlines = [self.callers[i].left_at + self.policies.lease for i in self._absent_callers]
        deadlines += [self.workers[i].left_at + self.policies.worker_grace for i in self._absent_workers]
        if self.rebuilding:
            deadlines.append(self._rebuilt_at)
        if self.unplaced:
            deadlines.append(next(iter(self.unplaced.values())).since + self.policies.capacity_wait)
        if self.idle_order:
            deadlines.append(self.environments[next(iter(self.idle_order))].idle_since + self.policies.keep_alive)
        return min(deadlines, default=math.inf)

    def _end_rebuild(self, now: float) -> None:
        """Whoever was there has come back. Settle what nobody claimed, then serve who has waited meanwhile."""
        self.rebuilding = False
        for caller_id, lease_id in self.claims.values():
            if caller_id in self.callers:
                self.out.append(ins.Revoke(caller_id, lease_id, Reason.CLAIM_REFUSED))
        self.claims.clear()
        for environment in [e for e in self.environments.values() if e.state is State.UNCLAIMED]:
            if self.workers[environment.worker_id].connected:
                self._settle(environment, now)
        for caller in list(self.callers.values()):
            for request in [r for r in caller.requests.values() if not r.admitted and not r.round]:
                self.admit(request, now)
