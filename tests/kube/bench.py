"""`make bench-kube`: what a cluster of Kubernetes takes, beside the cluster on one machine. Figures, no assertions.

install         from `helm install` to the first answered invocation
worker          from an invocation that no worker has room for to its answer by a new pod
ten             from one worker pod to ten, all of which have answered
failover        from the crash of the leading scheduler's process until another has had an environment started
warm            median of a warm invocation through the Service, over that on one machine; rounds take turns
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.e2e.harness import Cluster, eventually, zipped
from tests.kube.on_a_node import KILL, beside
from tests.kube.release import NOW, ROOT, Release, run

NAP = zipped({"app.py": "import time\ndef handler(event, context):\n    time.sleep(event.get('s', 0))\n    return 1\n"})
SIZE_MB = 128  # of a function, and all that a worker promises: one environment each
WORKERS = 10
ROUNDS, EACH = 5, 200
HOLD = 5.0  # seconds


def timed(work: Callable[[], Any]) -> float:
    """How many seconds it takes."""
    began = NOW()
    work()
    return NOW() - began


def invoked(client: Any, name: str, seconds: float = 0.0) -> None:
    """One invocation, until it is answered with 200."""
    payload = json.dumps({"s": seconds})

    def once() -> bool:
        try:
            return "FunctionError" not in client.invoke(FunctionName=name, Payload=payload)
        except client.exceptions.ClientError:
            return False

    eventually(once, 120)


def medians(client: Any, name: str) -> float:
    """Median seconds of a warm invocation."""
    return statistics.median(timed(lambda: client.invoke(FunctionName=name, Payload=b"{}")) for _ in range(EACH))


def measure(version: str) -> dict[str, float]:
    """All figures: seconds, and the ratio."""
    small = (
        f"workers.memoryMb={SIZE_MB}", "workers.headroomMb=0", f"workers.max={WORKERS}",
        "workers.resources.requests.memory=128Mi", "workers.resources.requests.cpu=50m",
    )  # fmt: skip
    release = Release("lambent", "lambent-bench", version, *small)
    run("kubectl", "delete", "namespace", release.namespace, "--ignore-not-found", "--wait", timeout=180)
    figures: dict[str, float] = {}
    try:
        began = NOW()
        release.install()
        release.create("first", NAP, MemorySize=SIZE_MB)
        client = release.client()
        invoked(client, "first")
        figures["install"] = NOW() - began

        with ThreadPoolExecutor(WORKERS) as threads:
            # Two at once: one of them needs a second worker.
            clients = [release.client(), release.client()]
            both = timed(lambda: list(threads.map(lambda each: invoked(each, "first", HOLD), clients)))
            figures["worker"] = both - HOLD
            every = [threads.submit(invoked, release.client(), "first", 30.0) for _ in range(WORKERS)]
            figures["ten"] = timed(lambda: eventually(lambda: len(release.ready("worker")) == WORKERS, 240))
            for each in every:
                each.result()

        release.create("fresh", NAP, MemorySize=SIZE_MB)
        eventually(lambda: len(release.ready("scheduler")) == 2, 60)
        before = release.leader()
        with beside(release, before) as python:
            python(KILL, before)
            figures["failover"] = timed(lambda: invoked(client, "fresh"))

        with tempfile.TemporaryDirectory(prefix="lo-", dir="/tmp") as folder:
            local = Cluster(Path(folder) / "data", "--no-examples").start()
            local.create("first", NAP, MemorySize=SIZE_MB)
            here, there = [], []
            for _ in range(ROUNDS):
                here.append(medians(local.client(), "first"))
                there.append(medians(client, "first"))
            local.stop()
        figures["warm ms"] = statistics.median(there) * 1000
        figures["warm ms on one machine"] = statistics.median(here) * 1000
        figures["warm ratio"] = statistics.median(there) / statistics.median(here)
        return figures
    finally:
        release.close()
        run("kubectl", "delete", "namespace", release.namespace, "--wait=false", check=False)


def main() -> int:
    """Print the figures; build/bench-kube.json has them too."""
    figures = measure(os.environ["TEST_KUBE"])
    for name, value in figures.items():
        sys.stdout.write(f"{name:<24} {value:8.2f}\n")
    folder = ROOT / "build"
    folder.mkdir(exist_ok=True)
    (folder / "bench-kube.json").write_text(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
