"""Processes die under a cluster that goes on."""

from __future__ import annotations

import json
import os
import select
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.e2e.harness import (
    Cluster,
    command_of,
    descendants,
    eventually,
    handles,
    most_at_once,
    over_and_over,
    zipped,
)
from tests.integration.test_extensions import LINGERING
from tests.integration.test_runtime_api import CLIENT, packed

NAP = zipped(
    {
        "app.py": "import time\ndef handler(event, context):\n    time.sleep(event.get('s', 0))\n    return event.get('n')\n"
    }
)
# The same with a runtime of its own, and an extension.
OWN = CLIENT + (
    "import time\n"
    "while True:\n"
    "    request, headers, body = next()\n"
    "    event = json.loads(body)\n"
    "    time.sleep(event.get('s', 0))\n"
    "    respond(request, event.get('n'))\n"
)
FUNCTIONS = ("nap", "own")


@pytest.fixture(scope="module")
def napping() -> Iterator[Cluster]:
    """A cluster with both, whose workers may be hurt."""
    with tempfile.TemporaryDirectory(prefix="lo-", dir="/tmp") as folder:
        data = Path(folder) / "data"
        cluster = Cluster(data, "--no-examples", LAMBENT_SCHEDULING_PLACEMENT="balance").start()
        content = {"ZipFile": packed({"extensions/watch": LINGERING})}
        layer = cluster.client().publish_layer_version(LayerName="watch", Content=content)["LayerVersionArn"]
        own = {"Runtime": "provided.al2023", "Handler": "any", "MemorySize": 512, "Layers": [layer]}
        cluster.create("nap", NAP, Timeout=60)
        cluster.create("own", packed({"bootstrap": OWN}), Timeout=60, **own)
        yield cluster
        cluster.stop()


def test_the_scheduler_dies_and_comes_back_while_invocations_run(own_cluster: Any) -> None:
    """Invocations that run are not disturbed, held leases go on being used, and new functions start again."""
    cluster: Cluster = own_cluster("--no-examples")
    cluster.create("nap", NAP, Timeout=20)
    client = cluster.client(retries=0)
    client.invoke(FunctionName="nap", Payload=b"{}")
    outcomes: Counter[str] = Counter()
    mine = cluster.client(retries=0)

    def warm() -> None:
        outcomes[mine.invoke(FunctionName="nap", Payload=b'{"n": 1}')["Payload"].read().decode()] += 1

    with ThreadPoolExecutor(1) as threads, over_and_over(warm) as [steady]:
        long = threads.submit(lambda: client.invoke(FunctionName="nap", Payload=b'{"s": 4, "n": 7}')["Payload"].read())
        eventually(lambda: outcomes["1"] >= 20 or steady.done())
        before = cluster.pid("scheduler")
        os.kill(before, signal.SIGKILL)
        assert long.result(timeout=30) == b"7"
    assert set(outcomes) == {"1"}
    cluster.create("after", NAP)
    assert cluster.client(retries=3).invoke(FunctionName="after", Payload=b'{"n": 2}')["Payload"].read() == b"2"
    assert cluster.pid("scheduler") != before


def test_a_killed_worker_is_told_at_once_and_leaves_nothing_behind(napping: Cluster) -> None:
    cluster = napping
    worker = cluster.pid("worker")
    family: list[int] = []
    with ThreadPoolExecutor(2) as threads:
        running = [
            threads.submit(cluster.client().invoke, FunctionName=name, Payload=b'{"s": 50}') for name in FUNCTIONS
        ]
        for name in FUNCTIONS:
            # While one runs, a second invocation needs another environment, which is then idle.
            cluster.client().invoke(FunctionName=name, Payload=b'{"s": 0.3}')
        started = {pid: command_of(pid) for pid in descendants(worker)}
        assert any("extensions/watch" in command for command in started.values())
        family = handles(started)
        os.kill(worker, signal.SIGKILL)
        errors = [one.exception(timeout=20) for one in running]
    for error in errors:
        assert isinstance(error, ClientError)
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 500
        assert error.response["Error"]["Code"] == "ServiceException"
    patient = cluster.client(retries=8)
    assert patient.invoke(FunctionName="nap", Payload=b'{"n": 3}')["Payload"].read() == b"3"
    for process in family:
        # Readable once the process has ended.
        assert select.select([process], [], [], 10)[0], "a process of the worker's outlived it"
        os.close(process)


