"""Functions that read topics of Kafka, through AWS's own clients: at librdkafka's mock cluster, and at Kafka itself where
there is one (tests/kafka.py)."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.conftest import free_port, service
from tests.e2e.harness import Cluster, code_blocks, error_of, eventually, printed, zipped
from tests.e2e.reading import ACCOUNT, FUNCTIONS, QUEUES, make_queue
from tests.kafka import Brokers

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = f"arn:aws:kafka:us-east-1:{ACCOUNT}:cluster/main/0123-4"
# Prints what it is told; fails at a value that says so.
READS = zipped(
    {
        "app.py": "import base64, json\n\ndef handler(event, context):\n    print('read', json.dumps(event))\n"
        "    for records in event['records'].values():\n        for record in records:\n"
        "            if b'bad' in base64.b64decode(record['value']):\n                raise ValueError(record['offset'])\n"
    }
)


@pytest.fixture(scope="module")
def reads(brokers: Brokers, moto: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose operator names the brokers, others that are away, and moto's queues."""
    table = tmp_path_factory.mktemp("connections") / "connections.toml"
    rows = [
        f'service = "kafka"\nendpoint = "kafka://{brokers.servers}"',
        f'arn = "{CLUSTER}"\nendpoint = "kafka://{brokers.servers}"',
        f'arn = "{CLUSTER}-away"\nendpoint = "kafka://127.0.0.1:{free_port()}"',
        f'service = "sqs"\nendpoint = "{moto}"\naccess_key = "k"\nsecret_key = "s"',
    ]
    table.write_text("".join(f"[[connections]]\n{row}\n" for row in rows))
    with tempfile.TemporaryDirectory(prefix="lk-", dir="/tmp") as data:
        cluster = Cluster(
            Path(data) / "data", "--no-examples", LAMBENT_ACCOUNT=ACCOUNT, LAMBENT_QUEUE_CONNECTIONS=str(table)
        ).start()
        try:
            yield cluster
        finally:
            cluster.stop()


