"""Event source mappings are set through boto3. What comes of them is not here: no mapping is waited for until it is
settled."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.e2e.conftest import OTHER_KEY, OTHER_SECRET
from tests.e2e.harness import KEY, SECRET, Cluster, error_of
from tests.e2e.reading import (
    ACCOUNT,
    BARE,
    CODE,
    FUNCTIONS,
    INVALID,
    QUEUES,
    STREAMS,
    make_queue,
    plain,
    reading_cluster,
)

MISSING = (404, "ResourceNotFoundException", "The resource you requested does not exist.")
NOBODY = "12345678-1234-1234-1234-123456789abc"


@pytest.fixture(scope="module")
def reading(moto: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with reading_cluster(moto, tmp_path_factory.mktemp("reading")) as cluster:
        yield cluster


@pytest.fixture
def queue(moto: str, request: pytest.FixtureRequest) -> str:
    """The ARN of a queue of the test's own."""
    return make_queue(moto, f"q{abs(hash(request.node.nodeid))}")


def test_a_mapping_is_answered_as_aws_does(reading: Cluster, queue: str) -> None:
    client = reading.client()
    answer = client.create_event_source_mapping(EventSourceArn=queue, FunctionName="f")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 202
    made = plain(answer)
    assert made.keys() == BARE
    uuid = made["UUID"]
    assert made["EventSourceMappingArn"] == f"arn:aws:lambda:us-east-1:{ACCOUNT}:event-source-mapping:{uuid}"
    assert (made["BatchSize"], made["MaximumBatchingWindowInSeconds"]) == (10, 0)
    assert (made["EventSourceArn"], made["FunctionArn"]) == (queue, f"{FUNCTIONS}:f")
    assert (made["FunctionResponseTypes"], made["State"]) == ([], "Creating")
    assert made["StateTransitionReason"] == "USER_INITIATED"
    got = client.get_event_source_mapping(UUID=uuid)
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert (got["UUID"], got["LastModified"]) == (uuid, made["LastModified"])
    assert got.keys() - {"ResponseMetadata"} == BARE


