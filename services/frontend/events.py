"""Accepts asynchronous events: what was answered 202 is in the queue, acknowledged by the store."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence

from lambent.domain.errors import AwsError
from lambent.domain.names import Tenant
from lambent.infra.coalescing import Coalescer
from lambent.infra.queue.port import EventQueue, Item
from lambent.infra.queue.records import Event, encode
from lambent.infra.tasks import TaskOwner
from lambent.infra.telemetry import Telemetry, by_function

_log = logging.getLogger(__name__)

# How often the clock is set anew.
SYNCHRONIZE_SECONDS = 60.0


class EventAcceptor:
    """Appends events; those that come together go together."""

    def __init__(self, queue: EventQueue, telemetry: Telemetry, seconds: float) -> None:
        """`seconds`: how long an event may wait for the store."""
        self._queue = queue
        self._seconds = seconds
        self._appends: Coalescer[Tenant, Item, None] = Coalescer("accept", self._append, lambda item: len(item.value))
        self._tasks = TaskOwner("events")
        self._received: Counter[tuple[Tenant, str]] = Counter()
        telemetry.observe("aws.lambda.asynceventsreceived", lambda: by_function(self._received))

    async def start(self) -> None:
        """Go by the store's clock from now on. Raises ServiceUnavailableException."""
        await self._queue.synchronize()
        self._tasks.start("clock", self._keep_time())

    async def _keep_time(self) -> None:
        while True:
            await asyncio.sleep(SYNCHRONIZE_SECONDS)
            try:
                await self._queue.synchronize()
            except AwsError as error:
                _log.debug("the store's clock cannot be read", extra={"reason": error.message})

    async def accept(
        self, tenant: Tenant, name: str, qualifier: str | None, request_id: str, trace: str, payload: bytes
    ) -> None:
        """Queue one event. Raises ServiceUnavailableException: then whether it is queued is not known."""
        event = Event(self._queue.now(), qualifier, trace)
        try:
            async with asyncio.timeout(self._seconds):
                await self._appends.submit(tenant, Item(name, request_id, encode(event, payload)))
        except TimeoutError:
            raise AwsError(
                "ServiceUnavailableException",
                "The store did not acknowledge the event in time; try again shortly.",
                reason="StoreUnavailable",
            ) from None
        self._received[tenant, name] += 1

    async def _append(self, tenant: Tenant, items: Sequence[Item]) -> Sequence[None]:
        await self._queue.append(tenant, items, self._queue.now())
        return [None] * len(items)

    async def close(self) -> None:
        """Give up what is under way; nobody waits for it any more."""
        await self._tasks.close()
        await self._appends.close()
