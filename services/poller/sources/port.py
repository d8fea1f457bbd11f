"""What readers ask of a queue and of a stream. Two implementations of each, under one contract suite
(tests/contract/test_source_queue.py, test_source_stream.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from lambent.domain.stream_records import Fetched, Place, Shard


class SourceQueue(Protocol):
    """A queue, over a connection of its own: one call at a time. Every method but `close` raises SourceError."""

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


class SourceStream(Protocol):
    """A stream, over a connection of its own: one call at a time. Every method but `close` raises SourceError."""

    async def shards(self) -> Sequence[Shard]:
        """Those that can be read, closed ones included, parents before their children."""
        ...

    async def iterator(self, shard: str, place: Place) -> str:
        """Where reading begins. A place that the stream does not keep any more is the oldest that it keeps."""
        ...

    async def fetch(self, shard: str, iterator: str, most: int) -> Fetched:
        """The next records, at most so many. Raises ExpiredPlace where the iterator is too old."""
        ...

    def close(self) -> None:
        """Hang up."""
        ...
