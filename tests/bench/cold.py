"""P1: a cold start through the worker's own code, from the order to the first response."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from tests.bench.baselines import awslambdaric_start, bare_start
from tests.bench.local_worker import LocalWorker, local_worker, timer
from tests.bench.table import Row, Say, figure, median, percentile, ratio

SOURCE = 'import json\n\n\ndef handler(event, context):\n    return {"ok": True, "event": event}\n'
_P99_MS = 12.0


async def _cold(worker: LocalWorker) -> float:
    began = timer()
    environment = await worker.start()
    await worker.invoke(environment, b'{"key": "value"}')
    elapsed = timer() - began
    worker.stop(environment)
    await asyncio.sleep(0.015)  # what ends, and what is made in advance for the next one, is not this one's
    return elapsed * 1000


async def measure(rounds: int, quick: bool, say: Say) -> list[Row]:
    """Interleaved: some cold starts, some bare starts, one of awslambdaric, and again."""
    ours: list[float] = []
    bare: list[float] = []
    peers: list[float] = []
    middles: list[float] = []
    each = 30 if quick else 80
    with tempfile.TemporaryDirectory(prefix="lb-") as name:
        folder = Path(name)
        (folder / "app.py").write_text(SOURCE)
        async with local_worker(SOURCE) as worker:
            for _ in range(10):
                await _cold(worker)
            bare_start(), awslambdaric_start(folder)
            for number in range(rounds):
                say(f"P1 round {number + 1}")
                mine = [await _cold(worker) for _ in range(each)]
                ours += mine
                middles.append(median(mine))
                for _ in range(8):
                    bare.append(bare_start() * 1000)
                    await asyncio.sleep(0)
                peers += [awslambdaric_start(folder) * 1000 for _ in range(2)]
            level = worker.pool.level
    value, beside, peer, slowest = median(middles), median(bare), median(peers), percentile(ours, 0.99)
    times = ratio(value, beside)
    met = times <= 0.5 and value <= peer / 15 and slowest <= _P99_MS
    note = (
        f"p99 {figure(slowest)} ms of {len(ours)} starts, isolation {level}; awslambdaric needs {figure(peer)} ms, "
        f"{figure(peer / value)} times as long"
    )
    return [
        Row(
            "P1", "cold start to first response, p50; beside it `python3 -I -S -c pass`", value, "ms", beside, times,
            "≤ 0.5 ×, ≤ 1/15 of awslambdaric, p99 ≤ 12 ms", met, note,
        )
    ]  # fmt: skip
