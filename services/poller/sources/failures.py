"""Tells destinations of a stream's records that are given up: by deliveries, queued and tried as those of events."""

from __future__ import annotations

from dataclasses import dataclass

from lambent.domain import destinations
from lambent.domain.clock import Clock, Ids
from lambent.domain.event_sources import EventSourceMapping, source_of
from lambent.domain.names import function_arn
from lambent.domain.stream_records import GivenUp, failure_key, failure_record
from lambent.infra.queue.port import EventQueue, Item
from lambent.infra.queue.records import DELIVERIES, Delivery, encode
from services.poller.attempts import Attempt
from services.poller.core.stream_batches import Batch


@dataclass(frozen=True, slots=True)
class Dropped:
    """A batch that is tried no more."""

    shard: str
    batch: Batch
    condition: str
    request_id: str  # of the last attempt
    attempt: Attempt | None  # None: there was none
    event: bytes


class Failures:
    """Queues what there is to tell."""

    def __init__(self, queue: EventQueue, clock: Clock, ids: Ids) -> None:
        self._queue = queue
        self._clock = clock
        self._ids = ids

    async def tell(self, mapping: EventSourceMapping, dropped: Dropped) -> None:
        """Queue it, where the mapping names somebody to tell. Raises ServiceUnavailableException."""
        target = mapping.on_failure
        destination = None if target is None else destinations.parse(target, destinations.ON_FAILURE)
        if destination is None:
            return
        now, source, attempt = self._clock.epoch(), source_of(mapping.source_arn), dropped.attempt
        servers = mapping.servers
        given_up = GivenUp(
            request_id=dropped.request_id,
            function_arn=function_arn(mapping.tenant, mapping.function),
            condition=dropped.condition,
            attempts=dropped.batch.failures,
            version=None if attempt is None else attempt.version,
            error=None if attempt is None else attempt.error,
            now=now,
            shard=dropped.shard,
            records=dropped.batch.records,
            stream_arn="" if servers else source.arn,
            service=source.service,
            servers=",".join(servers),
            event_bytes=len(dropped.event),
        )
        # A bucket has room for the records themselves.
        record = failure_record(given_up, dropped.event if destination.service == "s3" else None)
        key = failure_key(mapping.uuid, dropped.shard, now, self._ids.uuid())
        delivery = Delivery(
            "OnFailure", mapping.function, given_up.function_arn, dropped.request_id, dropped.condition, now, {}, key
        )  # fmt: skip
        item = Item(f"{DELIVERIES}{destination.arn}", f"{dropped.request_id}:OnFailure", encode(delivery, record))
        await self._queue.append(mapping.tenant, [item], now)
