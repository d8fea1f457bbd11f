"""Who holds what: the records of the scheduler and the changes that keep them consistent with each other.

Lowest of five levels (Book < Room < Provisioning < Serving < Scheduler). Nothing here decides; every method leaves I1
to I6 true.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping

from lambent.domain.clock import Ids
from lambent.domain.names import Tenant
from services.scheduler.core import instructions as ins
from services.scheduler.core.environment import Change, Environment, State
from services.scheduler.core.events import Need, RateScope, Ticket
from services.scheduler.core.journal import Journal
from services.scheduler.core.keep_alive import FORGET_SECONDS, Habit, Rest
from services.scheduler.core.ledger import Function, Ledger, Slots
from services.scheduler.core.meters import Meter
from services.scheduler.core.placement import Worker
from services.scheduler.core.policies import Policies
from services.scheduler.core.pools import Caller, Pool, Request
from services.scheduler.core.reasons import Reason

# Of how many functions it is known what was changed. A new scheduler knows it of none: who asks is told first.
KNOWN_FUNCTIONS = 100_000

_NOBODY: Mapping[str, Worker] = {}
# Every lease comes by here, and to look a member up in its enum costs as much as two calls.
_UNCLAIMED, _LEASE = State.UNCLAIMED, Change.LEASE


class Book:
    """All records, and the instructions of the event in hand."""

    def __init__(self, policies: Policies, ids: Ids, *, first_lease_id: int, now: float) -> None:
        self.now = now  # the instant of the event in hand: monotonic seconds
        self.policies = policies
        self.ids = ids
        self.ledger = Ledger(policies.concurrent_executions, policies.async_share)
        self.environments: dict[str, Environment] = {}
        self.workers: dict[str, Worker] = {}
        self.troubles: dict[str, str] = {}  # pool of workers → what keeps it from having room
        self._crews: dict[str, dict[str, Worker]] = {}  # the same by pool; never an empty one
        self.callers: dict[str, Caller] = {}
        self.pools: dict[str, Pool] = {}
        # Of a function: version → least usable. The one that changed last comes last.
        self.generations: dict[tuple[Tenant, str], dict[str, int]] = {}
        self.idle_order: dict[str, Environment] = {}  # idle on-demand environments, longest idle first
        self.ahead: dict[str, Environment] = {}  # idle ones that were started ahead and not used yet; not in the above
        self.habits: dict[tuple[Tenant, str, str], Habit] = {}  # by function and version
        # Requests that wait for a slot while idle leases are recalled, by whose slots they are, oldest first.
        self.contended: dict[Slots, dict[Ticket, Request]] = {}
        self.unplaced: dict[Ticket, Request] = {}  # admitted, and no worker has room
        self.meters: dict[RateScope, Meter] = {}
        # Environments that run something and that nobody has claimed yet → until when their callers may come back.
        self.unclaimed: dict[Environment, float] = {}
        self.journal = Journal()
        self.next_lease = first_lease_id
        self.out: list[ins.Instruction] = []
        self.due_at = math.inf  # when time alone will change something
        self._timers: list[tuple[float, int, Environment]] = []  # heap; one counts for each idle environment
        self._to_start: list[tuple[float, int, Rest]] = []  # heap; when an environment is to be started ahead
        self._timer_number = 0

    def due(self, at: float) -> None:
        """Something is to be done at this instant."""
        if at < self.due_at:
            self.due_at = at

    # Workers

    def crew(self, pool: str | None) -> Mapping[str, Worker]:
        """The workers of a pool, by id."""
        return self._crews.get(pool, _NOBODY) if pool is not None else _NOBODY

    def hire(self, worker: Worker) -> None:
        """A worker is new."""
        self.workers[worker.id] = self._crews.setdefault(worker.pool, {})[worker.id] = worker

    def dismiss(self, worker: Worker) -> None:
        """A worker that holds nothing is no more."""
        del self.workers[worker.id]
        crew = self._crews[worker.pool]
        del crew[worker.id]
        if not crew:
            del self._crews[worker.pool]

    # Pools

    def pool(self, need: Need) -> Pool:
        """The pool of a deployment; made where there is none."""
        pool = self.pools.get(need.deployment_id)
        if pool is None:
            function = self.ledger.function(need.tenant, need.function_name)
            pool = Pool(need.deployment_id, function, need.version, need.generation)
            self.pools[need.deployment_id] = function.pools[need.deployment_id] = pool
            self.renew(need.tenant, need.function_name, need.version, need.generation)
            known = self.generations[need.tenant, need.function_name]
            pool.outdated = need.generation < max(known[need.version], known.get("", 0))
            pool.habit = self._habit(need)
        return pool

    def _habit(self, need: Need) -> Habit | None:
        policy = self.policies.keep_alive_policy
        if policy is None:
            return None
        key = (need.tenant, need.function_name, need.version)
        habit = self.habits.get(key)
        if habit is None:
            habit = self.habits[key] = Habit(policy.idle_times(self.policies.keep_alive), self.now)
        return habit

    def forget_habits(self) -> None:
        """Drop what is known of functions that nobody has used for long."""
        kept = self.now - FORGET_SECONDS
        self.habits = {key: habit for key, habit in self.habits.items() if habit.busy or habit.used_at > kept}

    def tidy(self, pool: Pool) -> None:
        """Drop the record of a pool, and of its function, if nothing keeps it alive."""
        if pool.empty and self.pools.get(pool.deployment_id) is pool:
            del self.pools[pool.deployment_id]
            function = pool.function
            del function.pools[pool.deployment_id]
            if pool.meter is not None:
                self.meters.pop(pool.meter.scope, None)
            self.tidy_function(function)

    def tidy_function(self, function: Function) -> None:
        """Drop the record of a function that nothing is known of."""
        if function.forget() and function.meter is not None:
            self.meters.pop(function.meter.scope, None)

    # Requests

    def drop(self, request: Request) -> None:
        """Take a request out of every queue. Its slot, if it holds one, stays with the caller of this."""
        ticket = request.ticket
        del request.caller.requests[ticket]
        request.pool.members -= 1
        if request.admitted:
            self.unplaced.pop(ticket, None)
            request.pool.waiting.pop(ticket, None)
        elif request.contends is not None:
            self.stop_contending(request)
        elif request.unpaid is not None:
            request.unpaid.requests.pop(ticket, None)
            request.unpaid = None

    def contend(self, request: Request, round: int) -> None:
        """A request waits for a slot, until the end of a recall round."""
        request.contends = slots = request.pool.function.contended(background=request.background)
        request.round = round
        self.contended.setdefault(slots, {})[request.ticket] = request
        request.pool.contended[request.ticket] = request

    def stop_contending(self, request: Request) -> None:
        """It no longer waits for one."""
        contends, request.contends = request.contends, None
        assert contends is not None
        queue = self.contended[contends]
        del queue[request.ticket]
        if not queue:
            del self.contended[contends]
        del request.pool.contended[request.ticket]

    # Environments

    def add(self, environment: Environment) -> None:
        """A new environment takes room on its worker."""
        self.environments[environment.id] = environment
        worker, pool = environment.worker, environment.pool
        pool.members += 1
        worker.holds[environment.id] = environment
        worker.used_mb += environment.need.memory_mb
        worker.by_deployment[pool.deployment_id] = worker.by_deployment.get(pool.deployment_id, 0) + 1
        if environment.provisioned:
            pool.provisioned[environment.id] = environment
            pool.census.admit(environment)
        elif environment.state is State.STARTING:
            pool.starting[environment.id] = environment

    def set_idle(self, environment: Environment) -> None:
        """An environment that is IDLE by its state joins those that may be granted."""
        if environment.provisioned:
            if environment.serving:
                environment.pool.ready[environment.id] = environment
            return
        environment.pool.idle[environment.id] = environment
        if environment.ahead:
            self.ahead[environment.id] = environment
        else:
            self.idle_order[environment.id] = environment
            habit = environment.pool.habit
            if habit is None:
                environment.idle_until = self.now + self.policies.keep_alive
            else:
                # One that was started and not needed after all is for as many uses as there are environments.
                above = 1 if environment.used else len(environment.pool.idle)
                windows = environment.windows = habit.idles(above, environment.need.memory_mb, self.now)
                environment.idle_until = self.now + windows.end
        if environment.idle_until < environment.timed_at:
            self._time(environment)

    def _time(self, environment: Environment) -> None:
        environment.timed_at = environment.idle_until
        self._timer_number += 1
        heapq.heappush(self._timers, (environment.idle_until, self._timer_number, environment))
        self.due(environment.idle_until)

    def expired(self) -> list[Environment]:
        """The environments whose keep-alive has ended. Each has one timer that counts, which follows it lazily; one
        that an earlier end has replaced is passed over."""
        ended = []
        while self._timers and self._timers[0][0] <= self.now:
            at, _, environment = heapq.heappop(self._timers)
            if at != environment.timed_at:
                continue
            environment.timed_at = math.inf
            if environment.pool.idle.get(environment.id) is not environment:
                continue
            if environment.idle_until <= self.now:
                ended.append(environment)
            else:
                self._time(environment)
        if self._timers:
            self.due(self._timers[0][0])
        return ended

    def start_at(self, at: float, rest: Rest) -> None:
        """An environment is to be started ahead of the use that ends this rest."""
        self._timer_number += 1
        heapq.heappush(self._to_start, (at, self._timer_number, rest))
        self.due(at)

    def rests_due(self) -> list[Rest]:
        """The rests for which one is to be started now."""
        found = []
        while self._to_start and (self._to_start[0][0] <= self.now or self._to_start[0][2].over):
            rest = heapq.heappop(self._to_start)[2]
            if not rest.over:
                found.append(rest)
        if self._to_start:
            self.due(self._to_start[0][0])
        return found

    def take_idle(self, pool: Pool) -> Environment:
        """The one that was used last of those that idle, which may be granted no more until it is bound."""
        environment_id, environment = pool.idle.popitem()
        del (self.ahead if environment.ahead else self.idle_order)[environment_id]
        return environment

    def leave_pool(self, environment: Environment) -> None:
        """It may be granted no more."""
        pool = environment.pool
        if environment.state is _UNCLAIMED:
            self.unclaimed.pop(environment, None)
        elif environment.provisioned:
            pool.ready.pop(environment.id, None)
        elif pool.idle.pop(environment.id, None) is not None:
            del (self.ahead if environment.ahead else self.idle_order)[environment.id]
        else:
            pool.starting.pop(environment.id, None)

    def lose(self, environment: Environment) -> None:
        """The worker of an idle environment is away: it is not granted until the worker is back."""
        self.leave_pool(environment)
        environment.change(Change.LOSE)

    def bind(self, environment: Environment, caller: Caller, lease_id: int) -> None:
        """Lease an environment that has left its pool. The slot is counted already."""
        environment.change(_LEASE)
        environment.lease_id, environment.caller = lease_id, caller
        environment.slot_held = not environment.counted
        environment.background = caller.background
        caller.leases[lease_id] = environment
        pool = environment.pool
        pool.leased += 1
        if pool.habit is not None and not environment.provisioned:
            environment.ahead, environment.used = False, True
            pool.habit.begins(self.now)

    def unbind(self, environment: Environment) -> None:
        """End a lease. The slot is still held: whoever calls this gives it back or lets the environment keep it."""
        caller = environment.caller
        assert caller is not None
        del caller.leases[environment.lease_id]
        pool = environment.pool
        pool.leased -= 1
        if pool.habit is not None and not environment.provisioned:
            pool.habit.ends(self.now)
        environment.lease_id, environment.caller = 0, None

    def stop(self, environment: Environment, reason: Reason) -> None:
        """Order an environment's end. Its room is free when its worker says that it is gone."""
        self.leave_pool(environment)
        environment.change(Change.STOP)
        worker = environment.worker
        worker.stopping_mb += environment.need.memory_mb
        worker.stopping += 1
        self.out.append(ins.Stop(worker.id, environment.id, reason))
        self.journal.ended(environment.pool, reason, self.now)

    def remove(self, environment: Environment, reason: Reason) -> bool:
        """Forget an environment that is no more; its caller is told. True: a slot came free with it, still counted."""
        if environment.caller is not None:
            caller_id, lease_id = environment.caller.id, environment.lease_id
            self.unbind(environment)
            self.out.append(ins.Revoke(caller_id, lease_id, reason))
        self.leave_pool(environment)
        del self.environments[environment.id]
        worker, pool = environment.worker, environment.pool
        if pool.provisioned.pop(environment.id, None) is not None:
            pool.census.forget(environment)
        pool.members -= 1
        del worker.holds[environment.id]
        worker.used_mb -= environment.need.memory_mb
        left = worker.by_deployment[pool.deployment_id] - 1
        if left:
            worker.by_deployment[pool.deployment_id] = left
        else:
            del worker.by_deployment[pool.deployment_id]
        if environment.state is State.STOPPING:
            worker.stopping_mb -= environment.need.memory_mb
            worker.stopping -= 1
        held, environment.slot_held = environment.slot_held, False
        return held

    # Generations

    def renew(self, tenant: Tenant, function_name: str, version: str, generation: int) -> None:
        """Environments of the version below `generation` are not used again. An empty version: of every version."""
        known = self.generations.setdefault((tenant, function_name), {})
        if generation <= known.get(version, 0):
            return
        known[version] = generation
        self.generations[tenant, function_name] = self.generations.pop((tenant, function_name))
        if len(self.generations) > KNOWN_FUNCTIONS:
            del self.generations[next(iter(self.generations))]
        function = self.ledger.find(tenant, function_name)
        for pool in () if function is None else list(function.pools.values()):
            if pool.generation < generation and version in ("", pool.version):
                pool.outdated = True
                for environment in list(pool.idle.values()):
                    self.stop(environment, Reason.OUTDATED)
