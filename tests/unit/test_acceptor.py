"""What is answered to events while the store is slow: accepted only what it has acknowledged, and nobody waits for long."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from lambent.domain.errors import AwsError
from lambent.domain.names import Tenant
from lambent.infra.clock import SystemClock
from lambent.infra.queue.memory_queue import MemoryQueue
from lambent.infra.queue.port import NO_TERMS, Item, Terms
from lambent.infra.telemetry import Telemetry
from services.frontend.events import EventAcceptor
from tests.records import ONE


class Slow(MemoryQueue):
    """Acknowledges when the test lets it."""

    def __init__(self) -> None:
        super().__init__(SystemClock(), "p", dead_seconds=1e9, dead_items=10)
        self.gate = asyncio.Event()
        self.begun = asyncio.Event()
        self.batches: list[list[str]] = []

    async def append(
        self, tenant: Tenant, items: Sequence[Item], now: float, terms: Mapping[str, Terms] = NO_TERMS
    ) -> list[str]:
        self.batches.append([item.id for item in items])
        self.begun.set()
        await self.gate.wait()
        return await super().append(tenant, items, now, terms)


def acceptor(queue: Slow, seconds: float) -> EventAcceptor:
    telemetry = Telemetry("test", otlp_endpoint="", prometheus=False, instance="t")
    return EventAcceptor(queue, telemetry, seconds, 300.0)


async def test_events_that_come_together_go_together_and_each_is_answered_its_id() -> None:
    queue = Slow()
    queue.gate.set()
    accepting = acceptor(queue, 5.0)
    calls = [accepting.accept(ONE, "f", None, f"e{number}", "", b"{}") for number in range(3)]
    assert await asyncio.gather(*calls) == ["e0", "e1", "e2"]
    assert queue.batches == [["e0", "e1", "e2"]]
    await accepting.close()


async def test_a_store_that_does_not_answer_is_told_as_unavailable_to_all_who_wait() -> None:
    queue = Slow()
    accepting = acceptor(queue, 0.1)
    first = asyncio.ensure_future(accepting.accept(ONE, "f", None, "first", "", b"{}"))
    await queue.begun.wait()
    behind = asyncio.ensure_future(accepting.accept(ONE, "f", None, "behind", "", b"{}"))
    for waiting in (first, behind):
        with pytest.raises(AwsError) as caught:
            await waiting
        assert (caught.value.name, caught.value.reason) == ("ServiceUnavailableException", "StoreUnavailable")
    assert queue.batches == [["first"]], "what has waited for too long is not sent to the store any more"
    queue.gate.set()
    assert await accepting.accept(ONE, "f", None, "later", "", b"{}") == "later"
    assert [sum(depth.counts.values()) for depth in await queue.depths(ONE)] == [1]
    await accepting.close()