def test_a_worker_told_to_stop_ends_what_runs_and_nobody_notices(napping: Cluster) -> None:
    """Two workers share the load; one is told to stop. No caller gets an error, and it leaves nothing behind."""
    cluster = napping
    cluster.another_worker()
    second = cluster.others[0]
    answers: Counter[bytes] = Counter()
    mine = cluster.client(retries=0)

    def warm(name: str) -> None:
        answers[mine.invoke(FunctionName=name, Payload=b'{"n": 1}')["Payload"].read()] += 1

    nap = {"Payload": b'{"s": 1.5, "n": 7}'}
    steadily = over_and_over(*(partial(warm, name) for name in FUNCTIONS * 2))
    with ThreadPoolExecutor(4) as threads, steadily as steady:
        long = [threads.submit(cluster.client(retries=0).invoke, FunctionName=name, **nap) for name in FUNCTIONS * 2]
        started: dict[int, str] = {}

        def under_way() -> bool:
            started.update({pid: command_of(pid) for pid in descendants(second.pid)})
            # A runtime of its own begins once its extension has registered, and is told of the end from then on.
            own = any(command.endswith("/bootstrap\0") for command in started.values())
            return (answers[b"1"] >= 50 and own) or any(one.done() for one in steady)

        eventually(under_way)
        assert any("extensions/watch" in command for command in started.values())
        family = handles(started)
        second.terminate()
        assert second.wait(timeout=20) == 0
        assert [one.result()["Payload"].read() for one in long] == [b"7"] * 4
    assert set(answers) == {b"1"}
    for process in family:
        assert select.select([process], [], [], 0)[0], "a process of the worker's outlived it"
        os.close(process)
    events = cluster.client("logs").filter_log_events(logGroupName="/aws/lambda/own")["events"]
    said = [event["message"] for event in events]
    assert "spindown\n" in said, said[-60:]


def test_the_limit_is_exact_and_nothing_is_throttled_while_a_slot_is_free(own_cluster: Any) -> None:
    """Functions count themselves outside the platform; far more callers than slots push at once."""
    limit = 4
    cluster: Cluster = own_cluster("--no-examples", LAMBENT_LIMITS_CONCURRENT_EXECUTIONS=str(limit))
    code = "import time\ndef handler(event, context):\n    began = time.time()\n    time.sleep(0.2)\n    return [began, time.time()]\n"
    cluster.create("a", zipped({"app.py": code}), Timeout=20)
    cluster.create("b", zipped({"app.py": code}), Timeout=20)

    def call(number: int) -> tuple[float, float] | dict[str, Any]:
        try:
            answer = cluster.client().invoke(FunctionName="ab"[number % 2])
        except ClientError as error:
            return dict(error.response)
        began, ended = json.loads(answer["Payload"].read())
        return began, ended

    for _ in range(3):
        with ThreadPoolExecutor(12) as threads:
            results = list(threads.map(call, range(12)))
        spans = [result for result in results if isinstance(result, tuple)]
        throttles = [result for result in results if isinstance(result, dict)]
        assert most_at_once(spans) <= limit
        assert len(spans) >= limit
        assert throttles
        for throttle in throttles:
            assert throttle["ResponseMetadata"]["HTTPStatusCode"] == 429
            assert throttle["Error"]["Code"] == "TooManyRequestsException"
            assert throttle["Reason"] == "ConcurrentInvocationLimitExceeded"
            assert throttle["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "1"
    # With exactly as many callers as slots, none is refused, whatever the functions held before.
    for _ in range(3):
        with ThreadPoolExecutor(limit) as threads:
            assert all(isinstance(result, tuple) for result in threads.map(call, range(limit)))


def test_a_caller_that_goes_away_frees_its_slot(own_cluster: Any) -> None:
    """A gRPC caller cancels: its environment is stopped and the slot is free at once."""
    from lambent.client import Client, Unavailable
    from tests.e2e.harness import KEY, SECRET

    cluster: Cluster = own_cluster("--no-examples", LAMBENT_LIMITS_CONCURRENT_EXECUTIONS="1")
    cluster.create("nap", NAP, Timeout=60)
    with Client(cluster.grpc, access_key=KEY, secret_key=SECRET) as client:
        try:
            client.invoke("nap", {"s": 50}, timeout=0.7)
            raise AssertionError("the deadline passed unnoticed")
        except Unavailable:
            pass
        assert client.invoke("nap", {"n": 5}).json() == 5
