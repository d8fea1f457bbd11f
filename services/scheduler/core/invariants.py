"""What is true of the scheduler after every event, numbered; cited by number in code, tests and docs.

I1  Limits: slots in use never exceed a tenant's limit, except by leases recognised after a restart; and the ledger's
    totals equal a recount: one slot for each admitted request, each lease, and each lost lease's environment that is
    not gone yet.
I2  (with provisioned concurrency) A provisioned slot serves only its version.
I3  Requests: each unanswered request is where its state says: with its caller, in one queue; none is answered twice.
I4  No immortal environment: whatever exists is leased to a caller that exists, or idle with an end, or on its way
    in or out of a worker that exists, or waiting for a rebuild or a worker that has a deadline.
I5  One environment, one invocation: an environment has at most one lease, and a lease one environment.
I6  Room: what workers are promised is what their environments need.
"""

from __future__ import annotations

from collections import Counter

from lambent.domain.names import Tenant
from services.scheduler.core.environment import State
from services.scheduler.core.machine import Scheduler


class Broken(AssertionError):
    """An invariant does not hold; the text begins with its number."""


def _require(number: str, holds: bool, what: object) -> None:
    if not holds:
        raise Broken(f"{number}: {what}")


def check(scheduler: Scheduler, *, recognised: bool = False) -> None:
    """Raise Broken where an invariant does not hold. `recognised`: leases from before a restart may exceed limits."""
    slots: Counter[tuple[Tenant, str]] = Counter()
    for caller in scheduler.callers.values():
        for request in caller.requests.values():
            if request.admitted:
                slots[request.need.tenant, request.need.function_name] += 1
    for environment in scheduler.environments.values():
        if environment.slot_held:
            slots[environment.need.tenant, environment.need.function_name] += 1
    counted = {
        (tenant, name): count
        for tenant, account in scheduler.ledger.accounts().items()
        for name, count in account.by_function.items()
    }
    _require("I1", counted == dict(slots), f"ledger {counted}, recount {dict(slots)}")
    for tenant, account in scheduler.ledger.accounts().items():
        _require("I1", account.in_use == sum(account.by_function.values()), f"total of {tenant}")
        _require("I1", recognised or account.in_use <= account.limit, f"{tenant}: {account.in_use} of {account.limit}")
    _check_requests(scheduler)
    _check_environments(scheduler)
    _check_room(scheduler)


def _check_requests(scheduler: Scheduler) -> None:
    for caller in scheduler.callers.values():
        for ticket, request in caller.requests.items():
            pool = scheduler.pools.get(request.need.deployment_id)
            waiting = pool is not None and ticket in pool.waiting
            contended = ticket in scheduler.contended.get(request.need.tenant, {})
            places = waiting + contended
            _require(
                "I3", places == (0 if scheduler.rebuilding and not request.admitted else 1), f"{ticket} in {places}"
            )
            _require("I3", waiting == request.admitted, f"{ticket} admitted {request.admitted}, waiting {waiting}")
    for deployment_id, pool in scheduler.pools.items():
        for ticket in pool.waiting:
            _require("I3", ticket in scheduler.callers[ticket.caller_id].requests, f"{ticket} waits unknown")
        idle_or_coming = pool.idle if not scheduler.rebuilding else ()
        _require("I3", not (pool.waiting and idle_or_coming), f"{deployment_id}: idle while requests wait")
        unplaced = sum(1 for ticket in pool.waiting if ticket in scheduler.unplaced)
        _require(
            "I3",
            len(pool.starting) + unplaced >= len(pool.waiting),
            f"{deployment_id}: {len(pool.waiting)} wait, {len(pool.starting)} start, {unplaced} wait for room",
        )


def _check_environments(scheduler: Scheduler) -> None:
    leases = {
        (caller.id, lease_id): environment_id
        for caller in scheduler.callers.values()
        for lease_id, environment_id in caller.leases.items()
    }
    _require("I5", len(set(leases.values())) == len(leases), "an environment with two leases")
    held: Counter[str] = Counter()
    for environment in scheduler.environments.values():
        state = environment.state
        leased = (environment.caller_id, environment.lease_id) in leases
        _require("I5", leased == (state is State.LEASED), f"{environment.id} is {state}, leased {leased}")
        _require("I4", environment.worker_id in scheduler.workers, f"{environment.id} has no worker")
        _require("I4", (state is State.IDLE) == (environment.id in scheduler.idle_order), f"{environment.id} {state}")
        if state is State.UNCLAIMED:
            away = not scheduler.workers[environment.worker_id].connected
            _require("I4", scheduler.rebuilding or away, f"{environment.id} is unclaimed for ever")
        if state is State.LEASED:
            held[environment.need.deployment_id] += 1
    for deployment_id, pool in scheduler.pools.items():
        _require("I5", pool.leased == held[deployment_id], f"{deployment_id}: {pool.leased} leased")
        for environment_id in [*pool.idle, *pool.starting]:
            state = scheduler.environments[environment_id].state
            _require("I4", state is (State.IDLE if environment_id in pool.idle else State.STARTING), environment_id)


def _check_room(scheduler: Scheduler) -> None:
    for worker in scheduler.workers.values():
        mine = [e for e in scheduler.environments.values() if e.worker_id == worker.id]
        stopping = [e for e in mine if e.state is State.STOPPING]
        _require("I6", worker.used_mb == sum(e.need.memory_mb for e in mine), f"{worker.id}: memory")
        _require("I6", worker.used_environments == len(mine), f"{worker.id}: environments")
        _require("I6", worker.stopping_mb == sum(e.need.memory_mb for e in stopping), f"{worker.id}: stopping")
