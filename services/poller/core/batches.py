"""When a batch of a queue's messages is full: pure rules over their number, their bytes and the time.

Source: https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventsourcemapping.html (batching behavior).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lambent.domain.batch_events import BETWEEN_BYTES, FRAME_BYTES
from lambent.domain.event_sources import RECEIVED_AT_ONCE

# The longest that a call waits for messages, in seconds: half of what SQS would, as reading ends with the calls under
# way.
LONGEST_WAIT_SECONDS = 10


@dataclass(frozen=True, slots=True)
class BatchRules:
    """What is set for the batches of a mapping."""

    size: int  # most messages
    window_seconds: float  # how long the first message waits for more; 0: what one call brings is the batch
    event_bytes: int  # most bytes of the event


@dataclass(frozen=True, slots=True)
class Receive:
    """More messages are wanted."""

    most: int  # 1 to 10
    wait_seconds: int  # 0 to 10


@dataclass(frozen=True, slots=True)
class Send:
    """The first messages are a batch; those after them begin the next one."""

    count: int


def next_step(sizes: Sequence[int], since: float, now: float, rules: BatchRules, *, ending: bool) -> Receive | Send:
    """What a reader does that holds messages. `sizes`: bytes of each one's record; `since`: when the first of them was
    received, in the unit of `now`, seconds; `ending`: nothing more is to be received."""
    fitting = _fitting(sizes, rules.event_bytes)
    if fitting < len(sizes) or len(sizes) >= rules.size:
        return Send(min(fitting, rules.size))
    if not sizes:
        return Receive(min(RECEIVED_AT_ONCE, rules.size), LONGEST_WAIT_SECONDS)
    left = since + rules.window_seconds - now
    # SQS waits whole seconds; the window is the longest that a message waits, so less than one is not waited.
    if ending or left < 1:
        return Send(len(sizes))
    return Receive(min(RECEIVED_AT_ONCE, rules.size - len(sizes)), min(int(left), LONGEST_WAIT_SECONDS))


def _fitting(sizes: Sequence[int], most: int) -> int:
    """How many of the first messages one event holds; a message too large for any is sent alone, and refused there."""
    total = FRAME_BYTES
    for number, size in enumerate(sizes):
        total += size + BETWEEN_BYTES
        if total - BETWEEN_BYTES > most:
            return max(number, 1)
    return len(sizes)
