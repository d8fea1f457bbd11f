"""Application Auto Scaling: when a target tracking policy or a scheduled action moves provisioned concurrency.

Pure: what tenants have set, what callers report and the time go in, orders come out, each with its cause. An order is
carried out by a caller, which has the store; one that failed, or that nobody answered, is decided anew. The windows of
the alarms are this scheduler's own memory: a new leader begins them anew and needs three minutes to scale out.
Source: https://docs.aws.amazon.com/autoscaling/application/userguide/application-auto-scaling-target-tracking.html and
https://docs.aws.amazon.com/lambda/latest/dg/provisioned-concurrency.html
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from lambent.domain.clock import Ids
from lambent.domain.names import Tenant
from lambent.domain.scaling import Policy, Resource, Target, alarm_names, next_due
from services.scheduler.core.reasons import Reason
from services.scheduler.core.utilization import Point, Use, Window, point

# Minutes in a row that the alarms look at.
OUT_MINUTES, IN_MINUTES = 3, 15
# The alarm that scales in rings below this share of the target value.
IN_SHARE = 0.9
# Share of the capacity by which one step scales in, one execution at least. AWS says only that it is gradual.
IN_STEP = 0.1
# How long a caller may take to carry an order out before it is decided anew.
ORDER_SECONDS = 30.0

_NOT_SCALED = {
    Reason.AT_MAXIMUM: "AlreadyAtMaxCapacity",
    Reason.AT_MINIMUM: "AlreadyAtMinCapacity",
    Reason.AT_DESIRED: "AlreadyAtDesiredCapacity",
}


class Key(NamedTuple):
    """A scalable target of a tenant."""

    tenant: Tenant
    resource: Resource


@dataclass(frozen=True, slots=True)
class Provisioned:
    """How the provisioned concurrency of a resource stands."""

    requested: int
    allocated: int
    versions: frozenset[str]


@dataclass(frozen=True, slots=True)
class SetCapacity:
    """Provision so many executions."""

    id: str
    key: Key
    reason: Reason
    cause: str
    capacity: int


@dataclass(frozen=True, slots=True)
class RunAction:
    """A scheduled action is due."""

    id: str
    key: Key
    reason: Reason
    cause: str
    name: str
    due: int  # epoch seconds


@dataclass(frozen=True, slots=True)
class NoteNotScaled:
    """An alarm rang, and nothing can be done about it."""

    id: str
    key: Key
    reason: Reason
    cause: str
    code: str  # AWS's


Order = SetCapacity | RunAction | NoteNotScaled


@dataclass(frozen=True, slots=True)
class Wish:
    """What one policy wants."""

    policy: Policy
    capacity: int
    before: int  # capacity when it was wished
    out: bool  # its alarm of high use rings; else that of low use


@dataclass(frozen=True, slots=True)
class Cooldown:
    """After a change of capacity."""

    began: float = -math.inf  # epoch seconds
    seconds: int = 0
    before: int = 0  # capacity before the change

    def runs(self, now: float) -> bool:
        """Whether it is not over."""
        return now < self.began + self.seconds


@dataclass(frozen=True, slots=True)
class Pending:
    """A change of capacity that was ordered and not answered."""

    order: SetCapacity
    since: float  # epoch seconds
    wish: Wish


@dataclass(slots=True)
class Tracked:
    """A scalable target, and what has come of it."""

    key: Key
    target: Target
    window: Window = field(default_factory=Window)
    out: Cooldown = field(default_factory=Cooldown)
    into: Cooldown = field(default_factory=Cooldown)
    pending: Pending | None = None
    noted: tuple[str, Reason] | None = None  # policy and reason of the last NoteNotScaled, until something else happens
    # By action: when it is due next, epoch seconds; None: never again.
    dues: dict[str, int | None] = field(default_factory=dict)
    running: dict[str, tuple[RunAction, float]] = field(default_factory=dict)  # by action, with when it was ordered

    def change(self, target: Target) -> None:
        """It was registered anew, or something of it was changed."""
        before, self.target, self.noted = self.target, target, None
        for name in [name for name in self.dues if name not in target.actions]:
            del self.dues[name]
            self.running.pop(name, None)
        for name, action in target.actions.items():
            if name not in self.dues or action != before.actions.get(name):
                ordered = self.running.pop(name, None)
                # What was ordered has happened if that is the change.
                since = action.since if ordered is None else max(action.since, ordered[0].due)
                self.dues[name] = next_due(action, since)


class Autoscaling:
    """All scalable targets of all tenants."""

    def __init__(self, ids: Ids, period: float, now: float) -> None:
        """`period`: seconds of what is called a minute here. `now`: epoch seconds, as everywhere here."""
        self._ids = ids
        self._period = period
        self._minute = int(now // period)
        self._whole = False  # the running minute was seen from its beginning
        self._revisions: dict[Tenant, int] = {}
        self._tracked: dict[Key, Tracked] = {}
        # By tenant, function and version, then by caller.
        self._uses: dict[tuple[Tenant, str, str], dict[str, Use]] = {}

    def told(self, tenant: Tenant, revision: int, targets: Mapping[Resource, Target]) -> None:
        """All that a tenant has set; what is older than what is known is passed over."""
        if revision <= self._revisions.get(tenant, 0):
            return
        self._revisions[tenant] = revision
        keys = {Key(tenant, resource): target for resource, target in targets.items()}
        for key in [key for key in self._tracked if key.tenant == tenant and key not in keys]:
            del self._tracked[key]
        for key, target in keys.items():
            tracked = self._tracked.get(key)
            if tracked is None:
                tracked = self._tracked[key] = Tracked(key, target)
            tracked.change(target)

    def used(self, tenant: Tenant, function_name: str, version: str, caller_id: str, use: Use) -> None:
        """A caller's report."""
        self._uses.setdefault((tenant, function_name, version), {}).setdefault(caller_id, Use()).add(use)

    def ended(self, order_id: str, *, done: bool, now: float) -> None:
        """An order was carried out, or could not be. One of a scheduled action is settled by the settings that follow,
        or given again after a while."""
        for tracked in self._tracked.values():
            pending = tracked.pending
            if pending is not None and pending.order.id == order_id:
                tracked.pending = None
                if done:
                    _cool(tracked, pending.wish, now)
                return

    def decide(self, now: float, provisioned: Callable[[Key], Provisioned | None]) -> list[Order]:
        """What is to be done now. To be called at `next_at`, and may be at any time."""
        orders: list[Order] = []
        for tracked in self._tracked.values():
            if tracked.pending is not None and now >= tracked.pending.since + ORDER_SECONDS:
                tracked.pending = None
            orders += self._due_actions(tracked, now)
        minute = int(now // self._period)
        if minute == self._minute:
            return orders
        for tracked in self._tracked.values():
            found = provisioned(tracked.key)
            if self._whole and minute == self._minute + 1:
                tracked.window.points.append(None if found is None else self._point(tracked.key, found))
            else:
                # A minute that was not seen whole, or a clock that was set: nothing is known of what lies between.
                tracked.window.points.append(None)
            if found is not None:
                orders += self._track(tracked, found, now)
        self._uses.clear()
        self._minute, self._whole = minute, True
        return orders

    def next_at(self, now: float) -> float:
        """When `decide` has something to do, epoch seconds."""
        at = (self._minute + 1) * self._period
        if now < self._minute * self._period:
            at = now  # the clock was set back
        for tracked in self._tracked.values():
            for name, due in tracked.dues.items():
                if due is not None and name not in tracked.running:
                    at = min(at, due)
        return max(at, now)

    # Scheduled actions

    def _due_actions(self, tracked: Tracked, now: float) -> list[Order]:
        """The actions that are due, the earliest first. Of times that were missed only the last one counts."""
        orders: list[RunAction] = []
        for order, ordered_at in tracked.running.values():
            if now >= ordered_at + ORDER_SECONDS:
                # Nobody did it: again, unless a later time has come meanwhile.
                orders.append(order)
        for name, due in tracked.dues.items():
            if due is None or due > now:
                continue
            action, last = tracked.target.actions[name], due
            while due is not None and due <= now:
                last, due = due, next_due(action, due)
            tracked.dues[name] = due
            orders = [order for order in orders if order.name != name]
            if not tracked.target.suspended.scheduled:
                cause = f"scheduled action name {name} was triggered"
                orders.append(RunAction(self._ids.uuid(), tracked.key, Reason.SCHEDULED, cause, name, last))
        orders.sort(key=lambda order: (order.due, order.name))
        tracked.running |= {order.name: (order, now) for order in orders}
        return list(orders)

    # Target tracking

    def _point(self, key: Key, provisioned: Provisioned) -> Point | None:
        names = ((key.tenant, key.resource.function_name, version) for version in sorted(provisioned.versions))
        uses = (use for name in names for use in self._uses.get(name, {}).values())
        return point(uses, provisioned.allocated, self._period)

    def _track(self, tracked: Tracked, provisioned: Provisioned, now: float) -> list[Order]:
        if tracked.pending is not None:
            return []
        wish = choose(tracked, provisioned.requested, now)
        if wish is None:
            tracked.noted = None
            return []
        current, target = provisioned.requested, tracked.target
        capacity = target.within(wish.capacity)
        high, low = (*alarm_names(tracked.key.resource, wish.policy), "")[:2]
        cause = f"monitor alarm {high if wish.out else low} in state ALARM triggered policy {wish.policy.name}"
        if (capacity > current) if wish.out else (capacity < current):
            reason = Reason.SCALED_OUT if wish.out else Reason.SCALED_IN
            order = SetCapacity(self._ids.uuid(), tracked.key, reason, cause, capacity)
            tracked.pending, tracked.noted = Pending(order, now, wish), None
            return [order]
        reason = _why_not(wish, current, target)
        if tracked.noted == (wish.policy.name, reason):
            return []
        tracked.noted = (wish.policy.name, reason)
        return [NoteNotScaled(self._ids.uuid(), tracked.key, reason, cause, _NOT_SCALED[reason])]


def choose(tracked: Tracked, current: int, now: float) -> Wish | None:
    """What the policies of a target want together: out if any does, by the most; in only if all that may do, by the
    least. None: nothing, or it may not be done now."""
    target, window = tracked.target, tracked.window
    outs: list[Wish] = []
    ins: list[Wish] = []
    silent = False  # a policy that could scale in does not want to
    for policy in target.policies.values():
        wish = _wish(policy, window, tracked, current, now)
        if wish is not None:
            (outs if wish.out else ins).append(wish)
        elif not policy.tracking.disable_scale_in:
            silent = True
    if outs:
        # It ends the other cooldown, whether or not it may act itself.
        tracked.into = Cooldown()
        wish = max(outs, key=lambda each: each.capacity)
        if target.suspended.dynamic_out or (tracked.out.runs(now) and wish.capacity <= current):
            return None
        return wish
    if not ins or silent or target.suspended.dynamic_in or tracked.into.runs(now) or tracked.out.runs(now):
        return None
    return max(ins, key=lambda each: each.capacity)


def _wish(policy: Policy, window: Window, tracked: Tracked, current: int, now: float) -> Wish | None:
    tracking = policy.tracking
    recent = _values(tracking.statistic, window.last(OUT_MINUTES))
    if recent and all(value > tracking.target_value for value in recent):
        # What a change has added within its cooldown counts as a part of what the next one wants.
        base = min(tracked.out.before, current) if tracked.out.runs(now) else current
        wanted = math.ceil(_round(base * recent[-1] / tracking.target_value))
        return Wish(policy, wanted, current, out=True)
    long = _values(tracking.statistic, window.last(IN_MINUTES))
    if tracking.disable_scale_in or not long or any(v >= IN_SHARE * tracking.target_value for v in long):
        return None
    needed = math.ceil(_round(current * max(long) / tracking.target_value))
    return Wish(policy, max(needed, current - max(1, int(current * IN_STEP))), current, out=False)


def _values(statistic: str, points: Iterable[Point] | None) -> list[float]:
    return [each.maximum if statistic == "Maximum" else each.average for each in points or ()]


def _round(value: float) -> float:
    """Without what binary fractions add: 7 x 0.7 / 0.7 is not to be 8."""
    return round(value, 9)


def _why_not(wish: Wish, current: int, target: Target) -> Reason:
    if wish.out and current >= target.maximum:
        return Reason.AT_MAXIMUM
    if not wish.out and current <= target.minimum:
        return Reason.AT_MINIMUM
    return Reason.AT_DESIRED


def _cool(tracked: Tracked, wish: Wish, now: float) -> None:
    tracking = wish.policy.tracking
    if wish.out:
        tracked.out = Cooldown(now, tracking.scale_out_cooldown or 0, wish.before)
    else:
        tracked.into = Cooldown(now, tracking.scale_in_cooldown or 0, wish.before)
