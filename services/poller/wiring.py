"""The poller's compose root."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from functools import partial

from lambent.domain.async_events import RetryPolicy
from lambent.domain.errors import AwsError
from lambent.domain.event_schedules import Schedule
from lambent.domain.event_sources import KINESIS, QUEUE, EventSourceMapping, source_of
from lambent.domain.kafka_records import KAFKA
from lambent.domain.kafka_records import frame as kafka_frame
from lambent.domain.rules import Rule
from lambent.infra.certificates import certificates
from lambent.infra.clock import SystemClock, SystemIds
from lambent.infra.connections import Connection, Connections, ConnectionsError
from lambent.infra.connections import load as load_connections
from lambent.infra.due import redis_store as due_store
from lambent.infra.event_sources.port import Checkpoints
from lambent.infra.event_sources.redis_store import RedisCheckpoints, RedisEventSourceStore, RedisReaderIndex
from lambent.infra.functions.attached import RedisAttachedFunctions
from lambent.infra.functions.directory import FunctionDirectory
from lambent.infra.functions.redis_store import RedisFunctionStore
from lambent.infra.functions.use_recorder import UseRecorder, telling_seconds
from lambent.infra.functions.waking import Waker
from lambent.infra.invocation_telemetry import InvocationTelemetry
from lambent.infra.invoker.connection import InvokerConnection
from lambent.infra.layout import layout
from lambent.infra.lifecycle import Service, StartError
from lambent.infra.operations_port import OperationsPort, port_after
from lambent.infra.queue.port import EventQueue
from lambent.infra.queue.redis_queue import redis_queue
from lambent.infra.redaction import without_password
from lambent.infra.redis_client import START_SECONDS, StoreUnreachable, connect, reach
from lambent.infra.rule_targets import RuleTargets
from lambent.infra.secrets import SecretBox
from lambent.infra.settings import Settings
from lambent.infra.sqs_queue import SqsQueue
from lambent.infra.streams import DynamoStream, KinesisStream
from lambent.infra.tasks import TaskOwner
from lambent.infra.telemetry import Telemetry
from lambent.infra.telling import Teller
from services.poller.attempts import Attempts
from services.poller.local_bus import LocalBus
from services.poller.outbox import Outbox
from services.poller.poller import Poller
from services.poller.redis_streams import RedisStreams
from services.poller.sending import Deliveries, Sender
from services.poller.sources.counts import SourceCounts
from services.poller.sources.failures import Failures
from services.poller.sources.keeper import SourceKeeper
from services.poller.sources.port import SourceStream
from services.poller.sources.queue_reader import QueueReader
from services.poller.sources.reading import Means, SourceReader
from services.poller.sources.room import Room
from services.poller.sources.stream_reader import StreamReader
from services.poller.timekeeping import Rules, Schedules, Timekeeper


def make(settings: Settings) -> Service:
    """The service."""
    return PollerService(settings)


class PollerService:
    """One poller."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._layout = layout(settings.cluster.data)
        self._clock, self._rng = SystemClock(), random.Random()
        self._ids = SystemIds()
        self._id = f"poller-{self._ids.token(6)}"
        self._tasks = TaskOwner("poller-service")
        url = settings.cluster.redis_url
        self._redis, self._blocking = connect(url), connect(url, blocking=True)
        telemetry = settings.telemetry
        self._telemetry = Telemetry(
            "poller",
            otlp_endpoint=telemetry.otlp_endpoint,
            prometheus=bool(telemetry.prometheus),
            instance=self._id,
        )
        # Whether an event is traced was decided when it was accepted; of a queue's messages it often was not.
        self._counts = InvocationTelemetry(
            self._telemetry, self._clock, self._ids, self._rng, telemetry.sample, "pubsub"
        )  # fmt: skip
        self._operations = OperationsPort(port_after(telemetry.prometheus, 3), self._clock, self._unready)
        self._certificates = certificates(settings.internal.tls)
        self._connection: InvokerConnection | None = None
        self._directory: FunctionDirectory | None = None
        self._waker: Waker | None = None
        self._poller: Poller | None = None
        self._keeper: SourceKeeper | None = None
        self._timekeepers: tuple[Timekeeper[Rule], Timekeeper[Schedule]] | None = None

    async def start(self) -> Mapping[str, str]:
        """Connect to store and scheduler, then begin to read."""
        settings = self._settings
        url = settings.cluster.redis_url
        try:
            connections = load_connections(settings.queue.connections)
        except ConnectionsError as error:
            raise StartError(str(error)) from error
        try:
            await reach(self._redis, url, START_SECONDS)
        except StoreUnreachable as error:
            raise StartError(str(error)) from error
        secrets = SecretBox(self._layout.master_key())
        store = RedisFunctionStore(self._redis, self._blocking)
        connection = self._connection = InvokerConnection(
            self._id, settings, self._layout, store, secrets, self._telemetry, self._clock, self._rng,
            self._certificates, background=True,
        )  # fmt: skip
        await connection.start()
        # Frontends tell the scheduler of changes.
        self._directory = FunctionDirectory(store, secrets, None)
        attached = RedisAttachedFunctions(self._redis)
        self._waker = Waker(store, attached, self._directory, self._clock, self._ids)
        attempts = Attempts(
            store, self._directory, self._waker, connection.invoker, self._counts, self._clock, self._rng,
            settings.limits,
        )  # fmt: skip
        policy = RetryPolicy.standard(settings.limits)
        queue = redis_queue(self._redis, self._clock, self._id, settings.queue)
        teller = Teller(queue, self._directory, settings.queue.dedup_seconds)
        rules, targets = due_store.rules(self._redis), RuleTargets(teller, self._telemetry)
        sender = Sender(connections, LocalBus(RedisStreams(self._redis), rules, targets), self._clock)
        self._poller = Poller(
            queue,
            attempts,
            Deliveries(sender, policy, settings.queue.delivery_seconds, self._telemetry),
            Outbox(connections, self._ids),
            policy,
            self._telemetry,
            self._rng,
            running=settings.queue.running,
            lease_seconds=settings.queue.lease_seconds,
        )
        try:
            await self._poller.start()
        except AwsError as error:
            raise StartError(f"Redis at {without_password(url)} does not answer ({error.message})") from error
        self._keeper = self._sources(attempts, connections, queue)
        self._keeper.start()
        self._timekeepers = (
            Timekeeper(rules, Rules(targets), teller),
            Timekeeper(due_store.schedules(self._redis), Schedules(teller, self._telemetry), teller),
        )
        for timekeeper in self._timekeepers:
            timekeeper.start()
        await self._operations.start()
        self._tasks.start("flush metrics", self._counts.keep_flushing())
        if settings.vpc.exist:
            seconds = telling_seconds(settings.limits.idle_network_seconds)
            recorder = UseRecorder(self._counts.functions, attached, self._clock)
            self._tasks.start("tell uses", recorder.keep_telling(seconds))
        return {}

    def _sources(self, attempts: Attempts, connections: Connections, queue: EventQueue) -> SourceKeeper:
        """What reads event sources."""
        settings, clock = self._settings, self._clock
        means = Means(
            attempts, Room(settings.queue.source_bytes), SourceCounts(self._telemetry), settings.limits, clock,
            self._ids, self._rng,
        )  # fmt: skip
        checkpoints, failures = RedisCheckpoints(self._redis), Failures(queue, clock, self._ids)

        def reader(mapping: EventSourceMapping) -> SourceReader | None:
            source, tenant = source_of(mapping.source_arn), mapping.tenant
            connection = connections.source(tenant, source)
            if connection is None:
                return None
            if source.service == QUEUE:
                return QueueReader(mapping, lambda: SqsQueue(connection, source, tenant, clock), means)
            if source.service == KAFKA:
                return self._topic_reader(mapping, connection, checkpoints, failures, means)

            def stream(role: str) -> SourceStream:
                if source.service == KINESIS:
                    return KinesisStream(connection, source, tenant, clock, role)
                return DynamoStream(connection, source, tenant, clock)

            return StreamReader(mapping, stream, checkpoints, self._id, failures, means)

        store, index = RedisEventSourceStore(self._redis), RedisReaderIndex(self._redis)
        return SourceKeeper(store, index, checkpoints, reader, self._id, clock, settings.queue.lease_seconds)

    def _topic_reader(
        self, mapping: EventSourceMapping, connection: Connection, checkpoints: Checkpoints, failures: Failures,
        means: Means,
    ) -> SourceReader:  # fmt: skip
        """What reads a topic of Kafka."""
        from lambent.infra.kafka_topic import CommittedCheckpoints, KafkaTopic

        source = source_of(mapping.source_arn)
        servers = ",".join(mapping.servers or connection.servers)

        def topic(_: str = "") -> KafkaTopic:
            return KafkaTopic(connection, mapping.topic, mapping.group, self._clock, self._tasks)

        committed = CommittedCheckpoints(checkpoints, topic())
        frame = partial(kafka_frame, source, servers)
        return StreamReader(
            mapping, topic, committed, self._id, failures, means, frame=frame, hang_up=committed.close
        )  # fmt: skip

    def _unready(self) -> str | None:
        """Why no event would be run now."""
        connected = self._connection is not None and self._connection.leases.connected.is_set()
        return None if connected else "no scheduler leads"

    async def stop(self) -> None:
        """Read no more, let running events end, hang up."""
        seconds = self._settings.timing.drain_seconds
        for timekeeper in self._timekeepers or ():
            await timekeeper.stop()
        reading = [each.stop(seconds) for each in (self._poller, self._keeper) if each is not None]
        await asyncio.gather(*reading)
        if self._directory is not None and self._waker is not None:
            await self._waker.close()
            await self._directory.close()
        if self._connection is not None:
            await self._connection.close()
        await self._tasks.close()
        await self._operations.close()
        await self._redis.aclose()
        await self._blocking.aclose()
        self._telemetry.close()
