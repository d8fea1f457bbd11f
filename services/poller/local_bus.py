"""The built-in event bus: destinations that name this cluster's own `default` come to the targets of its rules."""

from __future__ import annotations

import uuid
from typing import Any

from lambent.domain import rules
from lambent.domain.async_events import Condition
from lambent.domain.destinations import Destination, bus_entry
from lambent.domain.names import Tenant
from lambent.domain.rule_inputs import Event
from lambent.domain.rules import Rule
from lambent.infra.due.port import DueStore
from lambent.infra.queue.records import Delivery
from lambent.infra.rule_targets import RuleTargets
from services.poller.sending import BuiltIn


class LocalBus:
    """A `BuiltIn` that tells rules too."""

    def __init__(self, kept: BuiltIn, store: DueStore[Rule], targets: RuleTargets) -> None:
        """`kept`: where everything is kept, what comes to rules included."""
        self._kept = kept
        self._store = store
        self._targets = targets

    async def keep(self, tenant: Tenant, destination: Destination, delivery: Delivery, body: bytes) -> None:
        if destination.arn == rules.bus_arn(tenant):
            event = _event(tenant, destination, delivery, body)
            await self._targets.tell(rules.matching(await self._store.list(tenant), event), once=True)
        await self._kept.keep(tenant, destination, delivery, body)


def _event(tenant: Tenant, destination: Destination, delivery: Delivery, body: bytes) -> Event:
    """The same whenever the delivery is tried."""
    entry: dict[str, Any] = bus_entry(body, destination.arn, delivery.function_arn, Condition(delivery.condition))
    return Event(
        id=str(uuid.uuid5(uuid.NAMESPACE_URL, f"{delivery.request_id}:{delivery.kind}")),
        source=entry["Source"],
        detail_type=entry["DetailType"],
        account=tenant.account,
        region=tenant.region,
        time=delivery.since,
        resources=tuple(entry["Resources"]),
        detail=entry["Detail"],
        ingested=delivery.since,
        trace=delivery.trace,
    )
