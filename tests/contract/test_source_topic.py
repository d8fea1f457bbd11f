"""The contract of Kafka's topics as readers see them, at librdkafka's mock cluster and at Kafka itself."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from lambent.domain.names import Tenant
from lambent.domain.stream_records import Place, StreamRecord
from lambent.infra.aws_json import ExpiredPlace, SourceError
from lambent.infra.clock import SystemClock, SystemIds
from lambent.infra.connections import Connection
from lambent.infra.event_sources.memory_store import MemoryCheckpoints, MemoryReaderIndex
from lambent.infra.event_sources.port import Checkpoint
from lambent.infra.kafka_topic import UNKNOWN_TOPIC, CommittedCheckpoints, KafkaTopic
from lambent.infra.tasks import TaskOwner
from tests.conftest import free_port
from tests.kafka import PARTITIONS, PASSWORD, USER, Brokers

Connect = Callable[..., KafkaTopic]


@pytest.fixture
def topic(brokers: Brokers) -> str:
    return brokers.topic(f"t-{SystemIds().token(6)}")


@pytest.fixture
async def connect(brokers: Brokers, topic: str) -> AsyncIterator[Connect]:
    closing, opened = TaskOwner("test"), []

    def made(group: str = "g", name: str = topic, servers: str = brokers.servers) -> KafkaTopic:
        opened.append(KafkaTopic(Connection(f"kafka://{servers}"), name, f"{topic}-{group}", SystemClock(), closing))
        return opened[-1]

    yield made
    for each in opened:
        each.close()
    await closing.drain(20)


async def read(reader: KafkaTopic, shard: str, place: Place, count: int) -> list[StreamRecord]:
    """So many records, and no more."""
    iterator = await reader.iterator(shard, place)
    records: list[StreamRecord] = []
    for _ in range(60):
        fetched = await reader.fetch(shard, iterator, 100)
        records += fetched.records
        assert fetched.next is not None
        iterator = fetched.next
        if len(records) >= count and not fetched.records:
            break
    return records


def values(records: list[StreamRecord]) -> list[str]:
    return [base64.b64decode(record.document["value"]).decode() for record in records]


async def test_partitions_are_shards(connect: Connect, topic: str) -> None:
    assert [shard.id for shard in await connect().shards()] == [f"{topic}-{number}" for number in range(PARTITIONS)]


async def test_records_are_read_in_order_as_events_have_them(connect: Connect, topic: str, brokers: Brokers) -> None:
    began = SystemClock().epoch()
    for number in range(5):
        brokers.put(topic, f"v{number}", 1, b"k\xff", trace=b"a\x80")
    brokers.put(topic, "elsewhere", 2)
    records = await read(connect(), f"{topic}-1", Place(), 5)
    assert values(records) == [f"v{number}" for number in range(5)]
    assert [record.sequence for record in records] == ["0", "1", "2", "3", "4"]
    first = dict(records[0].document)
    assert began - 1 <= first.pop("timestamp") / 1000 <= SystemClock().epoch() + 1
    assert first == {
        "topic": topic, "partition": 1, "offset": 0, "timestampType": "CREATE_TIME", "key": "a/8=", "value": "djA=",
        "headers": [{"trace": [97, -128]}],
    }  # fmt: skip


async def test_records_may_have_neither_key_nor_value(connect: Connect, topic: str, brokers: Brokers) -> None:
    brokers.put(topic, None)
    [record] = await read(connect(), f"{topic}-0", Place(), 1)
    assert not {"key", "value"} & record.document.keys()
    assert record.document["headers"] == []


async def test_reading_goes_on_behind_a_record_or_begins_at_an_end(
    connect: Connect, topic: str, brokers: Brokers
) -> None:
    for number in range(4):
        brokers.put(topic, f"v{number}")
    reader, shard = connect(), f"{topic}-0"
    assert values(await read(reader, shard, Place(after="1"), 2)) == ["v2", "v3"]
    assert values(await read(reader, shard, Place(), 4)) == ["v0", "v1", "v2", "v3"]
    newest = await reader.iterator(shard, Place(newest=True))
    assert newest == "4"
    brokers.put(topic, "v4")
    fetched = await reader.fetch(shard, newest, 9)
    while not fetched.records:
        fetched = await reader.fetch(shard, newest, 9)
    assert values(list(fetched.records)) == ["v4"]
    assert await reader.iterator(shard, Place(after="99")) == "0", "it is another topic than it was"


async def test_a_time_is_where_reading_begins(connect: Connect, topic: str, brokers: Brokers) -> None:
    if not brokers.real:
        pytest.skip("the mock knows no times")
    brokers.put(topic, "before")
    since = SystemClock().epoch() + 0.01
    while SystemClock().epoch() < since:
        pass
    brokers.put(topic, "after")
    reader, shard = connect(), f"{topic}-0"
    assert values(await read(reader, shard, Place(since=since), 1)) == ["after"]
    assert await reader.iterator(shard, Place(since=since + 3600)) == "2"


async def test_what_the_group_has_done_counts_where_nothing_else_is_known(
    connect: Connect, topic: str, brokers: Brokers
) -> None:
    for number in range(3):
        brokers.put(topic, f"v{number}")
    shard = f"{topic}-0"
    await connect().commit({shard: "1"})
    assert await connect().iterator(shard, Place()) == "2"
    assert await connect().iterator(shard, Place(newest=True)) == "2"
    assert await connect().iterator(shard, Place(after="0")) == "1"
    assert await connect("another").iterator(shard, Place()) == "0"


async def test_the_group_is_told_what_is_done(connect: Connect, topic: str, brokers: Brokers) -> None:
    index, tenant = MemoryReaderIndex(SystemClock()), Tenant("000000000001", "us-east-1")
    kept = CommittedCheckpoints(MemoryCheckpoints(index), connect())
    assert not await kept.save(tenant, "u", "me", {f"{topic}-1": Checkpoint("7")}), "it is not the mapping's reader"
    assert await index.claim(tenant, "u", "me", 600)
    for last in ("0", "1", "2"):
        brokers.put(topic, last)
        assert await kept.save(tenant, "u", "me", {f"{topic}-0": Checkpoint(last), f"{topic}-1": Checkpoint(since=1.0)})
    await kept.close()
    group = Consumer({"bootstrap.servers": brokers.servers, "group.id": f"{topic}-g"})
    done = group.committed([TopicPartition(topic, 0), TopicPartition(topic, 1)], timeout=10)
    group.close()
    assert [max(each.offset, 0) for each in done] == [3, 0]
    assert (await kept.load(tenant, "u"))[f"{topic}-0"] == Checkpoint("2")


async def test_what_is_gone_has_expired(connect: Connect, topic: str, brokers: Brokers) -> None:
    if not brokers.real:
        pytest.skip("the mock keeps everything")
    for number in range(5):
        brokers.put(topic, f"v{number}")
    admin = AdminClient({"bootstrap.servers": brokers.servers})
    [deleted] = admin.delete_records([TopicPartition(topic, 0, 3)]).values()
    deleted.result(20)
    reader, shard = connect(), f"{topic}-0"

    async def read_on(iterator: str | None) -> None:
        while iterator is not None:
            iterator = (await reader.fetch(shard, iterator, 9)).next

    with pytest.raises(ExpiredPlace):
        await read_on("1")
    assert values(await read(reader, shard, Place(after="0"), 2)) == ["v3", "v4"]


async def test_brokers_may_want_tls_and_a_login(topic: str, brokers: Brokers) -> None:
    if not brokers.real:
        pytest.skip("the mock lets everybody in")
    brokers.put(topic, "v0")
    closing = TaskOwner("test")
    secure = Connection(
        f"kafkas://{brokers.secure}", USER, PASSWORD, mechanism="SCRAM-SHA-512", ca=brokers.ca, service="kafka"
    )  # fmt: skip
    login = Connection(f"kafka://{brokers.login}", USER, PASSWORD, mechanism="PLAIN", service="kafka")
    for connection in (secure, login):
        reader = KafkaTopic(connection, topic, "g", SystemClock(), closing)
        assert values(await read(reader, f"{topic}-0", Place(), 1)) == ["v0"]
        reader.close()
        stranger = KafkaTopic(msgspec.structs.replace(connection, secret_key="no"), topic, "g", SystemClock(), closing)
        with pytest.raises(SourceError, match="uthentication failed"):
            await stranger.shards()
        stranger.close()
    await closing.drain(20)


async def test_a_topic_that_is_not_there_is_told(connect: Connect, brokers: Brokers) -> None:
    if not brokers.real:
        pytest.skip("the mock makes topics that are asked for")
    with pytest.raises(SourceError) as error:
        await connect(name="none").shards()
    assert (error.value.code, error.value.message) == (UNKNOWN_TOPIC, "there is no topic none")


async def test_brokers_that_are_away_are_told(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lambent.infra.kafka_topic.SECONDS", 1.0)
    away = connect(servers=f"127.0.0.1:{free_port()}")
    with pytest.raises(SourceError) as error:
        await away.shards()
    assert error.value.code == ""
