"""Topics of Apache Kafka, as their readers see them: a partition is a shard, an offset is a sequence number.

The library fetches ahead by threads of its own; what is asked of it here either does not wait or is asked on a thread.

Source: https://kafka.apache.org/protocol and https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from confluent_kafka import (
    TIMESTAMP_LOG_APPEND_TIME,
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from lambent.domain.clock import Clock
from lambent.domain.kafka_records import kafka_record, partition_name
from lambent.domain.names import Tenant
from lambent.domain.stream_records import Fetched, Place, Shard, StreamRecord
from lambent.infra.aws_json import ExpiredPlace, SourceError
from lambent.infra.connections import Connection
from lambent.infra.event_sources.port import Checkpoint, Checkpoints
from lambent.infra.tasks import TaskOwner

T = TypeVar("T")

# For one answer.
SECONDS = 10.0
# How long a call waits for records where there are none, and how often it looks.
WAIT_SECONDS, LOOK_SECONDS = 0.5, 0.02
# What is fetched ahead of one partition, in KiB.
_AHEAD_KIBIBYTES = 4096
UNKNOWN_TOPIC = "UnknownTopic"
_NO_TOPIC = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION)
_GONE = (KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET)
# What the library calls a broker that is away for a moment, which it reaches again by itself.
_PASSING = (KafkaError._TRANSPORT, KafkaError._RESOLVE)


class KafkaTopic:
    """One topic, over one consumer: one call at a time. A `SourceStream`."""

    def __init__(self, connection: Connection, topic: str, group: str, clock: Clock, closing: TaskOwner) -> None:
        """`group`: the consumer group whose offsets count where nothing else is known. `closing`: owns what is left to
        do when it hangs up."""
        self._connection = connection
        self._topic = topic
        self._group = group
        self._clock = clock
        self._closing = closing
        self._consumer: Consumer | None = None  # None: not connected yet
        self._read: tuple[str, int] | None = None  # shard and offset that the consumer comes to next; None: it has none
        self._trouble: KafkaError | None = None  # that the library has told of by itself since it was asked last

    async def shards(self) -> list[Shard]:
        """Every partition. Raises SourceError."""
        topics = (await self._ask(lambda consumer: consumer.list_topics(self._topic, SECONDS))).topics
        found = topics.get(self._topic)
        if found is None or found.error is not None or not found.partitions:
            raise self._failed(None if found is None else found.error)
        return [Shard(partition_name(self._topic, number)) for number in sorted(found.partitions)]

    async def iterator(self, shard: str, place: Place) -> str:
        """The offset at which reading begins. What the group has done counts, where nothing else is known. Raises
        SourceError."""
        return str(await self._ask(lambda consumer: self._offset(consumer, self._partition(shard), place)))

    def _offset(self, consumer: Consumer, partition: TopicPartition, place: Place) -> int:
        first, end = _ends(consumer.get_watermark_offsets(partition, timeout=SECONDS))
        if place.after is not None:
            offset = int(place.after) + 1
        else:
            [done] = consumer.committed([partition], timeout=SECONDS)
            if done.offset >= 0:
                offset = done.offset
            elif place.since is not None:
                asked = TopicPartition(self._topic, partition.partition, int(place.since * 1000))
                [found] = consumer.offsets_for_times([asked], timeout=SECONDS)
                offset = found.offset if found.error is None and found.offset >= 0 else end
            else:
                offset = end if place.newest else first
        # Behind the end: the topic is another one than it was.
        return offset if first <= offset <= end else first

    async def fetch(self, shard: str, iterator: str, most: int) -> Fetched:
        """The next records, at most so many; none if none come for a while. Raises ExpiredPlace where they are gone,
        and SourceError."""
        offset, partition = int(iterator), self._partition(shard)
        if self._read != (shard, offset) or self._consumer is None:
            partition.offset = offset
            await self._ask(lambda consumer: consumer.assign([partition]))
            self._read = shard, offset
        consumer = self._consumer
        assert consumer is not None
        records: list[StreamRecord] = []
        until = self._clock.monotonic() + WAIT_SECONDS
        while not records and self._clock.monotonic() < until:
            records = self._records(consumer.consume(most, 0))
            if not records:
                await asyncio.sleep(LOOK_SECONDS)
        if not records:
            self._tell_trouble()
            return Fetched((), iterator, 0.0)
        self._trouble = None
        following = int(records[-1].sequence) + 1
        self._read = shard, following
        _, end = _ends(consumer.get_watermark_offsets(partition, cached=True))
        behind = max(0.001, self._clock.epoch() - records[-1].arrived) if following < end else 0.0
        return Fetched(records, str(following), behind)

    def _records(self, messages: Sequence[Message]) -> list[StreamRecord]:
        now, records = self._clock.epoch(), []
        for message in messages:
            error = message.error()
            if error is not None:
                self._read = None
                raise self._failed(error)
            kind, milliseconds = message.timestamp()
            headers: Any = message.headers() or []
            record = kafka_record(
                self._topic, message.partition() or 0, message.offset() or 0,
                -1 if kind == TIMESTAMP_NOT_AVAILABLE else milliseconds,
                "LOG_APPEND_TIME" if kind == TIMESTAMP_LOG_APPEND_TIME else "CREATE_TIME",
                _bytes(message.key()), _bytes(message.value()),
                [(name, _bytes(text) or b"") for name, text in headers], now,
            )  # fmt: skip
            records.append(record)
        return records

    def _tell_trouble(self) -> None:
        """Say what the library has met with while nothing came."""
        error, self._trouble = self._trouble, None
        if error is not None:
            raise self._failed(error)

    async def commit(self, offsets: Mapping[str, str]) -> None:
        """Note in the group how far it has come: the last offset that is done, by shard. Raises SourceError."""
        done = []
        for shard, last in offsets.items():
            done.append(self._partition(shard))
            done[-1].offset = int(last) + 1
        await self._ask(lambda consumer: consumer.commit(offsets=done, asynchronous=False))

    def close(self) -> None:
        """Hang up."""
        consumer, self._consumer, self._read = self._consumer, None, None
        if consumer is not None:
            self._closing.start("hang up", asyncio.to_thread(consumer.close))

    def _partition(self, shard: str) -> TopicPartition:
        return TopicPartition(self._topic, int(shard.rpartition("-")[2]))

    async def _ask(self, what: Callable[[Consumer], T]) -> T:
        """What the library says, on a thread, as it may wait for the brokers."""
        try:
            if self._consumer is None:
                self._consumer = await asyncio.to_thread(self._connect)
            return await asyncio.to_thread(what, self._consumer)
        except KafkaException as error:
            if self._consumer is not None:
                self._consumer.consume(1, 0)  # it tells of what it has met with meanwhile, a refused login for one
            trouble, self._trouble = self._trouble, None
            self.close()
            raise self._failed(trouble or error.args[0]) from error

    def _connect(self) -> Consumer:
        return Consumer(_settings(self._connection, self._group) | {"error_cb": self._noted})

    def _noted(self, error: KafkaError) -> None:
        if error.code() not in _PASSING:
            self._trouble = error

    def _failed(self, error: KafkaError | None) -> SourceError:
        """What an error of the library's is to a reader. None: the topic was not found."""
        if error is None or error.code() in _NO_TOPIC:
            return SourceError(UNKNOWN_TOPIC, f"there is no topic {self._topic}")
        if error.code() in _GONE:
            return ExpiredPlace(error.name(), error.str())
        refused = error.code() in (
            KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError._AUTHENTICATION,
        )  # fmt: skip
        return SourceError(error.name() if refused else "", f"{error.name()}: {error.str()}")


