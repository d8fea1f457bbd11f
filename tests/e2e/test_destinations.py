"""How events are run is set, and who is told what came of them, through boto3."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lambent.infra.redis_client import connect
from tests.conftest import service
from tests.e2e.effects import Effects, effects
from tests.e2e.harness import Cluster, error_of, eventually, run
from tests.e2e.test_async import create, send

ACCOUNT = "000000000000"
BASE = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function"


@pytest.fixture
def told() -> Iterator[Effects]:
    with effects() as made:
        yield made


@pytest.fixture(scope="module")
def telling(moto: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose queues are moto's, while its topics are built in."""
    file = tmp_path_factory.mktemp("connections") / "connections.toml"
    file.write_text(f'[[connections]]\nservice = "sqs"\nendpoint = "{moto}"\naccess_key = "k"\nsecret_key = "s"\n')
    with tempfile.TemporaryDirectory(prefix="ld-", dir="/tmp") as folder:
        cluster = Cluster(
            Path(folder) / "data", "--no-examples", LAMBENT_QUEUE_CONNECTIONS=str(file),
        )  # fmt: skip
        yield cluster.start()
        cluster.stop()


def test_what_is_set_is_answered_in_awss_form(telling: Cluster, told: Effects) -> None:
    client, name = telling.client(), create(telling, told, "sets")
    nothing = (404, "ResourceNotFoundException", f"The function {BASE}:sets:$LATEST doesn't have an EventInvokeConfig")
    assert error_of(client.get_function_event_invoke_config, FunctionName=name) == nothing
    assert error_of(client.update_function_event_invoke_config, FunctionName=name, MaximumRetryAttempts=1) == nothing
    assert error_of(client.delete_function_event_invoke_config, FunctionName=name) == nothing
    put = client.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)
    assert put["FunctionArn"] == f"{BASE}:sets:$LATEST"
    assert put["MaximumRetryAttempts"] == 0
    assert "MaximumEventAgeInSeconds" not in put
    assert put["DestinationConfig"] == {"OnSuccess": {}, "OnFailure": {}}
    queue = f"arn:aws:sqs:us-east-1:{ACCOUNT}:q"
    config = {"OnFailure": {"Destination": queue}}
    merged = client.update_function_event_invoke_config(
        FunctionName=name, MaximumEventAgeInSeconds=60, DestinationConfig=config
    )
    assert (merged["MaximumRetryAttempts"], merged["MaximumEventAgeInSeconds"]) == (0, 60)
    assert merged["DestinationConfig"] == {"OnSuccess": {}, "OnFailure": {"Destination": queue}}
    got = client.get_function_event_invoke_config(FunctionName=name, Qualifier="$LATEST")
    del got["ResponseMetadata"], merged["ResponseMetadata"]
    assert got == merged
    # Not inherited: a version and an alias have their own.
    version = client.publish_version(FunctionName=name)["Version"]
    client.create_alias(FunctionName=name, Name="live", FunctionVersion=version)
    missing = error_of(client.get_function_event_invoke_config, FunctionName=name, Qualifier=version)
    assert missing[2].endswith(f"sets:{version} doesn't have an EventInvokeConfig")
    for qualifier in (version, "live"):
        client.put_function_event_invoke_config(FunctionName=name, Qualifier=qualifier, MaximumRetryAttempts=1)
    pages = client.get_paginator("list_function_event_invoke_configs").paginate(
        FunctionName=name, PaginationConfig={"PageSize": 2}
    )
    listed = [each["FunctionArn"] for page in pages for each in page["FunctionEventInvokeConfigs"]]
    assert listed == [f"{BASE}:sets:{each}" for each in ("$LATEST", version, "live")]
    client.delete_function_event_invoke_config(FunctionName=name)
    client.delete_alias(FunctionName=name, Name="live")
    left = client.list_function_event_invoke_configs(FunctionName=name)["FunctionEventInvokeConfigs"]
    assert [each["FunctionArn"] for each in left] == [f"{BASE}:sets:{version}"]


@pytest.mark.parametrize(
    ("arguments", "status", "code", "says"),
    [
        ({}, 400, "InvalidParameterValueException", "You must specify at least one of error handling or destination setting."),
        ({"FunctionName": "nobody", "MaximumRetryAttempts": 1}, 404, "ResourceNotFoundException", "The function doesn't exist."),
        ({"Qualifier": "9", "MaximumRetryAttempts": 1}, 404, "ResourceNotFoundException", "The function doesn't exist."),
        ({"MaximumRetryAttempts": 3}, 400, "ValidationException", "at 'maximumRetryAttempts' failed to satisfy constraint: Member must have value less than or equal to 2"),
        ({"MaximumEventAgeInSeconds": 59}, 400, "ValidationException", "at 'maximumEventAgeInSeconds' failed to satisfy constraint: Member must have value greater than or equal to 60"),
        ({"DestinationConfig": {"OnFailure": {"Destination": "no arn"}}}, 400, "ValidationException", "at 'destinationConfig.onFailure.destination' failed to satisfy constraint"),
        ({"DestinationConfig": {"OnSuccess": {"Destination": f"{BASE}:gone"}}}, 400, "InvalidParameterValueException", f"The destination ARN {BASE}:gone is invalid."),
        ({"DestinationConfig": {"OnSuccess": {"Destination": f"{BASE}:errors"}}}, 400, "InvalidParameterValueException", "You can't specify the function as a destination for itself."),
        ({"DestinationConfig": {"OnSuccess": {"Destination": "arn:aws:s3:::b"}}}, 400, "InvalidParameterValueException", "The provided destination config DestinationConfig(onSuccess=OnSuccess(destination=arn:aws:s3:::b), onFailure=null) is invalid."),
    ],
)  # fmt: skip
def test_what_cannot_be_set_is_refused(
    telling: Cluster, told: Effects, arguments: dict[str, Any], status: int, code: str, says: str
) -> None:
    client = telling.client(validation=False)
    if error_of_absence(client):
        create(telling, told, "errors")
    got = error_of(client.put_function_event_invoke_config, **({"FunctionName": "errors"} | arguments))
    assert got[:2] == (status, code)
    assert says in got[2]


