"""What a reader asks of a queue. Two implementations under one contract suite (tests/contract/test_source_queue.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class SourceQueue(Protocol):
    """A queue, over a connection of its own: one call at a time. Every method but `close` raises QueueError."""

    async def visibility_seconds(self) -> int:
        """How long a message that somebody has received is hidden from others."""
        ...

    async def receive(self, most: int, wait_seconds: int) -> list[dict[str, Any]]:
        """At most `most` messages (1 to 10), as SQS writes them; none if none come for so long."""
        ...

    async def delete(self, handles: Sequence[str]) -> list[str]:
        """Take messages away by their receipt handles (1 to 10); answers those that stay."""
        ...

    def close(self) -> None:
        """Hang up."""
        ...
