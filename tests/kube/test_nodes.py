"""A node is lost with all that runs there, as by a power cut, and comes back."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from tests.kube.release import NOW, Release, eventually, report, run
from tests.kube.test_faults import NAP, begun

PROGRAM = os.environ.get("TEST_KUBE_NODES", "")
pytestmark = pytest.mark.skipif(not PROGRAM, reason="nobody here can take a node away")
MEMORY_MB = 512  # a third of what a worker promises


def cordon(*nodes: str, verb: str = "cordon") -> None:
    """Have nothing new placed on nodes; or again, with the verb uncordon."""
    for node in nodes:
        run("kubectl", verb, node)


@pytest.fixture
def nodes() -> Iterator[list[str]]:
    """The nodes, which are all there again afterwards."""
    found = [each["metadata"]["name"] for each in json.loads(run("kubectl", "get", "nodes", "-o", "json"))["items"]]
    if len(found) < 3:
        pytest.skip("needs three nodes")
    yield found
    cordon(*found, verb="uncordon")
    run(PROGRAM, "up", timeout=300)


def clear(release: Release, node: str) -> None:
    """Have names and the store served elsewhere: what the cluster itself has but once is not what this is about."""
    cordon(node)
    once = {"kube-system": "k8s-app=kube-dns", release.namespace: "app.kubernetes.io/component=redis"}
    for namespace, labels in once.items():
        for pod in _pods(namespace, labels):
            if pod["spec"]["nodeName"] == node:
                run("kubectl", "-n", namespace, "delete", "pod", pod["metadata"]["name"])
        eventually(partial(_all_ready, namespace, labels), 120)
    cordon(node, verb="uncordon")


def _pods(namespace: str, labels: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        run("kubectl", "-n", namespace, "get", "pods", "-l", labels, "-o", "json")
    )["items"]
    return found


def _all_ready(namespace: str, labels: str) -> bool:
    pods = _pods(namespace, labels)
    return bool(pods) and all(
        any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", []))
        for pod in pods
    )


def test_a_node_is_lost_and_others_do_its_work(release: Release, nodes: list[str]) -> None:
    *others, victim = nodes
    clear(release, victim)
    cordon(*others)  # so that workers are made on the one that will go
    release.create("spread", NAP, MemorySize=MEMORY_MB)
    client = release.client(retries=8, connect_seconds=2)
    version = client.publish_version(FunctionName="spread")["Version"]
    name = {"FunctionName": "spread", "Qualifier": version}
    client.put_provisioned_concurrency_config(**name, ProvisionedConcurrentExecutions=6)

    def allocated() -> bool:
        status = client.get_provisioned_concurrency_config(**name)
        return bool(status["AllocatedProvisionedConcurrentExecutions"] == 6)

    def elsewhere() -> list[str]:
        return [pod["metadata"]["name"] for pod in release.pods("worker") if pod["spec"].get("nodeName") != victim]

    eventually(allocated, 180)
    before = {pod["metadata"]["name"]: pod["spec"]["nodeName"] for pod in release.pods("worker")}
    assert victim in before.values()
    cordon(*others, verb="uncordon")
    with ThreadPoolExecutor(6) as threads:
        patient = release.client(connect_seconds=2)
        long = [
            threads.submit(patient.invoke, FunctionName=f"spread:{version}", Payload=json.dumps({"s": 30, "n": 7}))
            for _ in range(6)
        ]
        eventually(lambda: begun(release, "spread", 6))
        run(PROGRAM, "crash", victim)
        lost_at = NOW()
        failures = [each.exception(timeout=60) for each in long]
        told = NOW() - lost_at
    failed = [str(error) for error in failures if error is not None]
    assert failed, "none of them ran on the lost node"
    # The connection breaks where the frontend was on that node, too.
    assert all("ServiceException" in text or "Connection was closed" in text for text in failed), failed

    # What is new runs, what is provisioned comes back, and what is queued is not lost.
    for number in range(10):
        client.invoke(FunctionName="spread", InvocationType="Event", Payload=json.dumps({"n": 100 + number}))
    assert json.load(client.invoke(FunctionName="spread", Payload=b'{"n": 3}')["Payload"]) == 3
    answered = NOW() - lost_at
    eventually(allocated, 180)
    provisioned = NOW() - lost_at
    assert elsewhere()
    logs = release.client("logs", retries=8, connect_seconds=2)

    def ran() -> set[int]:
        pages = logs.get_paginator("filter_log_events").paginate(logGroupName="/aws/lambda/spread", filterPattern="ran")
        return {int(event["message"].split()[1]) for page in pages for event in page["events"]}

    eventually(lambda: ran() >= {100 + number for number in range(10)}, 120)
    report(
        f"node lost: {len(failed)} callers told within {told:.1f} s, the next answer after {answered:.1f} s, "
        f"provisioned again after {provisioned:.1f} s"
    )
    client.delete_provisioned_concurrency_config(**name)
    # It comes back, and nothing of before is left there.
    run(PROGRAM, "up", timeout=300)
    gone = {pod for pod, node in before.items() if node == victim}
    eventually(lambda: not gone & {pod["metadata"]["name"] for pod in release.get("pods")}, 240)
    for component in ("frontend", "scheduler", "poller"):
        eventually(lambda component=component: len(release.ready(component)) == 2, 240)  # type: ignore[misc]
