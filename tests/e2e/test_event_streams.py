"""Streams that functions are invoked with: moto's, through boto3, against a whole cluster."""

from __future__ import annotations

import base64
import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import service
from tests.e2e.effects import TELL, Effects, effects
from tests.e2e.harness import Cluster, eventually, zipped
from tests.e2e.reading import ACCOUNT, STREAMS, make_queue, reading_cluster

# Tells each record's data, and what it does with it: what data says, fails.
TELLS = (
    TELL
    + """
def handler(event, context):
    for record in event["Records"]:
        if "kinesis" in record:
            data = base64.b64decode(record["kinesis"]["data"]).decode()
        else:
            data = record["dynamodb"]["Keys"]["id"]["S"]
        if data.startswith("whole"):
            tell(context, base64.b64encode(json.dumps(event).encode()).decode())
        tell(context, "tried:" + data)
        if data.startswith("poison"):
            raise ValueError(data)
        if data.startswith("part"):
            sequence = (record.get("kinesis") or record["dynamodb"])
            sequence = sequence.get("sequenceNumber") or sequence["SequenceNumber"]
            if not os.path.exists("/tmp/" + data):
                open("/tmp/" + data, "w").close()
                return {"batchItemFailures": [{"itemIdentifier": sequence}]}
        tell(context, "done:" + data)
    return {}
"""
)
PACKAGE = zipped({"app.py": TELLS})
# Sums a window's numbers; tells each batch's sum, and what the window came to.
SUMS = (
    TELL
    + """
def handler(event, context):
    assert event["shardId"] == "shardId-000000000000"
    start = event["window"]["start"].replace(":", ".")
    if event["isFinalInvokeForWindow"]:
        assert event["Records"] == []
        return tell(context, f"last:{start}|:{event['state']['sum']}:{event['eventSourceARN']}:{event['isWindowTerminatedEarly']}")
    total = event["state"].get("sum", 0)
    total += sum(int(base64.b64decode(record["kinesis"]["data"])) for record in event["Records"])
    tell(context, f"batch:{start}|{total}")
    return {"state": {"sum": total}}
"""
)


@pytest.fixture
def told() -> Iterator[Effects]:
    with effects() as made:
        yield made


