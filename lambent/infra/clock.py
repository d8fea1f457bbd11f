"""The machine's clock and random source: the one place that reads them."""

from __future__ import annotations

import os
import time


class SystemClock:
    """A `lambent.domain.clock.Clock` that reads the machine."""

    def monotonic(self) -> float:
        return time.monotonic()

    def epoch(self) -> float:
        return time.time()


class SystemIds:
    """A `lambent.domain.clock.Ids` from the operating system's random source."""

    __slots__ = ("_pool",)

    def __init__(self) -> None:
        # Random bytes are taken 4 KiB at a time: one system call serves 256 request ids.
        self._pool = memoryview(b"")

    def _take(self, size: int) -> memoryview:
        if len(self._pool) < size:
            self._pool = memoryview(os.urandom(max(4096, size)))
        taken, self._pool = self._pool[:size], self._pool[size:]
        return taken

    def uuid(self) -> str:
        raw = self._take(16).hex()
        variant = "89ab"[int(raw[16], 16) & 3]
        return f"{raw[:8]}-{raw[8:12]}-4{raw[13:16]}-{variant}{raw[17:20]}-{raw[20:]}"

    def token(self, size: int) -> str:
        return self._take(size).hex()
