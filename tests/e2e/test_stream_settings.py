"""Event source mappings of streams are set through boto3. No record is read here, and only mappings that
are disabled are waited for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.conftest import service
from tests.e2e.harness import Cluster, error_of, eventually
from tests.e2e.reading import ACCOUNT, BARE, FUNCTIONS, INVALID, QUEUES, STREAMS, TABLE, plain, reading_cluster

# The same of a stream beyond that.
OF_STREAMS: dict[str, Any] = {
    "BisectBatchOnFunctionError": False, "DestinationConfig": {"OnFailure": {}},
    "LastProcessingResult": "No records processed", "MaximumRecordAgeInSeconds": -1, "MaximumRetryAttempts": -1,
    "ParallelizationFactor": 1, "StartingPosition": "LATEST", "TumblingWindowInSeconds": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def reading(moto: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with reading_cluster(moto, tmp_path_factory.mktemp("reading")) as cluster:
        yield cluster


@pytest.fixture(params=["kinesis", "dynamodb"])
def stream(moto: str, request: pytest.FixtureRequest) -> str:
    """The ARN of a stream of the test's own."""
    name = f"s{abs(hash(request.node.nodeid))}"
    client = service(moto, request.param)
    if request.param == "kinesis":
        client.create_stream(StreamName=name, ShardCount=1)
        return f"{STREAMS}/{name}"
    made = client.create_table(
        TableName=name, BillingMode="PAY_PER_REQUEST", KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
    )  # fmt: skip
    arn: str = made["TableDescription"]["LatestStreamArn"]
    return arn


def test_a_streams_mapping_is_answered_as_aws_does(reading: Cluster, stream: str) -> None:
    client = reading.client()
    # What tools send for "not wanted" is not sent.
    nothing: dict[str, Any] = {"ScalingConfig": {}, "SourceAccessConfigurations": [], "KMSKeyArn": ""}
    answer = client.create_event_source_mapping(
        EventSourceArn=stream, FunctionName="f", StartingPosition="LATEST", **nothing
    )
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 202
    made = plain(answer)
    assert made.keys() == BARE | OF_STREAMS.keys()
    assert {name: made[name] for name in OF_STREAMS} == OF_STREAMS
    assert (made["BatchSize"], made["MaximumBatchingWindowInSeconds"]) == (100, 0)
    assert (made["EventSourceArn"], made["FunctionArn"]) == (stream, f"{FUNCTIONS}:f")
    assert (made["FunctionResponseTypes"], made["State"]) == ([], "Creating")
    assert made["StateTransitionReason"] == "User action"
    got = error_of(
        client.create_event_source_mapping, EventSourceArn=stream, FunctionName="f", StartingPosition="LATEST"
    )
    assert got == (
        409,
        "ResourceConflictException",
        f'The event source arn (" {stream} ") and function (" f ") provided mapping already exists. Please update or '
        f"delete the existing mapping with UUID {made['UUID']}",
    )


