"""The queue is looked into and steered, with the command line as users do."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lambent.client import Client, InvalidRequest, NotFound
from lambent.v1 import queue_service_pb2 as pb
from tests.e2e.effects import Effects, effects
from tests.e2e.harness import KEY, ROOT, SECRET, Cluster, code_blocks, error_of, eventually, run
from tests.e2e.test_async import create, send


@pytest.fixture
def told() -> Iterator[Effects]:
    with effects() as made:
        yield made


@pytest.fixture(scope="module")
def steered() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="ls-", dir="/tmp") as folder:
        cluster = Cluster(
            Path(folder) / "data", "--no-examples", LAMBENT_LIMITS_ASYNC_RETRY_SECONDS="0.2",
            LAMBENT_LIMIT_PROFILE="aws-2024",
        )  # fmt: skip
        yield cluster.start()
        cluster.stop()


@pytest.fixture
def client(steered: Cluster) -> Iterator[Client]:
    with Client(steered.grpc, access_key=KEY, secret_key=SECRET) as made:
        yield made


def queue_of(client: Client, name: str) -> pb.EventQueue | None:
    return next((queue for queue in client.list_queues() if queue.function_name == name), None)


def test_a_paused_queue_accepts_and_shows_what_waits_and_runs_it_when_resumed(
    steered: Cluster, told: Effects, client: Client
) -> None:
    name = create(steered, told, "waits")
    assert steered.lambent("queue", "pause", name).stdout == "paused waits\n"
    ids = [send(steered.client(), name, n=number) for number in range(3)]
    queue = queue_of(client, name)
    assert queue is not None
    assert (queue.waiting, queue.running, queue.paused) == (3, 0, True)
    assert queue.oldest_age_seconds > 0
    listed = json.loads(steered.lambent("queue", "events", name, "--state", "waiting", "--output", "json").stdout)
    assert [each["RequestId"] for each in listed] == ids
    peeked = json.loads(steered.lambent("queue", "peek", name, ids[1], "--output", "json").stdout)
    assert (peeked["State"], json.loads(peeked["Payload"])) == ("waiting", {"n": 1})
    assert "paused" in steered.lambent("queue", "list").stdout
    assert told.told == []
    assert steered.lambent("queue", "resume", name).stdout == "resumed waits\n"
    assert steered.lambent("queue", "resume", name).stdout == "waits was not paused\n"
    assert {request_id for request_id, _, _, _ in told.wait(3)} == set(ids)
    eventually(lambda: queue_of(client, name) is None)
    with pytest.raises(NotFound):
        client.get_event(name, ids[0])


def test_an_event_is_followed_to_its_end(steered: Cluster, told: Effects) -> None:
    name = create(steered, told, "follows")
    good = steered.lambent("invoke", name, "--async", "--wait", "--payload", '{"n": 1}')
    assert (good.returncode, good.stderr) == (0, "")
    assert re.fullmatch(r"[0-9a-f-]{36}\n", good.stdout)
    bad = steered.lambent("invoke", name, "--async", "--wait", "--payload", '{"fail": true}')
    assert bad.returncode == 3
    assert bad.stderr == "given up after 3 attempts: RetriesExhausted ValueError\n"
    assert steered.lambent("invoke", name, "--wait").returncode == 2


def test_what_was_given_up_can_be_chosen_and_queued_again_and_purged(
    steered: Cluster, told: Effects, client: Client
) -> None:
    name = create(steered, told, "returns")
    steered.client().put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)
    ids = {send(steered.client(), name, n=number, fail=True) for number in range(3)}
    eventually(lambda: {event.request_id for event in client.list_events(name)} == ids)
    [event, *_] = client.list_events(name)
    assert (event.state, event.reason, event.detail) == ("given_up", "RetriesExhausted", "ValueError")
    found = client.get_event(name, event.request_id)
    assert json.loads(found.response)["errorMessage"] == "no"

    def redrive(*arguments: str) -> str:
        done = steered.lambent("queue", "redrive", name, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert redrive("--error", "TypeError") == "0 queued again\n"
    assert redrive("--reason", "EventAgeExceeded") == "0 queued again\n"
    assert redrive("--until", "5") == "0 queued again\n"
    assert redrive("--since", "5", "--error", "Value", "--reason", "RetriesExhausted") == "3 queued again\n"
    for request_id in ids:
        told.wait(2, request_id=request_id)
    eventually(lambda: len(client.list_events(name)) == 3)
    one = ids.pop()
    assert redrive("--request-id", one) == "1 queued again\n"
    told.wait(3, request_id=one)
    eventually(lambda: len(client.list_events(name)) == 3)
    assert steered.lambent("queue", "purge", name, "--state", "given_up", "--yes").stdout == "3 forgotten\n"
    assert client.list_events(name) == []


def test_the_limits_of_another_year_hold_where_they_are_chosen(steered: Cluster, told: Effects) -> None:
    name = create(steered, told, "older")
    invoke, limit = steered.client().invoke, 256 * 1024
    answer = error_of(invoke, FunctionName=name, InvocationType="Event", Payload=b'"%s"' % (b"x" * (limit - 1)))
    text = f"{limit + 1} byte payload is too large for the Event invocation type (limit {limit} bytes)"
    assert answer == (413, "RequestEntityTooLargeException", text)
    largest = b'{"n": 1, "x": "%s"}' % (b"x" * (limit - 17))
    assert invoke(FunctionName=name, InvocationType="Event", Payload=largest)["StatusCode"] == 202
    told.wait(1)


def test_a_queue_belongs_to_a_function_not_to_a_qualifier(client: Client) -> None:
    with pytest.raises(InvalidRequest, match="one queue for all its versions"):
        client.pause_queue("f:live")


def test_the_page_on_the_queue_can_be_followed(steered: Cluster, told: Effects) -> None:
    create(steered, told, "hello", Environment={"Variables": {"PORT": str(told.port)}})
    said: list[Any] = []
    for block in code_blocks((ROOT / "docs/howto/asynchronous.md").read_text(), "sh"):
        done = run("bash", "-ec", block, env=steered.environment)
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
        said.append(done.stdout)
    assert re.match(r"[0-9a-f-]{36}\n", said[0])
    assert re.fullmatch(r"([0-9a-f-]{36}\n){2}", said[1])
    assert "hello has priority 5" in said[2]
    assert "paused" in said[3]
    assert "resumed hello" in said[4]
