"""The contract of queues as readers see them: SQS's protocol at moto's server, and the twin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from lambent.domain.destinations import resource_of
from lambent.domain.names import Tenant
from lambent.infra.aws_json import SourceError
from lambent.infra.clock import SystemClock, SystemIds
from lambent.infra.connections import Connection
from lambent.infra.sqs_queue import SqsQueue
from services.poller.sources.memory_queue import MemoryQueue
from services.poller.sources.port import SourceQueue
from tests.conftest import service

TENANT = Tenant("123456789012", "us-east-1")


class Sender:
    """A queue that a test writes to, and its consumers."""

    def __init__(self, send: Callable[[str, str | None], object], connect: Callable[[], SourceQueue]) -> None:
        self.send = send
        self.connect = connect


@pytest.fixture(params=["moto", "memory"])
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Callable[..., Sender]]:
    """Makes queues whose messages are hidden for 30 seconds, or as a test says."""
    opened: list[SourceQueue] = []

    def kept(connect: Callable[[], SourceQueue]) -> Callable[[], SourceQueue]:
        def connected() -> SourceQueue:
            opened.append(connect())
            return opened[-1]

        return connected

    def memory(*, ordered: bool = False, visibility: int = 30) -> Sender:
        queue = MemoryQueue(SystemClock().monotonic, visibility, ordered=ordered)
        return Sender(queue.send, kept(queue.connect))

    def real(*, ordered: bool = False, visibility: int = 30) -> Sender:
        endpoint = request.getfixturevalue("moto")
        client = service(endpoint, "sqs")
        name = f"q-{SystemIds().token(6)}{'.fifo' if ordered else ''}"
        attributes = {"VisibilityTimeout": str(visibility)}
        if ordered:
            attributes |= {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
        url = client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]

        def send(body: str, group: str | None = None) -> None:
            client.send_message(QueueUrl=url, MessageBody=body, **({} if group is None else {"MessageGroupId": group}))

        source = resource_of(f"arn:aws:sqs:us-east-1:123456789012:{name}", ("sqs",))
        assert source is not None
        connection = Connection(endpoint, "k", "s", service="sqs")
        return Sender(send, kept(lambda: SqsQueue(connection, source, TENANT, SystemClock())))

    yield real if request.param == "moto" else memory
    for queue in opened:
        queue.close()


def bodies(messages: list[dict[str, Any]]) -> list[str]:
    return [each["Body"] for each in messages]


async def test_what_is_received_is_hidden_until_it_is_deleted(make: Callable[..., Sender]) -> None:
    queue = make()
    for number in range(3):
        queue.send(f"{number} grüß", None)
    one, other = queue.connect(), queue.connect()
    assert await one.visibility_seconds() == 30
    first = await one.receive(2, 0)
    second = await other.receive(10, 0)
    assert sorted(bodies(first) + bodies(second)) == ["0 grüß", "1 grüß", "2 grüß"]
    assert await one.receive(10, 0) == []
    message = first[0]
    assert message["Attributes"]["ApproximateReceiveCount"] == "1"
    assert len(message["MD5OfBody"]) == 32
    assert message["MessageId"]
    assert await one.delete([each["ReceiptHandle"] for each in first + second]) == []
    assert await one.receive(10, 1) == []


async def test_a_message_that_nobody_deletes_comes_again(make: Callable[..., Sender]) -> None:
    queue = make(visibility=1)
    queue.send("again", None)
    consumer = queue.connect()
    [first] = await consumer.receive(10, 0)
    [second] = await consumer.receive(10, 10)
    assert second["MessageId"] == first["MessageId"]
    assert second["Attributes"]["ApproximateReceiveCount"] == "2"


async def test_a_call_that_waits_answers_as_soon_as_there_is_something(make: Callable[..., Sender]) -> None:
    queue = make()
    consumer = queue.connect()
    waiting = asyncio.ensure_future(consumer.receive(10, 20))
    await asyncio.sleep(0)
    await asyncio.to_thread(queue.send, "late", None)
    assert bodies(await waiting) == ["late"]


async def test_a_call_that_is_given_up_leaves_the_connection_usable(make: Callable[..., Sender]) -> None:
    queue = make()
    consumer = queue.connect()
    waiting = asyncio.ensure_future(consumer.receive(10, 1))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await consumer.visibility_seconds() == 30


async def test_no_message_of_a_group_comes_while_another_is_hidden(make: Callable[..., Sender]) -> None:
    queue = make(ordered=True)
    for number in range(3):
        queue.send(f"a{number}", "a")
    queue.send("b0", "b")
    consumer = queue.connect()
    [first] = await consumer.receive(1, 0)
    assert (first["Body"], first["Attributes"]["MessageGroupId"]) == ("a0", "a")
    others = await consumer.receive(10, 0)
    assert bodies(others) == ["b0"]
    assert await consumer.delete([first["ReceiptHandle"]]) == []
    assert bodies(await consumer.receive(10, 0)) == ["a1", "a2"]


async def test_a_queue_that_is_not_there_is_named_as_lambda_names_it(moto: str) -> None:
    source = resource_of("arn:aws:sqs:us-east-1:123456789012:nowhere", ("sqs",))
    assert source is not None
    queue = SqsQueue(Connection(moto, "k", "s", service="sqs"), source, TENANT, SystemClock())
    with pytest.raises(SourceError) as caught:
        await queue.receive(1, 0)
    assert caught.value.code == "AWS.SimpleQueueService.NonExistentQueue"
    assert caught.value.message == "The specified queue does not exist."
    queue.close()


async def test_an_endpoint_that_does_not_answer_has_no_code() -> None:
    source = resource_of("arn:aws:sqs:us-east-1:123456789012:q", ("sqs",))
    assert source is not None
    queue = SqsQueue(Connection("http://127.0.0.1:9", "k", "s", service="sqs"), source, TENANT, SystemClock())
    with pytest.raises(SourceError, match="cannot be reached") as caught:
        await queue.visibility_seconds()
    assert caught.value.code == ""
