"""A node is drained; a node is lost with all that runs there, as by a power cut, and comes back."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from tests.e2e.harness import eventually, printed
from tests.kube.release import NOW, Load, Release, is_ready, report, run
from tests.kube.test_faults import NAP, begun

PROGRAM = os.environ.get("TEST_KUBE_NODES", "")
MEMORY_MB, EACH = 512, 3  # of a function, and how many environments of it a worker holds


def cordon(*nodes: str, verb: str = "cordon") -> None:
    """Have nothing new placed on nodes; or again, with the verb uncordon."""
    for node in nodes:
        run("kubectl", verb, node)


def bring_back() -> None:
    """Have the lost node again. Said once more, it heals a cluster whose parts were late."""
    try:
        run(PROGRAM, "up", timeout=300)
    except AssertionError:
        run(PROGRAM, "up", timeout=300)


@pytest.fixture
def nodes() -> Iterator[list[str]]:
    """The nodes, which are all there again afterwards."""
    found = [each["metadata"]["name"] for each in json.loads(run("kubectl", "get", "nodes", "-o", "json"))["items"]]
    if len(found) < 3:
        pytest.skip("needs three nodes")
    yield found
    cordon(*found, verb="uncordon")
    if PROGRAM:
        bring_back()


def clear(release: Release, node: str) -> None:
    """Have names and the store served elsewhere: what the cluster itself has but once is not what this is about."""
    # Whoever serves names may tolerate a cordon, and even where it does, it goes where nothing speaks against it.
    taint = "lambent.test/cleared:PreferNoSchedule"
    cordon(node)
    run("kubectl", "taint", "node", node, taint)
    try:
        served_elsewhere(node, "kube-system", "k8s-app=kube-dns")
        served_elsewhere(node, release.namespace, "app.kubernetes.io/component=redis")
    finally:
        run("kubectl", "taint", "node", node, taint + "-")
        cordon(node, verb="uncordon")


def served_elsewhere(node: str, namespace: str, labels: str) -> None:
    """Have these pods leave a node; returns once they are ready on others."""

    def elsewhere() -> bool:
        pods = _pods(namespace, labels)
        there = [pod for pod in pods if pod["spec"].get("nodeName") == node]
        for pod in there:
            run("kubectl", "-n", namespace, "delete", "pod", pod["metadata"]["name"], "--ignore-not-found")
        return bool(pods) and not there and all(map(is_ready, pods))

    eventually(elsewhere, 120)


def _pods(namespace: str, labels: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        run("kubectl", "-n", namespace, "get", "pods", "-l", labels, "-o", "json")
    )["items"]
    return found


@contextmanager
def provisioned_on(release: Release, function: str, victim: str, others: list[str]) -> Iterator[tuple[str, int]]:
    """A function's version with more provisioned concurrency than the workers that there are have room for, so that one
    is made on `victim`; answers the version, and how much it is."""
    clear(release, victim)
    client = release.client(retries=8, connect_seconds=2)
    version = client.publish_version(FunctionName=function)["Version"]
    name = {"FunctionName": function, "Qualifier": version}
    count = EACH * len(release.pods("worker")) + EACH
    cordon(*others)
    client.put_provisioned_concurrency_config(**name, ProvisionedConcurrentExecutions=count)
    try:
        eventually(lambda: allocated(release, function, version) == count, 180)
        assert victim in {pod["spec"]["nodeName"] for pod in release.pods("worker")}
        cordon(*others, verb="uncordon")
        yield version, count
    finally:
        client.delete_provisioned_concurrency_config(**name)


def found_again(client: Any, function: str) -> None:
    """The store may just have been moved: have whoever was connected to where it was connect anew."""
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: client.invoke(FunctionName=function, Payload=b'{"n": 1}'), range(16)))


def allocated(release: Release, function: str, version: str) -> int:
    client = release.client(retries=8, connect_seconds=2)
    status = client.get_provisioned_concurrency_config(FunctionName=function, Qualifier=version)
    return int(status["AllocatedProvisionedConcurrentExecutions"])


def test_a_node_is_drained_and_nobody_notices(release: Release, nodes: list[str]) -> None:
    *others, victim = nodes
    release.create("moves", NAP, MemorySize=MEMORY_MB)
    client = release.client(retries=3)
    with provisioned_on(release, "moves", victim, others) as (version, _):
        found_again(client, f"moves:{version}")
        with Load(release, f"moves:{version}", 4, b'{"n": 1}').running() as load:
            run(
                *("kubectl", "drain", victim, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=200s"),
                timeout=220,
            )
        assert load.failures == []
        assert set(load.answers) == {"1"}
        assert victim not in {pod["spec"].get("nodeName") for pod in release.pods("worker")}


@pytest.mark.skipif(not PROGRAM, reason="nobody here can take a node away")
def test_a_node_is_lost_and_others_do_its_work(release: Release, nodes: list[str]) -> None:
    *others, victim = nodes
    release.create("spread", NAP, MemorySize=MEMORY_MB)
    client = release.client(retries=8, connect_seconds=2)
    with provisioned_on(release, "spread", victim, others) as (version, count):
        _lose(release, victim, version, count)
    # It comes back, and nothing of before runs there: pods are gone, or begun anew where it came back that soon.
    before = {id_ for pod in release.get("pods") if pod["spec"].get("nodeName") == victim for id_ in _containers(pod)}
    bring_back()
    eventually(lambda: not before & {id_ for pod in release.pods("worker") for id_ in _containers(pod)}, 240)
    for component in ("frontend", "scheduler", "poller"):
        eventually(lambda component=component: len(release.ready(component)) == 2, 240)  # type: ignore[misc]
    assert json.load(client.invoke(FunctionName="spread", Payload=b'{"n": 4}')["Payload"]) == 4


def _containers(pod: dict[str, Any]) -> set[str]:
    return {each["containerID"] for each in pod["status"].get("containerStatuses", ()) if each.get("containerID")}


def _lose(release: Release, victim: str, version: str, count: int) -> None:
    client = release.client(retries=8, connect_seconds=2)
    found_again(client, f"spread:{version}")
    with ThreadPoolExecutor(count) as threads:
        patient = release.client(connect_seconds=2)
        long = [
            threads.submit(patient.invoke, FunctionName=f"spread:{version}", Payload=json.dumps({"s": 30, "n": 7}))
            for _ in range(count)
        ]
        ended: dict[Future[Any], float] = {}
        for each in long:
            each.add_done_callback(lambda one: ended.setdefault(one, NOW()))
        eventually(lambda: begun(release, "spread", count), 60)
        run(PROGRAM, "crash", victim)
        lost_at = NOW()
        assert json.load(client.invoke(FunctionName="spread", Payload=b'{"n": 3}')["Payload"]) == 3
        answered = NOW() - lost_at
        failures = {each: each.exception(timeout=60) for each in long}
    failed = [str(error) for error in failures.values() if error is not None]
    assert failed, "none of them ran on the lost node"
    told = max(ended[each] for each, error in failures.items() if error is not None) - lost_at
    # The connection breaks where the frontend was on that node, too.
    assert all("ServiceException" in text or "Connection was closed" in text for text in failed), failed

    # What is new runs, what is provisioned comes back, and what is queued is not lost.
    for number in range(10):
        client.invoke(FunctionName="spread", InvocationType="Event", Payload=json.dumps({"n": 100 + number}))
    eventually(lambda: allocated(release, "spread", version) == count, 180)
    provisioned = NOW() - lost_at
    logs = release.client("logs", retries=8, connect_seconds=2)

    def ran() -> set[int]:
        return {int(message.split()[1]) for message in printed(logs, "/aws/lambda/spread", "ran")}

    eventually(lambda: ran() >= {100 + number for number in range(10)}, 120)
    report(
        f"node lost: {len(failed)} of {count} callers told within {told:.1f} s, the next answer after {answered:.1f} s, "
        f"provisioned again after {provisioned:.1f} s"
    )
