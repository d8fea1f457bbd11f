"""What is lost when something dies while events are accepted at load: processes by kill -9, the store's machine by a cut of
its power, for which the append-only file is cut to what had been fsynced (tests/bench/fsyncs.c notes that)."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from redis.exceptions import RedisError

from lambent.infra.redis_client import connect
from lambent.local.redis_server import find_server
from tests.bench.queue import TENANT
from tests.bench.table import Say
from tests.e2e import faults
from tests.e2e.effects import PACKAGE, effects
from tests.e2e.harness import Cluster

EVENTS = 20_000
CUTS = 5
VICTIMS = ("poller", "worker", "scheduler", "frontend", "redis")
_HERE = Path(__file__).parent


async def measure(events: int, say: Say) -> None:
    """Print two tables."""
    print("| killed | appendfsync | kills | accepted | missing | ran again | not accepted |\n|" + " --- |" * 7)
    for fsync in ("everysec", "always"):
        for victim in VICTIMS:
            say(f"{victim}, {fsync}")
            report = await _kill(victim, fsync, events)
            print(
                f"| {victim} | {fsync} | {report.kills} | {report.accepted:,} | {report.missing} | {report.duplicates} | "
                f"{report.refused} |",
                flush=True,
            )
    print("\n| power cut, appendfsync | accepted before it | missing after it | of the last |\n|" + " --- |" * 4)
    with tempfile.TemporaryDirectory(prefix="lb-", dir="/tmp") as name:
        library = Path(name) / "fsyncs.so"
        if not _compiled(library):
            print("| not measured: no C compiler here | | | |")
            return
        for fsync in ("everysec", "always"):
            for cut in range(CUTS):
                say(f"power cut {cut + 1}, {fsync}")
                with tempfile.TemporaryDirectory(prefix="lb-", dir="/tmp") as folder:
                    accepted, missing, seconds = await _cut(Path(folder), library, fsync, random.Random(cut))
                print(f"| {fsync} | {accepted:,} | {missing:,} | {seconds:.2f} s |", flush=True)


def _compiled(library: Path) -> bool:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is not None:
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, _HERE / "fsyncs.c", "-ldl"], check=True)
    return compiler is not None


async def _kill(victim: str, fsync: str, events: int) -> faults.Report:
    with tempfile.TemporaryDirectory(prefix="lb-", dir="/tmp") as folder, effects() as told:
        cluster = Cluster(Path(folder) / "data", "--no-examples", LAMBENT_QUEUE_LEASE_SECONDS="1")
        await asyncio.to_thread(cluster.start)
        try:
            client = connect(f"unix://{cluster.data}/run/redis.sock")
            await client.config_set("appendfsync", fsync)
            await client.aclose()
            variables = {"Variables": {"PORT": str(told.port)}}
            await asyncio.to_thread(cluster.create, "tells", PACKAGE, Environment=variables, Timeout=20)
            kills = max(1, events // 5000)
            rng = random.Random(f"{victim} {fsync}")
            return await faults.run(cluster, told, "tells", b'{"s": 0.01}', victim, events, kills, rng)
        finally:
            await asyncio.to_thread(cluster.stop)


@contextmanager
def _server(folder: Path, socket: Path, fsync: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    program = find_server()
    assert program is not None
    process = subprocess.Popen(
        [program, "--port", "0", "--unixsocket", socket, "--dir", folder, "--appendonly", "yes", "--appendfsync", fsync,
         "--save", "", "--auto-aof-rewrite-percentage", "0"],
        env=os.environ | environment, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def _ready(socket: Path) -> None:
    client = connect(f"unix://{socket}")
    for _ in range(400):
        try:
            await client.ping()
            break
        except (RedisError, OSError):
            await asyncio.sleep(0.05)
    await client.aclose()


async def _cut(folder: Path, library: Path, fsync: str, rng: random.Random) -> tuple[int, int, float]:
    """Accept events for some seconds, then cut the power. How many had been accepted, how many of these are gone, and how
    long before the cut the first of these was accepted."""
    store, socket, log = folder / "store", folder / "redis.sock", folder / "fsyncs"
    store.mkdir()
    accepted = faults.Accepted()
    at: dict[str, float] = {}
    cluster = Cluster(folder / "data", "--no-examples", "--redis-url", f"unix://{socket}")
    with _server(store, socket, fsync, LD_PRELOAD=str(library), FSYNC_LOG=str(log)) as server:
        await _ready(socket)
        await asyncio.to_thread(cluster.start)
        try:
            await asyncio.to_thread(cluster.create, "waits", PACKAGE)
            assert (await asyncio.to_thread(cluster.lambent, "queue", "pause", "waits")).returncode == 0
            feeding = asyncio.ensure_future(
                faults.feed(cluster.http, "waits", b'{"x": "%s"}' % (b"y" * 1000), 10**9, accepted)
            )
            ends = time.monotonic() + 3.0 + rng.random() * 2
            while time.monotonic() < ends:
                await asyncio.sleep(0.01)
                now = time.monotonic()
                at.update((id_, now) for id_ in accepted.ids - at.keys())
            # Whatever is acknowledged from now on does not count; what was noted as fsynced by now does.
            server.send_signal(signal.SIGKILL)
            server.wait()
            cut, ids = time.monotonic(), set(at)
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
        finally:
            await asyncio.to_thread(cluster.stop)
    for file in store.rglob("*.incr.aof"):
        inode = file.stat().st_ino
        lines = [line.split() for line in log.read_text().splitlines()]
        os.truncate(file, max((int(size) for size, of in lines if int(of) == inode), default=0))
    with _server(store, socket, fsync):
        await _ready(socket)
        client = connect(f"unix://{socket}")
        kept: Any = await cast(Any, client.hkeys(f"lambent:{TENANT.tag}:async:waits:values"))
        await client.aclose()
    missing = ids - {id_.decode() for id_ in kept}
    return len(ids), len(missing), cut - min((at[id_] for id_ in missing), default=cut)
