"""Every AttachedFunctions answers alike: the one in Redis and its twin in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from lambent.infra.functions.attached import AttachedFunctions, MemoryAttachedFunctions, RedisAttachedFunctions
from lambent.infra.redis_client import connect
from tests.records import ONE, OTHER


@pytest.fixture(params=["memory", "redis", "cluster"])
async def attached(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[AttachedFunctions]:
    if request.param == "memory":
        yield MemoryAttachedFunctions()
        return
    client = connect(redis_url)
    yield RedisAttachedFunctions(client)
    await client.aclose()


async def test_those_are_found_that_were_not_used_since(attached: AttachedFunctions) -> None:
    await attached.add(ONE, "f", 100.5)
    await attached.add(OTHER, "f", 200.0)
    assert await attached.unused_since(100.0) == []
    assert await attached.unused_since(100.5) == [(ONE, "f")]
    assert await attached.unused_since(300.0) == [(ONE, "f"), (OTHER, "f")]


async def test_a_use_counts_and_no_earlier_one_after_it(attached: AttachedFunctions) -> None:
    await attached.add(ONE, "f", 100.0)
    await attached.used({(ONE, "f"): 150.0})
    await attached.used({(ONE, "f"): 120.0})
    await attached.add(ONE, "f", 110.0)
    assert await attached.unused_since(149.0) == []
    assert await attached.unused_since(150.0) == [(ONE, "f")]


async def test_of_what_is_not_attached_nothing_is_kept(attached: AttachedFunctions) -> None:
    await attached.used({(ONE, "f"): 100.0})
    await attached.used({})
    await attached.add(ONE, "g", 100.0)
    await attached.remove(ONE, "g")
    await attached.remove(ONE, "never")
    assert await attached.unused_since(1000.0) == []