def test_what_is_set_is_answered(reading: Cluster, queue: str) -> None:
    client = reading.client()
    version = client.publish_version(FunctionName="f")["Version"]
    client.create_alias(FunctionName="f", Name="live", FunctionVersion=version)
    pattern = json.dumps({"body": {"kind": ["ü"]}})
    wanted: dict[str, Any] = {
        "BatchSize": 500, "MaximumBatchingWindowInSeconds": 20, "FilterCriteria": {"Filters": [{"Pattern": pattern}]},
        "FunctionResponseTypes": ["ReportBatchItemFailures"], "ScalingConfig": {"MaximumConcurrency": 7},
        "MetricsConfig": {"Metrics": ["EventCount"]},
    }  # fmt: skip
    # What tools send for "not wanted" is not sent.
    nothing: dict[str, Any] = {
        "DestinationConfig": {"OnFailure": {"Destination": ""}}, "TumblingWindowInSeconds": 0, "MaximumRetryAttempts": -1,
        "MaximumRecordAgeInSeconds": -1,
        "BisectBatchOnFunctionError": False, "SourceAccessConfigurations": [], "KMSKeyArn": "", "SelfManagedEventSource": {},
        "AmazonManagedKafkaEventSourceConfig": {},
    }  # fmt: skip
    for qualifier in ("live", version, "$LATEST"):
        made = client.create_event_source_mapping(
            EventSourceArn=queue, FunctionName=f"{FUNCTIONS}:f:{qualifier}", Enabled=False, **wanted, **nothing
        )
        assert made["FunctionArn"] == f"{FUNCTIONS}:f:{qualifier}"
        got = plain(client.get_event_source_mapping(UUID=made["UUID"]))
        assert {name: got[name] for name in wanted} == wanted == {name: made[name] for name in wanted}
        assert got.keys() == BARE | wanted.keys()
    bare = client.create_event_source_mapping(
        EventSourceArn=queue, FunctionName="f", FilterCriteria={}, ScalingConfig={}, MetricsConfig={"Metrics": []},
        FunctionResponseTypes=[],
    )  # fmt: skip
    assert plain(bare).keys() == BARE


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"EventSourceArn": None}, "Unrecognized event source."),
        ({"EventSourceArn": "arn:aws:s3:::bucket"}, "Unrecognized event source."),
        ({"FunctionName": "nobody"}, "Function does not exist"),
        ({"FunctionName": "f:nothing"}, "Function does not exist"),
        ({"FunctionName": "f:99"}, "Function does not exist"),
        ({"EventSourceArn": f"{QUEUES}:gone"}, "Error occurred while ReceiveMessage. SQS Error Code: AWS.SimpleQueueService.NonExistentQueue. SQS Error Message: "),
        ({"BatchSize": 11}, "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10"),
        ({"EventSourceArn": f"{QUEUES}:o.fifo", "BatchSize": 11}, "A batch of a FIFO queue has at most 10 messages."),
        ({"EventSourceArn": f"{QUEUES}:o.fifo", "MaximumBatchingWindowInSeconds": 1}, "not supported for FIFO queues"),
        ({"FilterCriteria": {"Filters": [{"Pattern": "{"}]}}, "Invalid filter pattern definition."),
        ({"FilterCriteria": {"Filters": [{"Pattern": "{}"}] * 6}}, "at most 5 filters"),
        ({"FilterCriteria": {"Filters": [{}]}}, "Invalid filter pattern definition."),
        ({"MetricsConfig": {"Metrics": ["EventCount", "ErrorCount"]}}, "Unsupported metric ErrorCount for given event source mapping type."),
        ({"Tags": {"aws:x": "1"}}, "reserved"),
        ({"DestinationConfig": {"OnFailure": {"Destination": f"{QUEUES}:d"}}}, "Unsupported DestinationConfig parameter for given event source mapping type."),
        ({"ParallelizationFactor": 2}, "Unsupported ParallelizationFactor parameter"),
        ({"StartingPosition": "LATEST"}, "Unsupported StartingPosition parameter"),
        ({"StartingPositionTimestamp": 1_700_000_000}, "Unsupported StartingPositionTimestamp parameter"),
        ({"MaximumRecordAgeInSeconds": 60}, "Unsupported MaximumRecordAgeInSeconds parameter"),
        ({"MaximumRetryAttempts": 3}, "Unsupported MaximumRetryAttempts parameter"),
        ({"BisectBatchOnFunctionError": True}, "Unsupported BisectBatchOnFunctionError parameter"),
        ({"TumblingWindowInSeconds": 5}, "Unsupported TumblingWindowInSeconds parameter"),
        ({"Topics": ["to"]}, "Unsupported Topics parameter"),
        ({"Queues": ["q"]}, "Unsupported Queues parameter"),
        ({"SourceAccessConfigurations": [{"Type": "BASIC_AUTH", "URI": "x"}]}, "Unsupported SourceAccessConfigurations parameter"),
        ({"SelfManagedEventSource": {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["h:1"]}}}, "EventSourceArn and SelfManagedEventSource cannot be given together."),
        ({"SelfManagedKafkaEventSourceConfig": {"ConsumerGroupId": "c"}}, "Unsupported SelfManagedKafkaEventSourceConfig parameter"),
        ({"AmazonManagedKafkaEventSourceConfig": {"ConsumerGroupId": "c"}}, "Unsupported AmazonManagedKafkaEventSourceConfig parameter"),
        ({"DocumentDBEventSourceConfig": {"DatabaseName": "d"}}, "DocumentDBEventSourceConfig: only SQS queues, Kinesis and DynamoDB streams, and Kafka's topics are event sources here."),
        ({"KMSKeyArn": "arn:aws:kms:us-east-1:000000000000:key/k"}, "KMSKeyArn: "),
        ({"LoggingConfig": {"SystemLogLevel": "INFO"}}, "LoggingConfig: "),
        ({"ProvisionedPollerConfig": {"MinimumPollers": 1}}, "ProvisionedPollerConfig: "),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(reading: Cluster, queue: str, arguments: dict[str, Any], told: str) -> None:
    client = reading.client(validation=False)
    asked = {"EventSourceArn": queue, "FunctionName": "f", **arguments}
    got = error_of(
        client.create_event_source_mapping, **{name: value for name, value in asked.items() if value is not None}
    )
    assert got[:2] == INVALID
    assert told in got[2]
    assert client.list_event_source_mappings(EventSourceArn=queue)["EventSourceMappings"] == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"FunctionName": "a b"}, "at 'functionName'"),
        ({"EventSourceArn": "q"}, "at 'eventSourceArn'"),
        ({"BatchSize": 0}, "at 'batchSize' failed to satisfy constraint: Member must have value greater than or equal to 1"),
        ({"BatchSize": 10_001}, "less than or equal to 10000"),
        ({"MaximumBatchingWindowInSeconds": 301}, "less than or equal to 300"),
        ({"ScalingConfig": {"MaximumConcurrency": 1}}, "at 'scalingConfig.maximumConcurrency' failed to satisfy constraint: Member must have value greater than or equal to 2"),
        ({"FunctionResponseTypes": ["Other"]}, "Member must satisfy enum value set: [ReportBatchItemFailures]"),
        ({"FilterCriteria": {"Filters": [{"Pattern": "x" * 4097}]}}, "at 'filterCriteria.filters.1.member.pattern'"),
        ({"StartingPosition": "NOW"}, "Member must satisfy enum value set: [TRIM_HORIZON, LATEST, AT_TIMESTAMP]"),
        ({"FunctionName": None}, "Value null at 'functionName'"),
    ],
)  # fmt: skip
def test_what_is_out_of_shape_is_refused(reading: Cluster, queue: str, arguments: dict[str, Any], told: str) -> None:
    client = reading.client(validation=False)
    asked = {"EventSourceArn": queue, "FunctionName": "f", **arguments}
    got = error_of(
        client.create_event_source_mapping, **{name: value for name, value in asked.items() if value is not None}
    )
    assert got[:2] == (400, "ValidationException")
    assert told in got[2]


