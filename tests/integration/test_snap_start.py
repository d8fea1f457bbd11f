"""Versions with SnapStart on a real worker: one init phase, and every environment a copy of what it left."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from lambent.domain.limits import Limits
from services.worker.core.environment import State
from services.worker.sandbox.zygotes import Child, SnapshotControl
from tests.contract.test_sandbox import LEVELS
from tests.integration.test_worker_cluster import ECHO, Cluster, cluster_of

ASIDE = [level for level in LEVELS if level in ("namespaces", "user-namespace")]
SNAP: dict[str, Any] = {"snap_start": True, "version": "1", "timeout_seconds": 5}
APP = """
import os, random, sys, time, uuid
from snapshot_restore_py import register_after_restore, register_before_snapshot

BORN = uuid.uuid4().hex
CALLS = []
with open("/tmp/made", "w") as file:
    file.write("by init")

@register_before_snapshot
def first(): CALLS.append("before 1")

register_before_snapshot(CALLS.append, "before 2")
register_after_restore(lambda: CALLS.append("after 1"))
register_after_restore(CALLS.append, "after 2")
print("initialised")

def handler(event, context):
    if event == "exit":
        sys.exit(3)
    if event == "write":
        with open("/tmp/made", "w") as file:
            file.write("changed")
    with open("/tmp/made") as file:
        made = file.read()
    return {
        "born": BORN, "calls": CALLS, "random": random.random(), "uuid1": uuid.uuid1().hex, "made": made,
        "key": os.environ["AWS_ACCESS_KEY_ID"], "stream": context.log_stream_name,
        "type": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"], "uid": os.getuid(),
        "processes": sorted(name for name in os.listdir("/proc") if name.isdigit()),
    }
