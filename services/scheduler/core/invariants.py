"""What is true of the scheduler after every event, numbered; cited by number in code, tests and docs.

I1  Limits: what is in use never exceeds a limit of the ledger, except by what was in use when the limit was lowered or
    what is recognised after a restart, and that only shrinks; and the ledger's counts equal a recount: one slot for
    each admitted request, each lease on demand, and each lost lease's environment that is not gone yet; one allocation
    for each environment that counts as provisioned.
I2  Provisioned: a provisioned slot serves only its version: an environment that may be granted from provisioned
    concurrency holds an allocation, and is of the pool that grants it; one that holds none serves nobody.
I3  Requests: each unanswered request is where its state says: with its caller, in one queue; none is answered twice.
I4  No immortal environment: whatever exists is leased to a caller that exists, or idle with an end, or on its way
    in or out of a worker that exists, or waiting for a rebuild or a worker that has a deadline; a provisioned one is
    wanted, or is on its way out, or its tenant's settings are not known yet.
I5  One environment, one invocation: an environment has at most one lease, and a lease one environment.
I6  Room: what workers are promised is what their environments need, and those are of the worker's pool.
I7  Work is conserved: no request waits for a slot while there is one that it may use.
I8  Share: pollers use no more of an account's unreserved concurrency than their share, except as with I1; and the
    ledger's count of it equals a recount.
"""

from __future__ import annotations

from collections import Counter

from services.scheduler.core.census import census_of
from services.scheduler.core.environment import State
from services.scheduler.core.ledger import Background, Function, Slots
from services.scheduler.core.machine import Scheduler
from services.scheduler.core.pools import Pool


class Broken(AssertionError):
    """An invariant does not hold; the text begins with its number."""


def _require(number: str, holds: bool, what: object) -> None:
    if not holds:
        raise Broken(f"{number}: {what}")


class Watch:
    """Checks one scheduler after every event; remembers what was over a limit, which may only shrink."""

    def __init__(self) -> None:
        self._over: dict[Slots, int] = {}

    def check(self, scheduler: Scheduler, *, lowered: bool = False) -> None:
        """Raise Broken where an invariant does not hold. `lowered`: this event lowered a limit or recognised leases."""
        _check_counts(scheduler)
        self._check_limits(scheduler, lowered=lowered)
        _check_requests(scheduler)
        _check_environments(scheduler)
        _check_provisioned(scheduler)
        _check_room(scheduler)

    def _check_limits(self, scheduler: Scheduler, *, lowered: bool) -> None:
        over: dict[Slots, int] = {}
        for account in scheduler.ledger.accounts().values():
            shared = account.on_demand + account.allocated - (account.limit - account.reserved)
            if shared > 0:
                over[account] = shared
            if account.background.over:
                over[account.background] = account.background.on_demand - account.background.limit
            for function in account.functions.values():
                if function.reserved is not None and function.on_demand + function.allocated > function.reserved:
                    over[function] = function.on_demand + function.allocated - function.reserved
        for whose, excess in over.items():
            number = "I8" if isinstance(whose, Background) else "I1"
            _require(number, lowered or excess <= self._over.get(whose, 0), f"{whose} is over its limit by {excess}")
        self._over = over


def _check_counts(scheduler: Scheduler) -> None:
    slots: Counter[Function] = Counter()
    background: Counter[Function] = Counter()
    allocated: Counter[Function] = Counter()
    for caller in scheduler.callers.values():
        for request in caller.requests.values():
            slots[request.pool.function] += request.admitted
            background[request.pool.function] += request.admitted and request.background
    for environment in scheduler.environments.values():
        slots[environment.pool.function] += environment.slot_held
        background[environment.pool.function] += environment.slot_held and environment.background
        allocated[environment.pool.function] += environment.counted
    for account in scheduler.ledger.accounts().values():
        functions = account.functions.values()
        for function in functions:
            _require("I1", function.on_demand == slots.pop(function, 0), f"on demand: {function.name}")
            _require("I8", function.background == background.pop(function, 0), f"of pollers: {function.name}")
            _require("I1", function.allocated == allocated.pop(function, 0), f"allocated: {function.name}")
        shared = [function for function in functions if function.reserved is None]
        _require("I1", account.on_demand == sum(f.on_demand for f in shared), "on demand")
        _require("I8", account.background.on_demand == sum(f.background for f in shared), "of pollers")
        _require("I1", account.allocated == sum(f.allocated for f in shared), "allocated")
        _require("I1", account.claims == sum(f.claim for f in shared), "claims")
        _require("I1", account.reserved == sum(f.reserved or 0 for f in functions), "reserved")
    _require("I1", not any(slots.values()) and not any(allocated.values()), "slots of functions that are forgotten")


