"""P14: memory that waits for work, under break-even keep-alive and under a fixed ten minutes.

Both live through the same generated day on virtual time. No clock is read: the figures are the same on every machine.
"""

from __future__ import annotations

from lambent.infra.config import load
from services.scheduler.simulator.wiring import generate, simulate, variants
from tests.bench.table import Row, Say, ratio

_SETTINGS = (
    "fixed:keep_alive_seconds=600",
    "break-even:keep_alive_policy=break-even",
)
_MOST = 0.6
_SEED = 1


async def measure(quick: bool, say: Say) -> list[Row]:
    """One day of 1,000 functions, or some hours of a few."""
    functions, hours = (100, 8.0) if quick else (1000, 24.0)
    trace = generate(functions=functions, hours=hours, per_day=None, seed=_SEED)

    def progress(done: float, seconds: float) -> None:
        if done % 14_400 == 0:
            say(f"P14 hour {done / 3600:.0f} of {seconds / 3600:.0f}")

    report = simulate(trace, variants(_SETTINGS, load(None, {}, {})), hours=None, seed=_SEED, progress=progress)
    fixed, ours = report.figures
    share = ratio(ours.warm_to_busy, fixed.warm_to_busy)
    return [
        Row(
            "P14",
            "memory-time of idle environments over that of busy ones, break-even; beside it a fixed ten minutes",
            ours.warm_to_busy, "×", fixed.warm_to_busy, share, f"≤ {_MOST} × at no more cold starts",
            share <= _MOST and ours.cold <= fixed.cold,
            f"{report.heading}; cold starts {ours.cold:,}, beside it {fixed.cold:,}; on virtual time, the same everywhere",
        )
    ]  # fmt: skip
