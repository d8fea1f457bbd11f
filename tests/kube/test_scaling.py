"""Workers come as they are needed, over several nodes, and go again; what is provisioned stays provisioned."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.e2e.harness import eventually, zipped
from tests.kube.release import Load, Release

NAP = zipped(
    {
        "app.py": "import os, time\n"
        "KIND = os.environ['AWS_LAMBDA_INITIALIZATION_TYPE']\n"
        "def handler(event, context):\n"
        "    time.sleep(event.get('s', 0))\n"
        "    return KIND\n"
    }
)
MEMORY_MB = 512  # a third of what a worker promises
AT_ONCE = 8


def test_load_brings_workers_on_several_nodes_and_its_end_takes_them_away(release: Release) -> None:
    release.create("wide", NAP, MemorySize=MEMORY_MB)
    with ThreadPoolExecutor(AT_ONCE) as threads:
        client = release.client(retries=8)
        payload = json.dumps({"s": 8})
        answers = [threads.submit(client.invoke, FunctionName="wide", Payload=payload) for _ in range(AT_ONCE)]
        pods = eventually(lambda: _at_least(release, 3), 120)
        assert not any("FunctionError" in each.result() for each in answers)
    assert len({pod["spec"].get("nodeName") for pod in pods}) > 1
    # Warm environments go with timing.keep_alive_seconds, and the workers that they leave idle after that.
    eventually(lambda: len(release.pods("worker")) == 1, 300)


def _at_least(release: Release, count: int) -> list[dict[str, Any]]:
    pods = release.pods("worker")
    return pods if len(pods) >= count else []


def test_what_is_provisioned_is_there_again_after_its_worker_was_lost(release: Release) -> None:
    release.create("provisioned", NAP, MemorySize=MEMORY_MB)
    client = release.client(retries=3)
    version = client.publish_version(FunctionName="provisioned")["Version"]
    name = {"FunctionName": "provisioned", "Qualifier": version}
    client.put_provisioned_concurrency_config(**name, ProvisionedConcurrentExecutions=4)

    def allocated() -> bool:
        # What is available is fewer by those that run something.
        status = client.get_provisioned_concurrency_config(**name)
        return bool(status["Status"] == "READY" and status["AllocatedProvisionedConcurrentExecutions"] == 4)

    eventually(allocated, 180)
    eventually(lambda: len(release.ready("worker")) >= 2, 60)
    with Load(release, f"provisioned:{version}", 1).running() as load:
        lost = release.ready("worker")[0]
        release.kill(lost)
        eventually(lambda: lost not in {pod["metadata"]["name"] for pod in release.get("pods")}, 60)
        eventually(lambda: len(release.ready("worker")) >= 2, 120)
        eventually(allocated, 180)
    assert set(load.answers) <= {'"provisioned-concurrency"', '"on-demand"'}
    assert len(load.failures) <= 1, load.failures  # the one that ran there, if any did
    client.delete_provisioned_concurrency_config(**name)
