"""P10, P11: accepting events beside a bare XADD, their way to the handler, draining a backlog, memory, depth."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import redis.asyncio as stock

from lambent.domain.names import Tenant
from lambent.infra.clock import SystemClock
from lambent.infra.queue.port import Item
from lambent.infra.queue.records import Event, encode
from lambent.infra.queue.redis_queue import RedisQueue
from lambent.infra.redis_client import connect
from lambent.infra.sigv4_signing import Signer
from tests.bench.load import CONNECTIONS, Signed, answer_size, http_load, sign
from tests.bench.table import Row, Say, figure, median, percentile, ratio
from tests.e2e.harness import KEY, SECRET, Cluster, zipped

IDS = frozenset({"P10", "P10-depth", "P10-memory", "P11", "P11-depth", "P11-drain"})
BODY = json.dumps({"x": "y" * 1015}).encode()
assert len(BODY) == 1024
TENANT = Tenant("000000000000", "us-east-1")
# Events a second of P11, and of a second look that leaves the machine room.
_RATE, _QUIET = 2_000, 500
_FUNCTION, _OTHER = "bench", "other"
# Executions that the function with the deep queue may use for P11-depth, and for how long each of its events runs.
_RESERVED, _SLEEP = 4, b'{"s": 0.5}'
# Tells over UDP how long an event that says when it was sent took to its handler.
SOURCE = """
import socket, time
there = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
def handler(event, context):
    if "s" in event:
        time.sleep(event["s"])
    if "t" in event:
        there.sendto(repr(time.time() - event["t"]).encode(), ("127.0.0.1", event["port"]))
"""


@dataclass(slots=True)
class _Samples:
    accepts: list[float] = field(default_factory=list)  # a second
    always: list[float] = field(default_factory=list)  # the same, with appendfsync always
    xadds: list[float] = field(default_factory=list)
    shallow: list[float] = field(default_factory=list)
    deep: list[float] = field(default_factory=list)
    drained: list[float] = field(default_factory=list)
    direct: list[float] = field(default_factory=list)


class _Bench:
    """A cluster with one function, and its store."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder
        self.url = f"unix://{cluster.data}/run/redis.sock"
        self.redis = connect(self.url)
        self.queue = RedisQueue(self.redis, SystemClock(), "bench", dead_seconds=1, dead_items=1)

    async def lambent(self, *arguments: str) -> None:
        done = await asyncio.to_thread(self.cluster.lambent, *arguments)
        assert done.returncode == 0, done.stderr

    async def empty(self) -> None:
        await self.lambent("queue", "purge", _FUNCTION, "--state", "waiting", "--yes")

    async def settled(self) -> None:
        """Wait until the store has rewritten its append-only file, if filling the queue made it do that."""
        while True:
            found = await self.redis.info("persistence")
            if not any(
                found[key] for key in ("aof_rewrite_in_progress", "aof_rewrite_scheduled", "aof_pending_bio_fsync")
            ):
                return
            await asyncio.sleep(0.5)

    async def reserve(self, executions: int | None) -> None:
        """Bound what the function uses; None: no more."""
        client = self.cluster.client()
        if executions is None:
            await asyncio.to_thread(client.delete_function_concurrency, FunctionName=_FUNCTION)
        else:
            await asyncio.to_thread(
                client.put_function_concurrency, FunctionName=_FUNCTION, ReservedConcurrentExecutions=executions
            )

    async def accepts(self, seconds: float, function: str = _FUNCTION) -> float:
        """Events accepted a second, from 16 connections; the queue is paused and emptied afterwards by the caller."""
        signed = sign(self.cluster.http, function, KEY, SECRET, BODY, "Event")
        return (await http_load(signed, seconds, self.folder)).rate

    async def xadds(self, seconds: float) -> float:
        """Beside it: the stock client's XADD of as many bytes, 16 in flight."""
        client = stock.Redis.from_url(self.url)
        counts = [0] * CONNECTIONS
        ends = time.perf_counter() + seconds

        async def add(number: int) -> None:
            while time.perf_counter() < ends:
                await client.xadd("bench", {"body": BODY})
                counts[number] += 1

        await asyncio.gather(*(add(number) for number in range(CONNECTIONS)))
        await client.delete("bench")
        await client.aclose()
        return sum(counts) / seconds

    async def fill(self, count: int, body: bytes, function: str = _FUNCTION) -> None:
        """Put so many events into the queue, past the doors."""
        await self.queue.synchronize()
        for start in range(0, count, 1000):
            now = self.queue.now()
            value = encode(Event(now, None, "Root=1-00000000-000000000000000000000000;Sampled=0"), body)
            items = [Item(function, f"{start + each:036d}", value) for each in range(min(1000, count - start))]
            await self.queue.append(TENANT, items, now)

    async def waiting(self) -> int:
        """Events in the queue, in whatever place."""
        key = f"lambent:{TENANT.tag}:async:{_FUNCTION}:values"
        return int(await cast(Any, self.redis.hlen(key)))

    async def memory(self) -> int:
        return int((await self.redis.info("memory"))["used_memory"])


