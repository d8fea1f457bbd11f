"""Functions that try to get out, at every level that this machine has: what the table of promises says, holds.

An attacker and a victim in one worker; the attacker's code is attacks.py. Attacks that a level does not withstand are
rows of the same table, which docs/reference/isolation.md shows, and are not tried there.
"""

from __future__ import annotations

import ast
import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lambent.domain.limits import Limits
from services.worker.sandbox.promises import PROMISES
from tests.contract.test_sandbox import LEVELS
from tests.integration.test_worker_cluster import Cluster, cluster_of

ATTACKS = Path(__file__).with_name("attacks.py").read_text()
REAL = [level for level in LEVELS if level != "fake"]
FATAL = {"memory_hog", "fork_bomb", "tmp_hog", "orphan"}  # each on its own
PROCESSES, TMP_MB = 64, 8


def promised(level: str) -> list[str]:
    return [name for name, promise in PROMISES.items() if level in promise.held_by]


def with_mark(mark: str) -> list[int]:
    """Processes that have the mark on their command line."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and mark.encode() in (folder / "cmdline").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def known_to(cluster: Cluster, victim: str) -> dict[str, Any]:
    """What an attacker could know or guess."""
    sandbox: Any = cluster.worker.environments.by_id[victim]._sandbox
    secret = cluster.folder / "secret"
    secret.write_text("the worker's")
    secret.chmod(0o600)
    environ = f"/proc/{os.getpid()}/environ"
    home = f"*/lambent/{cluster.config.worker_id}/*"
    groups = [str(path) for path in Path("/sys/fs/cgroup").glob(f"{home}/memory.limit_in_bytes")]
    groups += [str(path) for path in Path("/sys/fs/cgroup").glob(f"{home}/*.max")]
    snapshot: Any = cluster.worker.environments.by_id[victim].snapshot
    snapshots = [] if snapshot is None else snapshot.sandbox.pids
    return {
        "pids": [*sandbox.pids, *snapshots, os.getpid()],
        "files": [str(secret), environ],
        "folders": [str(cluster.folder / "run" / "tmp" / victim), str(cluster.folder)],
        "sockets": [str(path) for path in cluster.folder.rglob("*.sock")],
        "groups": groups,
        "ipc": os.readlink("/proc/self/ns/ipc"),
        "processes": PROCESSES,
        "tmp_mb": TMP_MB,
        "mark": f"3600.{int(cluster.ids.token(4), 16)}",
    }


def test_every_attack_has_a_row_and_every_row_an_attack() -> None:
    functions = {node.name for node in ast.parse(ATTACKS).body if isinstance(node, ast.FunctionDef)}
    machinery = {"handler", "attempt", "first", "each", "call", "others", "read", "cloned3"}
    assert functions - machinery == set(PROMISES)


APART = [level for level in REAL if level in ("user-namespace", "namespaces")]


@pytest.mark.parametrize(
    ("level", "snap_start"), [(level, False) for level in REAL] + [(level, True) for level in APART]
)
async def test_what_a_level_promises_holds(level: str, snap_start: bool, tmp_path: Path) -> None:
    """Also in environments that were forked from one snapshot, of which one attacks another."""
    async with cluster_of(tmp_path, level=level, limits=Limits(processes=PROCESSES, vcpu_memory_mb=128)) as cluster:
        fields: dict[str, Any] = {
            "handler": "attacks.handler", "timeout_seconds": 20, "memory_mb": 128, "ephemeral_storage_mb": TMP_MB,
            "snap_start": snap_start,
        }  # fmt: skip
        attacker, victim = [await cluster.deploy({"attacks.py": ATTACKS}, **fields) for _ in range(2)]
        assert cluster.worker.counters.sources == ({("function", "SnapshotReady"): 2} if snap_start else {})
        known = known_to(cluster, victim)
        assert len(known["sockets"]) == 2
        names = promised(level)

        quiet = [name for name in names if name not in FATAL]
        answer = await cluster.invoke(attacker, {"attacks": quiet, **known})
        assert answer.json == dict.fromkeys(quiet)

        for name in ("tmp_hog", "fork_bomb"):
            if name in names:
                answer = await cluster.invoke(attacker, {"attacks": [name], **known})
                # Refused, or, where nothing refuses, killed.
                assert answer.json == {name: None} or answer.result.error_type == "Runtime.ExitError", answer.json
        answer = await cluster.invoke(attacker, {"attacks": ["memory_hog"], **known})
        assert answer.result.error_type == "Runtime.ExitError"
        assert cluster.worker.counters.out_of_memory >= 1

        await cluster.invoke(attacker, {"attacks": ["orphan"], **known})
        await cluster.until(lambda: len(with_mark(known["mark"])) == 1)
        cluster.stop(attacker)
        await cluster.until(lambda: not with_mark(known["mark"]))

        # The victim has noticed nothing.
        assert (await cluster.invoke(victim, {"attacks": []})).json == {}
        await cluster.scheduler.until(lambda: bool(cluster.scheduler.gone))
        assert cluster.scheduler.gone == {attacker: "Stopped"}


@pytest.fixture
def service() -> Iterator[int]:
    """A service on the machine's loopback interface."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