def own(brokers: Brokers, topic: str, **members: Any) -> dict[str, Any]:
    """A mapping of a topic of brokers without an ARN."""
    endpoints = {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": [brokers.servers]}}
    return {"SelfManagedEventSource": endpoints, "Topics": [topic], "StartingPosition": "TRIM_HORIZON", **members}


def made(cluster: Cluster, name: str, **mapping: Any) -> str:
    """The UUID of a mapping of a function, which is made too, once it is Enabled."""
    cluster.create(name, READS)
    client = cluster.client()
    uuid: str = client.create_event_source_mapping(FunctionName=name, **mapping)["UUID"]
    eventually(lambda: client.get_event_source_mapping(UUID=uuid)["State"] == "Enabled")
    return uuid


def events(cluster: Cluster, name: str) -> list[Any]:
    """Those that a function was invoked with."""
    lines = printed(cluster.client("logs"), f"/aws/lambda/{name}", "read")
    return [json.loads(line.partition("read ")[2]) for line in lines if "read {" in line]


def read(cluster: Cluster, name: str) -> list[tuple[int, int]]:
    """Partition and offset of what it was invoked with."""
    return [
        (record["partition"], record["offset"])
        for event in events(cluster, name)
        for records in event["records"].values()
        for record in records
    ]


def test_a_topic_of_brokers_without_an_arn_is_read(reads: Cluster, brokers: Brokers) -> None:
    topic = brokers.topic("own")
    for number in range(3):
        brokers.put(topic, f"v{number}", 1, b"k", trace=b"x")
    uuid = made(reads, "own", **own(brokers, topic))
    eventually(lambda: len(read(reads, "own")) == 3)
    event = events(reads, "own")[0]
    assert {name: each for name, each in event.items() if name != "records"} == {
        "eventSource": "SelfManagedKafka", "bootstrapServers": brokers.servers,
    }  # fmt: skip
    [(partition, records)] = event["records"].items()
    record = {name: each for name, each in records[0].items() if name != "timestamp"}
    assert partition == "own-1"
    assert record == {
        "topic": "own", "partition": 1, "offset": 0, "timestampType": "CREATE_TIME", "key": "aw==", "value": "djA=",
        "headers": [{"trace": [120]}],
    }  # fmt: skip
    client = reads.client()
    found = client.get_event_source_mapping(UUID=uuid)
    assert "EventSourceArn" not in found
    assert found["SelfManagedEventSource"] == {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": [brokers.servers]}}
    assert (found["Topics"], found["SelfManagedKafkaEventSourceConfig"]) == (["own"], {"ConsumerGroupId": uuid})
    assert (found["BatchSize"], found["StartingPosition"]) == (100, "TRIM_HORIZON")
    assert not {"ParallelizationFactor", "TumblingWindowInSeconds"} & found.keys()
    brokers.put(topic, "later", 2)
    eventually(lambda: (2, 0) in read(reads, "own"))
    client.delete_event_source_mapping(UUID=uuid)


def test_a_cluster_with_an_arn_is_read_and_its_group_knows_how_far(reads: Cluster, brokers: Brokers) -> None:
    topic = brokers.topic("managed")
    for number in range(4):
        brokers.put(topic, f"v{number}")
    config = {"AmazonManagedKafkaEventSourceConfig": {"ConsumerGroupId": "a-group"}}
    source = {"EventSourceArn": CLUSTER, "Topics": [topic], "StartingPosition": "TRIM_HORIZON", "BatchSize": 2}
    uuid = made(reads, "managed", **source, **config)
    eventually(lambda: len(read(reads, "managed")) == 4)
    assert {len(records) for event in events(reads, "managed") for records in event["records"].values()} <= {1, 2}
    assert events(reads, "managed")[0]["eventSourceArn"] == CLUSTER

    def done() -> int:
        group = Consumer({"bootstrap.servers": brokers.servers, "group.id": "a-group"})
        [found] = group.committed([TopicPartition(topic, 0)], timeout=10)
        group.close()
        return found.offset

    eventually(lambda: done() == 4)
    client = reads.client()
    client.delete_event_source_mapping(UUID=uuid)
    eventually(lambda: not client.list_event_source_mappings(FunctionName="managed")["EventSourceMappings"])
    brokers.put(topic, "v4")
    # Another mapping of the group goes on where it is, wherever it is to begin.
    reads.create("managed-again", READS)
    client.create_event_source_mapping(FunctionName="managed-again", **source, **config)
    eventually(lambda: read(reads, "managed-again"))
    assert read(reads, "managed-again") == [(0, 4)]


def test_a_batch_that_fails_is_tried_again_and_told_of(reads: Cluster, brokers: Brokers, moto: str) -> None:
    name = f"failures-of-{'kafka' if brokers.real else 'mock'}"
    make_queue(moto, name)
    queue = service(moto, "sqs").get_queue_url(QueueName=name)["QueueUrl"]
    topic = brokers.topic("failing")
    for value in ("good", "bad", "good"):
        brokers.put(topic, value, 3)
    told = {"OnFailure": {"Destination": f"{QUEUES}:{name}"}}
    made(
        reads, "failing",
        **own(brokers, topic, MaximumRetryAttempts=1, BisectBatchOnFunctionError=True, DestinationConfig=told),
    )  # fmt: skip
    answer: dict[str, Any] = {}

    def received() -> bool:
        answer.update(service(moto, "sqs").receive_message(QueueUrl=queue, WaitTimeSeconds=1))
        return "Messages" in answer

    eventually(received)
    letter = json.loads(answer["Messages"][0]["Body"])
    batch = letter["KafkaBatchInfo"]
    assert (batch["batchSize"], batch["bootstrapServers"]) == (1, brokers.servers)
    assert batch["recordInfo"]["failing-3"]["firstRecordOffset"] == "1"
    assert letter["requestContext"]["condition"] == "RetryAttemptsExhausted"
    eventually(lambda: (3, 2) in read(reads, "failing"))


def test_filters_are_compared_with_values(reads: Cluster, brokers: Brokers) -> None:
    topic = brokers.topic("filtered")
    for value in ('{"kind": "order"}', '{"kind": "click"}', "no json", '{"kind": "order"}'):
        brokers.put(topic, value)
    pattern = json.dumps({"value": {"kind": ["order"]}})
    made(reads, "filtered", **own(brokers, topic, FilterCriteria={"Filters": [{"Pattern": pattern}]}))
    eventually(lambda: len(read(reads, "filtered")) == 2)
    assert read(reads, "filtered") == [(0, 0), (0, 3)]


def test_a_mapping_rests_and_goes_on_where_it_was(reads: Cluster, brokers: Brokers) -> None:
    topic = brokers.topic("resting")
    brokers.put(topic, "one")
    uuid = made(reads, "resting", **own(brokers, topic))
    eventually(lambda: read(reads, "resting") == [(0, 0)])
    client = reads.client()
    client.update_event_source_mapping(UUID=uuid, Enabled=False, BatchSize=7)
    eventually(lambda: client.get_event_source_mapping(UUID=uuid)["State"] == "Disabled")
    brokers.put(topic, "two")
    client.update_event_source_mapping(UUID=uuid, Enabled=True)
    eventually(lambda: read(reads, "resting") == [(0, 0), (0, 1)])
    assert client.get_event_source_mapping(UUID=uuid)["BatchSize"] == 7


def test_what_can_be_no_mapping_is_refused(reads: Cluster, brokers: Brokers) -> None:
    client = reads.client()
    reads.create("refused", READS)
    topic = brokers.topic("refused")
    good = own(brokers, topic, FunctionName="refused")
    for change, says in (
        ({"Topics": []}, "one topic"),
        ({"StartingPosition": None}, "startingPosition"),
        ({"EventSourceArn": CLUSTER}, "together"),
        ({"ParallelizationFactor": 2}, "ParallelizationFactor"),
        ({"TumblingWindowInSeconds": 60}, "TumblingWindowInSeconds"),
        ({"ScalingConfig": {"MaximumConcurrency": 5}}, "ScalingConfig"),
        ({"SourceAccessConfigurations": [{"Type": "BASIC_AUTH", "URI": "arn:aws:secretsmanager:us-east-1:1:secret:x"}]}, "table of connections"),
        ({"SelfManagedEventSource": {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["elsewhere:9092"]}}}, "no row that leads to it"),
        ({"SelfManagedEventSource": {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["here there"]}}}, "HOST:PORT"),
        ({"SelfManagedKafkaEventSourceConfig": {"SchemaRegistryConfig": {"SchemaRegistryURI": "http://r", "EventRecordFormat": "JSON"}}}, "SchemaRegistryConfig"),
    ):  # fmt: skip
        arguments = {name: each for name, each in {**good, **change}.items() if each}
        status, name, text = error_of(client.create_event_source_mapping, **arguments)
        assert (status, name) == (400, "InvalidParameterValueException"), text
        assert says in text
    inner = {"EventSourceArn": f"arn:aws:kafka:us-east-1:{ACCOUNT}:self-managed/{brokers.servers}", "Topics": [topic]}
    assert error_of(client.create_event_source_mapping, FunctionName="refused", StartingPosition="LATEST", **inner)[1:] == (
        "InvalidParameterValueException", "Unrecognized event source.",
    )  # fmt: skip
    status, name, text = error_of(
        client.create_event_source_mapping, FunctionName="refused", EventSourceArn=f"{CLUSTER}-away", Topics=[topic],
        StartingPosition="LATEST",
    )  # fmt: skip
    assert (status, name) == (503, "ServiceUnavailableException"), text
    if brokers.real:
        assert (
            error_of(client.create_event_source_mapping, **{**good, "Topics": ["none"]})[2] == "there is no topic none"
        )
    uuid = client.create_event_source_mapping(**good)["UUID"]
    assert error_of(client.create_event_source_mapping, **good)[1] == "ResourceConflictException"
    other = brokers.topic("refused-other")
    client.create_event_source_mapping(**{**good, "Topics": [other]})
    eventually(lambda: client.get_event_source_mapping(UUID=uuid)["State"] == "Enabled")
    changed = {"SelfManagedKafkaEventSourceConfig": {"ConsumerGroupId": "x"}}
    assert "cannot be updated" in error_of(client.update_event_source_mapping, UUID=uuid, **changed)[2]


