"""Who holds what: the records of the scheduler and the changes that keep them consistent with each other.

Lowest of three levels (Book < Serving < Scheduler). Nothing here decides; every method leaves I1 to I6 true.
"""

from __future__ import annotations

from collections import OrderedDict

from lambent.domain.names import Tenant
from services.scheduler.core import instructions as ins
from services.scheduler.core.environment import Change, Environment, State
from services.scheduler.core.events import Need, Ticket
from services.scheduler.core.ledger import Ledger
from services.scheduler.core.placement import Worker
from services.scheduler.core.pools import Caller, Pool, Request
from services.scheduler.core.reasons import Reason


class Book:
    """All records, and the instructions of the event in hand."""

    def __init__(self, concurrent_executions: int, first_lease_id: int) -> None:
        self.ledger = Ledger(concurrent_executions)
        self.environments: dict[str, Environment] = {}
        self.workers: dict[str, Worker] = {}
        self.callers: dict[str, Caller] = {}
        self.pools: dict[str, Pool] = {}
        self.generations: dict[tuple[Tenant, str], int] = {}
        self.idle_order: OrderedDict[str, None] = OrderedDict()  # idle environments, longest idle first
        self.contended: dict[
            Tenant, OrderedDict[Ticket, Request]
        ] = {}  # wait for a slot while idle leases are recalled
        self.unplaced: OrderedDict[Ticket, Request] = OrderedDict()  # admitted, and no worker has room
        self.next_lease = first_lease_id
        self.out: list[ins.Instruction] = []
        self._touched: set[str] = set()  # deployments whose pool may have become empty in this event

    def pool(self, deployment_id: str) -> Pool:
        """The pool of a deployment; made where there is none, dropped at the end of the event if it stays empty."""
        self._touched.add(deployment_id)
        pool = self.pools.get(deployment_id)
        if pool is None:
            pool = self.pools[deployment_id] = Pool()
        return pool

    def tidy(self) -> None:
        """Drop the pools that became empty. Once an event, at its end."""
        for deployment_id in self._touched:
            if self.pools[deployment_id].empty:
                del self.pools[deployment_id]
        self._touched.clear()

    # Requests

    def drop(self, request: Request) -> None:
        """Take a request out of every queue. Its slot, if it holds one, stays with the caller of this."""
        self.callers[request.ticket.caller_id].requests.pop(request.ticket, None)
        contended = self.contended.get(request.need.tenant)
        if contended is not None:
            contended.pop(request.ticket, None)
            if not contended:
                del self.contended[request.need.tenant]
        self.unplaced.pop(request.ticket, None)
        self.pool(request.need.deployment_id).waiting.pop(request.ticket, None)

    # Environments

    def add(self, environment: Environment) -> None:
        """A new environment takes room on its worker."""
        self.environments[environment.id] = environment
        worker = self.workers[environment.worker_id]
        worker.used_mb += environment.need.memory_mb
        worker.used_environments += 1
        if environment.state is State.STARTING:
            self.pool(environment.need.deployment_id).starting.add(environment.id)

    def set_idle(self, environment: Environment, now: float) -> None:
        """An environment that is IDLE by its state joins its pool."""
        self.pool(environment.need.deployment_id).idle[environment.id] = None
        self.idle_order[environment.id] = None
        environment.idle_since = now

    def _leave_pool(self, environment: Environment) -> None:
        pool = self.pool(environment.need.deployment_id)
        pool.idle.pop(environment.id, None)
        pool.starting.discard(environment.id)
        self.idle_order.pop(environment.id, None)

    def lose(self, environment: Environment) -> None:
        """The worker of an idle environment is away: it is not granted until the worker is back."""
        self._leave_pool(environment)
        environment.change(Change.LOSE)

    def bind(self, environment: Environment, caller: Caller, lease_id: int) -> None:
        """Lease an environment. The slot is counted already."""
        self._leave_pool(environment)
        environment.change(Change.LEASE)
        environment.lease_id, environment.caller_id, environment.slot_held = lease_id, caller.id, True
        caller.leases[lease_id] = environment.id
        self.pool(environment.need.deployment_id).leased += 1

    def unbind(self, environment: Environment) -> None:
        """End a lease. The slot is still held: whoever calls this gives it back or lets the environment keep it."""
        assert environment.caller_id is not None
        assert environment.lease_id is not None
        del self.callers[environment.caller_id].leases[environment.lease_id]
        self.pool(environment.need.deployment_id).leased -= 1
        environment.lease_id = environment.caller_id = None

    def stop(self, environment: Environment, reason: Reason) -> None:
        """Order an environment's end. Its room is free when its worker says that it is gone."""
        self._leave_pool(environment)
        environment.change(Change.STOP)
        worker = self.workers[environment.worker_id]
        worker.stopping_mb += environment.need.memory_mb
        worker.stopping_environments += 1
        self.out.append(ins.Stop(environment.worker_id, environment.id, reason))

    def remove(self, environment: Environment, reason: Reason) -> bool:
        """Forget an environment that is no more; its caller is told. True: a slot came free with it, still counted."""
        if environment.lease_id is not None and environment.caller_id is not None:
            caller_id, lease_id = environment.caller_id, environment.lease_id
            self.unbind(environment)
            self.out.append(ins.Revoke(caller_id, lease_id, reason))
        self._leave_pool(environment)
        del self.environments[environment.id]
        worker = self.workers[environment.worker_id]
        worker.used_mb -= environment.need.memory_mb
        worker.used_environments -= 1
        if environment.state is State.STOPPING:
            worker.stopping_mb -= environment.need.memory_mb
            worker.stopping_environments -= 1
        held, environment.slot_held = environment.slot_held, False
        return held

    def outdated(self, need: Need) -> bool:
        """Whether the function has changed since."""
        return need.generation < self.generations.get((need.tenant, need.function_name), 0)
