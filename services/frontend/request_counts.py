"""How many requests there were: of both doors, by operation and outcome; and at function URLs, by function."""

from __future__ import annotations

from collections import Counter
from functools import partial

from lambent.domain.names import Tenant
from lambent.infra.telemetry import Reading, Telemetry, by_function, of_function


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


class UrlCounts:
    """Counts requests at function URLs."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._requests: Counter[tuple[Tenant, str]] = Counter()
        self._refused: Counter[tuple[Tenant, str]] = Counter()  # answered 4xx
        self._failed: Counter[tuple[Tenant, str]] = Counter()  # answered 5xx
        self._latency = telemetry.histogram("aws.lambda.urlrequestlatency")
        for metric, counts in (
            ("aws.lambda.urlrequestcount", self._requests),
            ("aws.lambda.url4xxcount", self._refused),
            ("aws.lambda.url5xxcount", self._failed),
        ):
            telemetry.observe(metric, partial(by_function, counts))

    def observe(self, tenant: Tenant, function: str, status: int, seconds: float) -> None:
        """Count one."""
        key = tenant, function
        self._requests[key] += 1
        if status >= 400:
            (self._refused if status < 500 else self._failed)[key] += 1
        if self._latency is not None:
            self._latency.record(seconds * 1000, of_function(tenant, function))
