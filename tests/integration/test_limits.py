"""What the sandbox limits, exceeded: each consequence is the one that docs/reference/limits.md names.

Beside these: memory, response size and the init phase in test_worker_guest.py, memory and processes without control
groups in tests/contract/test_sandbox.py, processes and /tmp at every level in test_escapes.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from lambent.domain.errors import ERRORS
from lambent.domain.limits import Limits
from tests.integration.test_worker_cluster import STRONGEST, Cluster, cluster_of

ROOT = pytest.mark.skipif(STRONGEST != "namespaces", reason="needs root for control groups and mounts")
BEYOND: Mapping[str, str] = {field.name: field.metadata["beyond"] for field in dataclasses.fields(Limits)}


def test_every_limit_says_what_happens_beyond_it() -> None:
    for name, text in BEYOND.items():
        assert text.endswith("."), name
        for word in text.split("`")[1::2]:
            if word.endswith("Exception"):
                assert word in ERRORS, name
                assert text.find(str(ERRORS[word].status)) >= 0 or "lowered" in text, name


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster_of(tmp_path, limits=Limits(vcpu_memory_mb=256)) as made:
        yield made


DESCRIPTORS = """
import os, resource
def handler(event, context):
    opened = []
    try:
        while True:
            opened.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        failure = error.strerror
    finally:
        highest = max(opened)
        for descriptor in opened:
            os.close(descriptor)
    return [highest, failure]
"""


async def test_descriptors(cluster: Cluster) -> None:
    assert "EMFILE" in BEYOND["file_descriptors"]
    identity = await cluster.deploy(DESCRIPTORS)
    assert (await cluster.invoke(identity)).json == [Limits().file_descriptors - 1, "Too many open files"]


THREADS = """
import errno, threading, time
def handler(event, context):
    gate, threads = threading.Event(), []
    try:
        for _ in range(2000):
            thread = threading.Thread(target=gate.wait)
            thread.start()
            threads.append(thread)
        failure = "none"
    except RuntimeError as error:
        failure = str(error)
    gate.set()
    for thread in threads:
        thread.join()
    return [len(threads), failure]
"""


@ROOT
async def test_threads_count_as_processes_do(cluster: Cluster) -> None:
    assert "threads fail with EAGAIN" in BEYOND["processes"]
    identity = await cluster.deploy(THREADS, memory_mb=512, timeout_seconds=20)
    count, failure = (await cluster.invoke(identity)).json
    assert (count, failure) == (Limits().processes - 1, "can't start new thread")
    assert (await cluster.invoke(identity)).json == [count, failure]


SHARE = """
import os, time
def handler(seconds, context):
    used, began = time.process_time(), time.monotonic()
    while time.process_time() - used < seconds:
        pass
    return time.monotonic() - began
"""


@ROOT
async def test_a_share_of_a_processor_is_waited_for(cluster: Cluster) -> None:
    """Half of one, with nothing saved up beyond a period of a tenth of a second."""
    assert "waits for its share" in BEYOND["vcpu_memory_mb"]
    identity = await cluster.deploy(SHARE, memory_mb=128, timeout_seconds=20)
    await cluster.invoke(identity, 0.06)
    wanted = 0.3
    took = (await cluster.invoke(identity, wanted)).json
    share = 128 / 256
    assert took >= (wanted - 0.1 * share) / share - 0.1


FULL = """
import os
def handler(event, context):
    written = 0
    try:
        with open("/tmp/large", "wb", buffering=0) as file:
            while True:
                written += file.write(bytes(1 << 20))
    except OSError as error:
        return [written >> 20, error.strerror]
    finally:
        os.unlink("/tmp/large")
"""


@ROOT
async def test_tmp_is_as_large_as_was_asked_for(cluster: Cluster) -> None:
    assert "ENOSPC" in BEYOND["default_ephemeral_storage_mb"]
    identity = await cluster.deploy(FULL, memory_mb=256, ephemeral_storage_mb=32)
    assert (await cluster.invoke(identity)).json == [32, "No space left on device"]


HOGS = """
import ctypes, mmap, os
def handler(way, context):
    if way == "tmp":
        with open("/tmp/large", "wb", buffering=0) as file:
            for _ in range(200):
                file.write(b"x" * (1 << 20))
    elif way == "memfd":
        file = os.memfd_create("large")
        for _ in range(200):
            os.write(file, b"x" * (1 << 20))
    elif way == "shared":
        area = mmap.mmap(-1, 200 << 20)
        for place in range(0, 200 << 20, 4096):
            area[place] = 1
    return "got away"
"""


@ROOT
@pytest.mark.parametrize("way", ["tmp", "memfd", "shared"])
async def test_memory_is_counted_however_it_is_come_by(cluster: Cluster, way: str) -> None:
    assert "signal: killed" in BEYOND["default_memory_mb"]
    identity = await cluster.deploy(HOGS, memory_mb=128, timeout_seconds=20)
    answer = await cluster.invoke(identity, way)
    assert (answer.result.error_type, answer.json["errorMessage"].rpartition("error: ")[2]) == (
        "Runtime.ExitError",
        "signal: killed",
    )
    assert cluster.worker.counters.out_of_memory == 1
