"""Events keep to their share of the concurrency, so that who waits for an answer finds the rest; and those of a higher
priority run first."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lambent.client import Client, InvalidRequest
from tests.e2e.effects import Effects, effects
from tests.e2e.harness import KEY, SECRET, Cluster, eventually, most_at_once
from tests.e2e.test_async import create, send

LIMIT, SHARE, SLOTS = 16, 8, 20
SECONDS, EVENTS = 0.3, 200


@pytest.fixture(scope="module")
def shared() -> Iterator[Cluster]:
    """Of 16 executions, events may use eight; the poller would run more."""
    with tempfile.TemporaryDirectory(prefix="lq-", dir="/tmp") as folder:
        cluster = Cluster(
            Path(folder) / "data", "--no-examples", LAMBENT_LIMITS_CONCURRENT_EXECUTIONS=str(LIMIT),
            LAMBENT_LIMITS_UNRESERVED_MINIMUM="1", LAMBENT_QUEUE_SHARE="0.5", LAMBENT_QUEUE_RUNNING=str(SLOTS),
            LAMBENT_LIMITS_ASYNC_BACKOFF_SECONDS="0.1", LAMBENT_LIMITS_ASYNC_BACKOFF_MAX_SECONDS="0.2",
        )  # fmt: skip
        yield cluster.start()
        cluster.stop()


@pytest.fixture
def told() -> Iterator[Effects]:
    with effects() as made:
        yield made


def test_a_backlog_leaves_the_rest_to_those_who_wait_for_an_answer(shared: Cluster, told: Effects) -> None:
    name = create(shared, told, "busy")
    client = shared.client()
    ids = {send(client, name, n=number, s=SECONDS) for number in range(60)}
    told.wait(SHARE)

    def call(number: int) -> Any:
        return client.invoke(FunctionName=name, Payload=json.dumps({"n": -1 - number, "s": SECONDS}))

    # Without the share, events alone would take all of the limit.
    with ThreadPoolExecutor(LIMIT - SHARE) as threads:
        answers = list(threads.map(call, range(2 * (LIMIT - SHARE))))
    assert [answer["StatusCode"] for answer in answers] == [200] * len(answers)
    told.wait(60 + len(answers))
    spans = [(at, at + SECONDS) for request_id, _, _, at in told.told if request_id in ids]
    assert most_at_once(spans) <= SHARE
    explained = shared.lambent("explain", name, "--output", "json")
    assert explained.returncode == 0, explained.stderr
    refused = [each for each in json.loads(explained.stdout) if each["Reason"] == "AsynchronousShareExceeded"]
    assert refused, "the poller never met the share"
    assert "queue.share" in refused[0]["Because"]
    numbers = {each["Name"]: int(each["Value"]) for each in refused[0]["Numbers"]}
    assert numbers["account asynchronous"] == numbers["account asynchronous limit"] == SHARE


def test_events_of_a_higher_priority_run_first_and_no_other_waits_for_ever(shared: Cluster, told: Effects) -> None:
    names = [create(shared, told, name) for name in ("reports", "payments")]
    for name in names:
        assert shared.lambent("queue", "pause", name).returncode == 0
    assert shared.lambent("queue", "priority", "reports", "-5").stdout == "reports has priority -5\n"
    assert shared.lambent("queue", "priority", "payments", "5").stdout == "payments has priority 5\n"
    client = shared.client()
    ids = {name: {send(client, name, n=number, s=0.1) for number in range(EVENTS)} for name in names}
    with Client(shared.grpc, access_key=KEY, secret_key=SECRET) as queues:
        found = {queue.function_name: (queue.priority, queue.waiting) for queue in queues.list_queues()}
        assert found == {"reports": (-5, EVENTS), "payments": (5, EVENTS)}
        for name in names:
            queues.resume_queue(name)
        eventually(lambda: {each[0] for each in told.told} >= ids["reports"] | ids["payments"])
        order = list(dict.fromkeys(request_id for request_id, _, _, _ in told.told))
        # Both begin alike, and how many of each may run at once is found as they run: the last hundred that are run
        # while nine tenths of the higher ones are not done yet.
        until = [at for at, request_id in enumerate(order) if request_id in ids["payments"]][EVENTS * 9 // 10]
        found_out = order[until - 100 : until]
        turns = len(ids["payments"].intersection(found_out))
        assert turns > 0.66 * len(found_out), "ten more priority, and hardly more turns"
        assert ids["reports"].intersection(found_out), "the lower one waited until the higher had ended"
        with pytest.raises(InvalidRequest):
            queues.set_queue_priority("payments", 11)
        for name in names:
            queues.set_queue_priority(name, 0)
        eventually(lambda: not queues.list_queues())
