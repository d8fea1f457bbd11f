"""What is counted of a simulated cluster. Memory is bounded: delays go into bins that are 2 % wide."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

_WIDTH = math.log(1.02)
_LEAST = 1e-4  # seconds; shorter delays are none


class Delays:
    """A distribution of seconds, within 2 %."""

    def __init__(self) -> None:
        self._bins: Counter[int] = Counter()
        self._count = 0

    def add(self, seconds: float) -> None:
        """One more."""
        self._count += 1
        if seconds > _LEAST:
            self._bins[int(math.log(seconds / _LEAST) / _WIDTH)] += 1

    def percentile(self, share: float) -> float:
        """The value that this share does not exceed; 0 where there is none."""
        beyond = share * self._count - (self._count - self._bins.total())
        if beyond <= 0:
            return 0.0
        for number in sorted(self._bins):
            beyond -= self._bins[number]
            if beyond <= 0:
                break
        return _LEAST * math.exp((number + 0.5) * _WIDTH)


@dataclass(slots=True)
class Figures:
    """Of one variant. Memory-time is in GB·s, within the length of the trace."""

    name: str
    invocations: int = 0
    ran: int = 0
    cold: int = 0  # ran in an environment that was started for them
    throttled: Counter[str] = field(default_factory=Counter)  # by reason
    starts: int = 0  # environments that were ordered
    ahead: int = 0  # of these, ahead of a use
    busy: float = 0.0
    warm: float = 0.0  # environments were there and ran nothing
    starting: float = 0.0
    delays: Delays = field(default_factory=Delays)
    price_busy: float = 0.0
    price_warm: float = 0.0

    @property
    def cold_share(self) -> float:
        """Of the invocations that ran."""
        return self.cold / self.ran if self.ran else 0.0

    @property
    def warm_to_busy(self) -> float:
        """Memory-time that waits for each that works."""
        return self.warm / self.busy if self.busy else 0.0

    @property
    def cost(self) -> float:
        """Of all memory-time; an environment that starts is paid for like one that runs something, as on AWS."""
        return (self.busy + self.starting) * self.price_busy + self.warm * self.price_warm
