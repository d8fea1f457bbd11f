"""The simulator's compose root: one trace, several clusters that live through it side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from lambent.infra.config import ConfigError, Loaded
from services.scheduler.simulator import azure
from services.scheduler.simulator.cluster import Cluster
from services.scheduler.simulator.generator import Generated
from services.scheduler.simulator.report import Report
from services.scheduler.simulator.settings import Variant, variant
from services.scheduler.simulator.trace import Trace
from services.scheduler.wiring import policies_of

# What a comparison is of, where nothing is said.
DEFAULTS = (
    "fixed",
    "break-even:keep_alive_policy=break-even",
    "hybrid-histogram:keep_alive_policy=hybrid-histogram",
)
FUNCTIONS = 1_000
DAILY = 500  # invocations of each function on average
Progress = Callable[[float, float], None]  # seconds that are done, of how many


def read(
    path: Path, *, durations: Path | None, memory: Path | None, expansion: str, functions: int | None, seed: int
) -> Trace:
    """A trace from files. Raises ConfigError."""
    return azure.read(path, durations=durations, memory=memory, expansion=expansion, most=functions, seed=seed)


def generate(*, functions: int | None, hours: float, per_day: float | None, seed: int) -> Trace:
    """A synthetic trace."""
    number = functions or FUNCTIONS
    return Generated(number, hours * 3600.0, per_day or number * DAILY, seed)


def variants(texts: Sequence[str], base: Loaded) -> list[Variant]:
    """What is to be compared. Raises ConfigError."""
    found = [variant(text, base) for text in texts or DEFAULTS]
    names = [one.name for one in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"--setting {twice}: there are two of this name")
    return found


def simulate(
    trace: Trace, compared: Sequence[Variant], *, hours: float | None, seed: int, progress: Progress
) -> Report:
    """Replay the trace, or its first hours, to a cluster for each variant."""
    seconds = trace.seconds if hours is None else min(trace.seconds, hours * 3600.0)
    clusters = [
        # A scheduler that begins has nobody to wait for.
        Cluster(one, dataclasses.replace(policies_of(one.settings), rebuild=0.0), (trace.functions, seconds, seed))
        for one in compared
    ]
    for number, arrivals in enumerate(trace.minutes()):
        if number * 60.0 >= seconds:
            break
        if arrivals and arrivals[-1][0] >= seconds:
            arrivals = [arrival for arrival in arrivals if arrival[0] < seconds]
        for cluster in clusters:
            cluster.replay(arrivals)
        progress(min(seconds, (number + 1) * 60.0), seconds)
    return Report(len(trace.functions), seconds, seed, [cluster.finish() for cluster in clusters])
