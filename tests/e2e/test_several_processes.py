"""Several of what a cluster has one of on a laptop: schedulers of which one leads, frontends that share every limit."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.e2e.harness import Cluster, command_of, descendants, most_at_once, zipped

LIMIT = 4
CODE = (
    "import time\n"
    "def handler(event, context):\n"
    "    began = time.time()\n"
    "    time.sleep(event.get('s', 0))\n"
    "    return [began, time.time()]\n"
)


def leader(cluster: Cluster) -> int:
    """The scheduler that was started first, and so leads first."""
    assert cluster.process is not None
    [found] = [pid for pid in descendants(cluster.process.pid) if "settings-scheduler.toml" in command_of(pid)]
    return found


@pytest.mark.parametrize("fate", [signal.SIGKILL, signal.SIGSTOP])
def test_the_standby_takes_over_and_the_limit_stays_exact(own_cluster: Any, fate: signal.Signals) -> None:
    """Held leases go on, new ones come within seconds, and a leader that wakes up deposed admits nothing."""
    cluster: Cluster = own_cluster(
        "--no-examples", "--schedulers", "2", LAMBENT_LIMITS_CONCURRENT_EXECUTIONS=str(LIMIT)
    )
    for name in ("held", "new"):
        cluster.create(name, zipped({"app.py": CODE}), Timeout=30)
    client = cluster.client(retries=0)
    client.invoke(FunctionName="held", Payload=b"{}")

    def call(name: str, seconds: float) -> tuple[float, float] | str:
        try:
            answer = client.invoke(FunctionName=name, Payload=json.dumps({"s": seconds}))
        except ClientError as error:
            return str(error.response.get("Reason", error.response["Error"]))
        began, ended = json.loads(answer["Payload"].read())
        return began, ended

    with ThreadPoolExecutor(16) as threads:
        running = threads.submit(call, "held", 4.0)
        victim = leader(cluster)
        os.kill(victim, fate)
        # This one needs an environment that nobody has leased: only a scheduler can give it.
        fresh = call("new", 0.0)
        assert isinstance(fresh, tuple), fresh
        spans = []
        if fate is signal.SIGSTOP:
            os.kill(victim, signal.SIGCONT)
        for _ in range(3):
            results = list(threads.map(lambda number: call(("held", "new")[number % 2], 0.2), range(12)))
            spans += [result for result in results if isinstance(result, tuple)]
            assert {r for r in results if isinstance(r, str)} <= {"ConcurrentInvocationLimitExceeded"}
        result = running.result()
        assert isinstance(result, tuple), result
    assert most_at_once([*spans, result]) <= LIMIT
    assert len(spans) >= 3 * (LIMIT - 1)


def test_three_frontends_share_one_limit_exactly(own_cluster: Any) -> None:
    """Functions count themselves outside the platform while three frontends push far above the limits: the most that ran
    at once is the limit, never more, and every throttled caller finds the limit in full use."""
    cluster: Cluster = own_cluster(
        "--no-examples", LAMBENT_LIMITS_CONCURRENT_EXECUTIONS=str(LIMIT + 2), LAMBENT_LIMITS_UNRESERVED_MINIMUM="1"
    )
    doors = [cluster.url, cluster.another_frontend(), cluster.another_frontend()]
    clients = [cluster.client(url=url) for url in doors]
    for name in ("kept", "free"):
        cluster.create(name, zipped({"app.py": CODE}), Timeout=30)
    clients[1].put_function_concurrency(FunctionName="kept", ReservedConcurrentExecutions=2)

    def call(number: int) -> tuple[str, tuple[float, float] | str]:
        name = ("kept", "free")[number % 2]
        try:
            answer = clients[number % 3].invoke(FunctionName=name, Payload=b'{"s": 0.2}')
        except ClientError as error:
            return name, str(error.response.get("Reason", error.response["Error"]))
        began, ended = json.loads(answer["Payload"].read())
        return name, (began, ended)

    with ThreadPoolExecutor(36) as threads:
        results = [result for _ in range(4) for result in threads.map(call, range(36))]
    for name, limit, reason in (
        ("kept", 2, "ReservedFunctionConcurrentInvocationLimitExceeded"),
        ("free", LIMIT, "ConcurrentInvocationLimitExceeded"),
    ):
        spans = [result for owner, result in results if owner == name and isinstance(result, tuple)]
        refusals = {result for owner, result in results if owner == name and isinstance(result, str)}
        assert most_at_once(spans) == limit
        assert refusals == {reason}
    # With exactly as many callers as slots, spread over the frontends, none is refused.
    with ThreadPoolExecutor(LIMIT) as threads:
        for _ in range(3):
            again = list(threads.map(lambda number: call(2 * number + 1), range(LIMIT)))
            assert all(isinstance(result, tuple) for _, result in again), again
