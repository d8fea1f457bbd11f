"""P4, P5, P6: warm invocations on a whole cluster, beside a bare grpc.aio echo and a raw Unix-socket echo."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lambent.infra.tokens import issue
from lambent.v1 import invocation_service_pb2 as pb
from tests.bench import load
from tests.bench.baselines import METHOD, Echo, grpc_echo, unix_echo
from tests.bench.load import (
    CONNECTIONS,
    EVENT,
    IN_FLIGHT,
    Load,
    grpc_load,
    http_latencies,
    http_load,
    many_load,
    sign,
    unix_latencies,
)
from tests.bench.machine import cores, descendants, pin, run_seconds, unpin
from tests.bench.open_loop import capacity, open_latencies
from tests.bench.table import Row, Say, figure, median, percentile, ratio
from tests.e2e.harness import KEY, SECRET, Cluster, zipped

IDS = frozenset({"P4", "P5-http", "P5-unary", "P5-stream", "P6"})
SOURCE = 'def handler(event, context):\n    return {"ok": True, "key": event["key"]}\n'
_FUNCTION = "bench"
_INVOKE = "/lambent.v1.InvocationService/Invoke"
_INVOKE_MANY = "/lambent.v1.InvocationService/InvokeMany"
# With the smallest memory a function has a fourteenth of a core, and what is measured would be that.
_MEMORY_MB = 1024


@dataclass(slots=True)
class Samples:
    """One value a round."""

    http_us: list[float] = field(default_factory=list)
    echo_us: list[float] = field(default_factory=list)
    guest_us: list[float] = field(default_factory=list)
    http_rate: list[float] = field(default_factory=list)
    unary_rate: list[float] = field(default_factory=list)
    unary_us: list[float] = field(default_factory=list)
    stream_rate: list[float] = field(default_factory=list)
    stream_us: list[float] = field(default_factory=list)
    echo_rate: list[float] = field(default_factory=list)
    latency: list[float] = field(default_factory=list)
    unix: list[float] = field(default_factory=list)
    tail: list[float] = field(default_factory=list)
    half_rate: list[float] = field(default_factory=list)
    half_tail: list[float] = field(default_factory=list)


class Bench:
    """A cluster with one function, and its process ids."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder
        assert cluster.process is not None
        self._root = cluster.process.pid

    def pids(self) -> tuple[list[int], list[int]]:
        """The platform's processes, and the guests with the zygotes that they come from."""
        platform, guests = [self._root], list[int]()
        for pid in descendants(self._root):
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            (guests if b"zygote.py" in command else platform).append(pid)
        return platform, guests

    async def http(self, seconds: float) -> tuple[Load, float, float]:
        """Load on the HTTP door; processor time of platform and guests, in seconds."""
        signed = sign(self.cluster.http, _FUNCTION, KEY, SECRET)
        platform, guests = self.pids()
        before = run_seconds(platform), run_seconds(guests)
        done = await http_load(signed, seconds, self.folder)
        return done, run_seconds(platform) - before[0], run_seconds(guests) - before[1]

    async def unary(self, seconds: float) -> tuple[Load, float]:
        """Load on the gRPC door; the platform's processor time."""
        request = pb.InvokeRequest(function_name=_FUNCTION, payload=EVENT).SerializeToString()
        return await self._used(grpc_load(self.cluster.grpc, _INVOKE, request, seconds, self._bearer()))

    async def stream(self, seconds: float) -> tuple[Load, float]:
        """Load on one stream of the gRPC door; the platform's processor time."""
        request = pb.InvokeRequest(function_name=_FUNCTION, payload=EVENT)
        return await self._used(many_load(self.cluster.grpc, _INVOKE_MANY, request, seconds, self._bearer()))

    async def _used(self, work: Awaitable[Load]) -> tuple[Load, float]:
        platform, _ = self.pids()
        before = run_seconds(platform)
        done = await work
        return done, run_seconds(platform) - before

    @staticmethod
    def _bearer() -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {issue(KEY, SECRET, 'us-east-1', time.time())}")]


@asynccontextmanager
async def _cluster(folder: Path) -> AsyncIterator[Bench]:
    # Ten requests a second for each execution bound an account of a thousand to about what is measured here: beyond it
    # callers are throttled, and near it they ask the scheduler for permissions all the time.
    cluster = Cluster(folder / "data", "--no-examples", LAMBENT_LIMITS_REQUESTS_PER_EXECUTION="100000")
    try:
        await asyncio.to_thread(cluster.start)
        await asyncio.to_thread(
            cluster.create, _FUNCTION, zipped({"app.py": SOURCE}), MemorySize=_MEMORY_MB, Timeout=30
        )
        yield Bench(cluster, folder)
    finally:
        await asyncio.to_thread(cluster.stop)


async def _echo(echo: Echo, seconds: float) -> tuple[Load, float]:
    before = run_seconds([echo.pid])
    done = await grpc_load(echo.address, METHOD, EVENT, seconds)
    return done, run_seconds([echo.pid]) - before


