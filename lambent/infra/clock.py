"""The machine's clock and random source: the one place that reads them."""

from __future__ import annotations

import os
import time


class SystemClock:
    """A `lambent.domain.clock.Clock` that reads the machine. The functions themselves: an invocation asks ten times."""

    monotonic = staticmethod(time.monotonic)
    epoch = staticmethod(time.time)


# The digit that says "a random UUID" beside the two bits that are free in it.
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
# How many UUIDs are made at a time.
_UUIDS = 64


class SystemIds:
    """A `lambent.domain.clock.Ids` from the operating system's random source."""

    __slots__ = ("_at", "_digits", "_uuids")

    def __init__(self) -> None:
        # Random bytes are taken 4 KiB at a time: one system call serves 256 request ids.
        self._digits = ""
        self._at = 0
        self._uuids: list[str] = []  # made many at a time: code that just ran is in the processor's caches

    def _take(self, count: int) -> str:
        """So many hexadecimal digits that nobody has had."""
        start = self._at
        end = self._at = start + count
        if end > len(self._digits):
            self._digits = os.urandom(max(4096, count)).hex()
            start, end = 0, count
            self._at = count
        return self._digits[start:end]

    def uuid(self) -> str:
        if not self._uuids:
            self._uuids = [_uuid(self._take(32)) for _ in range(_UUIDS)]
        return self._uuids.pop()

    def token(self, size: int) -> str:
        return self._take(2 * size)


def _uuid(raw: str) -> str:
    """32 random hexadecimal digits as a UUID of version 4."""
    return f"{raw[:8]}-{raw[8:12]}-4{raw[13:16]}-{_VARIANT[raw[16]]}{raw[17:20]}-{raw[20:]}"
