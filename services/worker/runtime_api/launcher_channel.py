"""The worker's end of a launcher: frames as of every guest, and the descriptors that it hands over."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

from services.worker.channel import GuestChannel

_READ = 65536
_DESCRIPTORS = 4


class LauncherChannel(GuestChannel):
    """Frames to and from one launcher, and what its processes print."""

    __slots__ = ("descriptors",)

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        channel: socket.socket,
        output: int,
        on_frame: Callable[[int, bytes, bytes], None],
        on_output: Callable[[bytes], None],
        on_end: Callable[[bool], None],
    ) -> None:
        super().__init__(loop, channel, output, _READ, on_frame, on_output, on_end)
        self.descriptors: list[int] = []  # that came and were not taken

    def _readable(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._socket, _READ, _DESCRIPTORS)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, descriptors = b"", []
        self.descriptors += descriptors
        if len(self.descriptors) > _DESCRIPTORS:
            self._end(True)
        elif not data:
            self._end(False)
        else:
            self._buffer += data
            self._parse()

    def close(self) -> None:
        """Stop listening and close the socket; the pipe belongs to the sandbox."""
        super().close()
        while self.descriptors:
            os.close(self.descriptors.pop())