def test_the_queue_must_hide_messages_for_as_long_as_the_function_may_take(reading: Cluster, moto: str) -> None:
    client, arn = reading.client(), make_queue(moto, "brief", VisibilityTimeout="19")
    reading.create("slow", CODE, Timeout=20)
    slow = client.publish_version(FunctionName="slow")["Version"]
    reading.update("slow", Timeout=3)
    quick = client.publish_version(FunctionName="slow")["Version"]
    client.create_alias(FunctionName="slow", Name="old", FunctionVersion=slow)
    client.create_alias(
        FunctionName="slow", Name="new", FunctionVersion=quick, RoutingConfig={"AdditionalVersionWeights": {slow: 0.5}}
    )
    for name in (f"slow:{slow}", "slow:old"):
        assert error_of(client.create_event_source_mapping, EventSourceArn=arn, FunctionName=name) == (
            *INVALID, "Queue visibility timeout: 19 seconds is less than Function timeout: 20 seconds",
        )  # fmt: skip
    for name in ("slow", f"slow:{quick}", "slow:new"):
        client.create_event_source_mapping(EventSourceArn=arn, FunctionName=name)


def test_a_queue_that_is_not_connected_or_not_there_is_named(reading: Cluster) -> None:
    third = reading.client(key="LAMBENTTHIRD", secret=OTHER_SECRET)
    third.create_function(
        FunctionName="f", Runtime="python3.11", Role="arn:aws:iam::222222222222:role/r", Handler="app.handler",
        Code={"ZipFile": CODE},
    )  # fmt: skip
    got = error_of(third.create_event_source_mapping, EventSourceArn=f"{QUEUES}:q", FunctionName="f")
    assert got == (
        *INVALID,
        f"The queue {QUEUES}:q cannot be read: the operator's table of connections (setting queue.connections) has no "
        "row that leads to it.",
    )
    for arn, more in ((f"{QUEUES}:away", {}), (f"{STREAMS}/away", {"StartingPosition": "LATEST"})):
        got = error_of(reading.client().create_event_source_mapping, EventSourceArn=arn, FunctionName="f", **more)
        assert got[:2] == (503, "ServiceUnavailableException")
        assert arn in got[2]


