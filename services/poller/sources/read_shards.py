"""A shard that a reader reads, and the lanes that its records wait in."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from lambent.domain.stream_records import Place, StreamRecord
from lambent.domain.stream_windows import Windows
from lambent.infra.event_sources.port import Checkpoint
from services.poller.core.stream_batches import Progress


@dataclass(slots=True)
class Lane:
    """Records of a shard that wait for their batch."""

    waiting: deque[tuple[StreamRecord, bytes]] = field(default_factory=deque)
    since: float = 0.0  # monotonic seconds since when the first of them has waited
    news: asyncio.Event = field(default_factory=asyncio.Event)
    closed: bool = False  # nothing more comes


@dataclass(slots=True)
class ReadShard:
    """A shard that is read."""

    id: str
    mark: Checkpoint
    saved: Checkpoint
    lanes: list[Lane]
    windows: Windows | None  # None: there are none
    complete: float = 0.0  # epoch seconds: all records that came before that have been read
    progress: Progress = field(default_factory=Progress)
    room: asyncio.Event = field(default_factory=asyncio.Event)  # whether more may be read
    saving: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def place(self) -> Place:
        """Where reading goes on: behind what has been read, which may be more than what is done."""
        if self.progress.newest is not None:
            return Place(after=self.progress.newest)
        mark = self.mark
        return Place(after=mark.sequence, since=mark.since, newest=mark.newest)
