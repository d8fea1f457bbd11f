"""Every EventQueue answers alike: the one in Redis and its twin in memory. Time is a parameter, and virtual."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lambent.domain.errors import AwsError
from lambent.infra.clock import SystemClock
from lambent.infra.queue import redis_keys as keys
from lambent.infra.queue.memory_queue import MemoryQueue
from lambent.infra.queue.port import (
    Batch,
    Dead,
    Delayed,
    Depth,
    Done,
    Entry,
    EventQueue,
    Item,
    Place,
    QueueInspector,
    QueueKey,
    Settlement,
    Terms,
    Token,
)
from lambent.infra.queue.redis_inspector import RedisInspector
from lambent.infra.queue.redis_queue import RedisQueue
from lambent.infra.redis_client import connect
from tests.records import ONE, OTHER

F, G = QueueKey(ONE, "f"), QueueKey(ONE, "g")
DEAD_SECONDS, DEAD_ITEMS = 100.0, 3


@pytest.fixture(params=["memory", "redis", "cluster"])
async def queue(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[EventQueue]:
    if request.param == "memory":
        yield MemoryQueue(SystemClock(), "p", dead_seconds=DEAD_SECONDS, dead_items=DEAD_ITEMS)
        return
    client = connect(redis_url)
    yield RedisQueue(client, SystemClock(), "p", dead_seconds=DEAD_SECONDS, dead_items=DEAD_ITEMS)
    await client.aclose()


@dataclass
class Pair:
    """A queue and who looks after it."""

    queue: EventQueue
    inspector: QueueInspector


@pytest.fixture
async def pair(queue: EventQueue, redis_url: str) -> AsyncIterator[Pair]:
    if isinstance(queue, MemoryQueue):
        yield Pair(queue, queue)
        return
    client = connect(redis_url)
    yield Pair(queue, RedisInspector(client))
    await client.aclose()


def items(*ids: str, name: str = "f") -> list[Item]:
    return [Item(name, id_, f"value {id_}".encode()) for id_ in ids]


def ids(batch: Batch) -> list[str]:
    return [each.id for each in batch.items]


async def settle(queue: EventQueue, batch: Batch, verdict: Done | Delayed | Dead, now: float) -> set[str]:
    return set(await queue.settle(F, [Settlement(each.id, each.token, verdict) for each in batch.items], now))


async def test_what_was_queued_is_leased_in_order_and_once(queue: EventQueue) -> None:
    await queue.append(ONE, items("a", "b", "c"), 10.0)
    first = await queue.lease(F, 2, 11.0, 20.0)
    assert ids(first) == ["a", "b"]
    assert [each.value for each in first.items] == [b"value a", b"value b"]
    assert {each.state for each in first.items} == {b""}
    assert first.next_due == 11.0
    second = await queue.lease(F, 2, 11.0, 21.0)
    assert ids(second) == ["c"]
    assert second.next_due == 20.0
    assert second.items[0].token != first.items[0].token
    assert ids(await queue.lease(F, 2, 11.0, 22.0)) == []


async def test_one_id_is_queued_once_for_as_long_as_it_is_there(queue: EventQueue) -> None:
    await queue.append(ONE, items("a", "a"), 10.0)
    await queue.append(ONE, items("a"), 10.0)
    batch = await queue.lease(F, 5, 10.0, 20.0)
    assert ids(batch) == ["a"]
    await settle(queue, batch, Done(), 11.0)
    assert await queue.lease(F, 5, 12.0, 20.0) == Batch((), None)
    await queue.append(ONE, items("a"), 13.0)
    assert ids(await queue.lease(F, 5, 13.0, 20.0)) == ["a"]


async def test_an_item_with_a_time_is_not_leased_before_it(queue: EventQueue) -> None:
    terms = {"a": Terms(not_before=30.0), "b": Terms(not_before=10.0), "c": Terms(not_before=20.0)}
    assert await queue.append(ONE, items("a"), 10.0, terms) == ["a"]
    assert await queue.due(ONE, 99.0, 9) == [("f", 30.0)]
    assert await queue.append(ONE, items("a", "b", "c", "d"), 10.0, terms) == ["a", "b", "c", "d"]
    assert await queue.due(ONE, 99.0, 9) == [("f", 10.0)]
    now = await queue.lease(F, 9, 19.999, 50.0)
    assert ids(now) == ["b", "d"], "what is due already is as fresh as what has no time"
    assert now.next_due == 20.0
    later = await queue.lease(F, 9, 30.0, 50.0)
    assert [(each.id, each.value, each.state) for each in later.items] == [
        ("c", b"value c", b""),
        ("a", b"value a", b""),
    ]


async def test_a_token_stands_for_the_item_that_first_came_with_it(queue: EventQueue) -> None:
    """For as long as it is kept, whatever has become of the item; for each queue and tenant by itself."""

    def terms(*ids: str, until: float) -> dict[str, Terms]:
        return {id_: Terms(token=Token("t {}", until)) for id_ in ids}

    assert await queue.append(ONE, items("a", "b", "c"), 10.0, terms("a", "b", until=100.0)) == ["a", "a", "c"]
    assert await queue.append(ONE, items("a"), 10.0, terms("a", until=100.0)) == ["a"], "a command that arrived twice"
    assert await queue.append(ONE, items("x", name="g"), 10.0, terms("x", until=100.0)) == ["x"]
    assert await queue.append(OTHER, items("y"), 10.0, terms("y", until=100.0)) == ["y"]
    batch = await queue.lease(F, 9, 10.0, 20.0)
    assert ids(batch) == ["a", "c"]
    await settle(queue, batch, Done(), 11.0)
    assert await queue.lease(F, 9, 12.0, 20.0) == Batch((), None)
    assert await queue.append(ONE, items("d"), 99.999, terms("d", until=200.0)) == ["a"]
    assert [name for name, _ in await queue.due(ONE, 999.0, 9)] == ["g"], "nothing was queued, and nothing is due"
    assert await queue.append(ONE, items("e"), 100.0, terms("e", until=200.0)) == ["e"]
    assert ids(await queue.lease(F, 9, 100.0, 120.0)) == ["e"]


async def test_a_token_of_a_delayed_item_counts_from_its_acceptance(queue: EventQueue) -> None:
    both = {id_: Terms(not_before=50.0, token=Token("t", 20.0)) for id_ in "abc"}
    assert await queue.append(ONE, items("a"), 10.0, both) == ["a"]
    assert await queue.append(ONE, items("b"), 19.0, both) == ["a"]
    assert await queue.append(ONE, items("c"), 21.0, both) == ["c"]
    assert ids(await queue.lease(F, 9, 50.0, 60.0)) == ["a", "c"]


async def test_tokens_leave_the_store_by_themselves(redis_url: str) -> None:
    client = connect(redis_url)
    queue = RedisQueue(client, SystemClock(), "p", dead_seconds=1, dead_items=1)
    await queue.append(ONE, items("a"), 10.0, {"a": Terms(token=Token("t", 310.0))})
    assert 290_000 < await client.pttl(keys.of_token(ONE, "f", "t")) <= 300_000
    await client.aclose()


async def test_a_lease_that_runs_out_is_taken_over_and_its_holder_is_fenced(queue: EventQueue) -> None:
    await queue.append(ONE, items("a"), 10.0)
    lost = await queue.lease(F, 1, 10.0, 15.0)
    assert ids(await queue.lease(F, 1, 14.999, 20.0)) == []
    taken = await queue.lease(F, 1, 15.0, 25.0)
    assert ids(taken) == ["a"]
    for verdict in (Done(), Delayed(16.0, b"s"), Dead(b"s")):
        assert await settle(queue, lost, verdict, 16.0) == set()
    assert await queue.renew(F, [(each.id, each.token) for each in lost.items], 99.0) == frozenset()
    assert await settle(queue, taken, Done(), 17.0) == {"a"}
    assert await settle(queue, taken, Done(), 17.0) == set(), "it was done twice"


async def test_a_lease_that_is_renewed_holds(queue: EventQueue) -> None:
    await queue.append(ONE, items("a"), 10.0)
    batch = await queue.lease(F, 1, 10.0, 15.0)
    held = [(batch.items[0].id, batch.items[0].token)]
    assert await queue.renew(F, held, 30.0) == {"a"}
    assert ids(await queue.lease(F, 1, 29.0, 40.0)) == []
    assert ids(await queue.lease(F, 1, 30.0, 40.0)) == ["a"]


async def test_what_is_delayed_comes_back_in_time_before_what_is_fresh_and_with_its_state(queue: EventQueue) -> None:
    await queue.append(ONE, items("a", "b"), 10.0)
    batch = await queue.lease(F, 2, 10.0, 20.0)
    a, b = batch.items
    verdicts = [Settlement("a", a.token, Delayed(40.0, b"sa")), Settlement("b", b.token, Delayed(30.0, b"sb"))]
    assert await queue.settle(F, verdicts, 11.0) == {"a", "b"}
    await queue.append(ONE, items("c"), 35.0)
    early = await queue.lease(F, 1, 29.0, 60.0)
    assert ids(early) == ["c"]
    assert early.next_due == 30.0
    late = await queue.lease(F, 5, 40.0, 50.0)
    assert [(each.id, each.value, each.state) for each in late.items] == [
        ("b", b"value b", b"sb"),
        ("a", b"value a", b"sa"),
    ]


async def test_the_dead_are_leased_no_more_and_forgotten_by_age_and_number(queue: EventQueue) -> None:
    await queue.append(ONE, items("a", "b", "c", "d", "e"), 10.0)
    for at, expected in ((11.0, "a"), (12.0, "b"), (13.0, "c"), (14.0, "d")):
        batch = await queue.lease(F, 1, at, 20.0)
        assert ids(batch) == [expected]
        assert await settle(queue, batch, Dead(b"why"), at) == {expected}
    # Three are kept: the oldest made room, and its id can be queued again.
    await queue.append(ONE, items("a", "b", "c", "d"), 15.0)
    assert ids(await queue.lease(F, 9, 15.0, 20.0)) == ["e", "a"]
    # At 112.5 the one of 12.0 is too old as well.
    await queue.settle(F, [], 112.5)
    await queue.append(ONE, items("b", "c", "d"), 113.0)
    assert "b" in ids(await queue.lease(F, 9, 113.0, 200.0))


async def test_what_follows_is_queued_with_the_settlement_or_not_at_all(queue: EventQueue) -> None:
    await queue.append(ONE, items("a", "b"), 10.0)
    lost = await queue.lease(F, 1, 10.0, 15.0)
    held = await queue.lease(F, 2, 15.0, 25.0)
    assert ids(held) == ["a", "b"]
    then = (*items("x", "y", name="g"), *items("z", name="h"))
    stale = Settlement("a", lost.items[0].token, Done(), then)
    assert await queue.settle(F, [stale], 16.0) == frozenset()
    assert await queue.lease(G, 9, 16.0, 20.0) == Batch((), None)
    a, b = held.items
    ends = [Settlement("a", a.token, Done(), then), Settlement("b", b.token, Dead(b""), tuple(items("w", name="g")))]
    assert await queue.settle(F, ends, 17.0) == {"a", "b"}
    assert await queue.due(ONE, 17.0, 9) == [("g", 17.0), ("h", 17.0)]
    assert ids(await queue.lease(G, 9, 17.0, 20.0)) == ["x", "y", "w"]
    assert ids(await queue.lease(QueueKey(ONE, "h"), 9, 17.0, 20.0)) == ["z"]


async def test_queues_that_have_work_are_listed_soonest_first(queue: EventQueue) -> None:
    assert await queue.due(ONE, 99.0, 9) == []
    await queue.append(ONE, items("a") + items("b", name="g"), 10.0)
    await queue.append(ONE, items("c"), 12.0)
    await queue.append(OTHER, items("a", name="h"), 11.0)
    assert await queue.due(ONE, 10.0, 9) == [("f", 10.0), ("g", 10.0)]
    assert await queue.due(OTHER, 99.0, 9) == [("h", 11.0)]
    assert await queue.tenants() == (ONE, OTHER)
    batch = await queue.lease(F, 9, 12.0, 20.0)
    assert await queue.due(ONE, 99.0, 9) == [("g", 10.0), ("f", 20.0)]
    assert await queue.due(ONE, 19.0, 9) == [("g", 10.0)]
    assert await queue.due(ONE, 99.0, 1) == [("g", 10.0)]
    await settle(queue, batch, Delayed(15.0, b""), 13.0)
    assert await queue.due(ONE, 99.0, 9) == [("g", 10.0), ("f", 15.0)]
    await settle(queue, await queue.lease(F, 9, 15.0, 30.0), Done(), 16.0)
    await queue.lease(F, 9, 30.0, 40.0)
    assert await queue.due(ONE, 99.0, 9) == [("g", 10.0)]


async def test_tenants_do_not_see_each_other(queue: EventQueue) -> None:
    await queue.append(ONE, items("a"), 10.0)
    theirs = QueueKey(OTHER, "f")
    assert await queue.lease(theirs, 9, 10.0, 20.0) == Batch((), None)
    [mine] = (await queue.lease(F, 9, 10.0, 20.0)).items
    assert await queue.settle(theirs, [Settlement("a", mine.token, Done())], 11.0) == frozenset()


async def test_depths_and_entries_say_where_everything_is(pair: Pair) -> None:
    queue, look = pair.queue, pair.inspector
    assert await look.depths(ONE) == []
    await queue.append(ONE, items("a", "b", "c", "d", "e"), 10.0)
    batch = await queue.lease(F, 3, 10.0, 20.0)
    a, b, c = batch.items
    ends = [Settlement("a", a.token, Dead(b"da")), Settlement("b", b.token, Delayed(30.0, b"sb"))]
    await queue.settle(F, ends, 11.0)
    await queue.append(OTHER, items("x", name="g"), 10.0)
    counts = {Place.FRESH: 2, Place.DELAYED: 1, Place.LEASED: 1, Place.DEAD: 1}
    assert await look.depths(ONE) == [Depth("f", counts, False, b"value d", 30.0)]
    entries = {place: await look.entries(F, place, 9) for place in Place}
    assert entries == {
        Place.FRESH: [Entry(each, Place.FRESH, None, "", f"value {each}".encode(), b"") for each in "de"],
        Place.DELAYED: [Entry("b", Place.DELAYED, 30.0, "", b"value b", b"sb")],
        Place.LEASED: [Entry("c", Place.LEASED, 20.0, c.token, b"value c", b"")],
        Place.DEAD: [Entry("a", Place.DEAD, 11.0, "", b"value a", b"da")],
    }
    for found in entries.values():
        for each in found:
            assert await look.entry(F, each.id) == each
    assert await look.entry(F, "z") is None
    assert [each.id for each in await look.entries(F, Place.FRESH, 1)] == ["d"]
    assert await look.entries(F, Place.DEAD, 9, after=11.001) == []


async def test_a_paused_queue_gives_nothing_until_it_is_resumed(pair: Pair) -> None:
    queue, look = pair.queue, pair.inspector
    await queue.append(ONE, items("a"), 10.0)
    await look.pause(F, 10.0)
    assert await queue.lease(F, 9, 11.0, 20.0) == Batch((), None)
    assert await queue.due(ONE, 99.0, 9) == []
    assert [(each.name, each.paused) for each in await look.depths(ONE)] == [("f", True)]
    assert await look.resume(F, 12.0)
    assert not await look.resume(F, 12.0)
    assert await queue.due(ONE, 99.0, 9) == [("f", 12.0)]
    assert ids(await queue.lease(F, 9, 12.0, 20.0)) == ["a"]


async def test_what_waits_or_is_dead_can_be_purged_and_what_is_leased_goes_on(pair: Pair) -> None:
    queue, look = pair.queue, pair.inspector
    await queue.append(ONE, items("a", "b", "c", "d"), 10.0)
    a, b, c = (await queue.lease(F, 3, 10.0, 20.0)).items
    ends = [Settlement("a", a.token, Dead(b"")), Settlement("b", b.token, Delayed(30.0, b""))]
    await queue.settle(F, ends, 11.0)
    assert await look.purge(F, "waiting") == 2
    assert await look.purge(F, "waiting") == 0
    assert [each.id for each in await look.entries(F, Place.DEAD, 9)] == ["a"]
    assert await look.purge(F, "dead") == 1
    assert await queue.settle(F, [Settlement("c", c.token, Done())], 12.0) == {"c"}
    assert await look.depths(ONE) == []
    # What was forgotten can be queued as new.
    await queue.append(ONE, items("a", "d"), 13.0)
    assert ids(await queue.lease(F, 9, 13.0, 20.0)) == ["a", "d"]


async def test_the_dead_can_be_queued_again_each_once(pair: Pair) -> None:
    queue, look = pair.queue, pair.inspector
    await queue.append(ONE, items("a", "b"), 10.0)
    await settle(queue, await queue.lease(F, 9, 10.0, 20.0), Dead(b"dead"), 11.0)
    assert await look.redrive(F, ["a", "a", "z"], b"anew", 40.0) == 1
    assert [name for name, _ in await queue.due(ONE, 40.0, 9)] == ["f"]
    [again] = (await queue.lease(F, 9, 40.0, 50.0)).items
    assert (again.id, again.value, again.state) == ("a", b"value a", b"anew")
    assert [each.id for each in await look.entries(F, Place.DEAD, 9)] == ["b"]


async def test_the_first_fresh_item_of_a_queue_is_announced(queue: EventQueue) -> None:
    wakes = queue.wakes()
    heard: list[QueueKey] = []

    async def listen() -> None:
        async for key in wakes:
            heard.append(key)
            if key == G:
                return

    listener = asyncio.ensure_future(listen())
    # Nobody says when the subscription stands: queue until it is heard.
    number = 0
    while not heard:
        await queue.append(ONE, items(str(number)), 10.0)
        await settle(queue, await queue.lease(F, 9, 10.0, 20.0), Done(), 10.0)
        number += 1
        await asyncio.sleep(0.01)
    await queue.append(ONE, items("x", "y"), 10.0)
    before = len(heard)
    await queue.append(ONE, items("z"), 10.0)
    await queue.append(ONE, items("z", name="g"), 10.0)
    await asyncio.wait_for(listener, 10)
    assert heard[-1] == G
    assert len(heard) - before <= 2, "an item behind another was announced"


async def test_a_queue_without_room_or_store_refuses_and_goes_on_giving(short_tmp: Path, redis_url: str) -> None:
    """What is full takes nothing more, but what it has can leave it."""
    client = connect(redis_url)
    queue = RedisQueue(client, SystemClock(), "p", dead_seconds=1, dead_items=1)
    await queue.append(ONE, items("a", "b", "c"), 10.0)
    await client.config_set("maxmemory", 1)
    with pytest.raises(AwsError) as caught:
        await queue.append(ONE, items("d"), 10.0)
    assert (caught.value.name, caught.value.row.status) == ("ServiceUnavailableException", 503)
    batch = await queue.lease(F, 2, 10.0, 20.0)
    assert ids(batch) == ["a", "b"]
    verdicts = [Settlement("a", batch.items[0].token, Done()), Settlement("b", batch.items[1].token, Dead(b""))]
    assert await queue.settle(F, verdicts, 11.0) == {"a", "b"}
    await client.aclose()
    away = connect(f"unix://{short_tmp}/nobody.sock")
    with pytest.raises(AwsError):
        await RedisQueue(away, SystemClock(), "p", dead_seconds=1, dead_items=1).append(ONE, items("a"), 1.0)
    await away.aclose()


async def test_the_time_is_the_servers(redis_url: str) -> None:
    client = connect(redis_url)
    queue = RedisQueue(client, SystemClock(), "p", dead_seconds=1, dead_items=1)
    before, _ = await client.time()
    await queue.synchronize()
    assert before <= queue.now() <= (await client.time())[0] + 1
    await client.aclose()


async def test_a_lease_tells_the_priority_of_its_queue(pair: Pair) -> None:
    assert (await pair.queue.lease(F, 1, 10.0, 20.0)).priority == 0
    await pair.inspector.prioritize(F, -3)
    assert await pair.queue.lease(F, 1, 10.0, 20.0) == Batch((), None, -3)
    await pair.queue.append(ONE, items("a"), 10.0)
    await pair.queue.append(ONE, items("b", name="g"), 10.0)
    assert (await pair.queue.lease(F, 1, 10.0, 20.0)).priority == -3
    assert (await pair.queue.lease(G, 1, 10.0, 20.0)).priority == 0
    assert [(depth.name, depth.priority) for depth in await pair.inspector.depths(ONE)] == [("f", -3), ("g", 0)]
    await pair.inspector.pause(F, 10.0)
    assert (await pair.queue.lease(F, 1, 10.0, 20.0)).priority == -3
    await pair.inspector.prioritize(F, 10)
    assert [depth.priority for depth in await pair.inspector.depths(ONE)] == [10, 0]
    await pair.inspector.prioritize(F, 0)
    assert (await pair.queue.lease(F, 1, 10.0, 20.0)).priority == 0
