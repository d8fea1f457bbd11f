"""P16 and P19: how fast environments come, a thousand provisioned ones on a real worker, and as many as a scheduler can
order from workers that are only played."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from lambent.infra import rpc
from lambent.infra.layout import layout
from lambent.internal.v1 import lease_service_pb2 as leases
from lambent.internal.v1 import lease_service_pb2_grpc as leases_grpc
from lambent.internal.v1 import worker_service_pb2 as workers
from lambent.internal.v1 import worker_service_pb2_grpc as workers_grpc
from lambent.local.children import start_service
from tests.bench.baselines import METHOD, bare_start, grpc_echo
from tests.bench.load import EVENT, grpc_load, http_latencies, sign
from tests.bench.local_worker import timer
from tests.bench.machine import cores, descendants
from tests.bench.table import Row, Say, figure, median, percentile, ratio
from tests.e2e.harness import KEY, SECRET, Cluster, zipped

IDS = frozenset({"P16", "P19"})
SOURCE = zipped({"app.py": "def handler(event, context):\n    return 1\n"})
PROVISIONED = 1000
_READY_S, _TIMES = 4.0, 2.0
# Between two of the invocations that are served meanwhile, seconds.
_PAUSE = 0.01
_NEEDED = 2500
WORKERS, IN_FLIGHT = 4, 512


async def measure(wanted: set[str], rounds: int, quick: bool, say: Say) -> list[Row]:
    """Each with processes of its own."""
    rows: list[Row] = []
    if "P16" in wanted:
        rows.append(await asyncio.to_thread(_provisioned, rounds, quick, say))
    if "P19" in wanted:
        rows.append(await _ordered(rounds, 2_000 if quick else 10_000, say))
    return rows


# P16


@contextmanager
def _roomy() -> Iterator[Cluster]:
    """A cluster whose limits do not stand in the way."""
    with tempfile.TemporaryDirectory(prefix="lb-", dir="/tmp") as name:
        cluster = Cluster(
            Path(name) / "data", "--no-examples", LAMBENT_SCHEDULING_RAMP="none",
            LAMBENT_LIMITS_CONCURRENT_EXECUTIONS="3000", LAMBENT_WORKER_MEMORY_MB="400000",
            LAMBENT_WORKER_ENVIRONMENTS="1200",
        )  # fmt: skip
        try:
            yield cluster.start()
        finally:
            cluster.stop()


def _provisioned(rounds: int, quick: bool, say: Say) -> Row:
    wanted = PROVISIONED // 10 if quick else PROVISIONED
    times: list[float] = []
    bare: list[float] = []
    before: list[float] = []
    meanwhile: list[float] = []
    with _roomy() as cluster:
        client = cluster.client()
        for function in ("steady", "many"):
            cluster.create(function, SOURCE, MemorySize=1024 if function == "steady" else 128)
        client.publish_version(FunctionName="many")
        signed = sign(cluster.http, "steady", KEY, SECRET)
        http_latencies(signed, 200)
        for number in range(rounds):
            say(f"P16 round {number + 1}")
            before += http_latencies(signed, 300, _PAUSE)
            bare += [bare_start() for _ in range(5)]
            began = timer()
            client.put_provisioned_concurrency_config(
                FunctionName="many", Qualifier="1", ProvisionedConcurrentExecutions=wanted
            )
            status = ""
            while status != "READY":
                meanwhile += http_latencies(signed, 10, _PAUSE)
                found = client.get_provisioned_concurrency_config(FunctionName="many", Qualifier="1")
                status = found["Status"]
                if status == "FAILED":
                    raise RuntimeError(found["StatusReason"])
            times.append(timer() - began)
            client.delete_provisioned_concurrency_config(FunctionName="many", Qualifier="1")
            _settled(cluster)
            signed = sign(cluster.http, "steady", KEY, SECRET)
    value, slowest = median(times), percentile(meanwhile, 0.99) / percentile(before, 0.99)
    beside = median(bare) * wanted / len(cores())
    note = (
        f"one worker; p99 of another function's invocations {figure(percentile(meanwhile, 0.99) / 1000)} ms meanwhile, "
        f"{figure(percentile(before, 0.99) / 1000)} ms before: {figure(slowest)} times"
    )
    return Row(
        "P16", f"{wanted:,} provisioned environments from none to READY; beside it as many `python3 -I -S -c pass`",
        value, "s", beside, ratio(value, beside), "≤ 4 s, p99 < 2 × meanwhile", value <= _READY_S and slowest < _TIMES,
        note,
    )  # fmt: skip


def _settled(cluster: Cluster) -> None:
    """Wait until the environments of the round are gone."""
    assert cluster.process is not None
    for _ in range(400):
        if len(descendants(cluster.process.pid)) < PROVISIONED // 10:
            return
        time.sleep(0.05)


# P19


@asynccontextmanager
async def _scheduler(folder: Path) -> AsyncIterator[tuple[str, str]]:
    """A scheduler's process; answers its address and the cluster's token."""
    here = layout(str(folder / "data"))
    here.make()
    settings = folder / "settings.toml"
    settings.write_text(
        f'data = "{here.data}"\n[scheduling]\nramp = "none"\n[limits]\nconcurrent_executions = 1000000\n'
        "requests_per_execution = 1000.0\n[timing]\nrebuild_seconds = 0.0\n"
    )
    child = await start_service("scheduler", settings, folder / "scheduler.log")
    try:
        yield here.scheduler_addresses(1), here.cluster_token()
    finally:
        await child.stop(5.0)


async def _play_worker(address: str, token: str, number: int, ready: asyncio.Event) -> None:
    """A worker whose environments are there as soon as they are ordered."""
    async with rpc.channel(address) as channel:
        call = workers_grpc.WorkerServiceStub(channel).Attach(metadata=(("authorization", f"Bearer {token}"),))
        hello = workers.WorkerHello(
            worker_id=f"w{number}", address="unix:w", memory_mb=10**9, environments=10**6, isolation="none"
        )
        await call.write(workers.WorkerEvents(events=[workers.WorkerEvent(hello=hello)]))
        slots = itertools.count(1)
        beats = asyncio.create_task(_beat(call, workers.WorkerEvents()), name="beats")
        try:
            async for batch in call:
                events = []
                for instruction in batch.instructions:
                    match instruction.WhichOneof("instruction"):
                        case "welcome":
                            ready.set()
                        case "start":
                            here = instruction.start.environment_id
                            event = workers.EnvironmentReady(environment_id=here, slot=next(slots))
                            events.append(workers.WorkerEvent(ready=event))
                        case "stop":
                            gone = workers.EnvironmentGone(
                                environment_id=instruction.stop.environment_id, reason="Stopped"
                            )
                            events.append(workers.WorkerEvent(gone=gone))
                if events:
                    await call.write(workers.WorkerEvents(events=events))
        finally:
            beats.cancel()


async def _beat(call: Any, nothing: object) -> None:
    """Silence would mean that the peer is lost."""
    while True:
        await asyncio.sleep(0.3)
        await call.write(nothing)


async def _order(address: str, token: str, count: int, names: Iterator[int]) -> float:
    """A caller that wants `count` environments, each of another function; answers environments a second."""
    async with rpc.channel(address) as channel:
        call = leases_grpc.LeaseServiceStub(channel).Hold(metadata=(("authorization", f"Bearer {token}"),))
        hello = leases.CallerHello(caller_id=f"c{next(names)}")
        await call.write(leases.CallerEvents(events=[leases.CallerEvent(hello=hello)]))
        asked = granted = 0
        began = timer()

        def wanted(most: int) -> list[leases.CallerEvent]:
            nonlocal asked
            events = []
            for _ in range(min(most, count - asked)):
                asked, name = asked + 1, f"f{next(names)}"
                need = leases.Need(
                    account="1" * 12, region="r", function_name=name, version="$LATEST", deployment_id=name,
                    generation=1, memory_mb=128,
                )  # fmt: skip
                acquire = leases.Acquire(ticket=asked, request_id="r", need=need, deployment=b"x" * 300)
                events.append(leases.CallerEvent(acquire=acquire))
            return events

        async for batch in call:
            events = []
            for event in batch.events:
                match event.WhichOneof("event"):
                    case "welcome":
                        events += wanted(IN_FLIGHT)
                    case "granted":
                        granted += 1
                        given = leases.ReleaseLease(lease_id=event.granted.lease_id, reusable=False)
                        events.append(leases.CallerEvent(release=given))
                        events += wanted(1)
                    case "refused":
                        raise RuntimeError(event.refused.reason)
            if granted == count:
                return count / (timer() - began)
            if events:
                await call.write(leases.CallerEvents(events=events))
    raise RuntimeError("the scheduler hung up")


async def _ordered(rounds: int, count: int, say: Say) -> Row:
    rates: list[float] = []
    echoes: list[float] = []
    names = itertools.count()
    with tempfile.TemporaryDirectory(prefix="lb-", dir="/tmp") as name, grpc_echo(Path(name)) as echo:
        async with _scheduler(Path(name)) as (address, token):
            attached = [asyncio.Event() for _ in range(WORKERS)]
            played = [
                asyncio.create_task(_play_worker(address, token, number, ready), name=f"worker {number}")
                for number, ready in enumerate(attached)
            ]
            try:
                await asyncio.gather(*(ready.wait() for ready in attached))
                await _order(address, token, count // 4, names)
                for number in range(rounds):
                    say(f"P19 round {number + 1}")
                    rates.append(await _order(address, token, count, names))
                    echoes.append((await grpc_load(echo.address, METHOD, EVENT, 2.0)).rate)
            finally:
                for task in played:
                    task.cancel()
                await asyncio.gather(*played, return_exceptions=True)
    value, beside = median(rates), median(echoes)
    return Row(
        "P19", "environments ordered and granted a second through the real scheduler; beside it a grpc.aio echo", value,
        "/s", beside, ratio(value, beside), f"≥ {_NEEDED:,}/s", value >= _NEEDED,
        f"{WORKERS} played workers and a played caller on the same cores, {IN_FLIGHT} in flight, each of a function of "
        "its own: four messages over two streams for each",
    )  # fmt: skip
