"""P12: what an idle warm environment keeps of the machine's memory, beside an idle bare interpreter."""

from __future__ import annotations

import asyncio
import gc
import subprocess

from tests.bench.local_worker import INTERPRETER, local_worker
from tests.bench.machine import available_kib
from tests.bench.table import Row, Say, figure, median, ratio

SOURCE = """
import gc

count = 0


def handler(event, context):
    global count
    count += 1
    if count == 16:
        gc.collect()
    return {"count": count, "event": event}
"""
_INVOKES = 16
_INTERVAL = 0.2  # s
_PATIENCE, _AT_REST = 40, 5  # samples
_REST_KIB = 2048.0
_IDLE = "import sys; print(flush=True); sys.stdin.read()"


async def _settled() -> float:
    """MemAvailable once it has come to rest, or after some seconds on a machine that never does."""
    seen: list[float] = []
    for _ in range(_PATIENCE):
        await asyncio.sleep(_INTERVAL)
        seen.append(float(available_kib()))
        if len(seen) >= _AT_REST and max(seen[-_AT_REST:]) - min(seen[-_AT_REST:]) < _REST_KIB:
            break
    return median(seen[-_AT_REST:])


def _used(before: float, loaded: float, after: float, count: int) -> float:
    """KiB each, by the fall and the rise: what others took or gave back meanwhile counts half."""
    return ((before + after) / 2 - loaded) / count


async def _ours(count: int) -> tuple[float, str]:
    async with local_worker(SOURCE) as worker:
        for _ in range(8):
            await worker.invoke(await worker.start())
        gc.collect()
        await worker.rested()
        before = await _settled()
        made = [await worker.start() for _ in range(count)]
        for environment in made:
            for _ in range(_INVOKES):
                await worker.invoke(environment, b'{"key": "value"}')
        await worker.rested()
        loaded = await _settled()
        for environment in made:
            worker.stop(environment)
        return _used(before, loaded, await _settled(), count), worker.pool.level


def _start_idle() -> subprocess.Popen[bytes]:
    command = [str(INTERPRETER), "-I", "-S", "-c", _IDLE]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


async def _bare(count: int) -> float:
    processes: list[subprocess.Popen[bytes]] = []
    before = await _settled()
    try:
        processes += [_start_idle() for _ in range(count)]
        for process in processes:
            assert process.stdout is not None
            process.stdout.read(1)
        loaded = await _settled()
    finally:
        for process in processes:
            process.communicate()
    return _used(before, loaded, await _settled(), count)


async def measure(rounds: int, quick: bool, say: Say) -> list[Row]:
    """The same method for both sides, in turns."""
    count = 60 if quick else 200
    ours: list[float] = []
    bare: list[float] = []
    level = ""
    for number in range(max(3, min(rounds, 5))):
        say(f"P12 round {number + 1}")
        used, level = await _ours(count)
        ours.append(used)
        bare.append(await _bare(count))
    value, beside = median(ours), median(bare)
    density = 1024 * 1024 / value
    times = ratio(value, beside)
    note = (
        f"{count} environments of isolation {level}, {_INVOKES} invokes and one gc.collect() each, kernel memory "
        f"included: {figure(density)} per GiB; rounds from {figure(min(ours))} to {figure(max(ours))} KiB"
    )
    return [
        Row(
            "P12", "memory of an idle warm environment; beside it an idle `python3 -I -S`", value, "KiB", beside, times,
            "≤ 0.5 ×, ≥ 500 per GiB", times <= 0.5 and density >= 500, note,
        )
    ]  # fmt: skip
