"""Queues that functions are invoked with: moto's, through boto3, against a whole cluster with a second poller."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import service
from tests.e2e.effects import TELL, Effects, effects
from tests.e2e.harness import ROOT, Cluster, code_blocks, error_of, eventually, most_at_once, printed, run, zipped

ACCOUNT = "000000000000"
# Tells each record's beginning and end as "REQUEST-ID WHAT VERSION"; fails as bodies say.
TELLS = (
    TELL
    + """
def handler(event, context):
    failed = []
    for record in event["Records"]:
        body = record["body"]
        if body == "whole":
            tell(context, base64.b64encode(json.dumps(event).encode()).decode())
        tell(context, "begin:" + body)
        if body.startswith("slow"):
            time.sleep(0.3)
        count = int(record["attributes"]["ApproximateReceiveCount"])
        if body.startswith("raise") and count == 1:
            raise ValueError(body)
        if body.startswith("fail") and count == 1:
            failed.append({"itemIdentifier": record["messageId"]})
        tell(context, "end:" + body)
    return {"batchItemFailures": failed}
"""
)
PACKAGE = zipped({"app.py": TELLS})


@pytest.fixture
def told() -> Iterator[Effects]:
    with effects() as made:
        yield made


@pytest.fixture(scope="module")
def cluster(moto: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose queues are moto's."""
    file = tmp_path_factory.mktemp("connections") / "connections.toml"
    rows = (f'service = "{name}"\nendpoint = "{moto}"' for name in ("sqs", "kinesis"))
    file.write_text("".join(f'[[connections]]\n{row}\naccess_key = "k"\nsecret_key = "s"\n' for row in rows))
    with tempfile.TemporaryDirectory(prefix="ls-", dir="/tmp") as folder:
        made = Cluster(Path(folder) / "data", "--no-examples", LAMBENT_QUEUE_CONNECTIONS=str(file)).start()
        made.another("poller")
        yield made
        made.stop()


