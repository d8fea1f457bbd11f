"""Deliveries over the real protocols, to moto's server; over none, to Redis."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from lambent.domain.async_events import Condition, RetryPolicy
from lambent.domain.destinations import Ended, dead_letter_attributes, record
from lambent.domain.limits import Limits
from lambent.domain.names import Tenant
from lambent.infra.clock import SystemClock
from lambent.infra.connections import Connection, Connections, ConnectionsError, load
from lambent.infra.queue.port import Dead, Delayed, Done, Leased, QueueKey
from lambent.infra.queue.records import Delivery, decode_state, encode
from lambent.infra.redis_client import connect
from lambent.infra.telemetry import Telemetry
from services.poller.redis_streams import RedisStreams
from services.poller.sending import Deliveries, Sender
from tests.conftest import free_port, service

TENANT = Tenant("123456789012", "us-east-1")
ENDED = Ended(
    TENANT, "f", "live", "8ea123e4-1db7-4aca-ad10-d9ca1234c1fd", Condition.RETRIES_EXHAUSTED, 3, 1574632353.3,
    '{"say": "grüß & co=1"}'.encode(), "7", "Unhandled", b'{"errorMessage":"no"}', "",
)  # fmt: skip


@pytest.fixture
async def make(redis_url: str) -> AsyncIterator[Any]:
    """Makes deliveries with a table of connections."""
    client = connect(redis_url)
    telemetry = Telemetry("test", otlp_endpoint="", prometheus=False, instance="t")

    def made(*rows: Connection, seconds: float = 1e10) -> Deliveries:
        sender = Sender(Connections(rows), RedisStreams(client), SystemClock())
        return Deliveries(sender, RetryPolicy.standard(Limits()), seconds, telemetry)

    made.redis = client  # type: ignore[attr-defined]
    yield made
    await client.aclose()


def row(endpoint: str, service: str) -> Connection:
    return Connection(endpoint, "k", "s", service=service)


def item(target: str, kind: str) -> tuple[QueueKey, Leased]:
    attributes = dict(dead_letter_attributes(ENDED)) if kind == "DeadLetter" else {}
    delivery = Delivery(kind, "f", ENDED.function_arn, ENDED.request_id, ENDED.condition, ENDED.now, attributes)
    body = ENDED.payload if kind == "DeadLetter" else record(ENDED)
    return QueueKey(TENANT, f"@{target}"), Leased("x", "1 p", encode(delivery, body), b"")


async def test_a_queue_is_told_records_and_dead_letters(make: Any, moto: str) -> None:
    sqs = service(moto, "sqs")
    url = sqs.create_queue(QueueName="q")["QueueUrl"]
    deliveries = make(row(moto, "sqs"))
    for kind in ("OnFailure", "DeadLetter"):
        verdict, held_back = await deliveries.run(*item("arn:aws:sqs:us-east-1:123456789012:q", kind), ENDED.now)
        assert (verdict, held_back) == (Done(), False)
        [message] = sqs.receive_message(QueueUrl=url, MessageAttributeNames=["All"])["Messages"]
        sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        if kind == "DeadLetter":
            assert message["Body"].encode() == ENDED.payload
            values = {
                name: (each["DataType"], each["StringValue"]) for name, each in message["MessageAttributes"].items()
            }
            assert values == dict(dead_letter_attributes(ENDED))
        else:
            assert json.loads(message["Body"]) == json.loads(record(ENDED))
            assert "MessageAttributes" not in message


async def test_a_topic_is_told(make: Any, moto: str) -> None:
    sqs, sns = service(moto, "sqs"), service(moto, "sns")
    url = sqs.create_queue(QueueName="of-topic")["QueueUrl"]
    topic = sns.create_topic(Name="t")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint="arn:aws:sqs:us-east-1:123456789012:of-topic")
    assert await make(row(moto, "sns")).run(*item(topic, "DeadLetter"), ENDED.now) == (Done(), False)
    [message] = sqs.receive_message(QueueUrl=url)["Messages"]
    envelope = json.loads(message["Body"])
    assert envelope["Message"].encode() == ENDED.payload
    values = {name: (each["Type"], each["Value"]) for name, each in envelope["MessageAttributes"].items()}
    assert values == dict(dead_letter_attributes(ENDED))


async def test_a_bus_is_told(make: Any, moto: str) -> None:
    sqs, events = service(moto, "sqs"), service(moto, "events")
    url = sqs.create_queue(QueueName="of-bus")["QueueUrl"]
    bus = events.create_event_bus(Name="b")["EventBusArn"]
    events.put_rule(Name="r", EventBusName="b", EventPattern='{"source": ["lambda"]}')
    target = {"Id": "1", "Arn": "arn:aws:sqs:us-east-1:123456789012:of-bus"}
    events.put_targets(Rule="r", EventBusName="b", Targets=[target])
    assert await make(row(moto, "events")).run(*item(bus, "OnFailure"), ENDED.now) == (Done(), False)
    [message] = sqs.receive_message(QueueUrl=url)["Messages"]
    event = json.loads(message["Body"])
    assert event["detail-type"] == "Lambda Function Invocation Result - Failure"
    assert event["resources"] == [bus, ENDED.function_arn]
    assert event["detail"] == json.loads(record(ENDED))


async def test_a_bucket_is_told(make: Any, moto: str) -> None:
    s3 = service(moto, "s3")
    s3.create_bucket(Bucket="bucket")
    assert await make(row(moto, "s3")).run(*item("arn:aws:s3:::bucket", "OnFailure"), ENDED.now) == (Done(), False)
    [kept] = s3.list_objects_v2(Bucket="bucket")["Contents"]
    assert kept["Key"] == f"aws/lambda/async/f/2019/11/24/2019-11-24T21.52.33-{ENDED.request_id}"
    assert json.loads(s3.get_object(Bucket="bucket", Key=kept["Key"])["Body"].read()) == json.loads(record(ENDED))


async def test_what_has_no_connection_is_told_in_redis(make: Any) -> None:
    target = "arn:aws:sqs:us-east-1:123456789012:q"
    assert await make().run(*item(target, "DeadLetter"), ENDED.now) == (Done(), False)
    [(_, fields)] = await make.redis.xrange(f"lambent:{TENANT.tag}:destination:{target}")
    assert fields[b"body"] == ENDED.payload
    assert fields[b"kind"] == b"DeadLetter"
    assert json.loads(fields[b"attributes"])["ErrorMessage"] == "no"


async def test_what_is_refused_for_good_is_given_up_and_what_may_pass_is_tried_again(make: Any, moto: str) -> None:
    key, leased = item("arn:aws:sqs:us-east-1:123456789012:nowhere", "OnFailure")
    verdict, held_back = await make(row(moto, "sqs")).run(key, leased, ENDED.now)
    assert isinstance(verdict, Dead)
    assert "QueueDoesNotExist" in decode_state(verdict.state)[0].detail
    away = row(f"http://127.0.0.1:{free_port()}", "sqs")
    verdict, held_back = await make(away).run(key, leased, ENDED.now)
    assert held_back
    assert isinstance(verdict, Delayed)
    assert verdict.until == ENDED.now + 1
    again = Leased("x", "2 p", leased.value, verdict.state)
    verdict, _ = await make(away).run(key, again, ENDED.now + 1)
    assert isinstance(verdict, Delayed)
    assert verdict.until == ENDED.now + 3
    verdict, _ = await make(away, seconds=100).run(key, again, ENDED.now + 100)
    assert isinstance(verdict, Dead)
    assert "cannot be reached" in decode_state(verdict.state)[0].detail


def test_the_table_finds_the_most_special_row_of_the_account(tmp_path: Any) -> None:
    file = tmp_path / "connections.toml"
    keys = 'endpoint = "http://h:1"\naccess_key = "k"\nsecret_key = "s"\n'
    arn = "arn:aws:sqs:us-east-1:123456789012:q"
    file.write_text(
        f'[[connections]]\nservice = "sqs"\n{keys}[[connections]]\narn = "{arn}"\n{keys}'
        f'[[connections]]\nservice = "sns"\naccount = "000000000000"\n{keys}'
    )
    table = load(str(file))
    from lambent.domain.destinations import ON_FAILURE, parse

    def found(arn: str) -> Connection | None:
        destination = parse(arn, ON_FAILURE)
        assert destination is not None
        return table.find(TENANT, destination)

    exact, other = found(arn), found(arn + "2")
    assert exact is not None
    assert exact.arn == arn
    assert other is not None
    assert other.service == "sqs"
    assert found("arn:aws:sns:us-east-1:123456789012:t") is None
    for wrong, says in (
        ("[[connections]]\n" + keys, "either service or arn"),
        ('[[connections]]\nservice = "ses"\n' + keys, "is none of"),
        ('[[connections]]\nservice = "sqs"\n' + keys.replace(":1", ":1/x"), "without a path"),
        ("nonsense", "cannot use connections"),
        ('[[connections]]\narn = "foo"\n' + keys, "is of nothing that can be told"),
    ):
        file.write_text(wrong)
        with pytest.raises(ConnectionsError, match=says) as caught:
            load(str(file))
        assert "\n" not in str(caught.value)
    assert "secret_key" not in repr(found(arn))
