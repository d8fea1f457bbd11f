"""How far provisioned concurrency is in use, minute by minute: CloudWatch's ProvisionedConcurrencyUtilization.

AWS takes a sample at each invocation: how many of the environments run one at that instant. A caller knows its own
only, so it reports their sum, and the time for which its environments were busy. What runs with others at the instant
of its samples is then, on average, what they have busy at any instant: exact with one caller, and without bias where
callers do not wait for one another. A minute without an invocation has no value, as in CloudWatch.
Source: https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

# Minutes that are remembered: the longest window of an alarm.
REMEMBERED = 15


class Point(NamedTuple):
    """One minute. Shares of what was allocated: 0 to 1."""

    average: float
    maximum: float


@dataclass(slots=True)
class Use:
    """How one caller used the provisioned environments of one version within the minute."""

    invocations: int = 0
    concurrent: int = 0  # sum of its samples
    most: int = 0  # the largest of them
    busy_seconds: float = 0.0

    def add(self, other: Use) -> None:
        """One report more."""
        self.invocations += other.invocations
        self.concurrent += other.concurrent
        self.most = max(self.most, other.most)
        self.busy_seconds += other.busy_seconds


def point(uses: Iterable[Use], allocated: int, seconds: float) -> Point | None:
    """A minute's value of what all callers used, of all versions. None: there is none. `seconds`: of a minute."""
    known = list(uses)
    invocations = sum(use.invocations for use in known)
    if not invocations or allocated <= 0:
        return None
    busy = sum(use.busy_seconds for use in known) / seconds
    samples = largest = 0.0
    for use in known:
        beside = busy - use.busy_seconds / seconds
        samples += use.concurrent + use.invocations * beside
        largest = max(largest, use.most + beside if use.invocations else 0.0)
    return Point(min(1.0, samples / invocations / allocated), min(1.0, largest / allocated))


@dataclass(slots=True)
class Window:
    """The last minutes of one scalable target."""

    points: deque[Point | None] = field(default_factory=lambda: deque(maxlen=REMEMBERED))  # the newest last

    def last(self, minutes: int) -> list[Point] | None:
        """The newest points; None: one of them is missing."""
        if len(self.points) < minutes:
            return None
        newest = list(self.points)[-minutes:]
        found = [each for each in newest if each is not None]
        return found if len(found) == minutes else None
