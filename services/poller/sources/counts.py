"""What is counted of the event sources that ask for it (MetricsConfig)."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Literal

from lambent.domain.event_sources import EventSourceMapping
from lambent.infra.telemetry import Reading, Telemetry, of_function

# What becomes of a record: the metrics that AWS has for it.
Kind = Literal["polled", "filteredout", "invoked", "failedinvoke", "deleted", "dropped"]
_KINDS: tuple[Kind, ...] = ("polled", "filteredout", "invoked", "failedinvoke", "deleted", "dropped")


class SourceCounts:
    """Records, by mapping and by what became of them."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._counts: dict[Kind, Counter[tuple[str, str, str]]] = {kind: Counter() for kind in _KINDS}
        for kind in _KINDS:
            telemetry.observe(f"aws.lambda.{kind}eventcount", partial(self._readings, kind))

        self._ages = telemetry.histogram("aws.lambda.iteratorage")

    def aged(self, mapping: EventSourceMapping, seconds: float) -> None:
        """The last record of a batch was so old when the function was invoked with it; counted of every stream."""
        if self._ages is not None:
            self._ages.record(seconds * 1000, of_function(mapping.tenant, mapping.function))

    def add(self, mapping: EventSourceMapping, kind: Kind, records: int) -> None:
        """Count records."""
        if mapping.counted and records:
            self._counts[kind][mapping.tenant.account, mapping.tenant.region, mapping.uuid] += records

    def _readings(self, kind: Kind) -> list[Reading]:
        return [
            ({"EventSourceMappingUUID": uuid, "account": account, "region": region}, count)
            for (account, region, uuid), count in self._counts[kind].items()
        ]
