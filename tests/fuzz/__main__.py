"""`python -m tests.fuzz --seconds 600`: a cluster of its own, malformed requests until the time is over.

Failures name seed and number; `--seed S --first N --count 1` sends that request again.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
import tempfile
from pathlib import Path

import click

from lambent.infra.clock import SystemClock
from tests.e2e.harness import KEY, SECRET, Cluster
from tests.fuzz.drive import SLOTS, Storm, aftermath, prepare, run
from tests.fuzz.generator import case
from tests.fuzz.requests import RestCase, World


async def _storm(cluster: Cluster, storm: Storm, first: int, count: int | None, seconds: float) -> float:
    clock = SystemClock()
    began, said = clock.monotonic(), clock.monotonic()

    def stop() -> bool:
        nonlocal said
        now = clock.monotonic()
        if now >= said + 10:
            said = now
            click.echo(f"{now - began:6.0f} s  {storm.count} requests, {len(storm.failures)} failures")
        return now >= began + seconds

    numbers = itertools.count(first) if count is None else iter(range(first, first + count))
    await run(cluster, storm, numbers, stop)
    return clock.monotonic() - began


@click.command()
@click.option("--seconds", type=float, default=600.0, show_default=True, help="How long.")
@click.option("--seed", type=int, default=None, help="Which requests; random when not given.")
@click.option("--first", type=int, default=0, show_default=True, help="Number of the first request.")
@click.option("--count", type=int, default=None, help="How many requests; as many as there is time for when not given.")
def main(seconds: float, seed: int | None, first: int, count: int | None) -> None:
    """Malformed requests against both doors of a cluster."""
    storm = Storm(random.SystemRandom().randrange(2**32) if seed is None else seed)
    click.echo(f"seed {storm.seed}")
    if count == 1:
        shown = case(storm.seed, first, World("127.0.0.1:9000", KEY, SECRET, SystemClock().epoch()))
        click.echo(f"{shown.what}\n{(shown.wire if isinstance(shown, RestCase) else repr(shown).encode())[:4000]!r}")
    with tempfile.TemporaryDirectory(prefix="lf-", dir="/tmp") as folder:
        cluster = Cluster(Path(folder) / "data", "--no-examples", LAMBENT_LIMITS_CONCURRENT_EXECUTIONS=str(SLOTS))
        cluster.start()
        try:
            prepare(cluster)
            took = asyncio.run(_storm(cluster, storm, first, count, seconds))
            aftermath(cluster, storm)
            logs = cluster.logs() if storm.failures else ""
        finally:
            cluster.stop()
    for outcome, times in sorted(storm.outcomes.items()):
        click.echo(f"{times:8}  {outcome}")
    click.echo(f"{storm.count} requests in {took:.0f} s ({storm.count / took:.0f}/s), {len(storm.failures)} failures")
    for failure in storm.failures:
        click.echo(f"FAILED {failure}", err=True)
    if storm.failures:
        click.echo(logs, err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
