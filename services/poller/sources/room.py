"""How much of queues' messages a poller holds at once, over all its readers."""

from __future__ import annotations

import asyncio


class Room:
    """Bytes that are held. More than `most` are where lanes took them at the same time: each at most a call's."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.held = 0  # bytes
        self._free = asyncio.Event()
        self._free.set()

    async def wait(self) -> None:
        """Until there is room."""
        await self._free.wait()

    def take(self, size: int) -> None:
        """So many bytes are held."""
        self.held += size
        if self.held >= self._most:
            self._free.clear()

    def give(self, size: int) -> None:
        """So many are held no more."""
        self.held -= size
        if self.held < self._most:
            self._free.set()