def _settings(connection: Connection, group: str) -> dict[str, Any]:
    """As the library calls them."""
    tls, login = connection.endpoint.startswith("kafkas://"), connection.mechanism
    settings: dict[str, Any] = {
        "bootstrap.servers": ",".join(connection.servers),
        "client.id": "lambent",
        "group.id": group,
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
        "security.protocol": ("SASL_" if login else "") + ("SSL" if tls else "PLAINTEXT"),
        "socket.timeout.ms": int(SECONDS * 1000),
        "queued.max.messages.kbytes": _AHEAD_KIBIBYTES,
        "fetch.queue.backoff.ms": 50,
        "log_level": 0,  # what matters is told by `error_cb`
    }
    if login:
        settings |= {
            "sasl.mechanism": login,
            "sasl.username": connection.access_key,
            "sasl.password": connection.secret_key,
        }
    if tls and connection.ca:
        settings["ssl.ca.location"] = connection.ca
    return settings


def _ends(offsets: Any) -> tuple[int, int]:
    """The first offset of a partition, and the one behind the last."""
    first, end = offsets or (0, 0)
    return int(first), int(end)


def _bytes(content: Any) -> bytes | None:
    return content.encode() if isinstance(content, str) else content


class CommittedCheckpoints:
    """`Checkpoints` that are told to the consumer group too, where lag is looked at, and where other consumers go on.

    What counts here is kept by `kept`; the group learns of it behind it, and where that fails with the next.
    """

    def __init__(self, kept: Checkpoints, topic: KafkaTopic) -> None:
        """`topic`: one to tell the group by."""
        self._kept = kept
        self._topic = topic
        self._waiting: dict[str, str] = {}  # offsets that the group is not told of yet, by shard
        self._tasks = TaskOwner("kafka-offsets")

    async def load(self, tenant: Tenant, uuid: str) -> Mapping[str, Checkpoint]:
        return await self._kept.load(tenant, uuid)

    async def save(self, tenant: Tenant, uuid: str, reader: str, changes: Mapping[str, Checkpoint | None]) -> bool:
        saved = await self._kept.save(tenant, uuid, reader, changes)
        if saved:
            marks = {shard: mark.sequence for shard, mark in changes.items() if mark is not None}
            self._waiting |= {shard: last for shard, last in marks.items() if last is not None}
            if self._waiting and not len(self._tasks):
                self._tasks.start("tell", self._tell())
        return saved

    async def drop(self, tenant: Tenant, uuid: str) -> None:
        await self._kept.drop(tenant, uuid)

    async def close(self) -> None:
        """Tell what is left to tell, and hang up."""
        await self._tasks.drain(SECONDS)
        await self._tasks.close()
        self._topic.close()

    async def _tell(self) -> None:
        """Until all is told, or the brokers are away."""
        while self._waiting:
            told, self._waiting = self._waiting, {}
            try:
                await self._topic.commit(told)
            except SourceError:
                self._waiting = told | self._waiting
                return
