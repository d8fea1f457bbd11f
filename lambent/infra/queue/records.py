"""What an event looks like in the queue: a line of JSON that says what it is, and behind it bytes as they came.

The value is the event as it was accepted, with its payload; the state is how far it has come, with what the handler
answered last.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from lambent.domain.async_events import Progress


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event as it was accepted. Its id is its request id, its queue is its function."""

    accepted: float  # epoch seconds
    qualifier: str | None  # as requested; what it stands for is looked up at each attempt
    trace: str  # X-Amzn-Trace-Id of its acceptance
    not_before: float | None = None  # epoch seconds; None: it was to run at once
    tenant_id: str | None = None  # whom it is for, of a function with tenant isolation

    @property
    def ready(self) -> float:
        """When it could first run; its age counts from then."""
        return self.accepted if self.not_before is None else max(self.accepted, self.not_before)


class EventState(msgspec.Struct, frozen=True):
    """How far an event has come."""

    attempts: int
    deferrals: int
    reason: str  # of the last decision: an Outcome while it waits, a Condition when it has ended
    detail: str = ""  # what stood against it, in the words of the error
    version: str | None = None  # that ran last
    error: str | None = None  # functionError of that attempt
    since: float | None = None  # epoch seconds at which it was queued again after it had been given up

    def progress(self, ready: float) -> Progress:
        """For the rules of lambent.domain.async_events. `ready`: when the event could first run."""
        return Progress(self.since or ready, self.attempts, self.deferrals)


class Delivery(msgspec.Struct, frozen=True):
    """Something that a destination or a dead-letter queue is told of an event, or of records of a stream. Its queue is
    its target."""

    kind: str  # OnSuccess, OnFailure or DeadLetter
    name: str  # of the event's function
    function_arn: str
    request_id: str
    condition: str
    since: float  # epoch seconds
    attributes: dict[str, tuple[str, str]] = {}
    key: str = ""  # in a bucket; empty: that of an event's record
    trace: str = ""  # X-Amzn-Trace-Id of what is told of; empty: there is none


NEW = EventState(0, 0, "")

# Queues of deliveries are called so, with the ARN of their target behind it; no function's name has this sign.
DELIVERIES = "@"

Line = TypeVar("Line")
_ENCODER = msgspec.json.Encoder()
_EVENTS = msgspec.json.Decoder(Event)
_DELIVERIES = msgspec.json.Decoder(Delivery)
_STATES = msgspec.json.Decoder(EventState)


def encode(line: Event | EventState | Delivery, body: bytes) -> bytes:
    """As it is kept; `body`: the payload, or what the handler answered last."""
    return _ENCODER.encode(line) + b"\n" + body


def decode_event(value: bytes) -> tuple[Event, bytes]:
    """An event and its payload."""
    return _split(value, _EVENTS)


def decode_delivery(value: bytes) -> tuple[Delivery, bytes]:
    """What is told, and the record or the event itself."""
    return _split(value, _DELIVERIES)


def decode_state(state: bytes) -> tuple[EventState, bytes]:
    """How far an event has come, and what the handler answered last; NEW for one that was never tried."""
    return _split(state, _STATES) if state else (NEW, b"")


def _split(kept: bytes, decoder: msgspec.json.Decoder[Line]) -> tuple[Line, bytes]:
    line, _, body = kept.partition(b"\n")
    return decoder.decode(line), body
