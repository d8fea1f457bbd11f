"""Accepts asynchronous events: what was answered 202 is in the queue, acknowledged by the store."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from lambent.domain.errors import AwsError
from lambent.domain.event_options import EventOptions
from lambent.domain.names import Tenant
from lambent.infra.coalescing import Coalescer
from lambent.infra.queue.port import EventQueue, Item, Terms, Token
from lambent.infra.queue.records import Event, encode
from lambent.infra.tasks import TaskOwner, every
from lambent.infra.telemetry import Telemetry, by_function

# How often the clock is set anew.
SYNCHRONIZE_SECONDS = 60.0
AS_ON_AWS = EventOptions()


class _Asked(NamedTuple):
    """An event that is to be appended."""

    item: Item
    terms: Terms | None
    at: float  # since when, by the queue's time


class EventAcceptor:
    """Appends events; those that come together go together."""

    def __init__(self, queue: EventQueue, telemetry: Telemetry, seconds: float, dedup_seconds: float) -> None:
        """`seconds`: how long an event may wait for the store. `dedup_seconds`: how long a token counts."""
        self._queue = queue
        self._seconds = seconds
        self._dedup_seconds = dedup_seconds
        self._appends: Coalescer[Tenant, _Asked, str | None] = Coalescer(
            "accept", self._append, lambda asked: len(asked.item.value)
        )
        self._tasks = TaskOwner("events")
        self._received: Counter[tuple[Tenant, str]] = Counter()
        telemetry.observe("aws.lambda.asynceventsreceived", lambda: by_function(self._received))

    async def start(self) -> None:
        """Go by the store's clock from now on. Raises ServiceUnavailableException."""
        await self._queue.synchronize()
        put_off = "the store's clock cannot be read"
        self._tasks.start("clock", every(SYNCHRONIZE_SECONDS, self._queue.synchronize, put_off))

    def now(self) -> float:
        """The time that events go by, epoch seconds."""
        return self._queue.now()

    async def accept(
        self, tenant: Tenant, name: str, qualifier: str | None, request_id: str, trace: str, payload: bytes,
        options: EventOptions = AS_ON_AWS, tenant_id: str | None = None,
    ) -> str:  # fmt: skip
        """Queue one event; answers its request id, or that of the event which its token stands for. `tenant_id`: whom
        it is for, of a function with tenant isolation.

        Raises ServiceUnavailableException: then whether it is queued is not known.
        """
        now = self._queue.now()
        event = Event(now, qualifier, trace, options.not_before, tenant_id)
        item = Item(name, request_id, encode(event, payload))
        accepted = await self._appends.submit(tenant, _Asked(item, self._terms(options, tenant_id, now), now))
        if accepted is None:
            raise _unacknowledged()
        if accepted == request_id:
            self._received[tenant, name] += 1
        return accepted

    def _terms(self, options: EventOptions, tenant_id: str | None, now: float) -> Terms | None:
        if options is AS_ON_AWS:
            return None
        text, token = options.dedup_token, None
        if text is not None:
            # A tenant's own: no token has a space, with which what follows the tenant id begins.
            token = Token(text if tenant_id is None else f"{tenant_id} {text}", now + self._dedup_seconds)
        return Terms(options.not_before, token)

    async def _append(self, tenant: Tenant, asked: Sequence[_Asked]) -> Sequence[str | None]:
        """Append what has not waited for too long behind others; None for what has."""
        now = self._queue.now()
        latest = now - self._seconds / 2
        timely = [each for each in asked if each.at >= latest]
        if not timely:
            return [None] * len(asked)
        terms = {each.item.id: each.terms for each in timely if each.terms is not None}
        try:
            # One limit for all: half of the time to wait in, and what is left of it, half at the least, for the store.
            async with asyncio.timeout(self._seconds - (now - timely[0].at)):
                accepted = iter(await self._queue.append(tenant, [each.item for each in timely], now, terms))
        except TimeoutError:
            raise _unacknowledged() from None
        return [next(accepted) if each.at >= latest else None for each in asked]

    async def close(self) -> None:
        """Give up what is under way; nobody waits for it any more."""
        await self._tasks.close()
        await self._appends.close()


def _unacknowledged() -> AwsError:
    return AwsError(
        "ServiceUnavailableException",
        "The store did not acknowledge the event in time; try again shortly.",
        reason="StoreUnavailable",
    )
