"""What a new event source mapping's source is asked: whether it is there, and whether it suits the function."""

from __future__ import annotations

from dataclasses import dataclass

from lambent.domain import event_sources
from lambent.domain.clock import Clock
from lambent.domain.destinations import Destination
from lambent.domain.errors import AwsError, invalid_parameter
from lambent.domain.event_sources import KINESIS, is_stream
from lambent.domain.kafka_records import KAFKA, own_servers
from lambent.domain.names import Tenant
from lambent.infra.aws_json import SourceError
from lambent.infra.connections import Connection, Connections
from lambent.infra.sqs_queue import SqsQueue
from lambent.infra.streams import link_to, stream_name
from lambent.infra.tasks import TaskOwner

# How long it may take to hang up.
CHECK_SECONDS = 5.0


class SourceChecks:
    """Asks sources where the operator's table of connections says that they are."""

    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections = connections
        self._clock = clock

    async def check(self, tenant: Tenant, source: Destination, topic: str, timeout_seconds: int) -> None:
        """That a tenant's functions can read the source, and that it suits one of this timeout. `topic`: of Kafka's.
        Raises InvalidParameterValueException and, where the source does not answer, ServiceUnavailableException."""
        kind = "cluster" if source.service == KAFKA else "stream" if is_stream(source) else "queue"
        called = ", ".join(own_servers(source)) or source.arn
        connection = self._connections.source(tenant, source)
        if connection is None:
            raise invalid_parameter(
                f"The {kind} {called} cannot be read: the operator's table of connections (setting "
                "queue.connections) has no row that leads to it."
            )
        try:
            if source.service == KAFKA:
                await self._check_topic(connection, topic)
            elif is_stream(source):
                await self._check_stream(connection, source)
            else:
                await self._check_queue(connection, tenant, source, timeout_seconds)
        except SourceError as error:
            if error.code:
                raise invalid_parameter(_told(source, error)) from None
            text = f"The {kind} {called} does not answer as it should: {error.message}"
            raise AwsError("ServiceUnavailableException", text) from None

    async def _check_queue(
        self, connection: Connection, tenant: Tenant, source: Destination, timeout_seconds: int
    ) -> None:
        queue = SqsQueue(connection, source, tenant, self._clock)
        try:
            event_sources.check_visibility(await queue.visibility_seconds(), timeout_seconds)
        finally:
            queue.close()

    async def _check_topic(self, connection: Connection, topic: str) -> None:
        # Few clusters have Kafka, whose library is not small.
        from lambent.infra.kafka_topic import KafkaTopic

        closing = TaskOwner("kafka-check")
        asked = KafkaTopic(connection, topic, "lambent", self._clock, closing)
        try:
            await asked.shards()
        finally:
            asked.close()
            await closing.drain(CHECK_SECONDS)
            await closing.close()

    async def _check_stream(self, connection: Connection, source: Destination) -> None:
        question = _question(source)
        link = link_to(connection, source, self._clock)
        try:
            answer = await link.call(question.operation, question.document)
        finally:
            link.close()
        if not isinstance(answer.get(question.member), dict):
            raise SourceError("", f"it does not answer {question.operation} as {question.name} does")


@dataclass(frozen=True, slots=True)
class _Question:
    """How a service is asked for one of its streams."""

    name: str  # of the service
    operation: str
    document: dict[str, object]
    member: str  # of the answer, which describes the stream


def _question(source: Destination) -> _Question:
    if source.service == KINESIS:
        asked: dict[str, object] = {"StreamName": stream_name(source)}
        return _Question("Kinesis", "DescribeStreamSummary", asked, "StreamDescriptionSummary")
    # Shards are of no interest here, yet one is the least that can be asked for.
    return _Question("DynamoDB Streams", "DescribeStream", {"StreamArn": source.arn, "Limit": 1}, "StreamDescription")


def _told(source: Destination, error: SourceError) -> str:
    """What an error of a source's own is called, as AWS words it."""
    if source.service == KAFKA:
        return error.message
    if not is_stream(source):
        name, operation = "SQS", "ReceiveMessage"
    elif error.code == "ResourceNotFoundException":
        return f"Stream not found: {source.arn}"
    else:
        question = _question(source)
        name, operation = question.name, question.operation
    return f"Error occurred while {operation}. {name} Error Code: {error.code}. {name} Error Message: {error.message}"
