"""How many requests of both doors there were, by operation and outcome."""

from __future__ import annotations

from collections import Counter

from lambent.infra.telemetry import Reading, Telemetry


class RequestCounts:
    """Counts every request."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._requests: Counter[tuple[str, str]] = Counter()  # (operation, outcome)
        telemetry.observe("lambent.requests", self._readings)

    def observe(self, operation: str, outcome: str) -> None:
        """Count one. `outcome`: OK or the error's name."""
        self._requests[operation, outcome] += 1

    def _readings(self) -> list[Reading]:
        return [({"operation": name, "outcome": outcome}, n) for (name, outcome), n in self._requests.items()]
