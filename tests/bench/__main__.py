"""`python -m tests.bench`: both sides of every ratio, measured in one run. Table on standard output, progress beside it.

--only P4,P5-http    some budgets
--rounds N           of each; medians are taken over them
--quick              shorter rounds, for a first look
--output json        JSON instead of the table
--faults [EVENTS]    measure nothing else: kill each process while 20,000 events are accepted, cut the store's power
--docs               measure nothing: put the table of the last run into docs/explanation/performance.md
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Awaitable, Callable

import uvloop

from tests.bench import cold, decisions, faults, keep_alive, leases, memory, queue, starts, warm
from tests.bench.table import JSON, PAGE, Row, Say, as_json, as_text, from_json, into_page, keep

IDS = (
    "P1", "P2", "P3", "P4", "P5-http", "P5-unary", "P5-stream", "P6", "P8", "P9-held", "P9-recall", "P10", "P10-depth",
    "P10-memory", "P11", "P11-depth", "P11-drain", "P12", "P14", "P16", "P19", "P20",
)  # fmt: skip
Measure = Callable[[int, bool, Say], Awaitable[list[Row]]]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def _measure(wanted: set[str], rounds: int, quick: bool) -> list[Row]:
    rows: list[Row] = []
    if wanted & cold.IDS:
        rows += await cold.measure(wanted, rounds, quick, _say)
    if wanted & warm.IDS:
        rows += await warm.measure(wanted, rounds, quick, _say)
    if "P8" in wanted:
        rows += await decisions.measure(rounds, quick, _say)
    if wanted & leases.IDS:
        rows += await leases.measure(wanted, rounds, quick, _say)
    if wanted & queue.IDS:
        rows += await queue.measure(wanted, rounds, quick, _say)
    if "P12" in wanted:
        rows += await memory.measure(rounds, quick, _say)
    if "P14" in wanted:
        rows += await keep_alive.measure(quick, _say)
    if wanted & starts.IDS:
        rows += await starts.measure(wanted, rounds, quick, _say)
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Parse, measure, print. The exit status says whether it could measure, not whether budgets are met."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure against the baselines.")
    parser.add_argument("--only", default=",".join(IDS), help=f"some of {','.join(IDS)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--output", choices=("table", "json"), default="table")
    parser.add_argument("--faults", type=int, nargs="?", const=faults.EVENTS, metavar="EVENTS", help="kill processes")
    parser.add_argument("--docs", action="store_true", help="fill the documentation's table from the last run")
    given = parser.parse_args(arguments)
    if given.docs:
        rows = from_json(JSON.read_text(encoding="utf-8"))
        PAGE.write_text(into_page(PAGE.read_text(encoding="utf-8"), rows), encoding="utf-8")
        return 0
    if given.faults is not None:
        uvloop.run(faults.measure(given.faults, _say))
        return 0
    wanted = {name.strip() for name in given.only.split(",")}
    if unknown := wanted - set(IDS):
        parser.error(f"no such budget: {', '.join(sorted(unknown))}; there are {', '.join(IDS)}")
    if given.rounds < 1:
        parser.error("--rounds must be at least 1")
    rows = uvloop.run(_measure(wanted, given.rounds, given.quick))
    keep(rows)
    print(as_json(rows) if given.output == "json" else as_text(rows), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