@pytest.fixture(scope="module")
def cluster(moto: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with reading_cluster(moto, tmp_path_factory.mktemp("connections")) as made:
        yield made


class Stream:
    """A data stream of moto's."""

    def __init__(self, moto: str, name: str, shards: int = 1) -> None:
        self.name = name
        self.client = service(moto, "kinesis")
        self.client.create_stream(StreamName=name, ShardCount=shards)
        self.arn = f"{STREAMS}/{name}"

    def put(self, *data: str, key: str = "k") -> None:
        for each in data:
            self.client.put_record(StreamName=self.name, Data=each.encode(), PartitionKey=key)


def mapped(cluster: Cluster, told: Effects, arn: str, name: str, **settings: Any) -> str:
    """A function, and a mapping of a stream to it that is Enabled; answers its UUID."""
    cluster.create(name, PACKAGE, Timeout=5, Environment={"Variables": {"PORT": str(told.port)}})
    made = cluster.client().create_event_source_mapping(
        FunctionName=name, EventSourceArn=arn, **({"StartingPosition": "TRIM_HORIZON"} | settings)
    )
    enabled(cluster, made["UUID"])
    return str(made["UUID"])


def enabled(cluster: Cluster, uuid: str, state: str = "Enabled") -> None:
    eventually(lambda: cluster.client().get_event_source_mapping(UUID=uuid)["State"] == state)


def result(cluster: Cluster, uuid: str) -> str:
    return str(cluster.client().get_event_source_mapping(UUID=uuid)["LastProcessingResult"])


def seen(told: Effects, kind: str) -> list[str]:
    """Data that was tried or done, in order."""
    return [what.removeprefix(kind) for _, what, _, _ in told.told if what.startswith(kind)]


def test_a_record_of_kinesis_becomes_an_event_of_awss_form(cluster: Cluster, told: Effects, moto: str) -> None:
    stream = Stream(moto, "forms")
    stream.put("whole")
    uuid = mapped(cluster, told, stream.arn, "forms")
    eventually(lambda: seen(told, "done:") == ["whole"])
    event = json.loads(base64.b64decode(told.told[0][1]))
    [record] = event.pop("Records")
    assert event == {}
    kinesis = record.pop("kinesis")
    assert isinstance(kinesis.pop("approximateArrivalTimestamp"), int | float)
    sequence = kinesis.pop("sequenceNumber")
    assert kinesis == {"kinesisSchemaVersion": "1.0", "partitionKey": "k", "data": base64.b64encode(b"whole").decode()}
    assert record == {
        "eventSource": "aws:kinesis", "eventVersion": "1.0", "eventID": f"shardId-000000000000:{sequence}",
        "eventName": "aws:kinesis:record", "invokeIdentityArn": "arn:aws:iam::000000000000:role/any",
        "awsRegion": "us-east-1", "eventSourceARN": stream.arn,
    }  # fmt: skip
    eventually(lambda: result(cluster, uuid) == "OK")


def test_a_change_of_a_table_becomes_an_event_of_awss_form(cluster: Cluster, told: Effects, moto: str) -> None:
    client = service(moto, "dynamodb")
    arn = client.create_table(
        TableName="items", KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}], BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )["TableDescription"]["LatestStreamArn"]  # fmt: skip
    mapped(
        cluster, told, arn, "items",
        FilterCriteria={"Filters": [{"Pattern": '{"eventName": ["INSERT"], "dynamodb": {"NewImage": {"n": {"N": ["5"]}}}}'}]},
    )  # fmt: skip
    client.put_item(TableName="items", Item={"id": {"S": "other"}, "n": {"N": "4"}})
    client.put_item(TableName="items", Item={"id": {"S": "whole"}, "n": {"N": "5"}})
    client.delete_item(TableName="items", Key={"id": {"S": "whole"}})
    eventually(lambda: seen(told, "done:") == ["whole"])
    [record] = json.loads(base64.b64decode(told.told[0][1]))["Records"]
    change = record.pop("dynamodb")
    assert change["Keys"] == {"id": {"S": "whole"}}
    assert change["NewImage"] == {"id": {"S": "whole"}, "n": {"N": "5"}}
    assert change["StreamViewType"] == "NEW_AND_OLD_IMAGES"
    assert {"ApproximateCreationDateTime", "SequenceNumber", "SizeBytes"} <= change.keys()
    assert record.pop("eventID")
    assert record.pop("eventVersion")  # moto's is older than AWS's
    assert record == {
        "eventName": "INSERT", "eventSource": "aws:dynamodb", "awsRegion": "us-east-1", "eventSourceARN": arn,
    }  # fmt: skip


def test_records_stay_in_order_and_what_fails_stands_before_what_follows(
    cluster: Cluster, told: Effects, moto: str
) -> None:
    stream = Stream(moto, "orders")
    mapped(cluster, told, stream.arn, "orders", BatchSize=4, FunctionResponseTypes=["ReportBatchItemFailures"])
    stream.put("a", "b", "part-c", "d", "e", "f")
    eventually(lambda: seen(told, "done:")[-1:] == ["f"])
    assert seen(told, "done:") == ["a", "b", "part-c", "d", "e", "f"]
    assert seen(told, "tried:").count("part-c") == 2


def test_what_a_function_makes_of_a_window_is_handed_on_to_its_end(cluster: Cluster, told: Effects, moto: str) -> None:
    stream = Stream(moto, "sums")
    variables = {"Variables": {"PORT": str(told.port)}}
    cluster.create("sums", zipped({"app.py": SUMS}), Timeout=5, Environment=variables)
    made = cluster.client().create_event_source_mapping(
        FunctionName="sums", EventSourceArn=stream.arn, StartingPosition="TRIM_HORIZON", BatchSize=2,
        TumblingWindowInSeconds=3,
    )  # fmt: skip
    enabled(cluster, made["UUID"])
    assert made["TumblingWindowInSeconds"] == 3
    stream.put("1", "2", "3", "4", "5")

    def ended() -> bool:
        return sum(int(each.split(":")[1]) for each in seen(told, "last:")) == 15

    assert eventually(ended)
    # Whatever windows the five came in, each was begun anew and carried on from batch to batch.
    for window in {what.split("|")[0] for what in seen(told, "batch:")}:
        sums = [int(what.split("|")[1]) for what in seen(told, "batch:") if what.startswith(window + "|")]
        assert sums == sorted(sums)
        [last] = [what for what in seen(told, "last:") if what.startswith(window + "|")]
        assert last.endswith(f":{sums[-1]}:{stream.arn}:False")
    eventually(lambda: result(cluster, made["UUID"]) == "OK")