NETWORK = """
import socket
def handler(port, context):
    def attempt(work):
        try:
            return work()
        except OSError as error:
            return type(error).__name__
    def own():
        with socket.create_server(("127.0.0.1", 0)) as server:
            return socket.create_connection(server.getsockname(), 1) is not None
    return {
        "machine": attempt(lambda: socket.create_connection(("127.0.0.1", port), 1) is not None),
        "own": attempt(own),
        "interfaces": attempt(lambda: [name for _, name in socket.if_nameindex()]),
    }
"""


@pytest.mark.skipif("namespaces" not in REAL, reason="needs root")
@pytest.mark.parametrize(
    ("network", "machine", "own"),
    [
        (None, "ConnectionRefusedError", True),  # the port alone, wherever this machine is called
        ("127.0.0.0/8", "OSError", "OSError"),
        ("126.0.0.0/7", "OSError", "OSError"),
        ("128.0.0.0/1", True, True),
        ("::/0", True, True),
    ],
)
async def test_what_functions_must_not_reach_is_refused_to_them_and_to_nobody_else(
    tmp_path: Path, service: int, network: str | None, machine: Any, own: Any
) -> None:
    place = ("localhost", service) if network is None else (network, None)
    # Rules hold for users of the whole machine: these are of no worker that other tests run meanwhile.
    users = 1_000_000 + 1000 * service
    async with cluster_of(tmp_path, level="namespaces", unreachable=(place,), uid_base=users) as cluster:
        refused = "but for what functions must not reach" in cluster.worker.pool.reason
        assert refused or "also what functions must not reach" in cluster.worker.pool.reason
        identity = await cluster.deploy(NETWORK)
        got = (await cluster.invoke(identity, service)).json
        assert got["machine"] == (machine if refused else True)
        assert got["own"] == (own if refused else True)
        socket.create_connection(("127.0.0.1", service), 1).close()


@pytest.mark.parametrize(
    ("network", "level"),
    [("full", level) for level in REAL]
    + [("none", level) for level in REAL]
    + [("loopback", level) for level in APART],
)
async def test_each_network_profile_reaches_what_it_says(
    network: str, level: str, tmp_path: Path, service: int
) -> None:
    async with cluster_of(tmp_path, level=level, network=network) as cluster:
        identity = await cluster.deploy(NETWORK)
        got = (await asyncio.wait_for(cluster.invoke(identity, service), 20)).json
        if network == "full":
            assert (got["machine"], got["own"]) == (True, True)
        else:
            assert got["machine"] is not True
            assert (got["own"] is True) == (network == "loopback")
            assert got["interfaces"] == ["lo"] or level not in APART