def _latency(bench: Bench, unix: Echo, count: int, seconds: float, samples: Samples) -> None:
    """The client on one core, all that answers on another, the same for both sides: one in flight, and half of what that
    core takes at an even rate."""
    mine = cores()
    here, there = mine[0], mine[-1]
    platform, guests = bench.pids()
    own, others = [os.getpid()], [*platform, *guests, unix.pid]
    try:
        pin(others, there)
        pin(own, here)
        signed = sign(bench.cluster.http, _FUNCTION, KEY, SECRET)
        http_latencies(signed, count // 5)
        unix_latencies(unix.address, count // 5)
        ours, raw = http_latencies(signed, count), unix_latencies(unix.address, count)
        half = capacity(signed, seconds / 2) / 2
        even = open_latencies(signed, half, seconds)
    finally:
        unpin(others)
        unpin(own)
    samples.latency.append(median(ours))
    samples.tail.append(percentile(ours, 0.99))
    samples.unix.append(median(raw))
    samples.half_rate.append(half)
    samples.half_tail.append(percentile(even, 0.99))


async def measure(wanted: set[str], rounds: int, quick: bool, say: Say) -> list[Row]:
    """Every side once a round."""
    seconds = 2.0 if quick else 4.0
    samples = Samples()
    rows = []
    if wanted & IDS:
        if not load.has_wrk():
            say("wrk is missing (apt-get install wrk): a slower generator of our own takes its place")
        with tempfile.TemporaryDirectory(prefix="lb-", dir="/tmp") as name, ExitStack() as stack:
            folder = Path(name)
            echo = stack.enter_context(grpc_echo(folder))
            unix = stack.enter_context(unix_echo(folder))
            async with _cluster(folder) as bench:
                await bench.http(2.0)  # brings up an environment for each connection
                await _echo(echo, 0.5)
                for number in range(rounds):
                    say(f"P4, P5, P6 round {number + 1}")
                    await _round(bench, echo, unix, wanted, seconds, 500 if quick else 2000, samples)
    if "P4" in wanted:
        rows.append(_p4(samples))
    if "P5-http" in wanted:
        rows.append(_rate("P5-http", "HTTP invokes a second on this machine", samples.http_rate, samples, 3.0))
    if "P5-unary" in wanted:
        what = "plain unary gRPC invokes a second"
        rows.append(_rate("P5-unary", what, samples.unary_rate, samples, 0.7, used=samples.unary_us))
    if "P5-stream" in wanted:
        what = "streamed gRPC invokes a second"
        under_way = f"one stream with {IN_FLIGHT} in flight, the echo with {CONNECTIONS}"
        rows.append(_rate("P5-stream", what, samples.stream_rate, samples, 8.0, under_way, samples.stream_us))
    if "P6" in wanted:
        rows.append(_p6(samples))
    return rows


async def _round(
    bench: Bench, echo: Echo, unix: Echo, wanted: set[str], seconds: float, count: int, samples: Samples
) -> None:
    if wanted & {"P4", "P5-http"}:
        done, platform, guests = await bench.http(seconds)
        samples.http_rate.append(done.rate)
        samples.http_us.append(platform / done.calls * 1e6)
        samples.guest_us.append(guests / done.calls * 1e6)
    if wanted & {"P4", "P5-http", "P5-unary", "P5-stream"}:
        done, used = await _echo(echo, seconds)
        samples.echo_rate.append(done.rate)
        samples.echo_us.append(used / done.calls * 1e6)
    if "P5-unary" in wanted:
        done, used = await bench.unary(seconds)
        samples.unary_rate.append(done.rate)
        samples.unary_us.append(used / done.calls * 1e6)
    if "P5-stream" in wanted:
        done, used = await bench.stream(seconds)
        samples.stream_rate.append(done.rate)
        samples.stream_us.append(used / done.calls * 1e6)
    if "P6" in wanted:
        await asyncio.to_thread(_latency, bench, unix, count, seconds, samples)


def _p4(samples: Samples) -> Row:
    value, beside = median(samples.http_us), median(samples.echo_us)
    times = ratio(value, beside)
    note = (
        f"all processes of the cluster; the guests use {figure(median(samples.guest_us))} µs more. "
        f"{CONNECTIONS} connections, {'wrk' if load.has_wrk() else 'generator of our own'}"
    )
    return Row(
        "P4", "processor time of a warm HTTP invoke, 300 B; beside it a grpc.aio echo's server", value, "µs", beside,
        times, "≤ 100 µs, ≤ 0.5 ×", value <= 100 and times <= 0.5, note,
    )  # fmt: skip


def _rate(
    name: str, what: str, rates: list[float], samples: Samples, least: float,
    under_way: str = f"{CONNECTIONS} in flight on each side", used: Sequence[float] = (),
) -> Row:  # fmt: skip
    """`under_way`: how much at once. `used`: the platform's processor time for one, µs by round; empty: not told."""
    value, beside = median(rates), median(samples.echo_rate)
    times = ratio(value, beside)
    note = f"load generator on the same cores, {under_way}"
    if used:
        note += f"; the platform uses {figure(median(used))} µs of processor time a call"
    return Row(
        name, f"{what}; beside it a grpc.aio echo", value, "/s", beside, times, f"≥ {least:g} ×", times >= least, note
    )


def _p6(samples: Samples) -> Row:
    value, beside = median(samples.latency), median(samples.unix)
    times, half = ratio(value, beside), median(samples.half_tail)
    note = (
        f"client on one core, all that answers on another, both sides; p99 {figure(median(samples.tail))} µs with one "
        f"in flight, {figure(half)} µs at an even {figure(median(samples.half_rate))} a second (open loop), half of what "
        "that core takes"
    )
    return Row(
        "P6", "latency of a warm HTTP invoke, one in flight, p50; beside it a Unix-socket echo", value, "µs", beside,
        times, "≤ 3 ×, p99 ≤ 1 ms at half load", times <= 3.0 and half <= 1000, note,
    )  # fmt: skip
