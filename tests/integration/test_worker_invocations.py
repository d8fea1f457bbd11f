"""The invocation socket: who may speak, what is refused, what a lost caller and a cancelled call mean."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lambent.infra import frames
from tests.integration.test_worker_cluster import ECHO, PATIENCE, Cluster, cluster_of

SLOW = (
    "import os, sys, time\n"
    "def handler(event, context):\n"
    "    print('begun')\n"
    "    while event and not os.path.exists(event):\n"
    "        time.sleep(0.005)\n"
    "    return 'ended'\n"
)


def left_of(folder: Path, worker: str) -> list[Path]:
    return [*folder.glob("run/tmp/*"), *Path("/sys/fs/cgroup").glob(f"*/lambent/{worker}")]


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster_of(tmp_path, level="process") as made:
        yield made


async def begun(cluster: Cluster, identity: str) -> None:
    await cluster.until(lambda: cluster.worker.environments.by_id[identity].busy)


async def test_a_wrong_token_is_cut_off(cluster: Cluster) -> None:
    identity = await cluster.deploy(ECHO)
    stranger = await cluster.connect()
    stranger.hello("guess")
    stranger.send(cluster.request(identity), b"1")
    async with asyncio.timeout(PATIENCE):
        await stranger.lost.wait()
    assert cluster.worker.counters.invocations == 0


async def test_whoever_says_no_hello_is_cut_off(cluster: Cluster) -> None:
    identity = await cluster.deploy(ECHO)
    stranger = await cluster.connect()
    stranger.send(cluster.request(identity), b"1")
    async with asyncio.timeout(PATIENCE):
        await stranger.lost.wait()
    garbage = await cluster.connect()
    garbage.transport.write(b"\xff" * 64)
    async with asyncio.timeout(PATIENCE):
        await garbage.lost.wait()
    endless = await cluster.connect()
    endless.transport.write((frames.MAX_FRAME_BYTES).to_bytes(4, "little") + bytes(100_000))
    async with asyncio.timeout(PATIENCE):
        await endless.lost.wait()


async def test_what_cannot_be_begun_is_rejected_with_a_reason(cluster: Cluster) -> None:
    identity = await cluster.deploy(SLOW)
    gate = cluster.folder / "gate"
    _, running = cluster.client.send(cluster.request(identity), json.dumps(str(gate)).encode())
    await begun(cluster, identity)
    reasons = []
    for request in (
        cluster.request(identity),
        cluster.request(identity, slot=7),
        cluster.request(identity, slot=70_000),
        cluster.request("another", slot=0),
    ):
        _, future = cluster.client.send(request, b"0")
        meta, _ = await future
        assert isinstance(meta, frames.Reject)
        reasons.append(meta.reason)
    assert reasons == ["EnvironmentBusy"] + ["EnvironmentUnknown"] * 3
    gate.touch()
    assert (await running)[1] == b'"ended"'
    assert cluster.worker.counters.rejected == 4


async def test_a_cancelled_call_ends_its_environment(cluster: Cluster) -> None:
    identity = await cluster.deploy(SLOW)
    call, future = cluster.client.send(cluster.request(identity), json.dumps(str(cluster.folder / "never")).encode())
    await begun(cluster, identity)
    cluster.client.transport.write(frames.encode(frames.Kind.CANCEL, call))
    meta, body = await asyncio.wait_for(future, PATIENCE)
    assert (meta.error, meta.reusable) == ("Unhandled", False)
    assert json.loads(body)["errorType"] == "Sandbox.Failure"
    await cluster.scheduler.until(lambda: cluster.scheduler.gone.get(identity) == "Cancelled")


async def test_a_lost_caller_cancels_nothing(cluster: Cluster) -> None:
    identity = await cluster.deploy(SLOW)
    gate = cluster.folder / "gate"
    caller = await cluster.connect()
    caller.hello()
    caller.send(cluster.request(identity), json.dumps(str(gate)).encode())
    await begun(cluster, identity)
    caller.transport.abort()
    async with asyncio.timeout(PATIENCE):
        await caller.lost.wait()
    environment = cluster.worker.environments.by_id[identity]
    assert environment.busy
    gate.touch()
    await cluster.until(lambda: not environment.busy)
    assert cluster.records[0].error_type is None
    assert (await cluster.invoke(identity, "")).json == "ended"


async def test_many_at_once_on_one_connection(cluster: Cluster) -> None:
    identities = await asyncio.gather(*(cluster.deploy(ECHO) for _ in range(8)))
    for _ in range(20):
        answers = await asyncio.gather(*(cluster.invoke(identity, identity) for identity in identities))
        assert [answer.json for answer in answers] == list(identities)
    assert cluster.worker.counters.invocations == 160
    assert cluster.worker.counters.cold == 8


async def test_large_events_and_answers_pass_unchanged(cluster: Cluster) -> None:
    identity = await cluster.deploy(ECHO, memory_mb=1769, timeout_seconds=20)
    event = "x" * (6 * 1024 * 1024 - 2)
    assert (await cluster.invoke(identity, event)).json == event


async def test_draining_waits_for_what_runs(cluster: Cluster) -> None:
    identity = await cluster.deploy(SLOW)
    gate = cluster.folder / "gate"
    _, running = cluster.client.send(cluster.request(identity), json.dumps(str(gate)).encode())
    await begun(cluster, identity)
    assert not await cluster.worker.drain(0.05)
    draining = asyncio.ensure_future(cluster.worker.drain(PATIENCE))
    gate.touch()
    assert await draining
    result, answer = await running
    assert answer == b'"ended"'
    assert not result.reusable  # else its caller would use it again, and again
    await cluster.scheduler.until(lambda: cluster.scheduler.gone.get(identity) == "WorkerDrained")


async def test_nothing_is_left_behind(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, level="process") as cluster:
        await cluster.deploy(ECHO)
        pool = cluster.worker.pool
    assert left_of(tmp_path, cluster.config.worker_id) == []
    assert pool.level == "process"


async def test_a_flood_of_what_is_no_frame_is_one_end(cluster: Cluster) -> None:
    started: list[asyncio.Task[Any]] = []

    def noted(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        started.append(asyncio.Task(work, loop=loop, **options))
        return started[-1]

    asyncio.get_running_loop().set_task_factory(noted)
    source = (
        "import os, stat, struct, time\n"
        "def handler(event, context):\n"
        "    for fd in range(3, 64):\n"
        "        try:\n"
        "            if stat.S_ISSOCK(os.fstat(fd).st_mode):\n"
        "                os.write(fd, struct.pack('<BII', 200, 0, 0) * 1000)\n"
        "        except OSError:\n"
        "            pass\n"
        "    time.sleep(60)\n"
    )
    identity = await cluster.deploy(source)
    assert (await cluster.invoke(identity)).result.error == "Unhandled"
    assert len([task for task in started if f"exit-{identity}" in task.get_name()]) == 1
