"""What a simulation replays: functions, and their invocations minute by minute."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from lambent.infra.config import ConfigError

# What AWS lets a function have, in MB, and a single invocation take, in seconds.
LEAST_MB, MOST_MB = 128, 10_240
LONGEST = 900.0


class TraceError(ConfigError):
    """A trace that cannot be read; one line with file and line."""


@dataclass(frozen=True, slots=True)
class TraceFunction:
    """A function of a trace."""

    name: str
    memory_mb: int


# Seconds since the trace's beginning, number of the function, seconds that the invocation runs.
Arrival = tuple[float, int, float]


class Trace(Protocol):
    """Anything that can be replayed; twice in the same way."""

    @property
    def functions(self) -> Sequence[TraceFunction]: ...

    @property
    def seconds(self) -> float:
        """How long it is."""
        ...

    def minutes(self) -> Iterator[list[Arrival]]:
        """The invocations of each minute from the beginning on, in order of time; minutes without any are there too."""
        ...


def memory_of(megabytes: float) -> int:
    """The memory setting that a function with this use would have."""
    return min(MOST_MB, max(LEAST_MB, round(megabytes)))
