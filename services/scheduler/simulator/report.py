"""The comparison: as rows for people, as a document for programs, as a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from services.scheduler.simulator.figures import Figures
from services.scheduler.simulator.plot import Picture, bars


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of a variant."""

    name: str  # in documents
    heading: str  # in the table; empty: it is not in it
    value: Callable[[Figures], float]
    form: str  # for people
    title: str = ""  # in the picture; empty: it is not in it


MEASURES: Sequence[Measure] = (
    Measure("invocations", "INVOCATIONS", lambda f: f.invocations, "{:,.0f}"),
    Measure("ran", "", lambda f: f.ran, "{:,.0f}"),
    Measure("coldStarts", "COLD", lambda f: f.cold, "{:,.0f}"),
    Measure("coldShare", "COLD %", lambda f: f.cold_share * 100, "{:.3g}", "cold starts, % of what ran"),
    Measure("environmentsStarted", "STARTED", lambda f: f.starts, "{:,.0f}"),
    Measure("environmentsStartedAhead", "AHEAD", lambda f: f.ahead, "{:,.0f}"),
    Measure("throttles", "THROTTLED", lambda f: f.throttled.total(), "{:,.0f}"),
    Measure("warmGigabyteSeconds", "WARM GB·s", lambda f: f.warm, "{:,.0f}", "warm memory-time, GB·s"),
    Measure("busyGigabyteSeconds", "BUSY GB·s", lambda f: f.busy, "{:,.0f}"),
    Measure("startingGigabyteSeconds", "", lambda f: f.starting, "{:,.0f}"),
    Measure("warmToBusy", "WARM/BUSY", lambda f: f.warm_to_busy, "{:.3g}"),
    Measure("addedSecondsP50", "ADDED P50 s", lambda f: f.delays.percentile(0.5), "{:.3g}"),
    Measure("addedSecondsP99", "P99 s", lambda f: f.delays.percentile(0.99), "{:.3g}", "added latency, p99, seconds"),
    Measure("cost", "COST $", lambda f: f.cost, "{:,.2f}", "cost, $"),
)


@dataclass(frozen=True, slots=True)
class Report:
    """What came of one simulation."""

    functions: int
    seconds: float
    seed: int
    figures: Sequence[Figures]

    @property
    def heading(self) -> str:
        """What was simulated."""
        size = f"{self.functions:,} functions, {self.seconds / 3600:g} hours"
        return f"{size}, {self.figures[0].invocations:,} invocations, seed {self.seed}"

    @property
    def columns(self) -> list[str]:
        """Headings of the table."""
        return ["SETTING", *(m.heading for m in MEASURES if m.heading)]

    def rows(self) -> list[list[str]]:
        """One for each variant."""
        return [[f.name, *(m.form.format(m.value(f)) for m in MEASURES if m.heading)] for f in self.figures]

    def throttles(self) -> list[list[str]]:
        """Variant, reason and number of what was not let run."""
        return [[f.name, reason, f"{count:,}"] for f in self.figures for reason, count in sorted(f.throttled.items())]

    def document(self) -> Mapping[str, object]:
        """For programs."""
        return {
            "functions": self.functions,
            "seconds": self.seconds,
            "seed": self.seed,
            "settings": [
                {
                    "name": f.name,
                    **{m.name: m.value(f) for m in MEASURES},
                    "throttlesByReason": dict(sorted(f.throttled.items())),
                }
                for f in self.figures
            ],
        }

    def picture(self) -> Picture:
        """Bars side by side, a group for each measure."""
        shown = [m for m in MEASURES if m.title]
        groups = [(m.title, [(f.name, m.value(f), m.form.format(m.value(f))) for f in self.figures]) for m in shown]
        return bars(self.heading, groups)
