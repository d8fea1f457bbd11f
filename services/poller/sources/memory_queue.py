"""The queue's twin for tests: what SQS does with messages, in this process and by a clock that is given."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lambent.infra.aws_json import SourceError


@dataclass(slots=True)
class _Stored:
    """A message of the queue."""

    id: str
    body: str
    group: str | None  # of a FIFO queue
    visible: float  # seconds, from when on it can be received
    received: int = 0
    handle: str = ""  # of the last receive


class MemoryQueue:
    """A queue as all of its consumers share it."""

    def __init__(self, now: Callable[[], float], visibility_seconds: int, *, ordered: bool = False) -> None:
        """`now`: seconds. `ordered`: a FIFO queue, which shows no message of a group while another of it is hidden."""
        self.now = now
        self.visibility = visibility_seconds
        self.ordered = ordered
        self.messages: list[_Stored] = []
        self.error: SourceError | None = None  # raised by every call
        self._numbers = itertools.count(1)
        self._more = asyncio.Event()

    def send(self, body: str, group: str | None = None) -> str:
        """Add a message; answers its id."""
        stored = _Stored(f"m{next(self._numbers)}", body, group, self.now())
        self.messages.append(stored)
        self._more.set()
        return stored.id

    def connect(self) -> MemoryConnection:
        """A consumer."""
        return MemoryConnection(self)

    async def receive(self, most: int, wait_seconds: int) -> list[dict[str, Any]]:
        """As `SourceQueue.receive`."""
        until = self.now() + wait_seconds
        while True:
            if self.error is not None:
                raise self.error
            found = self._visible(most)
            now = self.now()
            if found or now >= until:
                return [self._shown(each, now) for each in found]
            self._more.clear()
            again = min([until, *(each.visible for each in self.messages if each.visible > now)])
            try:
                async with asyncio.timeout(again - now):
                    await self._more.wait()
            except TimeoutError:
                continue

    def delete(self, handles: Sequence[str]) -> list[str]:
        """As `SourceQueue.delete`: only the newest handle of a message is good."""
        if self.error is not None:
            raise self.error
        good = {each.handle for each in self.messages if each.handle}
        self.messages = [each for each in self.messages if each.handle not in handles]
        self._more.set()
        return [handle for handle in handles if handle not in good]

    def _visible(self, most: int) -> list[_Stored]:
        now = self.now()
        hidden = {each.group for each in self.messages if each.visible > now} if self.ordered else set()
        return [each for each in self.messages if each.visible <= now and each.group not in hidden][:most]

    def _shown(self, stored: _Stored, now: float) -> dict[str, Any]:
        stored.received += 1
        stored.visible = now + self.visibility
        stored.handle = f"{stored.id}/{stored.received}"
        attributes = {"ApproximateReceiveCount": str(stored.received)}
        if stored.group is not None:
            attributes["MessageGroupId"] = stored.group
        return {
            "MessageId": stored.id,
            "ReceiptHandle": stored.handle,
            "Body": stored.body,
            "MD5OfBody": hashlib.md5(stored.body.encode(), usedforsecurity=False).hexdigest(),
            "Attributes": attributes,
        }


class MemoryConnection:
    """A `SourceQueue` in this process."""

    def __init__(self, queue: MemoryQueue) -> None:
        self._queue = queue

    async def visibility_seconds(self) -> int:
        if self._queue.error is not None:
            raise self._queue.error
        return self._queue.visibility

    async def receive(self, most: int, wait_seconds: int) -> list[dict[str, Any]]:
        return await self._queue.receive(most, wait_seconds)

    async def delete(self, handles: Sequence[str]) -> list[str]:
        return self._queue.delete(handles)

    def close(self) -> None:
        """There is nothing to hang up."""
