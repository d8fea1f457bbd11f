"""What is counted of the event sources that ask for it (MetricsConfig)."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from lambent.domain.event_sources import EventSourceMapping
from lambent.infra.telemetry import Reading, Telemetry

# What becomes of a message: the metrics that AWS has for it.
Kind = Literal["polled", "filteredout", "invoked", "failedinvoke", "deleted"]
_KINDS: tuple[Kind, ...] = ("polled", "filteredout", "invoked", "failedinvoke", "deleted")


class SourceCounts:
    """Messages, by mapping and by what became of them."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._counts: dict[Kind, Counter[tuple[str, str, str]]] = {kind: Counter() for kind in _KINDS}
        for kind in _KINDS:
            telemetry.observe(f"aws.lambda.{kind}eventcount", lambda kind=kind: self._readings(kind))  # type: ignore[misc]

    def add(self, mapping: EventSourceMapping, kind: Kind, messages: int) -> None:
        """Count messages."""
        if mapping.counted and messages:
            self._counts[kind][mapping.tenant.account, mapping.tenant.region, mapping.uuid] += messages

    def _readings(self, kind: Kind) -> list[Reading]:
        return [
            ({"EventSourceMappingUUID": uuid, "account": account, "region": region}, count)
            for (account, region, uuid), count in self._counts[kind].items()
        ]
