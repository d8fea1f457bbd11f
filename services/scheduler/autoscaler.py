"""Application Auto Scaling's shell: gives its core the time and what callers tell, and its orders to a caller that can
carry them out. It knows only while this scheduler leads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from lambent.domain.clock import Clock, Ids
from lambent.domain.names import Tenant
from lambent.domain.scaling import Resource, Target
from lambent.internal.v1 import lease_service_pb2 as leases
from services.scheduler.core.autoscaling import (
    Autoscaling,
    Key,
    NoteNotScaled,
    Order,
    Provisioned,
    RunAction,
    SetCapacity,
)
from services.scheduler.core.events import RateScope
from services.scheduler.core.utilization import Use
from services.scheduler.shell import NotLeading, Shell

_log = logging.getLogger(__name__)

# Longest time between two looks at the clock, which may be set meanwhile.
LONGEST_SLEEP = 15.0


class Autoscaler:
    """The core, its timer, and who carries orders out."""

    def __init__(self, shell: Shell, clock: Clock, ids: Ids, period: float) -> None:
        """`period`: of the alarms, seconds."""
        self._shell = shell
        self._clock = clock
        self._ids = ids
        self._period = period
        self._core: Autoscaling | None = None  # None: another scheduler leads
        self._carriers: dict[str, None] = {}  # callers that can carry orders out, in the order in which they came
        self._timer: asyncio.TimerHandle | None = None

    def lead(self) -> None:
        """Begin, knowing nothing."""
        self._core = Autoscaling(self._ids, self._period, self._clock.epoch())
        self._carriers.clear()
        self._look()

    def step_down(self) -> None:
        """Forget everything."""
        self._core = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def joined(self, caller_id: str) -> None:
        """A caller came that can carry orders out."""
        self._carriers[caller_id] = None

    def told(self, tenant: Tenant, revision: int, targets: Mapping[Resource, Target]) -> None:
        """A tenant's settings. What is due by them is done at once."""
        if self._core is not None:
            self._core.told(tenant, revision, targets)
            self._look()

    def used(self, scope: RateScope, caller_id: str, use: Use) -> None:
        """How a caller used provisioned concurrency."""
        if self._core is not None:
            self._core.used(scope.tenant, scope.function_name, scope.version, caller_id, use)

    def ended(self, order_id: str, *, done: bool) -> None:
        """An order was carried out, or could not be."""
        if self._core is not None:
            self._core.ended(order_id, done=done, now=self._clock.epoch())

    def _look(self) -> None:
        """Decide, and look again when there will be something to decide."""
        core = self._core
        if core is None:
            return
        try:
            for order in core.decide(self._clock.epoch(), self._provisioned):
                self._give(order)
        except NotLeading:
            return
        if self._timer is not None:
            self._timer.cancel()
        now = self._clock.epoch()
        delay = min(max(core.next_at(now) - now, 0.0), LONGEST_SLEEP)
        self._timer = asyncio.get_running_loop().call_later(delay, self._look)

    def _provisioned(self, key: Key) -> Provisioned | None:
        provision = self._shell.core.provisions.get((key.tenant, *key.resource))
        if provision is None:
            return None
        versions = frozenset(pool.version for pool in provision.pools)
        return Provisioned(provision.requested, provision.status({}).allocated, versions)

    def _give(self, order: Order) -> None:
        """An order goes to one caller; where there is none it is given again later."""
        tenant, resource = order.key
        message = leases.ScalingOrder(
            order_id=order.id,
            account=tenant.account,
            region=tenant.region,
            function_name=resource.function_name,
            qualifier=resource.qualifier,
            cause=order.cause,
        )
        match order:
            case SetCapacity():
                message.capacity = order.capacity
            case RunAction():
                message.action.name, message.action.due = order.name, order.due
            case NoteNotScaled():
                message.not_scaled = order.code
        self._shell.decisions[order.reason] += 1
        self._carriers = {each: None for each in self._carriers if self._shell.hears(each)}
        carrier = next(iter(self._carriers), None)
        _log.info(
            "scaling",
            extra={
                "tenant": tenant.tag, "resource": resource.id, "reason": str(order.reason), "cause": order.cause,
                "capacity": getattr(order, "capacity", None), "carrier": carrier,
            },
        )  # fmt: skip
        if carrier is not None:
            self._shell.to_caller(carrier, leases.LeaseEvent(scaling_order=message))
