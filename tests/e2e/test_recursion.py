"""Functions that their own invocations lead to: after so many times in one chain of requests they are not run again."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lambent.domain.lineage import mark
from lambent.domain.names import Tenant
from tests.conftest import service
from tests.e2e.effects import TELL, Effects, effects
from tests.e2e.harness import ROOT, Cluster, code_blocks, error_of, eventually, run, zipped
from tests.e2e.test_event_sources import ACCOUNT, Queue, settled
from tests.e2e.test_function_urls import ANYBODY, address, ask

MOST = 3
TRACE = "Root=1-67891233-abcdef012345678912345678"
# Tells how many times it is still to go on, and has itself invoked again as long as there are any; a batch is told by
# its bodies.
GOES_ON = (
    TELL
    + """
def handler(event, context):
    if "left" not in event:
        for body in [record["body"] for record in event.get("Records", ())] or ["told"]:
            tell(context, body)
        return
    tell(context, str(event["left"]))
    if not event["left"]:
        return "the end"
    import boto3
    from botocore.exceptions import ClientError
    again = json.dumps({**event, "left": event["left"] - 1})
    try:
        answer = boto3.client("lambda").invoke(
            FunctionName=context.function_name, InvocationType=event["kind"], Payload=again
        )
    except ClientError as error:
        return [error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]]
    return json.loads(answer["Payload"].read() or "null")
"""
)


@pytest.fixture(scope="module")
def cluster(moto: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose queues are moto's, and whose loops end soon."""
    file = tmp_path_factory.mktemp("connections") / "connections.toml"
    file.write_text(f'[[connections]]\nservice = "sqs"\nendpoint = "{moto}"\naccess_key = "k"\nsecret_key = "s"\n')
    settings = {"LAMBENT_QUEUE_CONNECTIONS": str(file), "LAMBENT_LIMITS_RECURSIVE_INVOCATIONS": str(MOST)}
    with tempfile.TemporaryDirectory(prefix="lr-", dir="/tmp") as folder:
        made = Cluster(Path(folder) / "data", "--no-examples", **settings).start()
        yield made
        made.stop()


@pytest.fixture
def told() -> Iterator[Effects]:
    with effects() as made:
        yield made


def create(cluster: Cluster, told: Effects, name: str) -> str:
    variables = {"Variables": {"PORT": str(told.port)}}
    return cluster.create(
        name, zipped({"app.py": GOES_ON}), Timeout=60, MemorySize=1769, Environment=variables
    )  # fmt: skip


def begin(cluster: Cluster, name: str, kind: str, left: int) -> Any:
    event = json.dumps({"kind": kind, "left": left})
    answer = cluster.client().invoke(FunctionName=name, InvocationType=kind, Payload=event)
    return json.loads(answer["Payload"].read() or "null")


def whats(told: Effects) -> list[str]:
    return [what for _, what, _, _ in told.told]


def test_what_is_set_is_answered(cluster: Cluster, told: Effects) -> None:
    client, name = cluster.client(), create(cluster, told, "sets")
    assert client.get_function_recursion_config(FunctionName=name)["RecursiveLoop"] == "Terminate"
    revision = client.get_function_configuration(FunctionName=name)["RevisionId"]
    for wanted in ("Allow", "Allow", "Terminate"):
        assert client.put_function_recursion_config(FunctionName=name, RecursiveLoop=wanted)["RecursiveLoop"] == wanted
        assert client.get_function_recursion_config(FunctionName=name)["RecursiveLoop"] == wanted
    assert client.get_function_configuration(FunctionName=name)["RevisionId"] == revision
    client.put_function_recursion_config(FunctionName=name, RecursiveLoop="Allow")
    client.delete_function(FunctionName=name)
    create(cluster, told, "sets")
    assert client.get_function_recursion_config(FunctionName=name)["RecursiveLoop"] == "Terminate"

    lenient = cluster.client(validation=False)
    missing = (404, "ResourceNotFoundException")
    assert error_of(client.get_function_recursion_config, FunctionName="nobody")[:2] == missing
    assert error_of(client.put_function_recursion_config, FunctionName="nobody", RecursiveLoop="Allow")[:2] == missing
    for wrong in ({"RecursiveLoop": "Maybe"}, {}, {"FunctionName": "sets:1", "RecursiveLoop": "Allow"}):
        got = error_of(lenient.put_function_recursion_config, **({"FunctionName": name} | wrong))
        assert got[:2] == (400, "ValidationException")


def test_a_function_that_invokes_itself_is_told_that_it_is_in_a_loop(cluster: Cluster, told: Effects) -> None:
    name = create(cluster, told, "calls")
    assert begin(cluster, name, "RequestResponse", 9) == [400, "RecursiveInvocationException"]
    assert whats(told) == ["9", "8", "7"]
    # Each request of a client is a chain of its own.
    assert begin(cluster, name, "RequestResponse", MOST - 1) == "the end"


