"""What follows from an event's end: items that tell destinations and dead-letter queues, queued in the same step."""

from __future__ import annotations

from lambent.domain import destinations
from lambent.domain.async_events import Condition
from lambent.domain.clock import Ids
from lambent.domain.destinations import Destination, Ended
from lambent.infra.connections import Connections
from lambent.infra.functions.directory import Known
from lambent.infra.queue.port import Item
from lambent.infra.queue.records import DELIVERIES, Delivery, Event, encode


class Outbox:
    """Makes the items."""

    def __init__(self, connections: Connections, ids: Ids) -> None:
        """`ids`: of events for functions that are told."""
        self._connections = connections
        self._ids = ids

    def of(self, ended: Ended, known: Known, trace: str) -> tuple[Item, ...]:
        """Who is told of an event that has ended. `trace`: the header of its last attempt, or that it came with."""
        config = known.event_config
        items = []
        if config is None:
            told, kind = None, ""
        elif ended.condition is Condition.SUCCESS:
            told, kind = config.on_success, "OnSuccess"
        else:
            told, kind = config.on_failure, "OnFailure"
        target = None if told is None else destinations.parse(told, destinations.ON_FAILURE)
        if target is not None:
            items.append(self._record(ended, target, kind, trace))
        # The versions of an alias agree in their dead-letter queue.
        letters = known.configurations[0].dead_letter_target if known.configurations else None
        if ended.condition is not Condition.SUCCESS and letters is not None:
            attributes = dict(destinations.dead_letter_attributes(ended))
            items.append(_delivery(ended, letters, "DeadLetter", ended.payload, attributes, trace))
        return tuple(items)

    def _record(self, ended: Ended, target: Destination, kind: str, trace: str) -> Item:
        record = destinations.record(ended)
        if target.service == "lambda" and self._connections.find(ended.tenant, target) is None:
            # A function of this cluster is told by an event of its own.
            name, qualifier = target.function
            return Item(name, self._ids.uuid(), encode(Event(ended.now, qualifier, trace), record))
        return _delivery(ended, target.arn, kind, record, {}, trace)


def _delivery(
    ended: Ended, target: str, kind: str, body: bytes, attributes: dict[str, tuple[str, str]], trace: str
) -> Item:
    delivery = Delivery(
        kind, ended.name, ended.function_arn, ended.request_id, ended.condition, ended.now, attributes, trace=trace
    )
    return Item(f"{DELIVERIES}{target}", f"{ended.request_id}:{kind}", encode(delivery, body))