def test_a_manifest_reads_a_topic(reads: Cluster, brokers: Brokers, tmp_path: Path) -> None:
    topic = brokers.topic("of-a-manifest")
    brokers.put(topic, "pears")
    manifest = tmp_path / "serverless.yml"
    text = (
        "service: topics\nprovider: {name: aws, runtime: python3.11}\nfunctions:\n  reader:\n    handler: app.handler\n"
        f"    events:\n      - kafka: {{bootstrapServers: ['{brokers.servers}'], topic: {topic}, batchSize: 5}}\n"
    )
    (tmp_path / "app.py").write_text("def handler(event, context):\n    print('read', event['records'])\n")
    for batch in (5, 6):
        manifest.write_text(text.replace("batchSize: 5", f"batchSize: {batch}"))
        done = reads.lambent("deploy", str(manifest))
        assert done.returncode == 0, done.stderr
        [mapping] = reads.client().list_event_source_mappings(FunctionName="topics-dev-reader")["EventSourceMappings"]
        assert (mapping["Topics"], mapping["BatchSize"]) == ([topic], batch)
    eventually(lambda: printed(reads.client("logs"), "/aws/lambda/topics-dev-reader", "read"))


def test_what_the_how_to_shows_of_kafka_is_done(reads: Cluster, brokers: Brokers) -> None:
    text = (ROOT / "docs/howto/event-sources.md").read_text()
    [script] = [block for block in code_blocks(text, "sh") if "KAFKA_BOOTSTRAP_SERVERS" in block]
    topic = brokers.topic("payments")
    brokers.put(topic, "ada pays")
    reads.shell(script.replace("kafka.example.com:9092", brokers.servers).replace("000000000000", ACCOUNT))
    eventually(lambda: "paid ada pays" in "".join(printed(reads.client("logs"), "/aws/lambda/payments")))
    assert (
        reads.client().get_function(FunctionName="payments")["Configuration"]["FunctionArn"] == f"{FUNCTIONS}:payments"
    )
