"""How requests are served: admission, late binding, recall of idle leases, room on workers.

Middle of three levels (Book < Serving < Scheduler).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from lambent.domain.clock import Ids
from lambent.domain.names import Tenant
from services.scheduler.core import instructions as ins
from services.scheduler.core.book import Book
from services.scheduler.core.environment import Change, Environment, State
from services.scheduler.core.events import Need
from services.scheduler.core.placement import Policy, evictions, pack
from services.scheduler.core.pools import Pool, Request
from services.scheduler.core.reasons import Reason
from services.scheduler.core.recalls import Recalls, Round, Scope

# Starts that fail in a row before a request that waits for them is refused instead of tried again.
START_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Policies:
    """How the scheduler decides. Durations are seconds."""

    concurrent_executions: int  # limit of each account and region
    keep_alive: float  # how long an idle environment is kept
    lease: float  # how long a lost caller's leases hold
    worker_grace: float  # how long a lost worker's environments are kept
    rebuild: float  # after start: how long callers and workers may come back before anything is granted
    capacity_wait: float  # how long a request waits for room on a worker
    retry_after: float  # what a refused caller is told
    placement: Policy = pack


class Serving(Book):
    """The book, and how requests change it."""

    def __init__(self, policies: Policies, ids: Ids, *, first_lease_id: int) -> None:
        super().__init__(policies.concurrent_executions, first_lease_id)
        self.policies = policies
        self.ids = ids
        self.recalls = Recalls()
        self.rebuilding = True  # until the window has closed nothing is granted

    # Admission

    def admit(self, request: Request, now: float) -> None:
        """Take a slot and go on, or find out whether one is idle somewhere, or refuse."""
        refusal = self.ledger.take(request.need.tenant, request.need.function_name)
        if refusal is None:
            request.admitted = True
            self.serve(request, now)
            return
        request.round = self.recall((request.need.tenant, None))
        if request.round:
            self.contended.setdefault(request.need.tenant, OrderedDict())[request.ticket] = request
        else:
            self.refuse(request, refusal)

    def refuse(self, request: Request, reason: Reason) -> None:
        """Answer a request with no. Its slot, if it holds one, stays with the caller of this."""
        self.drop(request)
        self.out.append(ins.Refuse(request.ticket, reason, self.policies.retry_after))

    def slot_freed(self, need: Need, now: float) -> None:
        """Give a slot back, and let who has waited longest for one of that tenant have it."""
        self.ledger.give_back(need.tenant, need.function_name)
        contended = self.contended.get(need.tenant)
        if contended:
            request = next(iter(contended.values()))
            del contended[request.ticket]
            if not contended:
                del self.contended[need.tenant]
            self.admit(request, now)

    # Environments for admitted requests

    def serve(self, request: Request, now: float) -> None:
        """Give an admitted request an environment, or let it wait for whichever comes first."""
        pool = self.pool(request.need.deployment_id)
        if pool.idle:
            self.grant(self.environments[next(reversed(pool.idle))], request, Reason.WARM)
            return
        pool.waiting[request.ticket] = request
        if pool.leased:
            self.recall((request.need.tenant, request.need.function_name), besides=request.ticket.caller_id)
        self.start_for(request, pool)

    def grant(self, environment: Environment, request: Request, reason: Reason) -> None:
        """Bind an environment to an admitted request; the request's slot becomes the lease's."""
        self.drop(request)
        lease_id, self.next_lease = self.next_lease, self.next_lease + 1
        self.bind(environment, self.callers[request.ticket.caller_id], lease_id)
        worker = self.workers[environment.worker_id]
        self.out.append(
            ins.Grant(request.ticket, lease_id, environment.id, worker.id, worker.address, environment.slot, reason)
        )

    def start_for(self, request: Request, pool: Pool) -> None:
        """Start one environment, unless as many are on their way as requests wait; without room, wait for room."""
        if len(pool.starting) >= len(pool.waiting):
            return
        need = request.need
        worker = self.policies.placement(self.workers.values(), need.memory_mb)
        if worker is None:
            self.unplaced[request.ticket] = request
            self._make_room(need.memory_mb)
            return
        environment = Environment(self.ids.token(16), worker.id, need, State.STARTING)
        self.add(environment)
        self.out.append(ins.Start(worker.id, environment.id, need.generation, request.deployment))

    def _make_room(self, memory_mb: int) -> None:
        """Stop idle environments of others; and have callers return what idles with them."""
        idle = ((e.id, e.worker_id, e.need.memory_mb) for e in (self.environments[i] for i in list(self.idle_order)))
        victims = evictions(self.workers, idle, memory_mb)
        for environment_id in victims:
            self.stop(self.environments[environment_id], Reason.EVICTED)
        if not victims:
            self.recall((None, None))

    def free(self, environment: Environment, reason: Reason, now: float) -> None:
        """An IDLE environment has nobody: the oldest request for one like it gets it, or it idles."""
        worker = self.workers[environment.worker_id]
        pool = self.pool(environment.need.deployment_id)
        if pool.waiting and worker.connected and not worker.draining:
            self.set_idle(environment, now)
            request = next(iter(pool.waiting.values()))
            took_anothers = reason is Reason.COLD and request.ticket in self.unplaced
            self.grant(environment, request, reason)
            if took_anothers:
                self.start_missing(pool)
        elif self.outdated(environment.need) or worker.draining:
            self.stop(environment, Reason.OUTDATED)
            self.start_missing(pool)
        else:
            self.set_idle(environment, now)
            if not worker.connected:
                self.lose(environment)
                self.start_missing(pool)
            elif self.unplaced:
                self.retry_unplaced()

    def retry_unplaced(self) -> None:
        """Room may have come free: try again for those that wait for it, oldest first."""
        for request in list(self.unplaced.values()):
            del self.unplaced[request.ticket]
            self.start_for(request, self.pool(request.need.deployment_id))
            if request.ticket in self.unplaced:
                self.unplaced.move_to_end(request.ticket, last=False)
                return

    def start_failed(self, need: Need, now: float) -> None:
        """A start came to nothing: try again for who waits, a few times in a row."""
        pool = self.pool(need.deployment_id)
        pool.failures += 1
        if pool.failures >= START_ATTEMPTS and pool.waiting:
            request = next(iter(pool.waiting.values()))
            self.refuse(request, Reason.START_FAILED)
            self.slot_freed(request.need, now)
        self.start_missing(pool)

    def start_missing(self, pool: Pool) -> None:
        """Start what requests wait for and nothing brings."""
        for request in list(pool.waiting.values()):
            if len(pool.starting) >= len(pool.waiting):
                return
            if request.ticket not in self.unplaced:
                self.start_for(request, pool)

    # Leases that end

    def end_lease(self, environment: Environment, *, reusable: bool, now: float) -> None:
        """A caller gave a lease back; nothing runs on the environment."""
        self.unbind(environment)
        environment.slot_held = False
        if reusable:
            environment.change(Change.RELEASE)
            self.free(environment, Reason.FREED, now)
        else:
            self.stop(environment, Reason.NOT_REUSABLE)
        self.slot_freed(environment.need, now)

    def forget(self, environment: Environment, reason: Reason, now: float) -> None:
        """An environment is no more."""
        was_starting = environment.state is State.STARTING
        if self.remove(environment, reason):
            self.slot_freed(environment.need, now)
        if was_starting:
            self.start_failed(environment.need, now)
        self.retry_unplaced()

    # Recalls of idle leases

    def recall(self, scope: Scope, *, besides: str | None = None) -> int:
        """Have callers return idle leases. Answers the round whose end tells, 0 if nobody is to be asked.

        `besides`: a caller that is not asked, since it would not have come if it had one.
        """
        asked = self._holders(besides)
        if not asked:
            return 0
        tenant, function_name = scope
        if (tenant is None or function_name is not None) and self.recalls.running(scope):
            return 0  # Nobody waits for the end of these; one at a time is enough.
        number, begin = self.recalls.want(scope)
        if begin:
            self._begin_round(number, scope, asked)
        return number

    def _holders(self, besides: str | None = None) -> list[str]:
        return sorted(c.id for c in self.callers.values() if c.connected and c.leases and c.id != besides)

    def _begin_round(self, number: int, scope: Scope, asked: list[str]) -> bool:
        if not asked:
            return False
        self.recalls.begin(number, scope, asked)
        self.out.extend(ins.Recall(caller_id, number, scope[0], scope[1]) for caller_id in asked)
        return True

    def idle_returned(self, caller_id: str, number: int, now: float) -> None:
        """A caller has no idle lease left in the scope. When the last one says so, who still waits is refused."""
        ended = self.recalls.answered(caller_id, number)
        while ended is not None:
            self._refuse_round(ended, now)
            if not ended.following or self._begin_round(ended.following, ended.scope, self._holders()):
                return
            ended = Round(ended.following, ended.scope)

    def _refuse_round(self, ended: Round, now: float) -> None:
        tenant = ended.scope[0]
        if tenant is None:
            return
        for request in [r for r in self.contended.get(tenant, {}).values() if r.round == ended.number]:
            self.refuse(request, Reason.ACCOUNT_LIMIT)

    # Functions

    def changed(self, tenant: Tenant, function_name: str, generation: int) -> None:
        """Idle environments of earlier generations are stopped; leased ones when they come back."""
        key = (tenant, function_name)
        known = self.generations.get(key)
        if known is not None and generation <= known:
            return
        self.generations[key] = generation
        if known is None:
            return
        for environment in [self.environments[i] for i in self.idle_order]:
            need = environment.need
            if (need.tenant, need.function_name) == key and self.outdated(need):
                self.stop(environment, Reason.OUTDATED)