def _check_requests(scheduler: Scheduler) -> None:
    for caller in scheduler.callers.values():
        for ticket, request in caller.requests.items():
            waiting = ticket in request.pool.waiting
            contends = request.contends is not None and ticket in scheduler.contended[request.contends]
            unpaid = request.unpaid is not None and ticket in request.unpaid.requests
            places = waiting + contends + unpaid
            held_back = scheduler.rebuilding and not request.admitted
            _require("I3", places == (0 if held_back and not places else 1), f"{ticket} in {places} places")
            _require("I3", waiting == request.admitted, f"{ticket} admitted {request.admitted}, waiting {waiting}")
            _require("I3", contends == (ticket in request.pool.contended), f"{ticket} contends")
            _require("I3", unpaid or held_back or request.paid is not None, f"{ticket} goes on without permission")
    for whose, queue in scheduler.contended.items():
        _require("I3", bool(queue), "an empty queue")
        for request in queue.values():
            mine = request.pool.function.contended(background=request.background)
            _require("I3", mine is whose, f"{request.ticket} waits for another's slots")
            refusal = request.pool.function.refusal(request.background)
            _require("I7", refusal is not None, f"{request.ticket} waits")
    for deployment_id, pool in scheduler.pools.items():
        for ticket in pool.waiting:
            _require("I3", ticket in scheduler.callers[ticket.caller_id].requests, f"{ticket} waits unknown")
        idle_or_coming = pool.idle if not scheduler.rebuilding else ()
        _require("I3", not (pool.waiting and idle_or_coming), f"{deployment_id}: idle while requests wait")
        held_up = sum(1 for ticket, r in pool.waiting.items() if r.starved or ticket in scheduler.unplaced)
        _require(
            "I3",
            len(pool.starting) + held_up >= len(pool.waiting),
            f"{deployment_id}: {len(pool.waiting)} wait, {len(pool.starting)} start, {held_up} held up",
        )
        _require("I4", not pool.empty, f"{deployment_id}: an empty pool")


def _check_environments(scheduler: Scheduler) -> None:
    idle = len(scheduler.idle_order) + len(scheduler.ahead)
    _require("I4", idle == sum(len(pool.idle) for pool in scheduler.pools.values()), "idle in no pool, or twice")
    leases = {
        lease_id: environment
        for caller in scheduler.callers.values()
        for lease_id, environment in caller.leases.items()
    }
    _require("I5", len({e.id for e in leases.values()}) == len(leases), "an environment with two leases")
    held: Counter[Pool] = Counter()
    members = Counter(request.pool for caller in scheduler.callers.values() for request in caller.requests.values())
    for environment in scheduler.environments.values():
        state = environment.state
        leased = leases.get(environment.lease_id) is environment
        _require("I5", leased == (state is State.LEASED), f"{environment.id} is {state}, leased {leased}")
        _require("I4", environment.worker.id in scheduler.workers, f"{environment.id} has no worker")
        if not environment.provisioned:
            order = scheduler.ahead if environment.ahead else scheduler.idle_order
            _require("I4", (state is State.IDLE) == (environment.id in order), f"{environment.id} {state}")
            ends = state is not State.IDLE or environment.timed_at <= environment.idle_until
            _require("I4", ends, f"{environment.id} is idle and nothing ends it")
        if state is State.UNCLAIMED:
            away = not environment.worker.connected
            has_end = scheduler.rebuilding or away or environment in scheduler.unclaimed
            _require("I4", has_end, f"{environment.id} is unclaimed for ever")
        held[environment.pool] += state is State.LEASED
        members[environment.pool] += 1
        _require("I4", scheduler.pools.get(environment.pool.deployment_id) is environment.pool, "a forgotten pool")
    for deployment_id, pool in scheduler.pools.items():
        _require("I4", pool.members == members[pool], f"{deployment_id}: {pool.members} members")
        _require("I5", pool.leased == held[pool], f"{deployment_id}: {pool.leased} leased")
        for environment in (*pool.idle.values(), *pool.starting.values()):
            expected = State.IDLE if environment.id in pool.idle else State.STARTING
            _require("I4", environment.state is expected and not environment.provisioned, environment.id)


def _check_provisioned(scheduler: Scheduler) -> None:
    for pool in scheduler.pools.values():
        _require("I1", pool.census == census_of(pool.provisioned.values()), f"{pool.deployment_id}: {pool.census}")
        for environment in pool.provisioned.values():
            ready = environment.id in pool.ready
            serves = environment.serving and environment.state is State.IDLE
            _require("I2", environment.pool is pool, f"{environment.id} is in another version's pool")
            _require("I2", not ready or serves, f"{environment.id} may be granted and does not serve")
            _require("I2", not serves or environment.counted, f"{environment.id} serves without an allocation")
            _require("I2", environment.state is not State.LEASED or environment.counted, f"{environment.id} leased")
            wanted = pool.part is not None or environment.outgoing or environment.state is State.STOPPING
            told = pool.function.account.revision > 0 and not scheduler.rebuilding
            _require("I4", wanted or not told, f"{environment.id} is provisioned for nobody")


def _check_room(scheduler: Scheduler) -> None:
    for worker in scheduler.workers.values():
        mine = [e for e in scheduler.environments.values() if e.worker is worker]
        stopping = [e for e in mine if e.state is State.STOPPING]
        _require("I6", worker.used_mb == sum(e.need.memory_mb for e in mine), f"{worker.id}: memory")
        _require("I6", len(worker.holds) == len(mine), f"{worker.id}: environments")
        _require("I6", all(e.need.pool == worker.pool for e in mine), f"{worker.id}: of another pool")
        _require("I6", scheduler.crew(worker.pool).get(worker.id) is worker, f"{worker.id}: in no crew")
        _require("I6", worker.stopping_mb == sum(e.need.memory_mb for e in stopping), f"{worker.id}: stopping")
        _require("I6", worker.stopping == len(stopping), f"{worker.id}: environments that stop")
        _require("I6", sum(worker.by_deployment.values()) == len(mine), f"{worker.id}: by deployment")