def test_what_is_set_of_a_stream_is_answered(reading: Cluster, stream: str) -> None:
    client = reading.client()
    wanted: dict[str, Any] = {
        "BatchSize": 10_000, "MaximumBatchingWindowInSeconds": 0, "FilterCriteria": {"Filters": [{"Pattern": "{}"}]},
        "FunctionResponseTypes": ["ReportBatchItemFailures"], "MetricsConfig": {"Metrics": ["EventCount"]},
        "BisectBatchOnFunctionError": True, "DestinationConfig": {"OnFailure": {"Destination": f"{QUEUES}:dead"}},
        "MaximumRecordAgeInSeconds": 60, "MaximumRetryAttempts": 0, "ParallelizationFactor": 10,
        "StartingPosition": "TRIM_HORIZON",
    }  # fmt: skip
    if stream.startswith(STREAMS):
        wanted |= {
            "StartingPosition": "AT_TIMESTAMP",
            "StartingPositionTimestamp": datetime.fromtimestamp(1_700_000_000, UTC),
        }
    made = client.create_event_source_mapping(EventSourceArn=stream, FunctionName="f", Enabled=False, **wanted)
    got = plain(client.get_event_source_mapping(UUID=made["UUID"]))
    assert {name: got[name] for name in wanted} == wanted == {name: made[name] for name in wanted}
    assert got.keys() == BARE | OF_STREAMS.keys() | wanted.keys()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"StartingPosition": None}, "1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: Member must not be null."),
        ({"StartingPosition": "LATEST", "StartingPositionTimestamp": 1_700_000_000}, "only with StartingPosition AT_TIMESTAMP"),
        ({"StartingPosition": "AT_TIMESTAMP"}, "needs a StartingPositionTimestamp"),
        ({"StartingPosition": "AT_TIMESTAMP", "StartingPositionTimestamp": 4_000_000_000}, "must not be in the future"),
        ({"StartingPosition": "AT_TIMESTAMP", "StartingPositionTimestamp": -1}, "must not be before 1970"),
        ({"EventSourceArn": f"{TABLE}/stream/1", "StartingPosition": "AT_TIMESTAMP", "StartingPositionTimestamp": 1}, f"Unsupported starting position for arn type: {TABLE}/stream/1"),
        ({"EventSourceArn": TABLE}, "Unrecognized event source."),
        ({"EventSourceArn": f"{STREAMS}/s/consumer/c:1"}, f"Enhanced fan-out is not served: give the stream's own ARN, {STREAMS}/s,"),
        ({"EventSourceArn": f"{STREAMS}/gone"}, f"Stream not found: {STREAMS}/gone"),
        ({"EventSourceArn": f"{TABLE}/stream/1"}, f"Stream not found: {TABLE}/stream/1"),
        ({"EventSourceArn": f"{STREAMS}/s".replace(ACCOUNT, "222222222222")}, "has no row that leads to it."),
        ({"FunctionName": "nobody"}, "Function does not exist"),
        ({"MaximumRecordAgeInSeconds": 59}, "MaximumRecordAgeInSeconds must be -1, or 60 to 604800."),
        ({"DestinationConfig": {"OnFailure": {"Destination": f"{FUNCTIONS}:g"}}}, f"The destination ARN {FUNCTIONS}:g is invalid"),
        ({"DestinationConfig": {"OnSuccess": {"Destination": f"{QUEUES}:d"}}}, "only OnFailure can be set"),
        ({"ScalingConfig": {"MaximumConcurrency": 2}}, "Unsupported ScalingConfig parameter for given event source mapping type."),
        ({"TumblingWindowInSeconds": 1, "ParallelizationFactor": 2}, "ParallelizationFactor must be 1 where TumblingWindowInSeconds is set"),
        ({"FilterCriteria": {"Filters": [{"Pattern": "{"}]}}, "Invalid filter pattern definition."),
        ({"Topics": ["to"]}, "Unsupported Topics parameter"),
    ],
)  # fmt: skip
def test_what_cannot_be_of_a_stream_is_refused(reading: Cluster, arguments: dict[str, Any], told: str) -> None:
    asked = {"EventSourceArn": f"{STREAMS}/s", "FunctionName": "f", "StartingPosition": "LATEST", **arguments}
    asked = {name: value for name, value in asked.items() if value is not None}
    client = reading.client(validation=False)
    got = error_of(client.create_event_source_mapping, **asked)
    assert got[:2] == INVALID
    assert told in got[2]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"ParallelizationFactor": 0}, "at 'parallelizationFactor' failed to satisfy constraint: Member must have value greater than or equal to 1"),
        ({"ParallelizationFactor": 11}, "less than or equal to 10"),
        ({"BatchSize": 10_001}, "less than or equal to 10000"),
        ({"MaximumRecordAgeInSeconds": -2}, "greater than or equal to -1"),
        ({"MaximumRecordAgeInSeconds": 604_801}, "less than or equal to 604800"),
        ({"MaximumRetryAttempts": 10_001}, "less than or equal to 10000"),
        ({"TumblingWindowInSeconds": 901}, "less than or equal to 900"),
        ({"StartingPosition": ""}, "Member must satisfy enum value set: [TRIM_HORIZON, LATEST, AT_TIMESTAMP]"),
        ({"DestinationConfig": {"OnFailure": {"Destination": "x"}}}, "at 'destinationConfig.onFailure.destination'"),
    ],
)  # fmt: skip
def test_what_is_out_of_shape_is_refused(reading: Cluster, arguments: dict[str, Any], told: str) -> None:
    asked = {"EventSourceArn": f"{STREAMS}/s", "FunctionName": "f", "StartingPosition": "LATEST", **arguments}
    got = error_of(reading.client(validation=False).create_event_source_mapping, **asked)
    assert got[:2] == (400, "ValidationException")
    assert told in got[2]


