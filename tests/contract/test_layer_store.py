"""Every LayerStore answers alike: the one in Redis and its twin in memory, each beside the store of functions."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from lambent.domain.errors import AwsError
from lambent.domain.functions import Code
from lambent.domain.layers import LayerContent, LayerVersion
from lambent.domain.names import LayerRef
from lambent.infra.functions.memory_store import MemoryFunctionStore
from lambent.infra.functions.port import FunctionStore
from lambent.infra.functions.redis_store import RedisFunctionStore
from lambent.infra.redis_client import connect
from services.frontend.layers.memory_store import MemoryLayerStore
from services.frontend.layers.port import LayerStore
from services.frontend.layers.redis_store import RedisLayerStore
from tests.records import ONE, OTHER, record

CONTENT = LayerContent("d", 1.5, Code("ab" * 32, 10, 30), ("python3.11", "python3.12"), ("x86_64",), "MIT")
LAYER = LayerRef(ONE, "tools")


class Stores(NamedTuple):
    layers: LayerStore
    functions: FunctionStore


@pytest.fixture(params=["memory", "redis", "cluster"])
async def stores(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Stores]:
    if request.param == "memory":
        functions = MemoryFunctionStore()
        yield Stores(MemoryLayerStore(functions), functions)
        return
    client = connect(redis_url)
    yield Stores(RedisLayerStore(client), RedisFunctionStore(client, client))
    await client.aclose()


async def test_versions_are_numbered_and_read_as_they_were(stores: Stores) -> None:
    store = stores.layers
    assert await store.get(LAYER, 1) is None
    assert await store.versions(LAYER) == []
    bare = LayerContent("", 2.5, Code("cd" * 32, 1), (), (), None)
    assert [await store.publish(LAYER, each, 1000) for each in (CONTENT, bare)] == [1, 2]
    assert await store.publish(LayerRef(OTHER, "tools"), CONTENT, 1000) == 1
    assert await store.get(LAYER, 1) == LayerVersion(LAYER, 1, CONTENT)
    assert await store.versions(LAYER) == [LayerVersion(LAYER, 2, bare), LayerVersion(LAYER, 1, CONTENT)]
    kept = await store.get(LAYER, 1)
    assert kept is not None
    assert kept.content.code.unzipped == 30


async def test_numbers_are_never_given_twice(stores: Stores) -> None:
    store = stores.layers
    numbers = await asyncio.gather(*(store.publish(LAYER, CONTENT, 1000) for _ in range(10)))
    assert sorted(number or 0 for number in numbers) == list(range(1, 11))
    for version in await store.versions(LAYER):
        await store.delete(version)
    assert await store.versions(LAYER) == []
    assert await store.publish(LAYER, CONTENT, 1000) == 11


async def test_names_are_those_of_layers_with_versions(stores: Stores) -> None:
    store = stores.layers
    for name in ("b", "a", "c-1", "B"):
        await store.publish(LayerRef(ONE, name), CONTENT, 1000)
    await store.publish(LayerRef(OTHER, "z"), CONTENT, 1000)
    await store.publish(LayerRef(ONE, "a"), CONTENT, 1000)
    assert await store.names(ONE, "", 3) == ["B", "a", "b"]
    assert await store.names(ONE, "a", 3) == ["b", "c-1"]
    for version in await store.versions(LayerRef(ONE, "a")):
        assert "a" in await store.names(ONE, "", 9)
        await store.delete(version)
    assert await store.names(ONE, "", 9) == ["B", "b", "c-1"]


async def test_bytes_count_with_those_of_functions(stores: Stores) -> None:
    store, functions = stores
    assert await functions.create(record("f", size=50), "s1", None, 100) is None
    assert await store.publish(LAYER, CONTENT, 60) == 1
    assert await functions.code_bytes(ONE) == 60
    assert await store.publish(LAYER, CONTENT, 69) is None
    assert await functions.create(record("g", size=50), "s1", None, 100) == "code-storage"
    assert await store.publish(LayerRef(OTHER, "tools"), CONTENT, 69) == 1
    assert await store.publish(LAYER, CONTENT, 70) == 2, "a refusal takes no number"
    assert await functions.code_bytes(ONE) == 70
    version = LayerVersion(LAYER, 1, CONTENT)
    await store.delete(version)
    await store.delete(version)
    await store.delete(dataclasses.replace(version, number=9))
    assert await functions.code_bytes(ONE) == 60
    assert await store.get(LAYER, 1) is None


async def test_a_store_that_is_away_says_so(short_tmp: Path) -> None:
    client = connect(f"unix://{short_tmp}/nobody.sock")
    with pytest.raises(AwsError, match="ServiceUnavailableException"):
        await RedisLayerStore(client).get(LAYER, 1)
    await client.aclose()
