"""The scheduler's one way in: `Scheduler.handle(event, now=...) -> list[Instruction]`.

A request is first admitted (it takes a slot from the ledger), then served: by an idle environment, or by whichever
comes first of one that is freed and one that is started for it. When a limit or the workers' room stands against it,
idle leases are recalled from the callers before it is refused: nothing is throttled while a slot that it may use is
idle anywhere. State is soft: after a restart it is rebuilt from what callers and workers say of themselves.

Top of five levels (Book < Room < Provisioning < Serving < Scheduler): events, membership, and the passing of time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from lambent.domain.clock import Ids
from services.scheduler.core import events as ev
from services.scheduler.core import instructions as ins
from services.scheduler.core.environment import Change, Environment, State
from services.scheduler.core.placement import Worker
from services.scheduler.core.policies import Policies
from services.scheduler.core.pools import Caller, Request
from services.scheduler.core.reasons import Reason
from services.scheduler.core.serving import Serving

# How often budgets that nobody has used lately are dropped.
SWEEP_SECONDS = 60.0


class Scheduler(Serving):
    """All state of one scheduler. Not to be shared between threads; nothing here blocks."""

    def __init__(self, policies: Policies, ids: Ids, *, first_lease_id: int, now: float) -> None:
        """`first_lease_id` must exceed every lease id of an earlier scheduler that may still be held."""
        super().__init__(policies, ids, first_lease_id=first_lease_id, now=now)
        self.claims: dict[str, tuple[str, int]] = {}  # environment id → (caller, lease): said before its worker joined
        self._rebuilt_at = now + policies.rebuild
        self._absent_callers: dict[str, None] = {}
        self._absent_workers: dict[str, None] = {}
        self._wake_at = math.inf
        self._swept_at = now
        self.due(self._rebuilt_at)
        self._handlers: Mapping[type, Callable[[Any], None]] = {
            ev.EnvironmentWanted: self._wanted,
            ev.LeaseReleased: self._released,
            ev.WantCancelled: self._cancelled,
            ev.EnvironmentReady: self._ready,
            ev.EnvironmentGone: self._gone,
            ev.IdleReturned: self._idle_returned,
            ev.FunctionChanged: self._changed,
            ev.SettingsTold: self.settings_told,
            ev.RequestsWanted: self.requests_wanted,
            ev.RequestsReturned: self.requests_returned,
            ev.CallerJoined: self._caller_joined,
            ev.CallerLeft: self._caller_left,
            ev.WorkerJoined: self._worker_joined,
            ev.WorkerLeft: self._worker_left,
            ev.WorkerLost: self._lost,
            ev.PoolTold: self._pool_told,
            ev.WorkerDraining: self._draining,
            ev.TimePassed: self._time_passed,
        }

    def handle(self, event: ev.Event, *, now: float) -> list[ins.Instruction]:
        """Take one event in and answer what is to be done. `now`: monotonic seconds, never less than before."""
        self.now = now
        self.out = []
        self._handlers[type(event)](event)
        if now >= self.due_at:
            self._pass_time()
        while self.relieved:
            self.offer_slots(self.relieved.popitem()[0])
        if self.due_at != self._wake_at:
            self._wake_at = self.due_at
            self.out.append(ins.WakeAt(self._wake_at))
        return self.out

    # Requests and leases

    def _wanted(self, event: ev.EnvironmentWanted) -> None:
        need = event.need
        caller = self.callers[event.ticket.caller_id]
        pool = self.pools.get(need.deployment_id) or self.pool(need)
        if not self.rebuilding and self.lease_at_once(event, caller, pool):
            return
        request = Request(
            event.ticket, event.request_id, need, event.deployment, self.now, caller, pool, event.on_demand
        )
        caller.requests[request.ticket] = request
        pool.members += 1
        if not self.rebuilding:
            self.admit(request)

    def _cancelled(self, event: ev.WantCancelled) -> None:
        request = self.callers[event.ticket.caller_id].requests.get(event.ticket)
        if request is not None:
            self.withdraw(request)

    def _released(self, event: ev.LeaseReleased) -> None:
        environment = self.callers[event.caller_id].leases.get(event.lease_id)
        if environment is not None:
            self.end_lease(environment, reusable=event.reusable)
        else:
            self._drop_claims(event.caller_id, event.lease_id)

    def _changed(self, event: ev.FunctionChanged) -> None:
        self.renew(event.tenant, event.function_name, event.version, event.generation)

    def _idle_returned(self, event: ev.IdleReturned) -> None:
        self.idle_returned(event.caller_id, event.round)

    # Environments

    def _ready(self, event: ev.EnvironmentReady) -> None:
        environment = self.environments.get(event.environment_id)
        if environment is None or environment.worker.id != event.worker_id:
            self.out.append(ins.Stop(event.worker_id, event.environment_id, Reason.UNCLAIMED))
            return
        environment.slot = event.slot
        if environment.state is not State.STARTING:
            return
        environment.change(Change.READY)
        if environment.provisioned:
            self.provisioned_ready(environment, init_failed=event.init_failed)
            if self.short:
                self.advance(environment.pool.function.account)
            return
        environment.pool.starting.pop(environment.id, None)
        environment.pool.failures = 0
        self.free(environment, Reason.COLD)

    def _gone(self, event: ev.EnvironmentGone) -> None:
        environment = self.environments.get(event.environment_id)
        if environment is not None and environment.worker.id == event.worker_id:
            self.forget(environment, Reason.ENVIRONMENT_GONE, failed=not environment.worker.draining)

    # Callers

    def _caller_joined(self, event: ev.CallerJoined) -> None:
        caller = self.callers.setdefault(event.caller_id, Caller(event.caller_id, event.background))
        caller.connected = True
        self._absent_callers.pop(caller.id, None)
        self._drop_claims(caller.id, None)
        said = dict(event.leases)
        for lease_id, environment in list(caller.leases.items()):
            if said.get(lease_id) != environment.id:
                # A grant or a release was lost with the stream; what runs there is not known.
                self.end_lease(environment, reusable=False)
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
        function = environment.pool.function
        if environment.slot_held:
            # It was counted when nobody had come for it yet.
            function.give_back(environment.background)
        if not environment.counted:
            function.take(caller.background)
        self.leave_pool(environment)
        self.bind(environment, caller, lease_id)
        self.next_lease = max(self.next_lease, lease_id + 1)

    def _caller_left(self, event: ev.CallerLeft) -> None:
        caller = self.callers[event.caller_id]
        caller.connected = False
        caller.left_at = self.now
        self._absent_callers[caller.id] = None
        self.due(self.now + self.policies.lease)
        for request in list(caller.requests.values()):
            if request.ticket in caller.requests:
                self.withdraw(request)
        for number in self.recalls.open_for(caller.id):
            self.idle_returned(caller.id, number)
        self.holder_left(caller.id)

    def _expire_caller(self, caller: Caller) -> None:
        """The caller is lost. What it ran may still run: slots stay taken until the environments are gone."""
        for environment in list(caller.leases.values()):
            self.unbind(environment)
            self.stop(environment, Reason.LEASE_EXPIRED)
            if environment.pool.part is not None:
                self.check_short(environment.pool.part.provision)
        del self.callers[caller.id]
        if self.short:
            self.advance()

    # Workers

    def _worker_joined(self, event: ev.WorkerJoined) -> None:
        worker = self.workers.get(event.worker_id)
        if worker is not None and worker.pool != event.pool:
            # What it held is of its former pool.
            self._expire_worker(worker)
            worker = None
        if worker is None:
            worker = Worker(event.worker_id, event.address, event.memory_mb, event.environments, event.pool)
            self.hire(worker)
        worker.address, worker.memory_mb, worker.environments = event.address, event.memory_mb, event.environments
        worker.connected, worker.draining, worker.isolation = True, False, event.isolation
        self._absent_workers.pop(worker.id, None)
        said = {running.environment_id for running in event.running}
        for environment in list(worker.holds.values()):
            if environment.id not in said:
                self.forget(environment, Reason.ENVIRONMENT_GONE)
        for running in event.running:
            known = self.environments.get(running.environment_id)
            if known is None:
                self._adopt(worker, running)
            else:
                self._confirm(known, running)
        self.retry_unplaced()

    def _confirm(self, environment: Environment, running: ev.Running) -> None:
        """A worker came back with an environment that is known here."""
        environment.slot = running.slot
        if environment.state is State.STOPPING:
            self.out.append(ins.Stop(environment.worker.id, environment.id, Reason.UNCLAIMED))
        elif environment.state is State.STARTING and running.ready:
            self._ready(ev.EnvironmentReady(environment.worker.id, environment.id, running.slot))
        elif environment.state is State.UNCLAIMED and not self.rebuilding:
            environment.reported_busy = running.busy
            self._settle(environment)

    def _adopt(self, worker: Worker, running: ev.Running) -> None:
        """A worker reports an environment from before this scheduler began."""
        need = running.need
        state = State.UNCLAIMED if running.ready else State.STARTING
        environment = Environment(
            running.environment_id, worker, self.pool(need), need, state, running.slot,
            reported_busy=running.busy, provisioned=running.provisioned,
        )  # fmt: skip
        self.add(environment)
        if environment.provisioned:
            self.adopt_provisioned(environment)
        claim = self.claims.pop(environment.id, None)
        if claim is not None and state is State.UNCLAIMED and claim[0] in self.callers:
            self._recognise(environment, self.callers[claim[0]], claim[1])
        elif state is State.UNCLAIMED and not self.rebuilding:
            self._settle(environment)

    def _settle(self, environment: Environment) -> None:
        """Nobody came back for an UNCLAIMED environment: use it. If it runs something, its caller may still come, for
        as long as leases hold; its slot is taken until then."""
        if environment.reported_busy:
            if not environment.counted and not environment.slot_held:
                environment.pool.function.take()
                environment.slot_held, environment.background = True, False
            self.unclaimed[environment] = until = self.now + self.policies.lease
            self.due(until)
            return
        # What ran there when its worker was last heard has ended without its caller.
        self.unclaimed.pop(environment, None)
        held, environment.slot_held = environment.slot_held, False
        background = environment.background
        environment.change(Change.UNCLAIM)
        self.free(environment, Reason.FREED)
        if held:
            self.slot_freed(environment.pool.function, background=background)

    def _worker_left(self, event: ev.WorkerLeft) -> None:
        worker = self.workers.get(event.worker_id)
        if worker is None:
            return  # it was lost before
        worker.connected = False
        worker.left_at = self.now
        self._absent_workers[worker.id] = None
        self.due(self.now + self.policies.worker_grace)
        for environment in worker.holds.values():
            if environment.state is State.IDLE:
                self.lose(environment)

    def _expire_worker(self, worker: Worker) -> None:
        worker.connected = False
        for environment in list(worker.holds.values()):
            self.forget(environment, Reason.WORKER_LOST)
        self._absent_workers.pop(worker.id, None)
        self.dismiss(worker)

    def _lost(self, event: ev.WorkerLost) -> None:
        worker = self.workers.get(event.worker_id)
        if worker is not None:
            self._expire_worker(worker)

    def _pool_told(self, event: ev.PoolTold) -> None:
        if event.trouble:
            self.troubles[event.pool] = event.trouble
        else:
            self.troubles.pop(event.pool, None)

    def _draining(self, event: ev.WorkerDraining) -> None:
        worker = self.workers.get(event.worker_id)
        if worker is None:
            return
        worker.draining = True
        for environment in list(worker.holds.values()):
            if environment.provisioned:
                self.replace(environment)
            elif environment.state is State.IDLE:
                self.stop(environment, Reason.OUTDATED)
        if self.short:
            self.advance()

    # Time

    def _time_passed(self, event: ev.TimePassed) -> None:
        """Timers may be a little early: what was asked for is asked for again unless it has fallen due."""
        self._wake_at = math.inf

    def _pass_time(self) -> None:
        """Do what has fallen due, and find out what will fall due next."""
        now, policies = self.now, self.policies
        self.due_at = math.inf
        if self.rebuilding and now >= self._rebuilt_at:
            self._end_rebuild()
        elif self.rebuilding:
            self.due(self._rebuilt_at)
        for caller in [self.callers[i] for i in self._absent_callers]:
            if now >= caller.left_at + policies.lease:
                del self._absent_callers[caller.id]
                self._expire_caller(caller)
            else:
                self.due(caller.left_at + policies.lease)
        for worker in [self.workers[i] for i in self._absent_workers]:
            if now >= worker.left_at + policies.worker_grace:
                self._expire_worker(worker)
            else:
                self.due(worker.left_at + policies.worker_grace)
        for environment, until in list(self.unclaimed.items()):
            if now >= until:
                self.stop(environment, Reason.UNCLAIMED)
            else:
                self.due(until)
        while self.unplaced:
            request = next(iter(self.unplaced.values()))
            if now < request.since + policies.capacity_wait:
                self.due(request.since + policies.capacity_wait)
                break
            self.refuse(request, Reason.NO_CAPACITY if self.crew(request.need.pool) else Reason.NO_WORKERS)
            self.slot_freed(request.pool.function, background=request.background)
        for environment in self.expired():
            self.stop(environment, Reason.IDLE if environment.windows is None else environment.windows.ends)
        if not self.rebuilding:
            self.start_ahead()
        self.recycle()
        if self.short and not self.rebuilding:
            self.advance()
        if now >= self._swept_at + SWEEP_SECONDS:
            self._swept_at = now
            self.forget_full_ramps()
            self.forget_habits()

    def _end_rebuild(self) -> None:
        """Whoever was there has come back. Settle what nobody claimed, then serve who has waited meanwhile."""
        self.rebuilding = False
        for caller_id, lease_id in self.claims.values():
            if caller_id in self.callers:
                self.out.append(ins.Revoke(caller_id, lease_id, Reason.CLAIM_REFUSED))
        self.claims.clear()
        for environment in [e for e in self.environments.values() if e.state is State.UNCLAIMED]:
            if environment.worker.connected and environment not in self.unclaimed:
                self._settle(environment)
        self.reconcile_all()
        for account in self.ledger.accounts().values():
            if account.background.over:
                self.retire(account.background)
        for caller in list(self.callers.values()):
            for request in list(caller.requests.values()):
                if not request.admitted and request.contends is None and request.unpaid is None:
                    self.admit(request)
