"""Asynchronous invocation from the door to the effect: accepted, run, tried again, given up; nothing accepted is lost."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lambent.client import Client
from lambent.infra.clock import SystemClock
from tests.e2e.effects import PACKAGE, Effects, effects
from tests.e2e.harness import KEY, SECRET, Cluster, error_of, eventually

WAIT = 0.4  # the clock of errors, a minute on AWS


@pytest.fixture
def told() -> Iterator[Effects]:
    with effects() as made:
        yield made


def create(cluster: Cluster, told: Effects, name: str = "tells", **configuration: Any) -> str:
    variables = {"Variables": {"PORT": str(told.port)}}
    return cluster.create(name, PACKAGE, **({"Environment": variables, "Timeout": 20} | configuration))


def send(client: Any, function: str = "tells", qualifier: str | None = None, **event: Any) -> str:
    """Queue an event; answers its request id."""
    more = {} if qualifier is None else {"Qualifier": qualifier}
    answer = client.invoke(FunctionName=function, InvocationType="Event", Payload=json.dumps(event), **more)
    assert answer["StatusCode"] == 202
    assert answer["Payload"].read() == b""
    assert "ExecutedVersion" not in answer
    request_id: str = answer["ResponseMetadata"]["RequestId"]
    return request_id


def given_up(cluster: Cluster, request_id: str) -> tuple[str, str]:
    """Wait until the poller has given an event up; answers why."""

    def look() -> tuple[str, str] | None:
        for line in (cluster.data / "run" / "poller.log").read_text().splitlines():
            entry = json.loads(line)
            if entry.get("request_id") == request_id and entry["message"] == "event given up":
                return entry["reason"], entry["detail"]
        return None

    return eventually(look) or ("", "")


@pytest.fixture(scope="module")
def quick() -> Iterator[Cluster]:
    """A cluster whose clocks are short."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory(prefix="lq-", dir="/tmp") as folder:
        cluster = Cluster(
            Path(folder) / "data", "--no-examples",
            LAMBENT_LIMITS_ASYNC_RETRY_SECONDS=str(WAIT), LAMBENT_LIMITS_ASYNC_BACKOFF_SECONDS="0.1",
            LAMBENT_LIMITS_ASYNC_BACKOFF_MAX_SECONDS="1", LAMBENT_LIMITS_ASYNC_EVENT_AGE_SECONDS="20",
        )  # fmt: skip
        yield cluster.start()
        cluster.stop()


def test_an_event_runs_under_the_request_id_that_was_answered_through_every_client(
    quick: Cluster, told: Effects
) -> None:
    name = create(quick, told, "clients")
    ids = {send(quick.client(), name, n=1)}
    with Client(quick.grpc, access_key=KEY, secret_key=SECRET) as client:
        ids.add(client.invoke_async(name, {"n": 2}))
    command = quick.lambent("invoke", name, "--async", "--payload", '{"n": 3}')
    assert command.returncode == 0, command.stderr
    ids.add(command.stdout.strip())
    answer = quick.aws(
        "lambda", "invoke", "--function-name", name, "--invocation-type", "Event", "--payload", '{"n": 4}', "/dev/null",
    )  # fmt: skip
    assert json.loads(answer.stdout)["StatusCode"] == 202
    seen = told.wait(4)
    assert ids <= {request_id for request_id, _, _, _ in seen}
    assert quick.lambent("invoke", name, "--async", "--log").returncode == 2


def test_what_cannot_be_run_is_refused_before_it_is_accepted(quick: Cluster, told: Effects) -> None:
    invoke = quick.client().invoke
    name = create(quick, told, "refuses")
    assert error_of(invoke, FunctionName="nobody", InvocationType="Event")[:2] == (404, "ResourceNotFoundException")
    status, kind, _ = error_of(invoke, FunctionName=name, InvocationType="Event", Payload=b"{no")
    assert (status, kind) == (400, "InvalidRequestContentException")
    limit = 1024 * 1024
    status, kind, text = error_of(invoke, FunctionName=name, InvocationType="Event", Payload=b'"%s"' % (b"x" * limit))
    assert (status, kind) == (413, "RequestEntityTooLargeException")
    assert text == f"{limit + 2} byte payload is too large for the Event invocation type (limit {limit} bytes)"
    largest = b'{"n": 7, "x": "%s"}' % (b"x" * (limit - 17))
    assert len(largest) == limit
    assert invoke(FunctionName=name, InvocationType="Event", Payload=largest)["StatusCode"] == 202
    assert {number for _, number, _, _ in told.wait(1)} == {"7"}


