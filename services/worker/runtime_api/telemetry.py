"""Telemetry subscriptions of extensions: what is asked for, what is kept until it is delivered. Pure.

Source: https://docs.aws.amazon.com/lambda/latest/dg/telemetry-api.html
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

TYPES = ("platform", "function", "extension")
SCHEMAS = ("2022-07-01", "2022-12-13", "2025-01-29", "2020-08-15", "2021-03-18")
_HOSTS = ("sandbox", "sandbox.localdomain")
# (least, most, default) of what a subscription may say of its buffer.
_ITEMS = (1000, 10_000, 10_000)
_BYTES = (262_144, 1_048_576, 262_144)
_MILLISECONDS = (25, 30_000, 1000)


class InvalidSubscription(Exception):
    """What is wrong with a subscription."""


@dataclass(slots=True)
class Subscription:
    """One extension's."""

    types: frozenset[str]
    port: int
    path: str
    protocol: str  # HTTP or TCP
    most_items: int
    most_bytes: int
    seconds: float  # longest time that an event waits
    waiting: list[bytes] = field(default_factory=list)
    size: int = 0  # bytes of `waiting`
    since: float | None = None  # monotonic seconds at which the oldest of it came
    dropped: int = 0  # events that found no room

    def add(self, kind: str, event: bytes, now: float) -> None:
        """Take an event in, if it is of a kind that was asked for."""
        if kind.partition(".")[0] not in self.types:
            return
        if len(self.waiting) >= self.most_items or self.size + len(event) > 2 * self.most_bytes:
            self.dropped += 1
            return
        if self.since is None:
            self.since = now
        self.waiting.append(event)
        self.size += len(event)

    def due(self, now: float) -> bool:
        """Whether a batch is to be delivered now."""
        if self.since is None:
            return False
        full = self.size >= self.most_bytes or len(self.waiting) >= self.most_items
        return full or now - self.since >= self.seconds

    def take(self) -> bytes:
        """Everything that waits, as its protocol has it."""
        events, self.waiting = self.waiting, []
        self.size, self.since = 0, None
        if self.protocol == "TCP":
            return b"".join(event + b"\n" for event in events)
        return b"[" + b",".join(events) + b"]"


def subscription(body: bytes) -> Subscription:
    """What a request asks for. Raises InvalidSubscription."""
    try:
        asked: Any = json.loads(body)
        types, target, buffering = asked["types"], asked["destination"], asked.get("buffering") or {}
        if not isinstance(types, list) or not types or not all(kind in TYPES for kind in types):
            raise InvalidSubscription(f"types must be a list of {', '.join(TYPES)}")
        if asked.get("schemaVersion", SCHEMAS[0]) not in SCHEMAS:
            raise InvalidSubscription(f"schemaVersion must be one of {', '.join(SCHEMAS)}")
        protocol = target["protocol"]
        if protocol == "TCP":
            port, path = int(target["port"]), ""
        elif protocol == "HTTP":
            url = urlsplit(target["URI"])
            if url.scheme != "http" or url.hostname not in _HOSTS or not url.port:
                raise InvalidSubscription("URI must be http://sandbox.localdomain with a port")
            port, path = url.port, url.path or "/"
        else:
            raise InvalidSubscription("protocol must be HTTP or TCP")
        if not 0 < port < 65536:
            raise InvalidSubscription("the port must be between 1 and 65535")
        return Subscription(
            frozenset(types),
            port,
            path,
            protocol,
            _bounded(buffering, "maxItems", _ITEMS),
            _bounded(buffering, "maxBytes", _BYTES),
            _bounded(buffering, "timeoutMs", _MILLISECONDS) / 1000,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InvalidSubscription("types and destination are mandatory") from None


def _bounded(buffering: dict[str, Any], name: str, bounds: tuple[int, int, int]) -> int:
    least, most, default = bounds
    value = buffering.get(name, default)
    if not isinstance(value, int) or not least <= value <= most:
        raise InvalidSubscription(f"{name} must be between {least} and {most}")
    return value
