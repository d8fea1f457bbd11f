"""Which lease serves which invocation, on the caller's side. Pure: no clock, no sockets.

A lease that comes free goes to the oldest invocation that waits here for the same deployment, else it is kept a short
while for the next one, so that a warm invocation needs no round trip to the scheduler. Whatever is idle is given back
the moment the scheduler recalls it. Every use of a lease takes a permission of the request-rate rule (budgets.py).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from lambent.domain.names import Tenant
from lambent.infra.invoker.budgets import Budget, Scope, Use


@dataclass(slots=True)
class Lease:
    """The right to run one invocation at a time on one execution environment."""

    id: int
    environment_id: str
    worker_id: str
    address: str  # where its worker takes invocations
    slot: int
    deployment_id: str
    tenant: Tenant
    function_name: str
    reason: str  # why it was granted
    budget: Budget  # whose permissions its invocations take
    provisioned: bool = False  # it is one of the version's provisioned concurrency
    spillover: bool = False  # on demand, since the version's provisioned concurrency was all in use
    retiring: bool = False  # to be given back when what runs on it has ended
    idle_until: float = 0.0  # monotonic seconds; meaningful while idle
    void: bool = False  # revoked while in use: it is not to be used again


class Waiter(Protocol):
    """An invocation that wants a lease."""

    @property
    def tenant(self) -> Tenant: ...
    @property
    def function_name(self) -> str: ...
    @property
    def deployment_id(self) -> str: ...

    def lease_ready(self, lease: Lease) -> None:
        """The wait is over."""
        ...

    def lease_refused(self, reason: str, retry_after: float) -> None:
        """The scheduler said no."""
        ...


@dataclass(frozen=True, slots=True)
class Acquire:
    """Ask for an environment."""

    ticket: int
    waiter: Waiter
    on_demand: bool = False  # not from provisioned concurrency: its request rate is used up


@dataclass(frozen=True, slots=True)
class Cancel:
    """No longer wanted."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Release:
    """Give a lease back."""

    lease_id: int
    reusable: bool


@dataclass(frozen=True, slots=True)
class Returned:
    """Every idle lease that the recall asked for has been released."""

    round: int


