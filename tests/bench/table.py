"""Rows of the result: how they are judged, printed, kept in build/bench.json and put into the documentation."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
JSON = ROOT / "build" / "bench.json"
PAGE = ROOT / "docs" / "explanation" / "performance.md"
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


@dataclass(frozen=True, slots=True)
class Row:
    """One budget. `value`, `baseline` and `ratio` are None where nothing could be measured; `note` says why."""

    id: str
    what: str
    value: float | None
    unit: str
    baseline: float | None  # the other side, in the same unit and from the same run
    ratio: float | None  # value to baseline
    budget: str
    met: bool
    note: str = ""


def ratio(value: float, baseline: float) -> float:
    """How many times the baseline; infinite where the baseline is nothing."""
    return value / baseline if baseline else float("inf")


def median(values: Iterable[float]) -> float:
    """The middle one, or the mean of the two."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of them do not exceed."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def figure(value: float | None) -> str:
    """A number with three digits that matter."""
    if value is None:
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


_HEADINGS = ("", "what", "measured", "beside it", "ratio", "budget", "met")


def _cells(row: Row) -> tuple[str, ...]:
    unit = "" if row.value is None else f" {row.unit}"
    other = "" if row.baseline is None else f" {row.unit}"
    return (
        row.id,
        row.what,
        figure(row.value) + unit,
        figure(row.baseline) + other,
        figure(row.ratio),
        row.budget,
        "yes" if row.met else "no",
    )


def as_text(rows: Sequence[Row]) -> str:
    """For a terminal."""
    table = [_HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(_HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table]
    lines += [f"{row.id}: {row.note}" for row in rows if row.note]
    return "\n".join(lines)


def as_markdown(rows: Sequence[Row]) -> str:
    """For the documentation."""
    lines = ["| " + " | ".join(_HEADINGS) + " |", "|" + " --- |" * len(_HEADINGS)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in _cells(row)) + " |" for row in rows]
    notes = [f"- {row.id}: {row.note}" for row in rows if row.note]
    return "\n".join([*lines, "", *notes]) if notes else "\n".join(lines)


def as_json(rows: Sequence[Row]) -> str:
    """For programs."""
    return json.dumps([asdict(row) for row in rows], indent=1, ensure_ascii=False) + "\n"


def from_json(text: str) -> list[Row]:
    """What `as_json` wrote. Raises ValueError or TypeError on anything else."""
    document: Any = json.loads(text)
    if not isinstance(document, list):
        raise ValueError("no list of rows")
    return [Row(**entry) for entry in document]


def keep(rows: Sequence[Row], path: Path = JSON) -> None:
    """Write the file, with the rows of an earlier run for what was not measured in this one."""
    kept: dict[str, Row] = {}
    with contextlib.suppress(OSError, ValueError, TypeError):  # there is none, or it is of another version
        kept = {row.id: row for row in from_json(path.read_text(encoding="utf-8"))}
    kept.update((row.id, row) for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(as_json(sorted(kept.values(), key=_order)), encoding="utf-8")


def _order(row: Row) -> tuple[int, str]:
    head = row.id.partition("-")[0]
    return int(head[1:]) if head[1:].isdigit() else 0, row.id


def into_page(page: str, rows: Sequence[Row]) -> str:
    """The page with a new table between its markers. Raises ValueError where they are missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n{as_markdown(rows)}\n{END}{after}"


Say = Callable[[str], None]