def test_the_deprecated_operation_queues_too(quick: Cluster, told: Effects) -> None:
    client = quick.client()
    name = create(quick, told, "deprecated")
    client.publish_version(FunctionName=name)
    answer = client.invoke_async(FunctionName=name, InvokeArgs=b'{"n": 1}')
    assert (answer["Status"], answer["ResponseMetadata"]["HTTPStatusCode"]) == (202, 202)
    ids = {answer["ResponseMetadata"]["RequestId"]}
    arn = f"arn:aws:lambda:us-east-1:000000000000:function:{name}"
    for spelling, args in ((f"{arn}:$LATEST", b'{"n": 2}'), (arn, b"")):
        ids.add(client.invoke_async(FunctionName=spelling, InvokeArgs=args)["ResponseMetadata"]["RequestId"])
    seen = told.wait(3)
    assert {request_id for request_id, _, _, _ in seen} == ids
    assert {(number, version) for _, number, version, _ in seen} == {(n, "$LATEST") for n in "012"}
    for spelling, args, status, kind in (
        ("nobody", b"{}", 404, "ResourceNotFoundException"),
        (f"{name}:1", b"{}", 404, "ResourceNotFoundException"),
        ("no name", b"{}", 400, "ValidationException"),
        (name, b"{no", 400, "InvalidRequestContentException"),
        (name, b'"%s"' % (b"x" * 1024 * 1024), 413, "RequestEntityTooLargeException"),
    ):
        got = error_of(client.invoke_async, FunctionName=spelling, InvokeArgs=args)
        assert got[:2] == (status, kind), spelling


def with_headers(client: Any, headers: dict[str, str]) -> Any:
    """The client, with more headers on each invocation."""

    def add(request: Any, **_: Any) -> None:
        for name, value in headers.items():
            request.headers[name] = value

    client.meta.events.register("before-sign.lambda.Invoke", add)
    return client


def test_a_token_queues_one_event_through_every_door(quick: Cluster, told: Effects) -> None:
    name = create(quick, told, "once")
    first = send(with_headers(quick.client(), {"X-Lambent-Dedup-Token": "order-1"}), name, n=1)
    assert send(with_headers(quick.client(), {"X-Lambent-Dedup-Token": "order-1"}), name, n=2) == first
    with Client(quick.grpc, access_key=KEY, secret_key=SECRET) as client:
        assert client.invoke_async(name, {"n": 3}, dedup_token="order-1") == first
        other = client.invoke_async(name, {"n": 4}, dedup_token="order-2")
    command = quick.lambent("invoke", name, "--async", "--payload", '{"n": 5}', "--dedup-token", "order-2")
    assert command.stdout.strip() == other != first
    # Each is in the queue before its answer, so what comes last is run last.
    last = send(quick.client(), name, n=6)
    told.wait(3)
    assert {(request_id, number) for request_id, number, _, _ in told.told} == {(first, "1"), (other, "4"), (last, "6")}


def test_an_event_is_not_run_before_its_time(quick: Cluster, told: Effects) -> None:
    name, wait = create(quick, told, "later"), 2.0
    begun, clock = SystemClock().monotonic(), datetime.now(UTC)
    with Client(quick.grpc, access_key=KEY, secret_key=SECRET) as client:
        late = client.invoke_async(name, {"n": 1}, not_before=clock + timedelta(seconds=wait))
        [event] = client.list_events(name, state="delayed", max_items=9)
        assert (event.request_id, event.reason) == (late, "NotBefore")
    at_once = send(with_headers(quick.client(), {"X-Lambent-Not-Before": "1"}), name, n=2)
    seen = {request_id: at for request_id, _, _, at in told.wait(2)}
    assert seen.keys() == {late, at_once}
    # Clocks of one machine, read one after the other; the store keeps milliseconds.
    assert seen[at_once] < seen[late] >= begun + wait - 0.01


def test_what_is_asked_of_an_event_is_refused_where_it_makes_no_sense(quick: Cluster, told: Effects) -> None:
    name = create(quick, told, "asks")
    for headers, kind, says in (
        ({"X-Lambent-Dedup-Token": "two words"}, "Event", "DedupToken must be"),
        ({"X-Lambent-Not-Before": "soon"}, "Event", "NotBefore must be epoch seconds"),
        ({"X-Lambent-Not-Before": "2999-01-01T00:00:00Z"}, "Event", "at most 20 seconds ahead"),
        ({"X-Lambent-Dedup-Token": "t"}, "RequestResponse", "for the Event invocation type"),
    ):
        invoke = with_headers(quick.client(), headers).invoke
        status, error, text = error_of(invoke, FunctionName=name, InvocationType=kind)
        assert (status, error) == (400, "InvalidParameterValueException")
        assert says in text
    assert quick.lambent("invoke", name, "--dedup-token", "t").returncode == 2
    refused = quick.lambent("invoke", name, "--async", "--not-before", "soon")
    assert "NotBefore must be epoch seconds" in refused.stderr
    assert told.told == []


def test_a_function_that_fails_is_tried_three_times_at_growing_distance(quick: Cluster, told: Effects) -> None:
    name = create(quick, told, "fails")
    request_id = send(quick.client(), name, fail=True)
    times = [at for _, _, _, at in told.wait(3, request_id=request_id)]
    assert given_up(quick, request_id) == ("RetriesExhausted", "ValueError")
    assert len(told.of(request_id)) == 3
    assert times[1] - times[0] >= WAIT
    assert times[2] - times[1] >= 2 * WAIT


