"""Why requests were refused, and why environments were started: the ledger's numbers at that instant, kept for a while.

Only decisions that a user may ask about are kept: refusals, and requests for which an environment had to be started. A
request that ran on a lease which its caller held already, or on an idle environment, was decided without a word.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping

import msgspec

from lambent.domain.names import Tenant
from services.scheduler.core.ledger import Function
from services.scheduler.core.placement import Worker
from services.scheduler.core.pools import Pool, Request
from services.scheduler.core.reasons import Reason

# How many decisions are kept, of all tenants together and of each function; and how many ends of environments.
KEPT = 10_000
KEPT_BY_FUNCTION = 50

# What would have admitted a refused request.
REMEDIES: Mapping[Reason, str] = {
    Reason.ACCOUNT_LIMIT: (
        "One execution less among the functions without reserved concurrency, a higher limits.concurrent_executions, "
        "less reserved or provisioned for other functions, or reserved concurrency for this one."
    ),
    Reason.ASYNC_SHARE: (
        "One asynchronous event less that runs among the functions without reserved concurrency, a higher queue.share, "
        "or reserved concurrency for this function, to which the share does not apply."
    ),
    Reason.RESERVED_LIMIT: "One execution less of this function, or a higher reserved concurrency.",
    Reason.RATE_LIMIT: (
        "Fewer requests a second among the functions without reserved concurrency: limits.requests_per_execution for "
        "each execution of the account's limit."
    ),
    Reason.RESERVED_RATE_LIMIT: (
        "Fewer requests a second of this function, or a higher reserved concurrency: limits.requests_per_execution for "
        "each execution of it."
    ),
    Reason.SCALING_LIMIT: (
        "A slower rise: scheduling.ramp lets no more environments start at once; provisioned concurrency has them "
        "beforehand."
    ),
    Reason.NO_CAPACITY: "Room for the function's memory on a worker: more workers, or less memory.",
    Reason.NO_WORKERS: "A worker that is connected.",
    Reason.NO_POOL: "A pool of workers whose rule takes the function's architecture, runtime, subnets and groups.",
    Reason.START_FAILED: "Sandboxes that can be made: the workers' logs say what fails.",
}

# Why no environment was there for a request that had to wait for one.
FIRST_USE = "No environment of this version had been started before."
ALL_IN_USE = "Every environment of this version was in use."
NO_OTHER = "No environment of this version was left; the last one ended: "


class Decision(msgspec.Struct, frozen=True):
    """One decision about one request."""

    at: float  # monotonic seconds
    request_id: str
    tenant: Tenant
    function_name: str
    version: str
    outcome: str  # Refused or Started
    reason: str
    because: str  # in words: of a start, why nothing was there; of a refusal, what would have admitted it
    numbers: tuple[tuple[str, int], ...]  # the ledger's, by name


class Journal:
    """The decisions that are kept."""

    def __init__(self) -> None:
        self._decisions: OrderedDict[tuple[Tenant, str], Decision] = OrderedDict()
        self._by_function: dict[tuple[Tenant, str], deque[str]] = {}
        self._ends: OrderedDict[tuple[Tenant, str, str], tuple[float, str]] = OrderedDict()

    def refused(
        self, request: Request, reason: Reason, workers: Mapping[str, Worker], now: float, trouble: str = ""
    ) -> None:
        """A request got no environment. `trouble`: what keeps its pool of workers from having room."""
        because = REMEDIES.get(reason, "")
        if trouble and reason in (Reason.NO_CAPACITY, Reason.NO_WORKERS):
            because = f"{because} No more workers: {trouble}."
        self._keep(request, "Refused", reason, because, workers, now)

    def started(self, request: Request, workers: Mapping[str, Worker], now: float) -> None:
        """An environment was started for a request."""
        pool, need = request.pool, request.need
        end = self._ends.get((need.tenant, need.function_name, need.version))
        if pool.leased or len(pool.starting) > 1:
            because = ALL_IN_USE
        elif end is not None:
            because = f"{NO_OTHER}{end[1]}, {now - end[0]:.0f} s before."
        else:
            because = FIRST_USE
        self._keep(request, "Started", Reason.COLD, because, workers, now)

    def ended(self, pool: Pool, reason: Reason, now: float) -> None:
        """An environment of a version was stopped."""
        key = (pool.function.account.tenant, pool.function.name, pool.version)
        self._ends[key] = (now, str(reason))
        self._ends.move_to_end(key)
        if len(self._ends) > KEPT:
            self._ends.popitem(last=False)

    def of_request(self, tenant: Tenant, request_id: str) -> Decision | None:
        """The last decision about a request."""
        return self._decisions.get((tenant, request_id))

    def of_function(self, tenant: Tenant, function_name: str) -> list[Decision]:
        """The last decisions about a function, newest first."""
        numbers = self._by_function.get((tenant, function_name), ())
        found = (self._decisions.get((tenant, request_id)) for request_id in reversed(numbers))
        return [decision for decision in found if decision is not None]

    def _keep(
        self, request: Request, outcome: str, reason: Reason, because: str, workers: Mapping[str, Worker], now: float
    ) -> None:
        need = request.need
        decision = Decision(
            now, request.request_id, need.tenant, need.function_name, need.version, outcome, str(reason), because,
            (*_numbers(request.pool, workers), *_kept(request.pool)),
        )  # fmt: skip
        key = (need.tenant, request.request_id)
        self._decisions[key] = decision
        self._decisions.move_to_end(key)
        mine = self._by_function.setdefault((need.tenant, need.function_name), deque(maxlen=KEPT_BY_FUNCTION))
        mine.append(request.request_id)
        if len(self._decisions) > KEPT:
            (tenant, _), oldest = self._decisions.popitem(last=False)
            self._forget(tenant, oldest)

    def _forget(self, tenant: Tenant, decision: Decision) -> None:
        """A decision is kept no more. That of a request that was decided on again stands for all of them."""
        of_function = self._by_function.get((tenant, decision.function_name), deque())
        left = [request_id for request_id in of_function if request_id != decision.request_id]
        if left:
            self._by_function[tenant, decision.function_name] = deque(left, KEPT_BY_FUNCTION)
        else:
            self._by_function.pop((tenant, decision.function_name), None)


def _numbers(pool: Pool, workers: Mapping[str, Worker]) -> tuple[tuple[str, int], ...]:
    function: Function = pool.function
    account = function.account
    return (
        ("account limit", account.limit),
        ("account reserved", account.reserved),
        ("account unreserved", account.unreserved),
        ("account on demand", account.on_demand),
        ("account provisioned", account.claims),
        ("account asynchronous", account.background.on_demand),
        ("account asynchronous limit", account.background.limit),
        ("function reserved", -1 if function.reserved is None else function.reserved),
        ("function on demand", function.on_demand),
        ("function provisioned", function.allocated),
        ("version leased", pool.leased),
        ("version idle", len(pool.idle) + len(pool.ready)),
        ("version starting", len(pool.starting)),
        ("version waiting", len(pool.waiting) + len(pool.contended)),
        ("workers", sum(worker.connected for worker in workers.values())),
        ("workers' free MB", sum(w.memory_mb - w.used_mb for w in workers.values() if w.connected)),
    )


def _kept(pool: Pool) -> tuple[tuple[str, int], ...]:
    """From and to which second after its use the latest environment that began to idle was kept, where that varies."""
    windows = None if pool.habit is None else pool.habit.latest
    if windows is None:
        return ()
    return (("kept idle from second", round(windows.begin)), ("kept idle to second", round(windows.end)))