def test_a_queue_and_a_function_are_mapped_once(reading: Cluster, queue: str) -> None:
    client = reading.client()
    first = client.create_event_source_mapping(EventSourceArn=queue, FunctionName="f")
    assert error_of(client.create_event_source_mapping, EventSourceArn=queue, FunctionName=f"{FUNCTIONS}:f") == (
        409,
        "ResourceConflictException",
        f'An event source mapping with SQS arn (" {queue} ") and function (" f ") already exists. Please update or '
        f"delete the existing mapping with UUID {first['UUID']}",
    )
    client.create_event_source_mapping(EventSourceArn=queue, FunctionName="g")


def test_lists_are_by_uuid_and_by_what_is_asked_for(reading: Cluster, moto: str, queue: str) -> None:
    client, other = reading.client(), make_queue(moto, "listed")
    for name in ("f", "g", "f:$LATEST"):
        client.create_event_source_mapping(EventSourceArn=queue, FunctionName=name)
    client.create_event_source_mapping(EventSourceArn=other, FunctionName="f")

    def listed(**asked: Any) -> list[tuple[str, str]]:
        found = client.list_event_source_mappings(**asked)["EventSourceMappings"]
        assert [each["UUID"] for each in found] == sorted(each["UUID"] for each in found)
        return sorted((each["EventSourceArn"], each["FunctionArn"].removeprefix(f"{FUNCTIONS}:")) for each in found)

    of_queue = [(queue, name) for name in ("f", "f:$LATEST", "g")]
    assert listed(EventSourceArn=queue) == of_queue
    assert listed(EventSourceArn=queue, FunctionName="f") == [(queue, "f")]
    assert listed(EventSourceArn=queue, FunctionName=f"{FUNCTIONS}:f:$LATEST") == [(queue, "f:$LATEST")]
    assert listed(EventSourceArn=other) == [(other, "f")]
    assert listed(FunctionName="f:nothing") == []
    assert listed(EventSourceArn=f"{queue}x") == []
    assert set(of_queue) | {(other, "f")} <= set(listed())
    pages = list(
        client.get_paginator("list_event_source_mappings").paginate(
            EventSourceArn=queue, PaginationConfig={"PageSize": 2}
        )
    )
    assert [len(page["EventSourceMappings"]) for page in pages] == [2, 1]
    assert "NextMarker" not in pages[-1]
    whole = client.list_event_source_mappings(EventSourceArn=queue, MaxItems=10_000)["EventSourceMappings"]
    assert [each for page in pages for each in page["EventSourceMappings"]] == whole
    got = error_of(client.list_event_source_mappings, Marker="?")
    assert got[:2] == (400, "ValidationException")
    assert error_of(client.list_event_source_mappings, MaxItems=10_001)[:2] == (400, "ValidationException")


def test_what_is_not_there_is_missing_and_an_update_is_looked_at_too(reading: Cluster, queue: str) -> None:
    client = reading.client()
    uuid = client.create_event_source_mapping(EventSourceArn=queue, FunctionName="f", Enabled=False)["UUID"]
    for odd in (NOBODY, uuid.upper(), "no uuid", "ü"):
        assert error_of(client.get_event_source_mapping, UUID=odd) == MISSING
        assert error_of(client.update_event_source_mapping, UUID=odd, BatchSize=1) == MISSING
        assert error_of(client.delete_event_source_mapping, UUID=odd) == MISSING
    got = error_of(client.update_event_source_mapping, UUID=uuid, ParallelizationFactor=2)
    assert got == (*INVALID, "Unsupported ParallelizationFactor parameter for given event source mapping type.")
    assert error_of(client.update_event_source_mapping, UUID=uuid, KMSKeyArn="arn:aws:kms:x")[:2] == INVALID
    wrong = reading.client(validation=False)
    assert error_of(wrong.update_event_source_mapping, UUID=uuid, BatchSize=0)[:2] == (400, "ValidationException")
    wrong_type = error_of(wrong.update_event_source_mapping, UUID=uuid, FunctionResponseTypes=["Other"])
    assert wrong_type[:2] == (400, "ValidationException")


