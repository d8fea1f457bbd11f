"""How much of sources' records a poller holds at once, over all its readers.

Who holds less than a fair share may always take more: a stream whose function fails for hours keeps nobody else from
reading.
"""

from __future__ import annotations

import asyncio
from collections import Counter


class Room:
    """Bytes that are held, by mapping. It can come to twice as many as `most`, and a call's for each of who waits."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._by: Counter[str] = Counter()
        self._free = asyncio.Event()

    @property
    def held(self) -> int:
        """Bytes in all."""
        return self._by.total()

    async def wait(self, by: str) -> None:
        """Until there is room."""
        while self.held >= self._most and self._by[by] >= self._most / max(len(self._by), 1):
            self._free.clear()
            await self._free.wait()

    def take(self, by: str, size: int) -> None:
        """So many bytes are held."""
        self._by[by] += size

    def give(self, by: str, size: int) -> None:
        """So many are held no more."""
        self._by[by] -= size
        if not self._by[by]:
            del self._by[by]
        if size:
            self._free.set()