@dataclass(frozen=True, slots=True)
class Wish:
    """Ask for permissions of the request-rate rule."""

    scope: Scope
    requests: int


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Give unused permissions back."""

    scope: Scope
    requests: int
    round: int  # of the recall that asked for them; 0: of our own accord


@dataclass(frozen=True, slots=True)
class Report:
    """How provisioned concurrency was used here."""

    scope: Scope
    use: Use


Outgoing = Acquire | Cancel | Release | Returned | Wish | GiveBack | Report

# Between two reports of how provisioned concurrency is used.
REPORT_SECONDS = 5.0
# So many reports, at the least, within one period of auto scaling's alarms.
REPORTS = 4
# So many asks in a row are in vain, each overtaken by a lease that came free here, before there is only one of a
# deployment in so many seconds: there is no room, and who waits will be served here. And nobody waits longer without.
_IN_VAIN, _APART, _LONG = 16, 0.02, 0.1


@dataclass(slots=True)
class _Deployment:
    idle: list[Lease] = field(default_factory=list)  # most recently used last
    waiting: OrderedDict[int, Waiter] = field(default_factory=OrderedDict)  # by ticket, oldest first
    unasked: dict[int, float] = field(default_factory=dict)  # those of them that the scheduler was not asked for: since
    held: int = 0  # leases, idle ones included
    in_vain: int = 0  # asks in a row
    asked_at: float = 0.0  # for somebody in `unasked`, last

    def due(self, now: float) -> list[int]:
        """Whom to ask for, oldest first."""
        if self.in_vain < _IN_VAIN or not self.held:
            return list(self.unasked)
        found = [ticket for ticket, since in self.unasked.items() if now >= since + _LONG]
        return found if found or now < self.asked_at + _APART else [next(iter(self.unasked))]


class LeasePool:
    """All leases of one caller, and the invocations that wait for one."""

    def __init__(self, hold_seconds: float, alarm_period: float = 60.0) -> None:
        """`hold_seconds`: how long an idle lease is kept. `alarm_period`: of auto scaling, seconds."""
        self._hold = hold_seconds
        self._deployments: dict[str, _Deployment] = {}
        self._tickets: dict[int, Waiter] = {}
        self._unasked: dict[str, _Deployment] = {}  # those with any that the scheduler was not asked for
        self._budgets: dict[Scope, Budget] = {}
        self._next_ticket = 1
        self._no_hold: dict[tuple[Tenant | None, str | None], float] = {}  # recalled scope → until when
        self.leases: dict[int, Lease] = {}
        self.out: list[Outgoing] = []
        self.connected = False
        self.usable_until = 0.0  # monotonic seconds; while not connected leases may be used until then
        self._report_seconds = min(REPORT_SECONDS, alarm_period / REPORTS)
        self._reported_at = 0.0  # monotonic seconds

    def take(self, deployment_id: str, now: float) -> Lease | None:
        """An idle lease of the deployment, if one is held and its request rate lets it be used. The hot path."""
        deployment = self._deployments.get(deployment_id)
        if deployment is None or not deployment.idle or not (self.connected or now < self.usable_until):
            return None
        if not self._permit(deployment.idle[-1].budget, now):
            return None
        return deployment.idle.pop()

    def _permit(self, budget: Budget, now: float) -> bool:
        """Take one permission for an invocation that begins if it is given, and ask for more in time."""
        budget.used_at = now
        permitted = budget.left > 0
        if permitted:
            budget.left -= 1
        if budget.left <= budget.low and not budget.asked and self.connected:
            self.out.append(Wish(budget.scope, budget.next_wish(now)))
        # Without a scheduler nobody counts: what is held goes on.
        begins = permitted or not self.connected
        if begins and budget.use is not None:
            budget.use.begin(now)
        return begins

    def want(self, waiter: Waiter, now: float) -> int:
        """Wait for a lease; answers the ticket, for `abandon`.

        Where leases of the deployment are in use here, one of them is likely to come free within the blink of an eye:
        the scheduler is asked only by the next `ask`. Else every invocation of a busy function would be a round trip.
        """
        ticket, self._next_ticket = self._next_ticket, self._next_ticket + 1
        deployment = self._deployment(waiter.deployment_id)
        self._tickets[ticket] = waiter
        if deployment.idle and self.connected and deployment.idle[-1].budget.asked:
            # It has all it needs but a permission, which is on its way.
            deployment.idle[-1].budget.waiting[ticket] = waiter
            return ticket
        deployment.waiting[ticket] = waiter
        if deployment.held:
            deployment.unasked[ticket] = now
            self._unasked[waiter.deployment_id] = deployment
        elif self.connected:
            self.out.append(Acquire(ticket, waiter))
        return ticket

    @property
    def asking(self) -> bool:
        """Whether `ask` has anything to ask, now or later."""
        return bool(self._unasked)

    def ask(self, now: float) -> None:
        """Ask the scheduler for those who still wait; to be called a moment after `want`, and on while `asking`.

        Where asks have been in vain one goes on: when there is room again it is granted, and everybody asks.
        """
        for deployment_id, deployment in list(self._unasked.items()):
            for ticket in deployment.due(now) if self.connected else list(deployment.unasked):
                del deployment.unasked[ticket]
                deployment.asked_at = now
                if self.connected:
                    self.out.append(Acquire(ticket, deployment.waiting[ticket]))
            if not deployment.unasked:
                del self._unasked[deployment_id]

    def waiter_of(self, ticket: int) -> Waiter | None:
        """Who waits under a ticket."""
        return self._tickets.get(ticket)

    def abandon(self, ticket: int) -> None:
        """The invocation no longer waits."""
        asked = self._asked(ticket)
        if self._forget(ticket) is not None and asked and self.connected:
            self.out.append(Cancel(ticket))

    def _asked(self, ticket: int) -> bool:
        """Whether the scheduler has been asked for one that waits."""
        waiter = self._tickets.get(ticket)
        deployment = self._deployments.get(waiter.deployment_id) if waiter is not None else None
        return deployment is not None and ticket in deployment.waiting and ticket not in deployment.unasked

    def finished(self, lease: Lease, *, reusable: bool, now: float) -> None:
        """An invocation on the lease has ended."""
        if lease.budget.use is not None:
            lease.budget.use.end(now)
        if lease.void or self.leases.get(lease.id) is not lease:
            return
        if not reusable:
            self._release(lease, reusable=False)
            return
        self._pass_on(lease, now)

    def granted(self, ticket: int, lease: Lease, now: float) -> None:
        """The scheduler granted a lease; whoever waits longest for its deployment gets it."""
        self.leases[lease.id] = lease
        deployment = self._deployment(lease.deployment_id)
        deployment.held += 1
        deployment.in_vain = 0
        waiter = self._forget(ticket)
        if waiter is not None and self._permit(lease.budget, now):
            waiter.lease_ready(lease)
        else:
            self._pass_on(lease, now)

    def refused(self, ticket: int, reason: str, retry_after: float) -> None:
        """The scheduler refused."""
        waiter = self._forget(ticket)
        if waiter is not None:
            self._deployment(waiter.deployment_id).in_vain = 0
            waiter.lease_refused(reason, retry_after)

    def recalled(
        self, round: int, tenant: Tenant | None, function_name: str | None, hold_off: float, now: float
    ) -> None:
        """Give back what idles within the scope, and keep nothing idle in it for `hold_off` seconds."""
        self._no_hold[tenant, function_name] = now + hold_off
        for deployment in self._deployments.values():
            for lease in list(deployment.idle):
                if tenant in (None, lease.tenant) and function_name in (None, lease.function_name):
                    self._release(lease, reusable=True)
        self.out.append(Returned(round))

    def retired(self, tenant: Tenant, function_name: str | None) -> None:
        """A limit was lowered: give back every lease of the scope, each when what runs on it has ended."""
        for lease in self.leases.values():
            if lease.tenant == tenant and function_name in (None, lease.function_name):
                lease.retiring = True
        for deployment in self._deployments.values():
            for lease in [lease for lease in deployment.idle if lease.retiring]:
                self._release(lease, reusable=True)

    # Permissions

    def budget(self, scope: Scope) -> Budget:
        """The permissions of a scope."""
        budget = self._budgets.get(scope)
        if budget is None:
            budget = self._budgets[scope] = Budget(scope, use=Use() if scope.version else None)
        return budget

    def permitted(self, scope: Scope, requests: int, retry_after: float, now: float) -> None:
        """The scheduler gave permissions, or has none to give: then who waits for one is refused, or goes on demand.

        None, and `retry_after` 0: the scope is no more, since limits were changed; who waits asks for another lease.
        """
        budget = self.budget(scope)
        budget.asked = False
        budget.permitted(requests)
        waiting, budget.waiting = budget.waiting, {}
        for ticket, waiter in waiting.items():
            lease = self.take(waiter.deployment_id, now) if requests else None
            if lease is not None:
                del self._tickets[ticket]
                waiter.lease_ready(lease)
            elif requests or scope.version or not retry_after:
                # Its lease went to another, or only its version's provisioned concurrency has used up its rate.
                self._deployment(waiter.deployment_id).waiting[ticket] = waiter
                self.out.append(Acquire(ticket, waiter, on_demand=bool(scope.version)))
            else:
                del self._tickets[ticket]
                waiter.lease_refused(_RATE_REASONS[bool(scope.function_name)], retry_after)

    def permissions_recalled(self, scope: Scope, round: int) -> None:
        """Another caller needs them."""
        self.out.append(GiveBack(scope, self.budget(scope).take_all(), round))

    def revoked(self, lease_id: int) -> None:
        """The scheduler voids a lease. An invocation that runs on it is told by its worker, not by this."""
        lease = self.leases.pop(lease_id, None)
        if lease is not None:
            lease.void = True
            self._given_up(lease)

    def lost(self, usable_until: float) -> None:
        """The stream broke: leases may be used until then, and what was asked for is asked again after `joined`."""
        self.connected = False
        self.usable_until = usable_until
        self.out.clear()

    def joined(self) -> list[Lease]:
        """The stream is up. Answers what is held, for the hello; `out` has what is wanted."""
        self.connected = True
        for deployment in self._unasked.values():
            deployment.unasked.clear()
        self._unasked.clear()
        for budget in self._budgets.values():
            # What an earlier scheduler gave is its successor's to give anew.
            budget.left, budget.asked = 0, False
            for ticket, waiter in budget.waiting.items():
                self._deployment(waiter.deployment_id).waiting[ticket] = waiter
            budget.waiting = {}
        self.out[:] = [Acquire(ticket, waiter) for ticket, waiter in self._tickets.items()]
        return list(self.leases.values())

    def tick(self, now: float) -> None:
        """Give back what has idled too long; drop everything once a lost stream's leases have run out."""
        self._no_hold = {scope: until for scope, until in self._no_hold.items() if until > now}
        if not self.connected and now >= self.usable_until:
            for lease in list(self.leases.values()):
                self.revoked(lease.id)
            return
        for deployment_id, deployment in list(self._deployments.items()):
            while deployment.idle and deployment.idle[0].idle_until <= now and self.connected:
                self._release(deployment.idle[0], reusable=True)
            if not deployment.held and not deployment.waiting:
                del self._deployments[deployment_id]
        if self.connected:
            for scope, budget in self._budgets.items():
                unused = budget.take_unused(now)
                if unused:
                    self.out.append(GiveBack(scope, unused, 0))
            if now >= self._reported_at + self._report_seconds:
                self._reported_at = now
                uses = ((scope, budget.use.take(now)) for scope, budget in self._budgets.items() if budget.use)
                self.out.extend(Report(scope, use) for scope, use in uses if use is not None)

    def waiters(self) -> Iterable[Waiter]:
        """Everything that waits."""
        return list(self._tickets.values())

    def _pass_on(self, lease: Lease, now: float) -> None:
        deployment = self._deployment(lease.deployment_id)
        usable = self.connected or now < self.usable_until
        if lease.retiring and self.connected:
            self._release(lease, reusable=True)
        elif deployment.waiting and usable and self._permit(lease.budget, now):
            ticket = next(iter(deployment.waiting))
            if self.connected and ticket not in deployment.unasked:
                self.out.append(Cancel(ticket))
                deployment.in_vain += 1
            waiter = self._forget(ticket)
            assert waiter is not None
            waiter.lease_ready(lease)
        elif self.connected and (lease.spillover or (self._no_hold and self._held_off(lease, now))):
            # The next invocation is to have provisioned concurrency again, as soon as any is free anywhere.
            self._release(lease, reusable=True)
        else:
            lease.idle_until = now + self._hold
            deployment.idle.append(lease)

    def _held_off(self, lease: Lease, now: float) -> bool:
        scopes = ((None, None), (lease.tenant, None), (lease.tenant, lease.function_name))
        return any(self._no_hold.get(scope, 0.0) > now for scope in scopes)

    def _release(self, lease: Lease, *, reusable: bool) -> None:
        del self.leases[lease.id]
        self._given_up(lease)
        if self.connected:
            self.out.append(Release(lease.id, reusable))

    def _given_up(self, lease: Lease) -> None:
        deployment = self._deployments[lease.deployment_id]
        deployment.held -= 1
        if lease in deployment.idle:
            deployment.idle.remove(lease)

    def _forget(self, ticket: int) -> Waiter | None:
        waiter = self._tickets.pop(ticket, None)
        if waiter is not None:
            deployment = self._deployments.get(waiter.deployment_id)
            if deployment is None or deployment.waiting.pop(ticket, None) is None:
                for budget in self._budgets.values():
                    budget.waiting.pop(ticket, None)
            elif deployment.unasked.pop(ticket, None) is not None and not deployment.unasked:
                del self._unasked[waiter.deployment_id]
        return waiter

    def _deployment(self, deployment_id: str) -> _Deployment:
        deployment = self._deployments.get(deployment_id)
        if deployment is None:
            deployment = self._deployments[deployment_id] = _Deployment()
        return deployment


# Why a request is refused that no permission is left for: of the unreserved pool, of reserved concurrency.
_RATE_REASONS = ("FunctionInvocationRateLimitExceeded", "ReservedFunctionInvocationRateLimitExceeded")