def test_a_mapping_has_tags(reading: Cluster, queue: str) -> None:
    client = reading.client()
    made = client.create_event_source_mapping(
        EventSourceArn=queue, FunctionName="f", Tags={"team": "x", "stage": "dev"}
    )
    arn = made["EventSourceMappingArn"]
    assert client.list_tags(Resource=arn)["Tags"] == {"team": "x", "stage": "dev"}
    client.tag_resource(Resource=arn, Tags={"team": "y", "größe": ""})
    client.untag_resource(Resource=arn, TagKeys=["stage", "never there"])
    assert client.list_tags(Resource=arn)["Tags"] == {"team": "y", "größe": ""}
    client.untag_resource(Resource=arn, TagKeys=["team", "größe"])
    assert client.list_tags(Resource=arn)["Tags"] == {}
    assert error_of(client.tag_resource, Resource=arn, Tags={"aws:x": "1"})[:2] == INVALID
    assert error_of(client.tag_resource, Resource=arn, Tags={f"t{n}": "" for n in range(51)})[:2] == INVALID
    assert client.get_event_source_mapping(UUID=made["UUID"])["LastModified"] == made["LastModified"]
    for nobody in (
        arn.replace(made["UUID"], NOBODY),
        arn.replace(ACCOUNT, "111111111111"),
        arn.replace("us-east", "eu-west"),
    ):
        for call, arguments in (
            (client.list_tags, {}), (client.tag_resource, {"Tags": {"a": "b"}}), (client.untag_resource, {"TagKeys": ["a"]}),
        ):  # fmt: skip
            assert error_of(call, Resource=nobody, **arguments) == (
                404, "ResourceNotFoundException", f"Event source mapping not found: {nobody}",
            )  # fmt: skip


def test_a_tenant_sees_nothing_of_anothers(reading: Cluster, moto: str, queue: str) -> None:
    client, other = reading.client(), reading.client(key=OTHER_KEY, secret=OTHER_SECRET)
    elsewhere = reading.client(region="eu-west-1")
    made = client.create_event_source_mapping(EventSourceArn=queue, FunctionName="f", Tags={"a": "b"})
    for stranger in (other, elsewhere):
        assert stranger.list_event_source_mappings()["EventSourceMappings"] == []
        for call in (
            stranger.get_event_source_mapping,
            stranger.update_event_source_mapping,
            stranger.delete_event_source_mapping,
        ):
            assert error_of(call, UUID=made["UUID"]) == MISSING
        got = error_of(stranger.list_tags, Resource=made["EventSourceMappingArn"])
        assert got[:2] == (404, "ResourceNotFoundException")
        got = error_of(stranger.create_event_source_mapping, EventSourceArn=queue, FunctionName="f")
        assert got == (*INVALID, "Function does not exist")
    got = error_of(other.create_event_source_mapping, EventSourceArn=queue, FunctionName=f"{FUNCTIONS}:f")
    assert got[:2] == (403, "AccessDeniedException")
    other.create_function(
        FunctionName="f", Runtime="python3.11", Role="arn:aws:iam::111111111111:role/r", Handler="app.handler",
        Code={"ZipFile": CODE},
    )  # fmt: skip
    got = error_of(other.create_event_source_mapping, EventSourceArn=queue, FunctionName="f")
    assert got[:2] == INVALID
    assert "has no row that leads to it" in got[2]
    shared = make_queue(moto, "shared")
    client.create_event_source_mapping(EventSourceArn=shared, FunctionName="f")
    theirs = other.create_event_source_mapping(EventSourceArn=shared, FunctionName="f")
    assert theirs["UUID"] != made["UUID"]
    assert [each["UUID"] for each in other.list_event_source_mappings()["EventSourceMappings"]] == [theirs["UUID"]]
    assert error_of(client.get_event_source_mapping, UUID=theirs["UUID"]) == MISSING


def test_older_clients_end_the_path_with_a_slash_and_times_are_numbers(reading: Cluster, queue: str) -> None:
    body = json.dumps({"EventSourceArn": queue, "FunctionName": "f"})
    request = AWSRequest("POST", f"{reading.url}/2015-03-31/event-source-mappings/", data=body)
    SigV4Auth(Credentials(KEY, SECRET), "lambda", "us-east-1").add_auth(request)
    sent = urllib.request.Request(request.url, body.encode(), dict(request.headers), method="POST")
    with urllib.request.urlopen(sent) as answer:
        assert answer.status == 202
        made = json.load(answer)
    assert made.keys() == BARE
    assert isinstance(made["LastModified"], float | int)
