"""Records of streams as events have them, what is told of those that are given up, and the order of shards."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from lambent.domain.destinations import Destination, resource_of
from lambent.domain.stream_records import (
    RETRIES_EXHAUSTED,
    TOO_OLD,
    GivenUp,
    Shard,
    StreamRecord,
    dynamodb_record,
    failure_key,
    failure_record,
    in_order,
    kinesis_record,
)


def source_of(arn: str) -> Destination:
    source = resource_of(arn, ("kinesis", "dynamodb"))
    assert source is not None
    return source


STREAM = source_of("arn:aws:kinesis:us-east-2:123456789012:stream/s")
TABLE = source_of("arn:aws:dynamodb:us-east-2:123456789012:table/t/stream/2019-06-10T19:26:16.525")
ROLE = "arn:aws:iam::123456789012:role/lambda-role"
SEQUENCE = "49590338271490256608559692538361571095921575989136588898"

SENT: dict[str, Any] = {
    "SequenceNumber": SEQUENCE, "ApproximateArrivalTimestamp": 1545084650.987, "Data": "SGVsbG8=", "PartitionKey": "1",
    "EncryptionType": "NONE",
}  # fmt: skip
CHANGED: dict[str, Any] = {
    "eventID": "c4ca4238a0b923820dcc509a6f75849b", "eventName": "MODIFY", "eventVersion": "1.1", "eventSource": "aws:dynamodb",
    "awsRegion": "us-east-2",
    "dynamodb": {
        "ApproximateCreationDateTime": 1428537600.0, "Keys": {"Id": {"N": "101"}, "At": {"S": "x"}},
        "NewImage": {"Message": {"S": "new"}, "Id": {"N": "101"}}, "OldImage": {"Id": {"N": "101"}},
        "SequenceNumber": "4421584500000000017450439092", "SizeBytes": 59, "StreamViewType": "NEW_AND_OLD_IMAGES",
    },
}  # fmt: skip


def test_a_data_streams_record_is_lambdas() -> None:
    record = kinesis_record(SENT, "shardId-000000000006", STREAM, "eu-west-1", ROLE)
    assert (record.sequence, record.key, record.arrived) == (SEQUENCE, "1", 1545084650.987)
    assert record.document == {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": "1",
            "sequenceNumber": SEQUENCE,
            "data": "SGVsbG8=",
            "approximateArrivalTimestamp": 1545084650.987,
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"shardId-000000000006:{SEQUENCE}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": ROLE,
        "awsRegion": "us-east-2",
        "eventSourceARN": "arn:aws:kinesis:us-east-2:123456789012:stream/s",
    }


def test_a_data_streams_record_may_be_empty() -> None:
    record = kinesis_record({**SENT, "Data": ""}, "s", replace(STREAM, region=""), "eu-west-1", ROLE)
    assert (record.document["kinesis"]["data"], record.document["awsRegion"]) == ("", "eu-west-1")


def test_a_tables_record_is_lambdas() -> None:
    record = dynamodb_record(CHANGED, TABLE, "eu-west-1")
    assert (record.sequence, record.arrived) == ("4421584500000000017450439092", 1428537600)
    assert record.key == '{"At": {"S": "x"}, "Id": {"N": "101"}}'
    assert record.document == {**CHANGED, "eventSourceARN": TABLE.arn}
    # A whole number is written as one.
    assert '"ApproximateCreationDateTime": 1428537600,' in json.dumps(record.document)


def test_who_deleted_an_item_is_told_in_lambdas_spelling() -> None:
    deleted = {**CHANGED, "eventName": "REMOVE"}
    deleted["userIdentity"] = {"PrincipalId": "dynamodb.amazonaws.com", "Type": "Service"}
    document = dynamodb_record(deleted, TABLE, "us-east-2").document
    assert document["userIdentity"] == {"type": "Service", "principalId": "dynamodb.amazonaws.com"}


def test_what_a_tables_stream_leaves_out_is_left_out() -> None:
    change = {"SequenceNumber": "1", "ApproximateCreationDateTime": 1.5, "Keys": {"Id": {"N": "1"}}}
    sparse = {"eventID": "e", "eventName": "INSERT", "dynamodb": change, "userIdentity": None}
    assert dynamodb_record(sparse, replace(TABLE, region=""), "us-east-2").document == {
        "eventID": "e",
        "eventName": "INSERT",
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": "us-east-2",
        "dynamodb": change,
        "eventSourceARN": TABLE.arn,
    }


NO_TIMES: list[object] = ["1", None, True, -1, 1e30, float("nan"), float("inf"), []]


@pytest.mark.parametrize(
    "raw",
    [
        None, [], "record", {},
        *({name: value for name, value in SENT.items() if name != left_out} for left_out in SENT if left_out != "EncryptionType"),
        {**SENT, "SequenceNumber": 1}, {**SENT, "SequenceNumber": ""}, {**SENT, "PartitionKey": None}, {**SENT, "Data": {}},
        *({**SENT, "ApproximateArrivalTimestamp": time} for time in NO_TIMES),
    ],
)  # fmt: skip
def test_what_is_no_record_of_a_data_stream(raw: Any) -> None:
    with pytest.raises(ValueError, match="of a record is missing or of another type"):
        kinesis_record(raw, "shard", STREAM, "us-east-2", ROLE)


def changed(**members: Any) -> dict[str, Any]:
    return {**CHANGED, "dynamodb": {**CHANGED["dynamodb"], **members}}


@pytest.mark.parametrize(
    "raw",
    [
        None, [], "record", {}, {**CHANGED, "dynamodb": None}, {**CHANGED, "dynamodb": []}, {**CHANGED, "eventID": 1}, {**CHANGED, "eventName": None},
        {**CHANGED, "eventVersion": 1.1}, {**CHANGED, "userIdentity": "x"}, {**CHANGED, "userIdentity": {"Type": "Service"}},
        changed(Keys=None), changed(Keys=[]), changed(NewImage=[]), changed(OldImage="x"), changed(SequenceNumber=5), changed(SizeBytes="59"),
        changed(SizeBytes=True), changed(StreamViewType=1), changed(ApproximateCreationDateTime="now"), changed(ApproximateCreationDateTime=float("nan")),
        changed(Keys={"Id": {"N": float("nan")}}),
    ],
)  # fmt: skip
def test_what_is_no_record_of_a_table(raw: Any) -> None:
    with pytest.raises(ValueError, match=r"of a record is missing or of another type|JSON compliant"):
        dynamodb_record(raw, TABLE, "us-east-2")


RECORDS = [
    StreamRecord("495800", "a", 1573691884.835, {}),
    StreamRecord("495801", "b", 1573691885.0, {}),
    StreamRecord("495802", "a", 1573691885.25, {}),
]
FUNCTION = "arn:aws:lambda:us-east-2:123456789012:function:my-fn"
GIVEN_UP = GivenUp(
    "c9b8fa9f-5a7f-xmpl-af9c-0c604cde93a5", FUNCTION, RETRIES_EXHAUSTED, 4, "$LATEST", "Unhandled", 1573691886.021,
    "shardId-000000000001", RECORDS, STREAM.arn, "kinesis",
)  # fmt: skip
BATCH = {
    "shardId": "shardId-000000000001",
    "startSequenceNumber": "495800",
    "endSequenceNumber": "495802",
    "approximateArrivalOfFirstRecord": "2019-11-14T00:38:04.835Z",
    "approximateArrivalOfLastRecord": "2019-11-14T00:38:05.250Z",
    "batchSize": 3,
    "streamArn": STREAM.arn,
}


def test_a_batch_that_is_given_up_is_told_as_lambda_tells_it() -> None:
    assert json.loads(failure_record(GIVEN_UP)) == {
        "requestContext": {
            "requestId": "c9b8fa9f-5a7f-xmpl-af9c-0c604cde93a5",
            "functionArn": FUNCTION,
            "condition": "RetryAttemptsExhausted",
            "approximateInvokeCount": 4,
        },
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "version": "1.0",
        "timestamp": "2019-11-14T00:38:06.021Z",
        "KinesisBatchInfo": BATCH,
    }


@pytest.mark.parametrize("given", [replace(GIVEN_UP, condition=TOO_OLD), replace(GIVEN_UP, version=None, error=None)])
def test_what_is_too_old_or_never_ran_has_no_response(given: GivenUp) -> None:
    told = json.loads(failure_record(given))
    assert "responseContext" not in told
    assert told["requestContext"]["condition"] == given.condition


def test_a_batch_whose_function_answered_has_no_error() -> None:
    told = json.loads(failure_record(replace(GIVEN_UP, version="7", error=None)))
    assert told["responseContext"] == {"statusCode": 200, "executedVersion": "7"}


def test_a_tables_batch_is_told_by_its_own_name() -> None:
    told = json.loads(failure_record(replace(GIVEN_UP, service="dynamodb", stream_arn=TABLE.arn, records=RECORDS[:1])))
    assert "KinesisBatchInfo" not in told
    assert told["DDBStreamBatchInfo"] == {
        **BATCH,
        "endSequenceNumber": "495800",
        "approximateArrivalOfLastRecord": "2019-11-14T00:38:04.835Z",
        "batchSize": 1,
        "streamArn": TABLE.arn,
    }


def test_a_topics_batch_is_told_by_its_partition_and_offsets() -> None:
    given = replace(
        GIVEN_UP, service="kafka", shard="orders-3", servers="a:9092,b:9092", event_bytes=700,
        stream_arn="arn:aws:kafka:us-east-2:123456789012:cluster/c/u",
    )  # fmt: skip
    told = json.loads(failure_record(given))
    assert told["KafkaBatchInfo"] == {
        "batchSize": len(RECORDS),
        "eventSourceArn": given.stream_arn,
        "bootstrapServers": "a:9092,b:9092",
        "payloadSize": 700,
        "recordInfo": {
            "orders-3": {
                "firstRecordOffset": RECORDS[0].sequence,
                "lastRecordOffset": RECORDS[-1].sequence,
                "firstRecordTimestamp": BATCH["approximateArrivalOfFirstRecord"],
                "lastRecordTimestamp": BATCH["approximateArrivalOfLastRecord"],
            }
        },
    }
    assert "eventSourceArn" not in json.loads(failure_record(replace(given, stream_arn="")))["KafkaBatchInfo"]


def test_a_bucket_keeps_the_event_too() -> None:
    event = '{"Records":[{"a":"grüß"}]}'
    told = json.loads(failure_record(GIVEN_UP, event.encode()))
    assert told.pop("payload") == event
    assert told == json.loads(failure_record(GIVEN_UP))


def test_a_bucket_keeps_it_by_mapping_shard_and_day() -> None:
    key = failure_key("14e0db71-xmpl", "shardId-000000000001", 1573691886.9, "5d2c")
    assert key == "aws/lambda/14e0db71-xmpl/shardId-000000000001/2019/11/14/2019-11-14T00.38.06-5d2c"


@pytest.mark.parametrize(
    ("listed", "ordered"),
    [
        ([], []),
        # As they come; what is not listed does not count.
        ([Shard("b"), Shard("a", ("gone",))], [Shard("b"), Shard("a")]),
        # Listed the wrong way round.
        (
            [Shard("d", ("c",)), Shard("c", ("a", "b")), Shard("b"), Shard("a")],
            [Shard("b"), Shard("a"), Shard("c", ("a", "b")), Shard("d", ("c",))],
        ),
        ([Shard("a"), Shard("a", ("b",)), Shard("b", ("a", "a"))], [Shard("a"), Shard("b", ("a",))]),
        # Circles.
        ([Shard("a", ("a",))], [Shard("a")]),
        ([Shard("a", ("b",)), Shard("b", ("a",)), Shard("c", ("b",))], [Shard("a"), Shard("b", ("a",)), Shard("c", ("b",))]),
    ],
)  # fmt: skip
def test_parents_come_before_their_children(listed: list[Shard], ordered: list[Shard]) -> None:
    assert in_order(listed) == ordered


def test_generations_without_end_are_ordered() -> None:
    line = [Shard("0"), *(Shard(str(number), (str(number - 1),)) for number in range(1, 20_000))]
    assert in_order(reversed(line)) == line
