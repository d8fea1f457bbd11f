"""One pipe out of a sandbox, read whenever something comes, and at once when it is asked for."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

_READ = 65536
_READS = 16  # in one turn, so that a flood does not starve the rest


class Pipe:
    """The read end, owned from here on."""

    def __init__(self, loop: asyncio.AbstractEventLoop, descriptor: int, on_data: Callable[[bytes], None]) -> None:
        self._loop = loop
        self._descriptor = descriptor
        self._on_data = on_data
        os.set_blocking(descriptor, False)
        loop.add_reader(descriptor, self.drain)

    def drain(self) -> None:
        """Take what there is, at most as much as one turn allows."""
        for _ in range(_READS):
            if self._descriptor < 0:
                return
            try:
                data = os.read(self._descriptor, _READ)
            except (BlockingIOError, InterruptedError):
                return
            if not data:
                self.close()  # every writer is gone
                return
            self._on_data(data)

    def close(self) -> None:
        """Read no more. May be called again."""
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