def test_what_a_qualifier_stands_for_is_looked_up_at_each_attempt(quick: Cluster, told: Effects) -> None:
    name, client = create(quick, told, "moves"), quick.client()
    one = client.publish_version(FunctionName=name)["Version"]
    quick.update(name, Description="another")
    two = client.publish_version(FunctionName=name)["Version"]
    client.create_alias(FunctionName=name, Name="live", FunctionVersion=one)
    request_id = send(client, name, "live", fail=True)
    told.wait(1, request_id=request_id)
    client.update_alias(FunctionName=name, Name="live", FunctionVersion=two)
    versions = [version for _, _, version, _ in told.wait(3, request_id=request_id)]
    assert versions == [one, two, two]
    waits = send(client, name, fail=True)
    told.wait(1, request_id=waits)
    client.delete_function(FunctionName=name)
    assert given_up(quick, waits)[0] == "FunctionNotFound"


def test_a_reserved_concurrency_of_zero_accepts_and_gives_up_at_once(quick: Cluster, told: Effects) -> None:
    name, client = create(quick, told, "zero"), quick.client()
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    request_id = send(client, name)
    assert given_up(quick, request_id)[0] == "ZeroReservedConcurrency"
    assert told.told == []


def test_throttled_events_wait_and_all_run_within_the_limit(quick: Cluster, told: Effects) -> None:
    name, client = create(quick, told, "narrow"), quick.client()
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=2)
    ids = {send(client, name, n=number, s=0.1) for number in range(40)}
    seen = told.wait(40)
    assert {request_id for request_id, _, _, _ in seen} == ids
    assert told.duplicates == 0


def test_an_event_that_is_throttled_for_too_long_is_too_old(own_cluster: Any, told: Effects) -> None:
    cluster: Cluster = own_cluster(
        "--no-examples", LAMBENT_LIMITS_ASYNC_EVENT_AGE_SECONDS="2", LAMBENT_LIMITS_ASYNC_BACKOFF_SECONDS="0.1"
    )
    name, client = create(cluster, told), cluster.client()
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    with ThreadPoolExecutor(1) as threads:
        busy = threads.submit(client.invoke, FunctionName=name, Payload=b'{"n": 1, "s": 6}')
        told.wait(1)
        request_id = send(cluster.client(), name, n=2)
        reason, detail = given_up(cluster, request_id)
        assert (reason, detail) == ("EventAgeExceeded", "ReservedFunctionConcurrentInvocationLimitExceeded")
        busy.result()
    assert told.of(request_id) == []


def test_a_killed_poller_loses_nothing(own_cluster: Any, told: Effects) -> None:
    """What it held is taken over in seconds; each accepted event's effect is found."""
    cluster: Cluster = own_cluster("--no-examples", LAMBENT_QUEUE_LEASE_SECONDS="1")
    name, client = create(cluster, told), cluster.client()
    ids = {send(client, name, n=number, s=0.05) for number in range(50)}
    told.wait(10)
    os.kill(cluster.pid("poller"), signal.SIGKILL)
    ids |= {send(client, name, n=number, s=0.05) for number in range(50, 100)}
    seen = told.wait(100)
    assert {request_id for request_id, _, _, _ in seen} == ids


def test_two_pollers_share_the_work(own_cluster: Any, told: Effects) -> None:
    cluster: Cluster = own_cluster("--no-examples")
    name, client = create(cluster, told), cluster.client()
    cluster.another("poller")
    ids = {send(client, name, n=number, s=0.02) for number in range(200)}
    assert {request_id for request_id, _, _, _ in told.wait(200)} == ids
    assert told.duplicates == 0


def test_a_store_that_hangs_or_dies_gives_503_and_never_a_false_202(own_cluster: Any, told: Effects) -> None:
    cluster: Cluster = own_cluster("--no-examples", LAMBENT_QUEUE_ACCEPT_SECONDS="0.5")
    name, client = create(cluster, told), cluster.client()
    accepted = {send(client, name, n=0)}
    told.wait(1)
    store = cluster.pid("redis")
    os.kill(store, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as threads:
        refusal = threads.submit(error_of, client.invoke, FunctionName=name, InvocationType="Event")
        assert refusal.result(timeout=10)[:2] == (503, "ServiceUnavailableException")
    os.kill(store, signal.SIGCONT)
    refused: list[int] = []
    for number in range(1, 300):
        if number == 100:
            os.kill(store, signal.SIGKILL)
        try:
            accepted.add(send(client, name, n=number))
        except ClientError as error:
            refused.append(error.response["ResponseMetadata"]["HTTPStatusCode"])
            time.sleep(0.02)
    assert set(refused) == {503}
    eventually(lambda: accepted <= {request_id for request_id, _, _, _ in told.told})