class Queue:
    """A queue of moto's."""

    def __init__(self, moto: str, name: str, visibility: int = 1) -> None:
        self.client = service(moto, "sqs")
        attributes = {"VisibilityTimeout": str(visibility)}
        if name.endswith(".fifo"):
            attributes |= {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
        self.url = self.client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        self.arn = f"arn:aws:sqs:us-east-1:{ACCOUNT}:{name}"

    def send(self, *bodies: str, **more: Any) -> None:
        for body in bodies:
            self.client.send_message(QueueUrl=self.url, MessageBody=body, **more)

    @property
    def left(self) -> int:
        """Messages that are in it, hidden or not."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        got = self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return sum(int(got[name]) for name in names)


def mapped(cluster: Cluster, told: Effects, queue: Queue, **settings: Any) -> str:
    """A function, and a mapping of a queue to it that is Enabled; answers its UUID."""
    name = queue.arn.rpartition(":")[2].replace(".", "-")
    cluster.create(name, PACKAGE, Timeout=1, Environment={"Variables": {"PORT": str(told.port)}})
    made = cluster.client().create_event_source_mapping(
        FunctionName=name, EventSourceArn=queue.arn, **settings
    )  # fmt: skip
    settled(cluster, made["UUID"], "Enabled")
    return str(made["UUID"])


def settled(cluster: Cluster, uuid: str, state: str) -> dict[str, Any]:
    """A mapping that has come to a state."""

    def look() -> Any:
        got: dict[str, Any] = cluster.client().get_event_source_mapping(UUID=uuid)
        return got if got["State"] == state else None

    return eventually(look)


def ended(told: Effects) -> list[str]:
    """Bodies of records that were handled, in order."""
    return [what.removeprefix("end:") for _, what, _, _ in told.told if what.startswith("end:")]


def test_a_message_becomes_an_event_of_awss_form_and_is_deleted(cluster: Cluster, told: Effects, moto: str) -> None:
    queue = Queue(moto, "forms")
    uuid = mapped(cluster, told, queue)
    queue.send(
        "whole",
        MessageAttributes={
            "k": {"StringValue": "v", "DataType": "String"}, "b": {"BinaryValue": b"\0\1", "DataType": "Binary"},
        },
    )  # fmt: skip
    told.wait(3)
    event = json.loads(base64.b64decode(told.told[0][1]))
    [record] = event.pop("Records")
    assert event == {}
    attributes = record.pop("attributes")
    assert attributes["ApproximateReceiveCount"] == "1"
    assert {"SentTimestamp", "SenderId", "ApproximateFirstReceiveTimestamp"} <= attributes.keys()
    assert len(record.pop("messageId")) == 36
    assert record.pop("receiptHandle")
    assert len(record.pop("md5OfMessageAttributes")) == 32
    assert record == {
        "body": "whole", "md5OfBody": hashlib.md5(b"whole").hexdigest(),
        "messageAttributes": {
            "k": {"stringValue": "v", "stringListValues": [], "binaryListValues": [], "dataType": "String"},
            "b": {"binaryValue": "AAE=", "stringListValues": [], "binaryListValues": [], "dataType": "Binary"},
        },
        "eventSource": "aws:sqs", "eventSourceARN": queue.arn, "awsRegion": "us-east-1",
    }  # fmt: skip
    eventually(lambda: queue.left == 0)
    assert cluster.client().get_event_source_mapping(UUID=uuid)["StateTransitionReason"] == "USER_INITIATED"


def test_what_fails_stays_in_the_queue_and_comes_again(cluster: Cluster, told: Effects, moto: str) -> None:
    queue = Queue(moto, "fails")
    uuid = mapped(cluster, told, queue)
    queue.send("raise-1")
    eventually(lambda: "raise-1" in ended(told))
    eventually(lambda: queue.left == 0)
    # Without ReportBatchItemFailures what a function answers does not matter.
    queue.send("fail-1")
    eventually(lambda: queue.left == 0)
    assert ended(told).count("fail-1") == 1
    cluster.client().update_event_source_mapping(UUID=uuid, FunctionResponseTypes=["ReportBatchItemFailures"])
    settled(cluster, uuid, "Enabled")
    queue.send("fail-2", "good-2")
    eventually(lambda: queue.left == 0)
    assert (ended(told).count("fail-2"), ended(told).count("good-2")) == (2, 1)


def test_what_no_filter_wants_is_deleted_and_never_seen(cluster: Cluster, told: Effects, moto: str) -> None:
    queue = Queue(moto, "filters")
    mapped(cluster, told, queue, FilterCriteria={"Filters": [{"Pattern": '{"body": [{"prefix": "good"}]}'}]})
    queue.send("bad-1", "good-1", "bad-2", "good-2")
    eventually(lambda: queue.left == 0)
    assert sorted(ended(told)) == ["good-1", "good-2"]


def test_a_mapping_is_switched_off_and_on_and_deleted(cluster: Cluster, told: Effects, moto: str) -> None:
    queue, client = Queue(moto, "switch"), cluster.client()
    uuid = mapped(cluster, told, queue)
    assert client.update_event_source_mapping(UUID=uuid, Enabled=False)["State"] == "Disabling"
    settled(cluster, uuid, "Disabled")
    queue.send("waits")
    assert client.update_event_source_mapping(UUID=uuid, BatchSize=1)["State"] == "Updating"
    assert settled(cluster, uuid, "Disabled")["BatchSize"] == 1
    assert (queue.left, ended(told)) == (1, [])
    assert client.update_event_source_mapping(UUID=uuid, Enabled=True)["State"] == "Enabling"
    eventually(lambda: ended(told) == ["waits"])
    settled(cluster, uuid, "Enabled")
    assert client.delete_event_source_mapping(UUID=uuid)["State"] == "Deleting"
    gone = (404, "ResourceNotFoundException", "The resource you requested does not exist.")

    def deleted() -> bool:
        listed = client.list_event_source_mappings(EventSourceArn=queue.arn)["EventSourceMappings"]
        return not listed

    eventually(deleted)
    assert error_of(client.get_event_source_mapping, UUID=uuid) == gone
    queue.send("late")
    # Another one of the same queue and function may follow, and finds what was left.
    again = client.create_event_source_mapping(FunctionName="switch", EventSourceArn=queue.arn)["UUID"]
    eventually(lambda: ended(told) == ["waits", "late"])
    settled(cluster, again, "Enabled")


def test_no_more_batches_run_at_once_than_a_mapping_may_have(cluster: Cluster, told: Effects, moto: str) -> None:
    queue = Queue(moto, "bounds", visibility=30)
    mapped(cluster, told, queue, ScalingConfig={"MaximumConcurrency": 2}, BatchSize=1)
    queue.send(*(f"slow-{number}" for number in range(12)))
    eventually(lambda: queue.left == 0)
    began = {what[6:]: at for _, what, _, at in told.told if what.startswith("begin:")}
    ends = {what[4:]: at for _, what, _, at in told.told if what.startswith("end:")}
    assert most_at_once([(began[body], ends[body]) for body in ends]) == 2


def test_a_window_gathers_messages_into_one_batch(cluster: Cluster, told: Effects, moto: str) -> None:
    queue = Queue(moto, "gathers", visibility=30)
    mapped(cluster, told, queue, MaximumBatchingWindowInSeconds=3, BatchSize=100)
    queue.send(*(f"m{number}" for number in range(25)))
    eventually(lambda: queue.left == 0)
    batches = {request_id for request_id, _, _, _ in told.told}
    assert len(ended(told)) == 25
    assert len(batches) <= 2  # one for each lane that reads an idle queue


def test_groups_of_a_fifo_queue_keep_their_order(cluster: Cluster, told: Effects, moto: str) -> None:
    # Moto lets a group go on past a message that waits to be seen again; tests/simulation has what fails.
    queue = Queue(moto, "groups.fifo", visibility=30)
    mapped(cluster, told, queue, BatchSize=3)
    for number in range(8):
        for group in "ab":
            queue.send(f"{group}{number}", MessageGroupId=group)
    eventually(lambda: queue.left == 0)
    for group in "ab":
        assert [body for body in ended(told) if body[0] == group] == [f"{group}{number}" for number in range(8)]


def test_a_lost_poller_is_replaced(cluster: Cluster, told: Effects, moto: str) -> None:
    queues = [Queue(moto, f"lost-{number}") for number in range(4)]
    for queue in queues:
        mapped(cluster, told, queue)
    other = cluster.others[0]
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    for number, queue in enumerate(queues):
        queue.send(f"after-{number}")
    eventually(lambda: len(ended(told)) == 4)
    cluster.others.remove(other)
    cluster.another("poller")


def test_a_source_whose_function_has_gone_says_so_and_keeps_its_messages(
    cluster: Cluster, told: Effects, moto: str
) -> None:
    queue = Queue(moto, "orphan")
    uuid = mapped(cluster, told, queue)
    client = cluster.client()
    client.delete_function(FunctionName="orphan")

    def result() -> str:
        return str(client.get_event_source_mapping(UUID=uuid).get("LastProcessingResult", ""))

    queue.send("kept")
    eventually(lambda: result() == "PROBLEM: Function not found")
    assert queue.left == 1
    cluster.create("orphan", PACKAGE, Timeout=1, Environment={"Variables": {"PORT": str(told.port)}})
    eventually(lambda: ended(told) == ["kept"])
    eventually(lambda: result() == "")


def test_a_function_without_concurrency_leaves_its_queue_alone(cluster: Cluster, told: Effects, moto: str) -> None:
    queue = Queue(moto, "stopped")
    mapped(cluster, told, queue)
    client = cluster.client()
    client.put_function_concurrency(FunctionName="stopped", ReservedConcurrentExecutions=0)
    queue.send("first")
    [mapping] = client.list_event_source_mappings(FunctionName="stopped")["EventSourceMappings"]
    problem = "PROBLEM: the function's reserved concurrency is 0"

    def result() -> str:
        return str(client.get_event_source_mapping(UUID=mapping["UUID"]).get("LastProcessingResult", ""))

    eventually(lambda: result() == problem)
    client.delete_function_concurrency(FunctionName="stopped")
    eventually(lambda: ended(told) == ["first"])
    eventually(lambda: queue.left == 0)


def test_a_queue_that_goes_away_is_named(cluster: Cluster, told: Effects, moto: str) -> None:
    queue = Queue(moto, "vanishes")
    uuid = mapped(cluster, told, queue)
    client = cluster.client()
    client.update_event_source_mapping(UUID=uuid, Enabled=False)
    settled(cluster, uuid, "Disabled")
    queue.client.delete_queue(QueueUrl=queue.url)
    client.update_event_source_mapping(UUID=uuid, Enabled=True)

    def named() -> bool:
        result = client.get_event_source_mapping(UUID=uuid).get("LastProcessingResult", "")
        return "AWS.SimpleQueueService.NonExistentQueue" in result

    eventually(named)


def test_the_how_to_says_what_works(cluster: Cluster, moto: str, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "howto" / "event-sources.md").read_text()
    # Kafka's is shown by the tests of Kafka.
    blocks = [block for block in code_blocks(page, "sh") if "KAFKA_BOOTSTRAP_SERVERS" not in block]
    lines = "\n".join(blocks).replace("/tmp/", f"{tmp_path}/")
    done = run("bash", "-euc", lines, env=cluster.environment | {"ENDPOINT": moto})
    assert done.returncode == 0, done.stderr
    logs = cluster.client("logs")
    eventually(lambda: any("order two pizzas" in each for each in printed(logs, "/aws/lambda/orders")))
    eventually(lambda: any("click left" in each for each in printed(logs, "/aws/lambda/clicks")))