def test_what_never_succeeds_is_found_by_halves_and_told_to_a_queue(cluster: Cluster, told: Effects, moto: str) -> None:
    stream, queue = Stream(moto, "halves"), make_queue(moto, "given-up")
    stream.put("a", "b", "poison", "c", "d")
    uuid = mapped(
        cluster, told, stream.arn, "halves", BisectBatchOnFunctionError=True, MaximumRetryAttempts=1,
        DestinationConfig={"OnFailure": {"Destination": queue}},
    )  # fmt: skip
    eventually(lambda: seen(told, "done:")[-1:] == ["d"])
    assert sorted(set(seen(told, "done:"))) == ["a", "b", "c", "d"]
    sqs = service(moto, "sqs")
    url = sqs.get_queue_url(QueueName="given-up")["QueueUrl"]
    [message] = eventually(lambda: sqs.receive_message(QueueUrl=url).get("Messages"))
    letter = json.loads(message["Body"])
    request_id = letter["requestContext"].pop("requestId")
    assert letter["requestContext"] == {
        "functionArn": f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:halves", "condition": "RetryAttemptsExhausted",
        "approximateInvokeCount": 2,
    }  # fmt: skip
    assert letter["responseContext"] == {
        "statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled",
    }  # fmt: skip
    info = letter["KinesisBatchInfo"]
    assert (info["shardId"], info["batchSize"], info["streamArn"]) == ("shardId-000000000000", 1, stream.arn)
    assert info["startSequenceNumber"] == info["endSequenceNumber"]
    assert [what for id_, what, _, _ in told.told if id_ == request_id] == ["tried:poison"]
    eventually(lambda: result(cluster, uuid) == "OK")


def test_a_stream_is_read_on_from_where_it_was_left(cluster: Cluster, told: Effects, moto: str) -> None:
    stream = Stream(moto, "goes-on", 3)
    for number in range(12):
        stream.put(f"old-{number}", key=f"k{number}")
    uuid = mapped(
        cluster, told, stream.arn, "goes-on", StartingPosition="LATEST", ParallelizationFactor=3,
    )  # fmt: skip
    for number in range(12):
        stream.put(f"first-{number}", key=f"k{number}")
    eventually(lambda: len(seen(told, "done:")) == 12)
    eventually(lambda: result(cluster, uuid) == "OK")
    client = cluster.client()
    client.update_event_source_mapping(UUID=uuid, Enabled=False)
    enabled(cluster, uuid, "Disabled")
    for number in range(12):
        stream.put(f"second-{number}", key=f"k{number}")
    client.update_event_source_mapping(UUID=uuid, Enabled=True, BatchSize=2)
    eventually(lambda: len(seen(told, "done:")) == 24)
    # A poller that is lost has saved what it was done with.
    os.kill(cluster.pid("poller"), signal.SIGKILL)
    for number in range(12):
        stream.put(f"third-{number}", key=f"k{number}")
    eventually(lambda: len(set(seen(told, "done:"))) == 36)
    assert sorted(seen(told, "done:")) == sorted(
        f"{round_}-{number}" for round_ in ("first", "second", "third") for number in range(12)
    )


def test_a_stream_that_is_deleted_is_named(cluster: Cluster, told: Effects, moto: str) -> None:
    stream = Stream(moto, "vanishes")
    uuid = mapped(cluster, told, stream.arn, "vanishes")
    assert result(cluster, uuid) == "No records processed"
    stream.client.delete_stream(StreamName="vanishes")
    eventually(lambda: "ResourceNotFoundException" in result(cluster, uuid))


def test_a_batch_is_given_up_once_it_has_been_tried_often_enough(cluster: Cluster, told: Effects, moto: str) -> None:
    stream = Stream(moto, "often")
    stream.put("poison", "a")
    mapped(cluster, told, stream.arn, "often", MaximumRetryAttempts=2)
    eventually(lambda: seen(told, "tried:").count("poison") == 3)
    stream.put("b")
    eventually(lambda: seen(told, "done:") == ["b"])
    assert seen(told, "tried:").count("poison") == 3