def test_members_are_updated(reading: Cluster, stream: str) -> None:
    client = reading.client()
    uuid = client.create_event_source_mapping(
        EventSourceArn=stream, FunctionName="f", Enabled=False, StartingPosition="LATEST"
    )["UUID"]
    wanted: dict[str, Any] = {
        "BatchSize": 7, "MaximumBatchingWindowInSeconds": 9, "FilterCriteria": {"Filters": [{"Pattern": "{}"}]},
        "FunctionResponseTypes": ["ReportBatchItemFailures"], "MetricsConfig": {"Metrics": ["EventCount"]},
        "BisectBatchOnFunctionError": True, "DestinationConfig": {"OnFailure": {"Destination": "arn:aws:s3:::dead"}},
        "MaximumRecordAgeInSeconds": 60, "MaximumRetryAttempts": 0, "TumblingWindowInSeconds": 900,
    }  # fmt: skip
    nothing: dict[str, Any] = {
        "FilterCriteria": {}, "FunctionResponseTypes": [], "MetricsConfig": {"Metrics": []},
        "BisectBatchOnFunctionError": False, "DestinationConfig": {"OnFailure": {"Destination": ""}},
        "MaximumRecordAgeInSeconds": -1, "MaximumRetryAttempts": -1, "TumblingWindowInSeconds": 0, "FunctionName": "g",
    }  # fmt: skip

    def updated(**asked: Any) -> dict[str, Any]:
        eventually(lambda: client.get_event_source_mapping(UUID=uuid)["State"] == "Disabled")
        return plain(client.update_event_source_mapping(UUID=uuid, **asked))

    made = updated(**wanted)
    assert (made["State"], made["StateTransitionReason"]) == ("Updating", "User action")
    assert {name: made[name] for name in wanted} == wanted
    assert made.keys() == BARE | OF_STREAMS.keys() | wanted.keys()
    bare = updated(**nothing)
    assert (bare["BatchSize"], bare["MaximumBatchingWindowInSeconds"]) == (7, 9)
    assert (bare["FunctionResponseTypes"], bare["FunctionArn"]) == ([], f"{FUNCTIONS}:g")
    assert {name: bare[name] for name in OF_STREAMS} == OF_STREAMS
    assert bare.keys() == BARE | OF_STREAMS.keys()
    eventually(lambda: client.get_event_source_mapping(UUID=uuid)["State"] == "Disabled")
    for asked, told in (
        ({"MaximumRecordAgeInSeconds": 59}, "MaximumRecordAgeInSeconds must be -1, or 60 to 604800."),
        ({"ScalingConfig": {"MaximumConcurrency": 2}}, "Unsupported ScalingConfig parameter"),
        ({"TumblingWindowInSeconds": 1, "ParallelizationFactor": 2}, "ParallelizationFactor must be 1"),
        ({"FunctionName": "nobody"}, "Function does not exist"),
    ):
        got = error_of(client.update_event_source_mapping, UUID=uuid, **asked)
        assert got[:2] == INVALID
        assert told in got[2]
