"""Every EventSourceStore and every ReaderIndex answers alike: the one in Redis and its twin in memory."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from lambent.domain.errors import AwsError
from lambent.domain.event_sources import EventSourceMapping, MappingState
from lambent.domain.names import Tenant
from lambent.domain.stream_windows import Windows
from lambent.infra.event_sources.memory_store import MemoryCheckpoints, MemoryEventSourceStore, MemoryReaderIndex
from lambent.infra.event_sources.port import Checkpoint, Checkpoints, EventSourceStore, ReaderIndex, Taken
from lambent.infra.event_sources.redis_store import RedisCheckpoints, RedisEventSourceStore, RedisReaderIndex
from lambent.infra.redis_client import connect
from tests.records import ONE, OTHER
from tests.unit.http_support import ManualClock

QUEUE = "arn:aws:sqs:us-east-1:000000000001:q"
LONG = 600.0


def mapping(
    uuid: str, source: str = QUEUE, function: str = "f", qualifier: str | None = None, tenant: Tenant = ONE
) -> EventSourceMapping:
    """One with nothing set."""
    return EventSourceMapping(tenant, uuid, source, function, qualifier, MappingState.CREATING, True, 1.5)


@pytest.fixture(params=["memory", "redis", "cluster"])
async def store(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[EventSourceStore]:
    if request.param == "memory":
        yield MemoryEventSourceStore()
        return
    client = connect(redis_url)
    yield RedisEventSourceStore(client)
    await client.aclose()


class Index(NamedTuple):
    readers: ReaderIndex
    clock: ManualClock  # the server's own goes by itself

    async def until(self, check: Callable[[], Awaitable[bool]]) -> None:
        """Ask again until it is so."""
        while not await check():
            self.clock.now += 0.01


@pytest.fixture(params=["memory", "redis", "cluster"])
async def index(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Index]:
    clock = ManualClock()
    if request.param == "memory":
        yield Index(MemoryReaderIndex(clock), clock)
        return
    client = connect(redis_url)
    yield Index(RedisReaderIndex(client), clock)
    await client.aclose()


async def test_a_mapping_is_read_as_it_was(store: EventSourceStore) -> None:
    full = EventSourceMapping(
        ONE, "u1", QUEUE, "f", "live", MappingState.DISABLED, False, 12.345, 500, 30, ('{"body": ["ü"]}', "{}"), True,
        7, True, "OK", {"team": "x"}, 4,
    )  # fmt: skip
    assert await store.get(ONE, "u1") is None
    assert await store.create(full) is None
    assert await store.create(mapping("u2")) is None
    assert await store.get(ONE, "u1") == full
    assert await store.get(ONE, "u2") == mapping("u2")
    assert await store.get(OTHER, "u1") is None
    assert await store.get(ONE, "U1") is None


async def test_lists_are_by_uuid_and_each_tenant_has_its_own(store: EventSourceStore) -> None:
    assert await store.list(ONE) == []
    assert await store.all() == []
    for uuid in ("b", "c", "a"):
        assert await store.create(mapping(uuid, f"{QUEUE}-{uuid}")) is None
    assert await store.create(mapping("a", tenant=OTHER)) is None
    assert [each.uuid for each in await store.list(ONE)] == ["a", "b", "c"]
    assert await store.list(OTHER) == [mapping("a", tenant=OTHER)]
    everybody = await store.all()
    assert [(each.tenant, each.uuid) for each in everybody] == [(ONE, "a"), (ONE, "b"), (ONE, "c"), (OTHER, "a")]


async def test_a_source_and_a_function_are_mapped_once(store: EventSourceStore) -> None:
    assert await store.create(mapping("u1")) is None
    assert await store.create(mapping("u2")) == Taken("u1")
    assert await store.get(ONE, "u2") is None
    for number, other in enumerate(
        (mapping("u", qualifier="live"), mapping("u", qualifier="$LATEST"), mapping("u", function="g"),
         mapping("u", f"{QUEUE}2"), mapping("u", tenant=OTHER))
    ):  # fmt: skip
        assert await store.create(dataclasses.replace(other, uuid=f"o{number}")) is None
    answers = await asyncio.gather(*(store.create(mapping(f"n{n}", function="many")) for n in range(8)))
    assert answers.count(None) == 1
    assert len({each.uuid for each in answers if each is not None}) == 1


async def test_a_change_takes_what_it_was_decided_on(store: EventSourceStore) -> None:
    first = mapping("u1")
    assert await store.change(first, first.next()) is False, "there is no such mapping"
    assert await store.create(first) is None
    second = first.next(state=MappingState.ENABLED, modified=3.5)
    assert await store.change(first, second) is True
    assert await store.get(ONE, "u1") == second
    assert await store.change(first, first.next(batch_size=1)) is False, "it is not any more as it was read"
    assert await store.get(ONE, "u1") == second
    answers = await asyncio.gather(*(store.change(second, second.next(batch_size=n)) for n in range(1, 9)))
    assert sorted(answers, key=bool) == [False] * 7 + [True]
    kept = await store.get(ONE, "u1")
    assert kept is not None
    assert kept.revision == 2


async def test_a_pair_goes_with_its_mapping(store: EventSourceStore) -> None:
    one, two = mapping("u1"), mapping("u2", function="g")
    assert await store.create(one) is None
    assert await store.create(two) is None
    assert await store.change(one, one.next(function="g")) == Taken("u2")
    assert await store.get(ONE, "u1") == one, "a refusal changes nothing"
    moved = one.next(function="h", qualifier="live")
    assert await store.change(one, moved) is True
    assert await store.create(mapping("u3", function="h", qualifier="live")) == Taken("u1")
    assert await store.create(mapping("u3")) is None, "the pair that it had is free"
    assert await store.change(one, None) is False
    assert await store.change(moved, None) is True
    assert await store.get(ONE, "u1") is None
    assert await store.change(moved, None) is False
    assert await store.create(mapping("u4", function="h", qualifier="live")) is None
    assert [each.uuid for each in await store.list(ONE)] == ["u2", "u3", "u4"]


async def test_everybody_who_is_there_is_known(index: Index) -> None:
    readers = index.readers
    assert await readers.announce("b", LONG) == ["b"]
    assert await readers.announce("a", LONG) == ["a", "b"]
    assert await readers.announce("b", LONG) == ["a", "b"]
    await readers.leave("b")
    await readers.leave("nobody")
    assert await readers.announce("c", 0.02) == ["a", "c"]

    async def gone() -> bool:
        return await readers.announce("a", LONG) == ["a"]

    await index.until(gone)


async def test_a_mapping_has_one_reader(index: Index) -> None:
    readers = index.readers
    assert await readers.claim(ONE, "u", "a", LONG)
    assert await readers.claim(ONE, "u", "a", LONG)
    assert not await readers.claim(ONE, "u", "b", LONG)
    assert await readers.claim(ONE, "other", "b", LONG)
    assert await readers.claim(OTHER, "u", "b", LONG)
    await readers.release(ONE, "u", "b")
    await readers.release(ONE, "never", "b")
    assert not await readers.claim(ONE, "u", "b", LONG)
    await readers.release(ONE, "u", "a")
    assert await readers.claim(ONE, "u", "b", LONG)
    assert not await readers.claim(ONE, "u", "a", LONG)


async def test_a_claim_ends_by_itself_and_again_from_the_last_call_on(index: Index) -> None:
    readers = index.readers
    assert await readers.claim(ONE, "u", "a", LONG)
    assert await readers.claim(ONE, "u", "a", 0.02), "for shorter, too"
    await index.until(lambda: readers.claim(ONE, "u", "b", LONG))
    assert not await readers.claim(ONE, "u", "a", LONG)


async def test_a_store_that_is_away_says_so(short_tmp: Path) -> None:
    client = connect(f"unix://{short_tmp}/nobody.sock")
    with pytest.raises(AwsError, match="ServiceUnavailableException"):
        await RedisEventSourceStore(client).get(ONE, "u")
    with pytest.raises(AwsError, match="ServiceUnavailableException"):
        await RedisReaderIndex(client).claim(ONE, "u", "a", LONG)
    await client.aclose()


class Marks(NamedTuple):
    checkpoints: Checkpoints
    readers: ReaderIndex


@pytest.fixture(params=["memory", "redis", "cluster"])
async def marks(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Marks]:
    if request.param == "memory":
        index = MemoryReaderIndex(ManualClock())
        yield Marks(MemoryCheckpoints(index), index)
        return
    client = connect(redis_url)
    yield Marks(RedisCheckpoints(client), RedisReaderIndex(client))
    await client.aclose()


async def test_checkpoints_are_kept_by_shard_until_they_are_forgotten(marks: Marks) -> None:
    kept, index = marks
    assert await kept.load(ONE, "u1") == {}
    assert await index.claim(ONE, "u1", "p", LONG)
    full = {"a": Checkpoint("49", 12.5, newest=True, closed=True), "b": Checkpoint(), "ü/1": Checkpoint("7")}
    full["w"] = Checkpoint("5", windows=Windows(120, 180, '{"ü":[1.5]}', early=True))
    assert await kept.save(ONE, "u1", "p", full)
    assert await kept.load(ONE, "u1") == full
    assert await kept.load(ONE, "u2") == await kept.load(OTHER, "u1") == {}
    assert await kept.save(ONE, "u1", "p", {"a": None, "b": Checkpoint("8"), "none": None, "w": None})
    assert await kept.load(ONE, "u1") == {"b": Checkpoint("8"), "ü/1": Checkpoint("7")}
    await kept.drop(ONE, "u1")
    assert await kept.load(ONE, "u1") == {}


async def test_only_the_reader_of_a_mapping_says_how_far_it_has_come(marks: Marks) -> None:
    kept, index = marks
    assert not await kept.save(ONE, "u1", "p", {"a": Checkpoint("1")})
    assert await index.claim(ONE, "u1", "p", LONG)
    assert await kept.save(ONE, "u1", "p", {"a": Checkpoint("2")})
    await index.release(ONE, "u1", "p")
    assert await index.claim(ONE, "u1", "q", LONG)
    assert not await kept.save(ONE, "u1", "p", {"a": Checkpoint("1"), "b": None})
    assert await kept.load(ONE, "u1") == {"a": Checkpoint("2")}
    assert await kept.save(ONE, "u1", "q", {"a": Checkpoint("3")})
