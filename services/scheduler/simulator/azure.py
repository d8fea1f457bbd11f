"""Readers for the two published traces of Azure Functions.

2019: a file of invocations in each minute of a day (HashOwner,HashApp,HashFunction,Trigger,1,...,1440), and beside it,
if there are, a file of percentiles of execution times (milliseconds) and one of memory (MB, by application).
2021: one line for each invocation (app,func,end_timestamp,duration; seconds); it started at the end less the duration.
What a file does not say is drawn from the published distributions.
Source: https://github.com/Azure/AzurePublicDataset
"""

from __future__ import annotations

import csv
import math
import random
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from services.scheduler.simulator.distributions import EXECUTION, lognormal, memory_mb, unit
from services.scheduler.simulator.trace import LONGEST, Arrival, Trace, TraceError, TraceFunction, memory_of

_IDENTITY = ["HashOwner", "HashApp", "HashFunction"]
_MINUTES = 1440
HEADER_2019 = [*_IDENTITY, "Trigger", *(str(minute) for minute in range(1, _MINUTES + 1))]
HEADER_2021 = ["app", "func", "end_timestamp", "duration"]
_PERCENTILES = (0, 1, 25, 50, 75, 99, 100)
_DURATIONS = [*_IDENTITY, *(f"percentile_Average_{p}" for p in _PERCENTILES)]
_MEMORY = ["HashOwner", "HashApp", "AverageAllocatedMb"]

# How the invocations of one minute lie in it: their number → seconds since its beginning, in order.
Expansion = Callable[[int, random.Random], list[float]]


def exponential(count: int, rng: random.Random) -> list[float]:
    """With exponential gaps, scaled so that all are within the minute."""
    gaps = [rng.expovariate(1.0) for _ in range(count + 1)]
    scale, at, found = 60.0 / sum(gaps), 0.0, []
    for gap in gaps[:-1]:
        at += gap * scale
        found.append(at)
    return found


def uniform(count: int, rng: random.Random) -> list[float]:
    """Each anywhere in the minute."""
    return sorted(rng.random() * 60.0 for _ in range(count))


def equidistant(count: int, rng: random.Random) -> list[float]:
    """With equal gaps, the first one anywhere within the first of them."""
    gap = 60.0 / count
    first = rng.random() * gap
    return [first + number * gap for number in range(count)]


EXPANSIONS: Mapping[str, Expansion] = {"exponential": exponential, "uniform": uniform, "equidistant": equidistant}


