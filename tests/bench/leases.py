"""P9 and P20 on whole clusters: how seldom a warm invocation needs the scheduler, how long a recall takes, and what a
failover costs."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import tempfile
import threading
import urllib.request
from pathlib import Path

from tests.bench.load import Signed, http_latencies, http_load, sign
from tests.bench.local_worker import timer
from tests.bench.machine import descendants
from tests.bench.table import Row, Say, figure, median, percentile, ratio
from tests.conftest import free_port
from tests.e2e.harness import KEY, SECRET, Cluster, command_of, zipped

IDS = frozenset({"P9-held", "P9-recall", "P20"})
SOURCE = zipped({"app.py": "def handler(event, context):\n    return 1\n"})
_SHARE = 0.99
_RECALL_MS = 50.0
_FAILOVER_S = 3.0
_LEASES = re.compile(r'^lambent_leases\w*\{[^}]*how="(\w+)"[^}]*\} ([0-9.e+]+)$', re.MULTILINE)


async def measure(wanted: set[str], rounds: int, quick: bool, say: Say) -> list[Row]:
    """Each on a cluster of its own."""
    rows: list[Row] = []
    if wanted & {"P9-held", "P9-recall"}:
        measured = await _leases(rounds, quick, say)
        rows += [row for row in measured if row.id in wanted]
    if "P20" in wanted:
        rows.append(await asyncio.to_thread(_failover, rounds, say))
    return rows


# P9


def _signed(url: str, function: str) -> Signed:
    return sign(url.removeprefix("http://"), function, KEY, SECRET)


def _counted(metrics: str) -> dict[str, float]:
    """How the frontend's invocations came to their leases."""
    with urllib.request.urlopen(metrics) as answer:
        found = _LEASES.findall(answer.read().decode())
    return {how: float(value) for how, value in found}


async def _leases(rounds: int, quick: bool, say: Say) -> list[Row]:
    shares: list[float] = []
    warm: list[float] = []
    recalls: list[float] = []
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="lb-", dir="/tmp") as name:
        folder = Path(name)
        cluster = Cluster(
            folder / "data", "--no-examples", LAMBENT_TELEMETRY_PROMETHEUS=f"127.0.0.1:{port}",
            LAMBENT_LIMITS_REQUESTS_PER_EXECUTION="100000",
            # Or whoever was asked for the lease would not keep it the next time, and it would idle with nobody.
            LAMBENT_TIMING_RECALL_HOLD_OFF_SECONDS="0",
        )  # fmt: skip
        try:
            await asyncio.to_thread(cluster.start)
            for function in ("busy", "single"):
                await asyncio.to_thread(cluster.create, function, SOURCE, MemorySize=1024)
            client = cluster.client()
            client.put_function_concurrency(FunctionName="single", ReservedConcurrentExecutions=1)
            other = await asyncio.to_thread(cluster.another_frontend, {f'"127.0.0.1:{port}"': '""'})
            metrics = f"http://127.0.0.1:{port}/metrics"
            one, two = _signed(cluster.url, "single"), _signed(other, "single")
            await http_load(_signed(cluster.url, "busy"), 1.0, folder)
            for number in range(rounds):
                say(f"P9 round {number + 1}")
                before = _counted(metrics)
                await http_load(_signed(cluster.url, "busy"), 2.0 if quick else 4.0, folder)
                after = _counted(metrics)
                held, waited = (after[how] - before.get(how, 0.0) for how in ("held", "waited"))
                shares.append(held / (held + waited))
                # The first one starts an environment, and later ones follow a time in which no frontend has kept it.
                await asyncio.to_thread(http_latencies, two, 1)
                for _ in range(20 if quick else 50):
                    # The one execution of the limit idles with one frontend when the other wants it.
                    for door in (one, two):
                        first, second = await asyncio.to_thread(http_latencies, door, 2)
                        recalls.append((first - second) / 1000)
                        warm.append(second / 1000)
        finally:
            await asyncio.to_thread(cluster.stop)
    share, recall, beside = median(shares), median(recalls), median(warm)
    slowest = percentile(recalls, 0.99)
    return [
        Row(
            "P9-held", "warm invocations that ran on a lease already held", 100 * share, "%", None, None,
            "≥ 99 %", share >= _SHARE, "16 connections, one function, every call counted by the frontend",
        ),
        Row(
            "P9-recall", "recall of an idle lease from another frontend, p50; beside it a warm invocation", recall, "ms",
            beside, ratio(recall, beside), "< 50 ms", slowest < _RECALL_MS,
            f"p99 {figure(slowest)} ms of {len(recalls)}; one execution reserved, two frontends in turns",
        ),
    ]  # fmt: skip


# P20


class _Steady(threading.Thread):
    """Invokes a warm function without a pause, and counts what goes wrong."""

    def __init__(self, signed: Signed) -> None:
        super().__init__(name="steady", daemon=True)
        self._signed = signed
        self.ended = threading.Event()
        self.calls = self.lost = 0
        self.slowest = 0.0  # milliseconds

    def run(self) -> None:
        while not self.ended.is_set():
            try:
                times = http_latencies(self._signed, 20)
            except RuntimeError:
                self.lost += 1
            else:
                self.calls += len(times)
                self.slowest = max(self.slowest, *(each / 1000 for each in times))


def _scheduler(cluster: Cluster, number: int) -> int:
    """Process id of one of the two schedulers."""
    assert cluster.process is not None
    wanted = "settings-scheduler.toml" if number == 0 else "settings-scheduler-2.toml"
    [found] = [pid for pid in descendants(cluster.process.pid) if wanted in command_of(pid)]
    return found


def _failover(rounds: int, say: Say) -> Row:
    times: list[float] = []
    with tempfile.TemporaryDirectory(prefix="lb-", dir="/tmp") as name:
        cluster = Cluster(Path(name) / "data", "--no-examples", "--schedulers", "2")
        try:
            cluster.start()
            for function in ("held", *(f"new{number}" for number in range(rounds))):
                cluster.create(function, SOURCE)
            steady = _Steady(_signed(cluster.url, "held"))
            http_latencies(_signed(cluster.url, "held"), 5)
            steady.start()
            for number in range(rounds):
                say(f"P20 round {number + 1}")
                # The first one leads first; whoever was killed stands by when it is back.
                os.kill(_scheduler(cluster, number % 2), signal.SIGKILL)
                began = timer()
                http_latencies(_signed(cluster.url, f"new{number}"), 1)
                times.append(timer() - began)
                _stand_by(cluster, number % 2)
            steady.ended.set()
            steady.join()
        finally:
            cluster.stop()
    value, slowest = median(times), max(times)
    note = (
        f"kill -9 of the leader {rounds} times, the slowest took {figure(slowest)} s; of {steady.calls:,} invocations on "
        f"held leases meanwhile {steady.lost} were lost, the slowest took {figure(steady.slowest)} ms"
    )
    return Row(
        "P20", "failover of the scheduler: until a new lease runs an invocation", value, "s", None, None,
        "none lost, ≤ 3 s", slowest <= _FAILOVER_S and not steady.lost, note,
    )  # fmt: skip


def _stand_by(cluster: Cluster, number: int) -> None:
    """Wait until a killed scheduler runs again, and has had time to find that another leads."""
    for _ in range(200):
        try:
            _scheduler(cluster, number)
        except ValueError:
            threading.Event().wait(0.05)
        else:
            break
    threading.Event().wait(2.0)