"""


@pytest.mark.parametrize("level", ASIDE)
async def test_environments_are_copies_of_one_init_phase_and_differ_where_they_must(level: str, tmp_path: Path) -> None:
    async with cluster_of(tmp_path, level=level) as cluster:
        names = [await cluster.deploy(APP, **SNAP) for _ in range(2)]
        first, second = [(await cluster.invoke(name)).json for name in names]
        assert first["born"] == second["born"]
        assert first["calls"] == ["before 2", "before 1", "after 1", "after 2"]
        assert first["type"] == "snap-start"
        assert first["processes"] == ["1", "2"]
        for differs in ("random", "uuid1", "key", "stream"):
            assert first[differs] != second[differs], differs
        assert (first["uid"] != second["uid"]) is (level == "namespaces")
        assert (await cluster.invoke(names[0], "write")).json["made"] == "changed"
        assert (await cluster.invoke(names[1])).json["made"] == "by init"
        # A copy that has ended is followed by another one.
        gone = await cluster.invoke(names[0], "exit")
        assert gone.result.error_type == "Runtime.ExitError"
        assert "exit status 3" in gone.json["errorMessage"]
        again = (await cluster.invoke(names[0])).json
        assert (again["born"], again["made"], again["random"] != first["random"]) == (first["born"], "by init", True)


async def test_the_log_says_what_aws_says(cluster: Cluster) -> None:
    name = await cluster.deploy(APP, **SNAP)
    answer = await cluster.invoke(name)
    assert "Restore Duration: " in answer.tail
    assert "Billed Restore Duration: " in answer.tail
    assert "Init Duration" not in answer.tail
    (begun, restored) = [line for line in cluster.log_lines() if line.startswith("RESTORE_")]
    assert begun.startswith("RESTORE_START Runtime Version: python:")
    assert restored.startswith("RESTORE_REPORT Restore Duration: ")
    lines = cluster.log_lines()
    assert lines.index("initialised") < lines.index(begun)
    assert any(line.startswith("INIT_REPORT Init Duration: ") and line.endswith("Phase: init") for line in lines)
    assert cluster.worker.counters.sources == {("function", "SnapshotReady"): 1}
    assert "Restore Duration" not in (await cluster.invoke(name)).tail


LEFT_BEHIND = {
    "Threads": "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n",
    "ChildProcesses": "import os, time\nif os.fork() == 0:\n    time.sleep(60)\n",
    "OpenSockets": "import socket\nheld = socket.socket()\n",
    "OpenFiles": "held = open('/tmp/log', 'w')\n",
    "SharedMemory": "import mmap\nheld = mmap.mmap(-1, 4096)\n",
}


@pytest.mark.parametrize("reason", LEFT_BEHIND)
async def test_what_cannot_be_copied_has_an_init_phase_each_and_is_told_why(cluster: Cluster, reason: str) -> None:
    source = (
        LEFT_BEHIND[reason] + "import uuid\nBORN = uuid.uuid4().hex\ndef handler(event, context):\n    return BORN\n"
    )
    names = [await cluster.deploy(source, **SNAP) for _ in range(2)]
    first, second = [(await cluster.invoke(name)).json for name in names]
    assert first != second
    assert cluster.worker.counters.sources == {("runtime", reason): 2}
    assert any(line.startswith(f"Lambent: SnapStart is not in force: {reason}") for line in cluster.log_lines())


@pytest.mark.parametrize("level", ["landlock", "process"])
async def test_levels_without_namespaces_have_an_init_phase_each(level: str, tmp_path: Path) -> None:
    if level not in LEVELS:
        pytest.skip("this machine has no such level")
    async with cluster_of(tmp_path, level=level) as cluster:
        source = "import tempfile\nfrom snapshot_restore_py import register_after_restore\n@register_after_restore\n"
        await cluster.invoke(await cluster.deploy(f"{source}def hook(): 1 / 0\n{ECHO}", **SNAP))
        assert cluster.worker.counters.sources == {("runtime", "IsolationLevel"): 1}


async def test_a_hook_that_fails_before_the_snapshot_fails_what_is_asked_for_first(cluster: Cluster) -> None:
    source = "from snapshot_restore_py import register_before_snapshot\nregister_before_snapshot(lambda: 1 / 0)\n"
    name = await cluster.deploy(source + ECHO, **SNAP)
    answer = await cluster.invoke(name, prepares=True)
    assert (answer.result.error_type, answer.json["errorMessage"]) == (
        "Runtime.BeforeSnapshotError",
        "division by zero",
    )


async def test_an_init_phase_that_fails_is_told_by_every_environment(cluster: Cluster) -> None:
    name = await cluster.deploy("raise ValueError('no')\n", **SNAP)
    answer = await cluster.invoke(name)
    assert (answer.result.error_type, answer.json["errorMessage"]) == ("ValueError", "no")
    assert cluster.worker.counters.sources == {("runtime", "InitFailed"): 1}


@pytest.mark.parametrize(
    ("hook", "error_type"),
    [("1 / 0", "Runtime.AfterRestoreError"), ("time.sleep(60)", "Runtime.RestoreHookUserTimeout")],
)
async def test_a_hook_that_fails_after_the_restore_fails_the_invocation(
    tmp_path: Path, hook: str, error_type: str
) -> None:
    source = f"import time\nfrom snapshot_restore_py import register_after_restore\n@register_after_restore\ndef hook(): {hook}\n"
    async with cluster_of(tmp_path, limits=Limits(restore_seconds=0.5)) as cluster:
        name = await cluster.deploy(source + ECHO, **SNAP)
        answer = await cluster.invoke(name)
        assert (answer.result.error, answer.result.error_type) == ("Unhandled", error_type)
        report = next(line for line in cluster.log_lines() if line.startswith("RESTORE_REPORT"))
        assert f"Error Type: {error_type}" in report or report.endswith("Status: timeout")


async def test_a_snapshot_goes_when_its_memory_is_promised_and_not_while_it_has_environments(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, memory_mb=1024) as cluster:
        name = await cluster.deploy(APP, **SNAP)
        big = await cluster.deploy(ECHO, memory_mb=1020, deployment_id="big")
        await asyncio.sleep(1.5)  # two looks
        counters = cluster.worker.counters
        assert counters.evictions == {}
        cluster.stop(name)
        await cluster.until(lambda: bool(counters.evictions))
        assert counters.evictions == {"MemoryPressure": 1}
        # There is no room for another one now.
        await cluster.invoke(await cluster.deploy(APP, **SNAP))
        assert counters.sources["runtime", "NoMemory"] == 1
        cluster.stop(big)


async def test_copies_are_made_in_advance_and_one_that_has_died_is_not_used(cluster: Cluster) -> None:
    snapshots: Any = cluster.worker.environments._snapshots
    name = await cluster.deploy(APP, **SNAP)
    (held,) = snapshots._held.values()
    await cluster.until(lambda: len(held.copies) == 2 and all(copy.copy.pid for copy, _ in held.copies))
    for copy, _ in held.copies:
        copy.kill()
    await asyncio.gather(*(copy.exited() for copy, _ in held.copies))
    again = await cluster.deploy(APP, **SNAP)
    assert (await cluster.invoke(again)).json["born"] == (await cluster.invoke(name)).json["born"]
    assert cluster.worker.counters.sources == {("function", "SnapshotReady"): 2}
    await cluster.until(lambda: len(held.copies) == 2)
    (next_one, slot) = held.copies[0]
    assert weight(next_one) in (None, 10, 102)  # by the version of control groups; nobody waits for it
    third = await cluster.deploy(APP, **SNAP)
    assert cluster.worker.environments.by_id[third].slot == slot
    assert cluster.worker.environments.by_id[third].sandbox is next_one
    assert weight(next_one) in (None, 100, 1024)


def weight(sandbox: Any) -> int | None:
    """A sandbox's where processor time is short; None: it is not in a control group."""
    group = sandbox.stem.group
    if group is None:
        return None
    return int(Path(group.folders["cpu"], group.names.weight).read_text())


