"""Tumbling windows: what a function makes of a shard's records is handed from batch to batch until a window is over.

A window is so many seconds long, and a record belongs to that in which it came to the stream. The function answers a
state, which its next invocation in the window is given; the last one has no records, and its answer is not kept.
Source: https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-windows.html
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

# The largest state that is handed on; what is larger ends its window early. Bytes of JSON text.
STATE_BYTES = 1024 * 1024
# The largest that is handed to the invocation that ends it; an answer with a larger one is none.
LAST_STATE_BYTES = 5 * STATE_BYTES
# What an event has beyond its records and the state, at most.
EVENT_BYTES = 1024
# For so long after its end records of a window may still come, since clocks differ. Seconds.
GRACE_SECONDS = 1.0

_EMPTY = "{}"


@dataclass(frozen=True, slots=True)
class Windows:
    """How far a shard has come with its windows; kept with the records that are done. Epoch seconds."""

    start: int = 0  # of the open one; where none is open, before it none begins any more
    end: int = 0  # of the open one; 0: none is open
    state: str = _EMPTY  # JSON object that the function answered last in it
    early: bool = False  # it ends before its time, since that is too large

    @property
    def open(self) -> bool:
        """Whether a window has begun."""
        return self.end > 0

    def opened(self, arrived: float, size: int) -> Windows:
        """With the window of a record open, if none is. `size`: seconds. A record of a window that is over belongs to
        the one after it."""
        if self.open:
            return self
        aligned = max(int(arrived), self.start) // size * size
        return Windows(max(aligned, self.start), aligned + size)

    def holds(self, arrivals: Sequence[float]) -> int:
        """How many of the next records, in their order, belong to the open window."""
        return next((at for at, arrived in enumerate(arrivals) if arrived >= self.end), len(arrivals))

    def over(self, following: float | None, complete: float) -> bool:
        """Whether the open window has all its records. `following`: when the next one came, None where none waits;
        `complete`: everything is known that came before that time."""
        if not self.open:
            return False
        ended = complete >= self.end + GRACE_SECONDS if following is None else following >= self.end
        return self.early or ended

    def after(self, answer: bytes) -> Windows | None:
        """With the state that a function has answered; where it answers none, an empty one. None: what it answered
        cannot be understood."""
        try:
            answered = json.loads(answer) if answer.strip() else None
            state = answered.get("state") if isinstance(answered, dict) else answered
            text = json.dumps({} if state is None else state, separators=(",", ":"), allow_nan=False)
        except (ValueError, RecursionError):
            return None
        if not text.startswith("{") or len(text) > LAST_STATE_BYTES:
            return None
        return replace(self, state=text, early=len(text) > STATE_BYTES)

    def closed(self) -> Windows:
        """With the open window behind it. One that ended early goes on anew."""
        return Windows(self.start if self.early else self.end)

    def members(self, shard: str, arn: str, *, last: bool) -> bytes:
        """What an event says of the open window, as the members of a JSON object. `arn`: the stream's."""
        said = {
            "window": {"start": _time(self.start), "end": _time(self.end)},
            "shardId": shard,
            "eventSourceARN": arn,
            "isFinalInvokeForWindow": last,
            "isWindowTerminatedEarly": last and self.early,
        }
        return json.dumps(said, separators=(",", ":"))[1:-1].encode() + b',"state":' + self.state.encode()


def _time(epoch: int) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
