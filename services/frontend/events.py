"""Accepts asynchronous events: what was answered 202 is in the queue, acknowledged by the store."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence

from lambent.domain.errors import AwsError
from lambent.domain.event_options import EventOptions
from lambent.domain.names import Tenant
from lambent.infra.coalescing import Coalescer
from lambent.infra.queue.port import EventQueue, Item, Terms, Token
from lambent.infra.queue.records import Event, encode
from lambent.infra.tasks import TaskOwner
from lambent.infra.telemetry import Telemetry, by_function

_log = logging.getLogger(__name__)

# How often the clock is set anew.
SYNCHRONIZE_SECONDS = 60.0
AS_ON_AWS = EventOptions()


class EventAcceptor:
    """Appends events; those that come together go together."""

    def __init__(self, queue: EventQueue, telemetry: Telemetry, seconds: float, dedup_seconds: float) -> None:
        """`seconds`: how long an event may wait for the store. `dedup_seconds`: how long a token counts."""
        self._queue = queue
        self._seconds = seconds
        self._dedup_seconds = dedup_seconds
        self._appends: Coalescer[Tenant, tuple[Item, Terms | None], str] = Coalescer(
            "accept", self._append, lambda asked: len(asked[0].value)
        )
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

    def now(self) -> float:
        """The time that events go by, epoch seconds."""
        return self._queue.now()

    async def accept(
        self, tenant: Tenant, name: str, qualifier: str | None, request_id: str, trace: str, payload: bytes,
        options: EventOptions = AS_ON_AWS,
    ) -> str:  # fmt: skip
        """Queue one event; answers its request id, or that of the event which its token stands for.

        Raises ServiceUnavailableException: then whether it is queued is not known.
        """
        now = self._queue.now()
        event = Event(now, qualifier, trace, options.not_before)
        try:
            async with asyncio.timeout(self._seconds):
                accepted = await self._appends.submit(
                    tenant, (Item(name, request_id, encode(event, payload)), self._terms(options, now))
                )
        except TimeoutError:
            raise AwsError(
                "ServiceUnavailableException",
                "The store did not acknowledge the event in time; try again shortly.",
                reason="StoreUnavailable",
            ) from None
        if accepted == request_id:
            self._received[tenant, name] += 1
        return accepted

    def _terms(self, options: EventOptions, now: float) -> Terms | None:
        if options is AS_ON_AWS:
            return None
        token = None if options.dedup_token is None else Token(options.dedup_token, now + self._dedup_seconds)
        return Terms(options.not_before, token)

    async def _append(self, tenant: Tenant, asked: Sequence[tuple[Item, Terms | None]]) -> Sequence[str]:
        terms = {item.id: each for item, each in asked if each is not None}
        return await self._queue.append(tenant, [item for item, _ in asked], self._queue.now(), terms)

    async def close(self) -> None:
        """Give up what is under way; nobody waits for it any more."""
        await self._tasks.close()
        await self._appends.close()