class _Rows:
    """A CSV file with a heading, read row by row; errors name file and line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._line = 1

    def fail(self, what: str) -> TraceError:
        """An error at the row in hand."""
        return TraceError(f"{self.path}:{self._line}: {what}")

    def read(self, wanted: list[str]) -> Iterator[list[str]]:
        """The columns wanted, of every row. Raises TraceError."""
        try:
            with self.path.open(newline="", encoding="utf-8") as file:
                rows = csv.reader(file)
                heading = next(rows, [])
                missing = [name for name in wanted if name not in heading]
                if missing:
                    raise self.fail(f"there is no column {missing[0]}")
                places = [heading.index(name) for name in wanted]
                whole = places == list(range(len(heading)))
                for row in rows:
                    self._line = rows.line_num
                    if len(row) != len(heading):
                        raise self.fail(f"{len(row)} columns where the heading has {len(heading)}")
                    yield row if whole else [row[place] for place in places]
        except OSError as error:
            raise TraceError(f"cannot read {self.path}: {error.strerror}") from None
        except (csv.Error, UnicodeDecodeError) as error:
            raise self.fail(f"not CSV: {error}") from None

    def number(self, text: str, what: str) -> float:
        """A number that is not negative. Raises TraceError."""
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0.0 <= value < math.inf:
            raise self.fail(f"{what} cannot be {text!r}")
        return value


class Azure2019:
    """A day of counts by minute, expanded."""

    def __init__(
        self, invocations: Path, durations: Path | None, memory: Path | None, expansion: Expansion, most: int | None,
        seed: int,
    ) -> None:  # fmt: skip
        """`most`: functions that are read, the first of the file; None: all. Raises TraceError."""
        self.seconds = _MINUTES * 60.0
        self._expansion, self._seed = expansion, seed
        rng = random.Random(seed)
        percentiles = {} if durations is None else _percentiles(durations)
        by_application = {} if memory is None else _memory(memory)
        functions: list[TraceFunction] = []
        self._durations: list[list[float]] = []  # by function: seconds at _PERCENTILES, or one for all
        # By minute: the functions that are invoked in it, and how often.
        self._who = [array("I") for _ in range(_MINUTES)]
        self._counts = [array("I") for _ in range(_MINUTES)]
        rows = _Rows(invocations)
        for owner, application, function, _, *counts in rows.read(HEADER_2019):
            number = len(functions)
            if number == most:
                break
            for minute, text in enumerate(counts):
                if text in ("0", ""):
                    continue
                if not text.isdecimal() or len(text) > 9:
                    raise rows.fail(f"minute {minute + 1} cannot have {text!r} invocations")
                self._who[minute].append(number)
                self._counts[minute].append(int(text))
            megabytes = by_application.get((owner, application)) or memory_mb(unit(rng))
            functions.append(TraceFunction(function, memory_of(megabytes)))
            drawn = [min(LONGEST, lognormal(unit(rng), *EXECUTION))]
            self._durations.append(percentiles.get((owner, application, function)) or drawn)
        self.functions = functions

    def minutes(self) -> Iterator[list[Arrival]]:
        """See Trace."""
        rng = random.Random(self._seed + 1)
        for minute in range(_MINUTES):
            begin = minute * 60.0
            yield sorted(
                (begin + at, number, _drawn(self._durations[number], rng))
                for number, count in zip(self._who[minute], self._counts[minute], strict=True)
                for at in self._expansion(count, rng)
            )


def _drawn(at: list[float], rng: random.Random) -> float:
    """Between two percentiles, all values are as likely."""
    if len(at) == 1:
        return at[0]
    share = rng.random() * 100.0
    place = bisect_right(_PERCENTILES, share) - 1
    low, high = _PERCENTILES[place], _PERCENTILES[place + 1]
    return min(LONGEST, at[place] + (at[place + 1] - at[place]) * (share - low) / (high - low))


def _percentiles(path: Path) -> dict[tuple[str, str, str], list[float]]:
    rows, found = _Rows(path), {}
    for owner, application, function, *texts in rows.read(_DURATIONS):
        values = [
            rows.number(text, name) / 1000.0 for text, name in zip(texts, _DURATIONS[len(_IDENTITY) :], strict=True)
        ]
        if values != sorted(values):
            raise rows.fail("percentiles that do not grow")
        found[owner, application, function] = values
    return found


def _memory(path: Path) -> dict[tuple[str, str], float]:
    rows = _Rows(path)
    return {
        (owner, application): rows.number(text, "AverageAllocatedMb") for owner, application, text in rows.read(_MEMORY)
    }


class Azure2021:
    """Single invocations."""

    def __init__(self, path: Path, most: int | None, seed: int) -> None:
        """`most`: functions that are read, in the order in which they appear; None: all. Raises TraceError."""
        rng = random.Random(seed)
        numbers: dict[tuple[str, str], int] = {}
        starts, who, durations = array("d"), array("I"), array("d")
        rows = _Rows(path)
        for application, function, ended, lasted in rows.read(HEADER_2021):
            number = numbers.get((application, function))
            if number is None:
                if len(numbers) == most:
                    continue
                number = numbers[application, function] = len(numbers)
            duration = rows.number(lasted, "duration")
            starts.append(rows.number(ended, "end_timestamp") - duration)
            who.append(number)
            durations.append(min(LONGEST, duration))
        self.functions = [
            TraceFunction(f"{application[:8]}-{function[:8]}", memory_of(memory_mb(unit(rng))))
            for application, function in numbers
        ]
        self._starts, self._who, self._durations = starts, who, durations
        self._order = array("I", sorted(range(len(starts)), key=starts.__getitem__))
        # The first one begins the trace.
        self._begin = min(starts, default=0.0)
        self.seconds = 60.0 * (int((max(starts, default=0.0) - self._begin) / 60.0) + 1)

    def minutes(self) -> Iterator[list[Arrival]]:
        """See Trace."""
        found: list[Arrival] = []
        end = 60.0
        for place in self._order:
            at = self._starts[place] - self._begin
            while at >= end:
                yield found
                found, end = [], end + 60.0
            found.append((at, self._who[place], self._durations[place]))
        yield found


def read(
    path: Path, *, durations: Path | None, memory: Path | None, expansion: str, most: int | None, seed: int
) -> Trace:
    """A trace of either form; the heading says which. Raises TraceError."""
    try:
        with path.open(encoding="utf-8") as file:
            heading = file.readline(20_000).rstrip("\r\n").split(",")
    except OSError as error:
        raise TraceError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        heading = []
    if heading == HEADER_2019:
        return Azure2019(path, durations, memory, EXPANSIONS[expansion], most, seed)
    if heading == HEADER_2021:
        if durations is not None or memory is not None:
            raise TraceError(f"{path}: files of execution times and memory belong to the trace of 2019")
        return Azure2021(path, most, seed)
    raise TraceError(
        f"{path}:1: the heading is of neither trace: {','.join(HEADER_2019[:5])},... (2019), "
        f"{','.join(HEADER_2021)} (2021)"
    )
