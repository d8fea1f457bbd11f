"""Time, identifiers and randomness as parameters. `lambent.infra.clock` reads the machine's."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Where a shell takes `now` from before it hands it to a decision."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary point; never goes back. For durations and deadlines within one process."""
        ...

    def epoch(self) -> float:
        """Seconds since 1970-01-01 UTC. For what users see and what crosses processes."""
        ...


class Ids(Protocol):
    """Where identifiers come from."""

    def uuid(self) -> str:
        """A random UUID in lower case with hyphens: request ids, revision ids."""
        ...

    def token(self, size: int) -> str:
        """`size` random bytes in lower-case hex: environment ids, trace ids."""
        ...
