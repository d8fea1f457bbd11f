"""Idle environments get no processor time, however many processes they have, and go on where they were."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.worker.sandbox.cgroups import family
from services.worker.sandbox.native import NativeConfig, NativePool
from tests.contract.test_sandbox import LEVELS, RUNTIME, groups_of, lay_out, spec
from tests.integration.test_worker_cluster import Cluster, cluster_of

REAL = [level for level in LEVELS if level != "fake"]
TICKING = """
import os, threading, time
counts = [0]
def tick():
    while True:
        counts[0] += 1
        time.sleep(0.001)
threading.Thread(target=tick, daemon=True).start()
if os.fork() == 0:
    os.setsid()
    tick()
def handler(event, context):
    return counts[0]
"""


def processor_time(pids: list[int]) -> int:
    """Nanoseconds that the threads of processes have run, as far as they live."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for schedule in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                total += int(schedule.read_text().split()[0])
    return total


async def halted(pids: list[int]) -> None:
    """Wait until they come to a halt, and see that they stay there for fifty of their turns."""
    async with asyncio.timeout(10):
        before = 0
        while (used := processor_time(pids)) != before:
            before = used
            await asyncio.sleep(0.05)
    assert used > 0


def living(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def guests(cluster: Cluster) -> list[int]:
    found: list[int] = []
    for environment in cluster.worker.environments.running():
        sandbox: Any = environment._sandbox
        found += list(family(sandbox.stem.child.pid))
    return found


# Frozen by a control group, and stopped by signals: with one process tree and with another.
WAYS = [(level, True) for level in REAL] + [(level, False) for level in (REAL[0], REAL[-1])]


@pytest.fixture(params=WAYS, ids=str)
async def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Cluster]:
    level, groups = request.param
    async with cluster_of(tmp_path, level=level, control_groups=groups) as made:
        yield made


async def test_an_idle_environment_gets_no_processor_time_and_goes_on_later(cluster: Cluster) -> None:
    identity = await cluster.deploy(TICKING)
    environment = cluster.worker.environments.by_id[identity]
    assert len(guests(cluster)) == 2
    last = 0
    for _ in range(2):
        await cluster.until(lambda: environment.frozen)
        pids = guests(cluster)
        await halted(pids)
        count = (await cluster.invoke(identity)).json
        assert count > last
        last = count
        assert not environment.frozen
    await cluster.until(lambda: environment.frozen)
    cluster.stop(identity)
    await cluster.scheduler.until(lambda: cluster.scheduler.gone.get(identity) == "Stopped")
    await cluster.until(lambda: not living(pids))


async def test_what_runs_is_not_frozen_and_nothing_is_looked_at_while_all_is(tmp_path: Path) -> None:
    slow = "import time\ndef handler(event, context):\n    time.sleep(event)\n    return time.monotonic()\n"
    async with cluster_of(tmp_path) as cluster:
        identity = await cluster.deploy(slow)
        environments = cluster.worker.environments
        environment = environments.by_id[identity]
        await cluster.until(lambda: environment.frozen)
        await cluster.until(lambda: environments._shared.freezer.at_rest)
        assert environment.frozen
        assert (await cluster.invoke(identity, 0.15)).result.error is None
        assert not environments._shared.freezer.at_rest


RESTLESS = """
import sys
kept = []
def handler(event, context):
    kept.append(event)
    assert [list(vars(module).values()) for module in sys.modules.values()]
    return kept
"""


def copied_kib(cluster: Cluster) -> int:
    """Memory that a function's process does not share with others."""
    return sum(
        int(line.split()[1])
        for pid in guests(cluster)
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        if line.startswith("Private_Dirty:")
    )


@pytest.mark.parametrize("level", REAL)
async def test_an_environment_that_stays_idle_gives_back_memory_and_goes_on_as_before(
    level: str, tmp_path: Path
) -> None:
    async with cluster_of(tmp_path, level=level) as cluster:
        identity = await cluster.deploy(RESTLESS)
        environment = cluster.worker.environments.by_id[identity]
        for number in range(1, 4):
            assert (await cluster.invoke(identity, number)).json == list(range(1, number + 1))
            before = copied_kib(cluster)
            await cluster.rested(environment)
            assert copied_kib(cluster) < before - 64


async def test_an_environment_with_threads_keeps_its_memory_and_goes_on_as_before(tmp_path: Path) -> None:
    async with cluster_of(tmp_path) as cluster:
        identity = await cluster.deploy(TICKING)
        environment = cluster.worker.environments.by_id[identity]
        last = 0
        for _ in range(2):
            await cluster.rested(environment)
            assert last < (last := (await cluster.invoke(identity)).json)


WORKER = """
import asyncio, json, sys
from pathlib import Path
from services.worker.sandbox.native import NativeConfig, NativePool
from services.worker.sandbox.cgroups import family
from tests.contract.test_sandbox import RUNTIME, Guest, spec
async def main():
    folder, level, groups = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "True"
    pool = NativePool(NativeConfig(f"killed-{level}-{groups}", folder / "packages", folder / "run",
        {RUNTIME: Path(sys.executable)}, level=level, stems=1, control_groups=groups))
    await pool.start()
    sandboxes = [pool.take(spec(folder, slot)) for slot in range(2)]
    guests = [Guest(sandbox) for sandbox in sandboxes]
    for guest in guests:
        await guest.init()
    assert await guests[0].invoke("child") is False
    pids = [pid for sandbox in sandboxes for pid in family(sandbox.stem.child.pid)]
    guests[0].sandbox.freeze()
    print(json.dumps(pids), flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


# What ends sandboxes with their worker is their zygote at the first level, and the kernel at the last.
@pytest.mark.parametrize(("level", "groups"), [(REAL[0], False), (REAL[0], True), (REAL[-1], True)])
async def test_a_worker_that_is_killed_leaves_nothing_frozen_behind(level: str, groups: bool, tmp_path: Path) -> None:
    lay_out(tmp_path)
    command = [sys.executable, "-c", WORKER, str(tmp_path), level, str(groups)]
    worker = subprocess.Popen(  # noqa: ASYNC220 a process of its own, to be killed
        command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert worker.stdout is not None
    pids = json.loads(worker.stdout.readline())
    assert len(pids) == 3
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    worker.stdout.close()
    async with asyncio.timeout(10):
        while living(pids):  # noqa: ASYNC110 nobody tells
            await asyncio.sleep(0.01)
    # The next worker of that name removes what was left of its control groups.
    interpreters = {RUNTIME: Path(sys.executable)}
    name = f"killed-{level}-{groups}"
    again = NativePool(NativeConfig(name, tmp_path / "packages", tmp_path / "run", interpreters, level=level, stems=1))
    await again.start()
    sandbox = again.take(spec(tmp_path))
    sandbox.channel.close()
    await again.close()
    assert groups_of(name) == []