def test_whoever_asks_is_told_whichever_way_they_ask(cluster: Cluster, told: Effects) -> None:
    client, name = cluster.client(), create(cluster, told, "asked")
    trace = f"{TRACE};Lineage={mark(Tenant(ACCOUNT, 'us-east-1'), name)}:{MOST}"

    def going_on(request: Any, **_: Any) -> None:
        request.headers["X-Amzn-Trace-Id"] = trace

    with address(cluster, name, AuthType="NONE") as url:
        for statement in ANYBODY:
            client.add_permission(FunctionName=name, **statement)
        assert ask(cluster, url)[0] == 200
        status, _, body = ask(cluster, url, headers={"X-Amzn-Trace-Id": trace})
        assert (status, "recursive loop" in json.loads(body)["message"]) == (400, True)
    client.meta.events.register("before-send.lambda", going_on)
    for operation in (client.invoke, client.invoke_with_response_stream):
        assert error_of(operation, FunctionName=name)[:2] == (400, "RecursiveInvocationException")


def test_an_event_of_a_loop_is_given_up_and_its_destination_told(cluster: Cluster, told: Effects, moto: str) -> None:
    name, queue = create(cluster, told, "queues"), Queue(moto, "loops", visibility=60)
    cluster.client().put_function_event_invoke_config(
        FunctionName=name, DestinationConfig={"OnFailure": {"Destination": queue.arn}}
    )
    begin(cluster, name, "Event", 9)

    def received() -> Any:
        return service(moto, "sqs").receive_message(
            QueueUrl=queue.url, MessageSystemAttributeNames=["AWSTraceHeader"]
        ).get("Messages")  # fmt: skip

    [message] = eventually(received)
    record = json.loads(message["Body"])
    assert record["requestContext"]["condition"] == "RecursiveLoop"
    assert record["requestContext"]["approximateInvokeCount"] == 0
    assert record["requestPayload"] == {"kind": "Event", "left": 6}
    assert "responsePayload" not in record
    # Whoever reads the queue is in the same chain.
    assert f"{mark(Tenant(ACCOUNT, 'us-east-1'), name)}:{MOST}" in message["Attributes"]["AWSTraceHeader"]
    assert whats(told) == ["9", "8", "7"]


def test_a_loop_goes_on_where_that_is_allowed(cluster: Cluster, told: Effects) -> None:
    name = create(cluster, told, "allowed")
    cluster.client().put_function_recursion_config(FunctionName=name, RecursiveLoop="Allow")
    begin(cluster, name, "Event", 5)
    told.wait(6)
    assert whats(told) == ["5", "4", "3", "2", "1", "0"]


def test_functions_that_are_each_others_destinations_stop(cluster: Cluster, told: Effects) -> None:
    client, names = cluster.client(), [create(cluster, told, name) for name in ("ping", "pong")]
    for name, other in (names, names[::-1]):
        arn = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:{other}"
        client.put_function_event_invoke_config(
            FunctionName=name, DestinationConfig={"OnSuccess": {"Destination": arn}}
        )
    client.invoke(FunctionName="ping", InvocationType="Event", Payload=b"{}")

    def stopped() -> bool:
        log = (cluster.data / "run" / "poller.log").read_text().splitlines()
        ends = [each for each in map(json.loads, log) if each.get("reason") == "RecursiveLoop"]
        return any(each["function"].endswith(":ping") for each in ends)

    assert eventually(stopped)
    assert len(told.told) == 2 * MOST


@pytest.mark.parametrize(("kind", "handled"), [("", ["before", "after"]), (".fifo", ["before"])])
def test_a_message_of_a_loop_stays_in_its_queue(
    cluster: Cluster, told: Effects, moto: str, kind: str, handled: list[str]
) -> None:
    name, queue = create(cluster, told, f"reads{kind[1:]}"), Queue(moto, f"looping{kind}", visibility=120)
    trace = f"{TRACE};Lineage={mark(Tenant(ACCOUNT, 'us-east-1'), name)}"
    group: dict[str, Any] = {"MessageGroupId": "g"} if kind else {}
    for body, ran in (("before", MOST - 1), ("looped", MOST), ("after", 0)):
        header = {"StringValue": f"{trace}:{ran}", "DataType": "String"}
        queue.send(body, MessageSystemAttributes={"AWSTraceHeader": header}, **group)
    made = cluster.client().create_event_source_mapping(FunctionName=name, EventSourceArn=queue.arn)
    settled(cluster, made["UUID"], "Enabled")
    told.wait(len(handled))

    def result() -> bool:
        got = cluster.client().get_event_source_mapping(UUID=made["UUID"]).get("LastProcessingResult")
        return bool(got == "PROBLEM: messages come of a recursive loop")

    eventually(lambda: queue.left == 3 - len(handled))
    assert eventually(result)
    assert whats(told) == handled
    cluster.client().delete_event_source_mapping(UUID=made["UUID"])


def test_the_how_to_says_what_works(cluster: Cluster, told: Effects) -> None:
    create(cluster, told, "hello")
    page = (ROOT / "docs" / "howto" / "recursive-loops.md").read_text()
    done = run("bash", "-euc", "\n".join(code_blocks(page, "sh")), env=cluster.environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "Allow"
