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
from lambent.domain.policies import Policy, Statement
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


def policy(revision: str, *sids: str) -> Policy:
    condition = ("StringEquals", "aws:PrincipalOrgID", 'o-"1"')
    return Policy(tuple(Statement(sid, "lambda:GetLayerVersion", "*", (condition,)) for sid in sids), revision)


async def test_a_policy_is_replaced_only_where_it_is_the_one_that_was_read(stores: Stores) -> None:
    store = stores.layers
    first, second = policy("r1", "a"), policy("r2", "a", "b")
    assert not await store.set_policy(LAYER, 1, first, None), "there is no such version"
    for _ in range(2):
        await store.publish(LAYER, CONTENT, 1000)
    assert await store.policy(LAYER, 1) is None
    assert not await store.set_policy(LAYER, 1, first, "r0")
    assert await store.set_policy(LAYER, 1, first, None)
    assert await store.policy(LAYER, 1) == first
    assert [await store.set_policy(LAYER, 1, second, revision) for revision in (None, "r2")] == [False, False]
    assert await store.set_policy(LAYER, 1, second, "r1")
    assert await store.policy(LAYER, 1) == second
    assert await store.policy(LAYER, 2) is None, "each version has its own"
    assert await store.policy(LayerRef(OTHER, "tools"), 1) is None
    assert await store.versions(LAYER) == [LayerVersion(LAYER, number, CONTENT) for number in (2, 1)]
    assert not await store.set_policy(LAYER, 1, None, "r1")
    assert await store.set_policy(LAYER, 1, None, "r2")
    assert await store.policy(LAYER, 1) is None
    assert await store.set_policy(LAYER, 1, None, None)


async def test_of_policies_that_come_at_once_one_is_kept(stores: Stores) -> None:
    store = stores.layers
    await store.publish(LAYER, CONTENT, 1000)
    made = [policy(f"r{number}", "a") for number in range(10)]
    kept = await asyncio.gather(*(store.set_policy(LAYER, 1, each, None) for each in made))
    assert [await store.policy(LAYER, 1)] == [each for each, there in zip(made, kept, strict=True) if there]


async def test_a_policy_goes_with_its_version(stores: Stores) -> None:
    store = stores.layers
    for number in (1, 2):
        await store.publish(LAYER, CONTENT, 1000)
        assert await store.set_policy(LAYER, number, policy("r1", "a"), None)
    for number in (1, 2):
        await store.delete(LayerVersion(LAYER, number, CONTENT))
        assert await store.policy(LAYER, number) is None
        assert not await store.set_policy(LAYER, number, policy("r2", "a"), None)
    assert await store.names(ONE, "", 9) == []


async def test_a_store_that_is_away_says_so(short_tmp: Path) -> None:
    client = connect(f"unix://{short_tmp}/nobody.sock")
    with pytest.raises(AwsError, match="ServiceUnavailableException"):
        await RedisLayerStore(client).get(LAYER, 1)
    await client.aclose()