async def test_environments_outlive_no_credentials_that_they_copied(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, credentials_seconds=2.0) as cluster:
        await cluster.deploy(APP, **SNAP)
        await asyncio.sleep(1.0)
        name = await cluster.deploy(APP, **SNAP)
        await cluster.scheduler.until(lambda: name in cluster.scheduler.gone)
        assert cluster.scheduler.gone[name] == "CredentialsExpire"
        await cluster.until(lambda: cluster.worker.counters.evictions == {"CredentialsExpire": 1})


async def test_a_copy_that_never_comes_to_life_is_followed_by_an_init_phase(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    fork = SnapshotControl.fork

    def astray(control: SnapshotControl, user: int | None, bridge: socket.socket, groups: list[int]) -> Child:
        nowhere, end = socket.socketpair()
        end.close()
        with nowhere:
            return fork(control, user, nowhere, groups)

    monkeypatch.setattr(SnapshotControl, "fork", astray)
    name = await cluster.deploy(APP, **SNAP)
    assert (await cluster.invoke(name)).json["calls"] == []  # no hook belongs to an init phase of one's own
    await cluster.invoke(await cluster.deploy(APP, **SNAP))
    assert cluster.worker.counters.sources["runtime", "SandboxUnavailable"] == 1


async def test_the_end_of_a_snapshot_ends_what_came_of_it_and_neither_is_missed_for_long(cluster: Cluster) -> None:
    name = await cluster.deploy(APP, **SNAP)
    first = (await cluster.invoke(name)).json
    environment = cluster.worker.environments.by_id[name]
    assert environment.snapshot is not None
    assert environment.snapshot.sandbox is not None
    environment.snapshot.sandbox.kill()
    await cluster.until(lambda: environment.state is State.COLD)
    again = (await cluster.invoke(name)).json
    assert (again["born"] != first["born"], again["calls"]) == (True, [])
    sandbox = environment.snapshot.sandbox
    await cluster.until(lambda: sandbox.ended)
    other = (await cluster.invoke(await cluster.deploy(APP, **SNAP))).json
    assert other["calls"] == first["calls"]
    assert other["born"] not in (first["born"], again["born"])
    assert cluster.worker.counters.evictions == {"SnapshotLost": 1}


async def test_a_version_whose_snapshots_end_again_and_again_has_none(cluster: Cluster) -> None:
    async def lose(name: str) -> None:
        snapshot = cluster.worker.environments.by_id[name].snapshot
        assert snapshot is not None
        assert snapshot.sandbox is not None
        snapshot.sandbox.kill()
        await cluster.until(lambda: snapshot.state is State.COLD)

    for _ in range(3):
        await lose(await cluster.deploy(APP, **SNAP))
    own = await cluster.deploy(APP, **SNAP)
    assert cluster.worker.environments.by_id[own].snapshot is None
    assert (await cluster.invoke(own)).json["calls"] == []
    assert cluster.worker.counters.sources["runtime", "SnapshotLost"] == 1


BIG = """
kept = [str(number) for number in range(100_000)]
ballast = bytearray({mb} << 20)

def handler(event, context):
    with open("/proc/self/smaps_rollup") as file:
        used = sum(int(line.split()[1]) for line in file if line.startswith("Private_Dirty:"))
    return [used, sum(map(len, kept)) + sum(ballast[::1 << 20])]
"""


# A function that has taken over its own snapshot, and looks from a copy that has every right in its namespaces at what
# the zygote has made for it.
TAKEN_OVER = """
import os, sys
SEEN = {}
def look(copied, user):
    with open("/proc/1/status") as file:
        status = dict(line.partition(":")[::2] for line in file)
    SEEN.update({name: status[name].strip() for name in ("CapEff", "CapPrm", "Seccomp")})
    SEEN["sockets"] = [link for link in map(target, os.listdir("/proc/1/fd")) if link.startswith("socket:")]
    copy_files(copied, user)
def target(name):
    return os.readlink("/proc/1/fd/" + name)
if "_lambent_snapshot" in sys.modules:
    module = sys.modules["_lambent_snapshot"]
    copy_files, module.copy_files = module.copy_files, look
def handler(event, context):
    return SEEN
"""


@pytest.mark.parametrize("level", ASIDE)
async def test_what_the_zygote_makes_for_a_copy_has_neither_rights_nor_the_zygotes_line(
    level: str, tmp_path: Path
) -> None:
    async with cluster_of(tmp_path, level=level) as cluster:
        name = await cluster.deploy(TAKEN_OVER, **SNAP)
        seen = (await cluster.invoke(name)).json
        assert {key: seen[key] for key in ("CapEff", "CapPrm", "Seccomp")} == {
            "CapEff": "0" * 16, "CapPrm": "0" * 16, "Seccomp": "2"
        }  # fmt: skip
        assert len(seen["sockets"]) <= 2, "more than the line to the copy, and the copy's own"


@pytest.mark.parametrize("level", ASIDE)
async def test_copies_that_stay_idle_share_again_what_the_snapshot_has(level: str, tmp_path: Path) -> None:
    async with cluster_of(tmp_path, level=level) as cluster:
        name = await cluster.deploy(BIG.format(mb=1), **SNAP)
        environment = cluster.worker.environments.by_id[name]
        _, total = (await cluster.invoke(name)).json
        (used, _) = (await cluster.invoke(name)).json  # KiB, once every text has been counted
        await cluster.rested(environment)
        less, again = (await cluster.invoke(name)).json
        assert used > less + 5_000
        assert again == total


async def test_a_snapshot_that_fills_its_memory_is_copied_all_the_same(cluster: Cluster) -> None:
    name = await cluster.deploy(BIG.format(mb=70), **SNAP)
    totals = {(await cluster.invoke(name)).json[1] for _ in range(2)}
    assert len(totals) == 1
    assert cluster.worker.counters.sources == {("function", "SnapshotReady"): 1}
