"""How many lanes read a queue. A lane waits for messages, runs the batch that they make, and begins again; so lanes are
batches that run at once, and one that waits finds what comes at once.

While no lane has to wait there is a backlog, and their number grows as Lambda's does; lanes that find nothing end, but
for a few. Batches that are throttled or fail halve it.

Source: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
"""

from __future__ import annotations

from dataclasses import dataclass

# Lanes that go on waiting at a queue that is empty.
SPARE = 2
# A queue that has messages answers sooner, in seconds; who waits longer finds that it had none.
PATIENCE = 0.2
# Least time between two halvings, in seconds: batches that are held back together are one sign.
HALVING_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class PaceRules:
    """Limits of a mapping."""

    start: int  # batches at once when a backlog begins
    per_minute: int  # by how many that grows
    most: int  # batches at once


class Pace:
    """The number of lanes of one queue."""

    def __init__(self, rules: PaceRules, now: float) -> None:
        self._rules = rules
        self._wanted = float(min(SPARE, rules.most))
        self._at = now  # of the last look
        self._halved_at = now - HALVING_SECONDS
        # Whether it has been held back since the last time that the queue was empty: then it grows from where it is.
        self._held_back = False

    @property
    def wanted(self) -> int:
        """How many there are to be."""
        return max(1, int(self._wanted))

    def ruled(self, rules: PaceRules) -> None:
        """Other limits hold from now on."""
        self._rules = rules
        self._wanted = min(self._wanted, rules.most)

    def looked(self, lanes: int, now: float, *, idle: bool) -> None:
        """How it is now. `idle`: whether a lane has had to wait since the last look."""
        elapsed, self._at = now - self._at, now
        if idle:
            # What the lanes that have ended leave.
            self._held_back = False
            self._wanted = min(max(lanes, SPARE), self._rules.most)
            return
        grown = self._wanted + self._rules.per_minute / 60 * elapsed
        if not self._held_back:
            grown = max(grown, self._rules.start)
        self._wanted = min(grown, self._rules.most)

    def held_back(self, now: float) -> None:
        """A batch was throttled, or its function failed."""
        self._held_back = True
        if now - self._halved_at >= HALVING_SECONDS:
            self._halved_at = now
            self._wanted = max(self._wanted / 2, 1.0)

    def goes_on(self, lanes: int, waiting: int, *, found: bool) -> bool:
        """Whether a lane that has ended a turn reads again. `waiting`: others that receive. `found`: it had some."""
        if lanes > self.wanted:
            return False
        return found or waiting < min(SPARE, self._rules.most)
