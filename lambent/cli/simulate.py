"""`lambent simulate`: what settings would have done, on a trace and on virtual time."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Any

import click

from lambent.cli.connection import fail, settings
from lambent.cli.output import output_option, print_json, print_table
from lambent.entry import load

SIMULATOR = "services.scheduler.simulator.wiring"
_file = click.Path(path_type=Path)


@click.command("simulate")
@click.option(
    "--setting", "texts", multiple=True, metavar="NAME:SETTING=VALUE,...",
    help="One side of the comparison: a name, and settings by the names that `lambent config` shows (groups "
    "scheduling, timing, limits, worker), or workers, callers, start_seconds, price_busy, price_warm. As often as "
    "there are sides.  "
    "[default: fixed, break-even and hybrid-histogram, each by its name]",
)  # fmt: skip
@click.option(
    "--functions", type=click.IntRange(min=1), help="Functions; the first of a trace.  [default: 1000; a trace's all]"
)
@click.option(
    "--hours", type=click.FloatRange(min=0, min_open=True), help="Length.  [default: 24; the whole of a trace]"
)
@click.option(
    "--invocations-per-day", "per_day", type=click.FloatRange(min=0, min_open=True),
    help="Of all generated functions together, about.  [default: 500 times the functions]",
)  # fmt: skip
@click.option("--seed", type=int, default=1, show_default=True, help="Of everything that is drawn.")
@click.option(
    "--trace", type=_file, metavar="FILE",
    help="Replay this instead of generating one: Azure Functions 2019 (invocations per function) or 2021.",
)  # fmt: skip
@click.option("--durations", type=_file, metavar="FILE", help="Execution times of a trace of 2019.  [default: drawn]")
@click.option("--memory", type=_file, metavar="FILE", help="Memory of a trace of 2019.  [default: drawn]")
@click.option(
    "--arrivals", type=click.Choice(["exponential", "uniform", "equidistant"]), default="exponential",
    show_default=True, help="How a trace of 2019's invocations lie within their minute.",
)  # fmt: skip
@click.option("--plot", type=_file, metavar="FILE", help="Draw the comparison: FILE.svg or FILE.png.")
@output_option
def command(
    texts: tuple[str, ...], functions: int | None, hours: float | None, per_day: float | None, seed: int,
    trace: Path | None, durations: Path | None, memory: Path | None, arrivals: str, plot: Path | None, output: str,
) -> None:  # fmt: skip
    """Run the scheduler on virtual time over a trace, once for each setting, and compare cold starts, throttles,
    memory, added latency and cost.

    Without --trace a trace is generated. No cluster is needed; settings start from those in force here.
    """
    if plot is not None and plot.suffix not in (".svg", ".png"):
        raise click.UsageError(f"--plot {plot}: the name must end in .svg or .png")
    for flag, given in (("--durations", durations), ("--memory", memory)):
        if given is not None and trace is None:
            raise click.UsageError(f"{flag} belongs to --trace")
    if trace is not None and per_day is not None:
        raise click.UsageError("--invocations-per-day is for a generated trace; --trace says its own")
    # Nearly all that a simulation makes is gone by its reference counts.
    gc.set_threshold(200_000, 20, 20)
    simulator: Any = load(SIMULATOR)
    compared = simulator.variants(texts, settings())
    if trace is None:
        replayed = simulator.generate(
            functions=functions, hours=24.0 if hours is None else hours, per_day=per_day, seed=seed
        )
    else:
        replayed = simulator.read(
            trace, durations=durations, memory=memory, expansion=arrivals, functions=functions, seed=seed
        )
    report = simulator.simulate(replayed, compared, hours=hours, seed=seed, progress=_progress())
    if output == "json":
        print_json(report.document())
    else:
        click.echo(f"{report.heading}\n")
        print_table(report.columns, report.rows())
        throttles = report.throttles()
        if throttles:
            click.echo()
            print_table(["SETTING", "THROTTLED FOR", "INVOCATIONS"], throttles)
    if plot is not None:
        picture = report.picture()
        try:
            plot.write_bytes(picture.svg() if plot.suffix == ".svg" else picture.png())
        except OSError as error:
            fail(f"cannot write {plot}: {error.strerror}")


def _progress() -> Any:
    """Shows the simulated hour on a terminal's standard error, and takes it away at the end."""
    shown = -1

    def show(done: float, seconds: float) -> None:
        nonlocal shown
        hour = int(done / 3600)
        if done >= seconds:
            sys.stderr.write("\r\033[K")
        elif hour != shown:
            sys.stderr.write(f"\rsimulating: hour {hour + 1} of {seconds / 3600:g}\033[K")
        shown = hour
        sys.stderr.flush()

    return show if sys.stderr.isatty() else lambda done, seconds: None