class _Ages(asyncio.DatagramProtocol):
    """What handlers tell, in seconds."""

    def __init__(self) -> None:
        self.ages: list[float] = []

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.ages.append(float(data))


async def _dwell(
    bench: _Bench, seconds: float, rate: int = _RATE, function: str = _FUNCTION
) -> tuple[int, list[float]]:
    """Send events at an even rate whatever the answers do; how many were accepted, and their ages at the handler."""
    loop = asyncio.get_running_loop()
    transport, ages = await loop.create_datagram_endpoint(_Ages, local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    host, _, http = bench.cluster.http.rpartition(":")
    signer = Signer(KEY, SECRET, "us-east-1", "lambda")
    path = f"/2015-03-31/functions/{function}/invocations"
    work: asyncio.Queue[bool] = asyncio.Queue()
    accepted = 0

    async def send() -> None:
        nonlocal accepted
        reader, writer = await asyncio.open_connection(host, int(http))
        while await work.get():
            now = time.time()
            body = json.dumps({"t": now, "port": port, "x": "y" * 960}).encode()
            headers = {"host": bench.cluster.http, "x-amz-invocation-type": "Event"}
            signed = signer.sign("POST", path, headers, body, now)
            lines = tuple((name, value) for name, value in signed.items() if name != "host")
            writer.write(Signed(bench.cluster.http, path, lines, body).raw())
            data = b""
            while (size := answer_size(data)) is None or len(data) < size:
                data += await reader.read(65536)
            accepted += data.startswith(b"HTTP/1.1 202")
        writer.close()

    senders = [asyncio.ensure_future(send()) for _ in range(CONNECTIONS)]
    began = time.perf_counter()
    for number in range(int(rate * seconds)):
        wait = began + number / rate - time.perf_counter()
        if wait > 0.001:
            await asyncio.sleep(wait)
        work.put_nowait(True)
    for _ in senders:
        work.put_nowait(False)
    await asyncio.gather(*senders)
    for _ in range(200):
        if len(ages.ages) >= accepted:
            break
        await asyncio.sleep(0.05)
    transport.close()
    return accepted, ages.ages


async def _drain(bench: _Bench, count: int) -> float:
    """Events of a backlog run a second."""
    await bench.lambent("queue", "pause", _FUNCTION)
    await bench.fill(count, b'{"n": 1}')
    await bench.lambent("queue", "resume", _FUNCTION)
    left = first = await bench.waiting()
    began = time.perf_counter()
    while left:
        await asyncio.sleep(0.05)
        left = await bench.waiting()
    return first / (time.perf_counter() - began)


async def measure(wanted: set[str], rounds: int, quick: bool, say: Say) -> list[Row]:
    """Every side once a round."""
    seconds = 2.0 if quick else 4.0
    samples, rows = _Samples(), list[Row]()
    with tempfile.TemporaryDirectory(prefix="lb-", dir="/tmp") as name:
        folder = Path(name)
        cluster = Cluster(folder / "data", "--no-examples")
        await asyncio.to_thread(cluster.start)
        try:
            package = zipped({"app.py": SOURCE})
            await asyncio.to_thread(cluster.create, _FUNCTION, package, MemorySize=1024, Timeout=30)
            bench = _Bench(cluster, folder)
            if wanted & {"P10-depth", "P11-depth"}:
                await asyncio.to_thread(cluster.create, _OTHER, package, MemorySize=1024, Timeout=30)
            if "P11-depth" in wanted:
                rows += await _beside(bench, rounds, quick, seconds, say)
            if wanted & {"P11", "P11-drain"}:
                rows += await _running(bench, wanted, rounds, quick, seconds, samples, say)
            if wanted & {"P10", "P10-depth", "P10-memory"}:
                await bench.lambent("queue", "pause", _FUNCTION)
                rows = await _accepting(bench, wanted, rounds, quick, seconds, samples, say) + rows
            await bench.redis.aclose()
        finally:
            await asyncio.to_thread(cluster.stop)
    return rows


async def _accepting(
    bench: _Bench, wanted: set[str], rounds: int, quick: bool, seconds: float, samples: _Samples, say: Say
) -> list[Row]:
    rows = []
    if "P10-memory" in wanted:
        await bench.fill(1, BODY)  # buffers that stay
        before, count = await bench.memory(), 20_000
        await bench.fill(count, BODY)
        value = (await bench.memory() - before) / count - len(BODY)
        rows.append(Row("P10-memory", "memory of the store for a waiting event, beyond its payload of 1 KiB", value, "B",
                        None, None, "–", True))  # fmt: skip
        await bench.empty()
    if "P10" in wanted:
        for number in range(rounds):
            say(f"P10 round {number + 1}")
            for fsync, into in (("everysec", samples.accepts), ("always", samples.always)):
                await bench.redis.config_set("appendfsync", fsync)
                into.append(await bench.accepts(seconds))
                await bench.empty()
            await bench.redis.config_set("appendfsync", "everysec")
            samples.xadds.append(await bench.xadds(seconds))
        value, beside = median(samples.accepts), median(samples.xadds)
        note = f"with appendfsync always {figure(median(samples.always))} /s; {CONNECTIONS} in flight on each side"
        rows.append(
            Row("P10", "events of 1 KiB accepted a second, REST, fsync every second; beside it the stock client's XADD",
                value, "/s", beside, ratio(value, beside), "≥ 1 ×", value >= beside, note)
        )  # fmt: skip
    if "P10-depth" in wanted:
        depth = 100_000 if quick else 1_000_000
        await bench.lambent("queue", "pause", _OTHER)
        say(f"P10-depth: queueing {depth:,}")
        await bench.fill(depth, b"{}")
        await bench.fill(100, b"{}", _OTHER)
        await bench.settled()
        for number in range(rounds):
            say(f"P10-depth round {number + 1}")
            samples.shallow.append(await bench.accepts(seconds, _OTHER))
            samples.deep.append(await bench.accepts(seconds))
        await bench.empty()
        value, beside = median(samples.deep), median(samples.shallow)
        times = ratio(value, beside)
        rows.append(Row("P10-depth", f"events accepted a second with {depth:,} waiting; beside it with 100", value, "/s",
                        beside, times, "≥ 0.9 ×", times >= 0.9))  # fmt: skip
    return rows


async def _beside(bench: _Bench, rounds: int, quick: bool, seconds: float, say: Say) -> list[Row]:
    """How long one function's events take while another's queue is deep, and its few executions are all in use."""
    depth = 100_000 if quick else 1_000_000
    ages: dict[int, list[float]] = {100: [], depth: []}
    await _dwell(bench, 1.0, 50, _OTHER)  # brings up environments
    await bench.reserve(_RESERVED)
    note = ""
    for count, into in ages.items():
        say(f"P11-depth {count:,} waiting")
        await bench.lambent("queue", "pause", _FUNCTION)
        before = await bench.memory()
        await bench.fill(count, _SLEEP)
        note = f"{figure((await bench.memory() - before) / count)} B of the store for each of {count:,} events of {len(_SLEEP)} B"
        await bench.lambent("queue", "resume", _FUNCTION)
        await asyncio.sleep(2.0)  # until its window is found
        for _ in range(rounds):
            into += (await _dwell(bench, seconds, 50, _OTHER))[1]
        await bench.empty()
    await bench.reserve(None)
    shallow, deep = (percentile(each, 0.5) * 1000 for each in ages.values())
    tails = ", ".join(figure(percentile(each, 0.99) * 1000) for each in ages.values())
    return [
        Row("P11-depth", f"an event's way to its handler with {depth:,} of another function waiting, p50; beside it with 100",
            deep, "ms", shallow, ratio(deep, shallow), "≤ 1.25 ×", deep <= 1.25 * shallow, f"p99 {tails} ms; {note}")
    ]  # fmt: skip


async def _running(
    bench: _Bench, wanted: set[str], rounds: int, quick: bool, seconds: float, samples: _Samples, say: Say
) -> list[Row]:
    rows = []
    if "P11" in wanted:
        await _dwell(bench, 1.0, _QUIET)  # brings up environments
        ages, quiet, accepted, told = list[float](), list[float](), 0, 0
        for number in range(rounds):
            say(f"P11 round {number + 1}")
            for rate, into in ((_QUIET, quiet), (_RATE, ages)):
                count, these = await _dwell(bench, seconds, rate)
                into += these
                accepted, told = accepted + count, told + len(these)
        value, tail = percentile(ages, 0.5) * 1000, percentile(ages, 0.99) * 1000
        note = (
            f"p99 {figure(tail)} ms; at {_QUIET} a second {figure(percentile(quiet, 0.5) * 1000)} ms, p99 "
            f"{figure(percentile(quiet, 0.99) * 1000)} ms; {accepted:,} accepted, {told:,} handlers told. From before "
            "signing to the handler; generator, cluster and functions on the same cores"
        )
        rows.append(Row("P11", f"an event's way to its handler at {_RATE:,} a second, open loop, p50", value, "ms", None,
                        None, "≤ 2 ms, p99 ≤ 10 ms", value <= 2 and tail <= 10, note))  # fmt: skip
    if "P11-drain" in wanted:
        count = 20_000 if quick else 100_000
        signed = sign(bench.cluster.http, _FUNCTION, KEY, SECRET, b'{"n": 1}')
        for number in range(min(rounds, 3)):
            say(f"P11-drain round {number + 1}")
            samples.direct.append((await http_load(signed, seconds, bench.folder)).rate)
            samples.drained.append(await _drain(bench, count))
        value, beside = median(samples.drained), median(samples.direct)
        times = ratio(value, beside)
        rows.append(Row("P11-drain", f"a backlog of {count:,} events, run a second; beside it the function invoked directly",
                        value, "/s", beside, times, "≥ 0.7 ×", times >= 0.7))  # fmt: skip
    return rows
