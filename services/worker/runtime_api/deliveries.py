"""Telemetry on its way to the extensions of one environment: batches, sent when they are full or have waited enough."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from lambent.domain.clock import Clock
from services.worker.environment_log import iso
from services.worker.guest import wire
from services.worker.runtime_api.telemetry import Subscription, subscription

_EARLY = 1000  # events kept for those who have not subscribed yet


class Deliveries:
    """The subscriptions of one environment."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, send: Callable[[bytes], None]) -> None:
        """`send`: frames to the launcher, which alone reaches what listens in the sandbox."""
        self._loop = loop
        self._clock = clock
        self._send = send
        self._subscriptions: dict[str, Subscription] = {}  # by extension
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        # What has happened since the start, for those who subscribe in the init phase. None: that has ended.
        self._early: list[tuple[str, bytes]] | None = []

    def subscribe(self, who: str, body: bytes) -> list[str]:
        """Take a subscription in, in place of an earlier one; answers its types. Raises InvalidSubscription."""
        asked = self._subscriptions[who] = subscription(body)
        for kind, event in self._early or ():
            asked.add(kind, event, self._loop.time())
        return sorted(asked.types)

    @property
    def wanted(self) -> bool:
        """Whether anybody has subscribed, or still may."""
        return not self._closed and (bool(self._subscriptions) or self._early is not None)

    def inited(self) -> None:
        """The init phase has ended: nobody else subscribes."""
        self._early = None

    def tell(self, kind: str, record: object, epoch: float) -> None:
        """Keep an event for whoever has asked for its kind."""
        if not self.wanted:
            return
        early = self._early
        now = self._loop.time()
        event = _event(kind, record, epoch)
        if early is not None and len(early) < _EARLY:
            early.append((kind, event))
        full = False
        for one in self._subscriptions.values():
            one.add(kind, event, now)
            full = full or one.due(now)
        if full or self._timer is None:
            self._look()

    def _look(self) -> None:
        """Hand over what is due, and look again when the rest is."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._loop.time()
        for one in self._subscriptions.values():
            if one.due(now):
                self._hand_over(one)
        left = [one.since + one.seconds - now for one in self._subscriptions.values() if one.since is not None]
        if left and not self._closed:
            self._timer = self._loop.call_later(max(0.0, min(left)), self._look)

    def _hand_over(self, one: Subscription) -> None:
        if one.dropped:
            dropped, one.dropped = one.dropped, 0
            told = {"droppedRecords": dropped, "reason": "the buffer was full"}
            one.add(
                "platform.logsDropped", _event("platform.logsDropped", told, self._clock.epoch()), self._loop.time()
            )
        meta = json.dumps({"port": one.port, "path": one.path, "type": one.protocol}).encode()
        self._send(wire.pack(wire.DELIVER, meta, one.take()))

    def flush(self) -> None:
        """Hand over everything."""
        for one in self._subscriptions.values():
            if one.waiting:
                self._hand_over(one)

    def close(self) -> None:
        """Keep and send nothing more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()


def _event(kind: str, record: object, epoch: float) -> bytes:
    return json.dumps({"time": iso(epoch), "type": kind, "record": record}).encode()