def error_of_absence(client: Any) -> bool:
    """Whether the function of the errors is not there yet."""
    return not any(each["FunctionName"] == "errors" for each in client.list_functions()["Functions"])


def test_a_dead_letter_target_is_a_queue_or_a_topic(telling: Cluster, told: Effects) -> None:
    client, name = telling.client(), create(telling, told, "letters")
    for arn in ("arn:aws:s3:::b", f"arn:aws:sqs:us-east-1:{ACCOUNT}:q.fifo"):
        got = error_of(client.update_function_configuration, FunctionName=name, DeadLetterConfig={"TargetArn": arn})
        assert got[:2] == (400, "InvalidParameterValueException")
        assert "must be the ARN of an SQS queue or an SNS topic" in got[2]


def messages(moto: str, name: str) -> list[dict[str, Any]]:
    """What a queue of moto's has."""
    sqs = service(moto, "sqs")
    url = sqs.create_queue(QueueName=name)["QueueUrl"].replace("123456789012", ACCOUNT)
    found = sqs.receive_message(QueueUrl=url, MessageAttributeNames=["All"], MaxNumberOfMessages=10)
    taken: list[dict[str, Any]] = found.get("Messages", [])
    return taken


def stream(cluster: Cluster, arn: str) -> list[str]:
    """What a built-in destination was told, read from Redis."""
    key = f"lambent:{{{ACCOUNT}:us-east-1}}:destination:{arn}"

    async def read() -> list[str]:
        client = connect(f"unix://{cluster.data}/run/redis.sock")
        entries: Any = await client.xrange(key)
        await client.aclose()
        return [fields[b"body"].decode() for _, fields in entries]

    return asyncio.run(read())


def test_successes_and_failures_are_told_to_functions_queues_and_topics(
    telling: Cluster, told: Effects, moto: str
) -> None:
    client, name = telling.client(), create(telling, told, "ends")
    create(telling, told, "hears")
    topic, queue = f"arn:aws:sns:us-east-1:{ACCOUNT}:t", f"arn:aws:sqs:us-east-1:{ACCOUNT}:failures"
    messages(moto, "failures")
    telling.update(name, DeadLetterConfig={"TargetArn": topic})
    client.put_function_event_invoke_config(
        FunctionName=name, MaximumRetryAttempts=0,
        DestinationConfig={"OnSuccess": {"Destination": f"{BASE}:hears"}, "OnFailure": {"Destination": queue}},
    )  # fmt: skip
    good = send(client, name, n=1)
    # The function that is told sends what it knows: the record has no `n`, so 0, and a request id of its own.
    assert {(number, request_id == good) for request_id, number, _, _ in told.wait(2)} == {("1", True), ("0", False)}
    bad = send(client, name, n=2, fail=True)
    [message] = eventually(lambda: messages(moto, "failures"))
    record = json.loads(message["Body"])
    assert record["requestContext"] == {
        "requestId": bad, "functionArn": f"{BASE}:ends:$LATEST", "condition": "RetriesExhausted",
        "approximateInvokeCount": 1,
    }  # fmt: skip
    assert record["requestPayload"] == {"n": 2, "fail": True}
    assert record["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"}
    assert record["responsePayload"]["errorType"] == "ValueError"
    assert [json.loads(body) for body in eventually(lambda: stream(telling, topic))] == [{"n": 2, "fail": True}]


def test_an_event_that_would_be_too_old_does_not_wait_and_one_without_concurrency_has_no_response(
    telling: Cluster, told: Effects
) -> None:
    client, name = telling.client(), create(telling, told, "old")
    topic = f"arn:aws:sns:us-east-1:{ACCOUNT}:old"
    client.put_function_event_invoke_config(
        FunctionName=name, MaximumEventAgeInSeconds=60, DestinationConfig={"OnFailure": {"Destination": topic}}
    )
    send(client, name, n=1, fail=True)
    [body] = eventually(lambda: stream(telling, topic))
    context = json.loads(body)["requestContext"]
    assert (context["condition"], context["approximateInvokeCount"]) == ("EventAgeExceeded", 1)
    assert json.loads(body)["responsePayload"]["errorMessage"] == "no"
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    send(client, name, n=2)
    record = json.loads(eventually(lambda: stream(telling, topic)[1:])[0])
    assert record["requestContext"]["condition"] == "ZeroReservedConcurrency"
    assert record["requestContext"]["approximateInvokeCount"] == 0
    assert not record.keys() & {"responseContext", "responsePayload"}


def test_a_table_of_connections_that_cannot_be_used_is_said_at_the_start(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "data", "--no-examples", LAMBENT_QUEUE_CONNECTIONS=str(tmp_path / "none.toml"))
    done = run(*cluster.command(), env=cluster.environment | cluster.settings)
    assert done.returncode == 1
    assert "cannot use connections of" in done.stdout + done.stderr
