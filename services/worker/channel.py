"""The host's end of one guest: a socket with frames and a pipe with output, on the loop's own readers.

No transport and no task: a frame leaves with the call that sends it, so the guest wakes at once, and one system call
reads what it answers. Nothing the guest sends is believed: lengths are bounded before anything is kept.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import termios
from collections.abc import Callable

from services.worker.guest import wire

_READ = 65536
_NOTHING = bytes(4)
_unread = bytearray(4)  # where the kernel writes how many bytes a pipe holds
_PIPE_READS = 16  # reads of the pipe in one turn, so that one flood does not starve the rest


class GuestChannel:
    """Frames to and from one guest, and what it prints."""

    __slots__ = (
        "_buffer",
        "_closed",
        "_fd",
        "_limit",
        "_loop",
        "_on_end",
        "_on_frame",
        "_on_output",
        "_output",
        "_socket",
        "_unsent",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        channel: socket.socket,
        output: int,
        limit: int,
        on_frame: Callable[[int, bytes, bytes], None],
        on_output: Callable[[bytes], None],
        on_end: Callable[[bool], None],
    ) -> None:
        """`limit` is the largest payload accepted; `on_end(broken)` is called once when the guest is gone (False) or
        has sent what is no frame (True)."""
        self._loop = loop
        self._socket = channel
        self._fd = channel.fileno()
        self._output = output
        self._limit = limit
        self._on_frame = on_frame
        self._on_output = on_output
        self._on_end = on_end
        self._buffer = bytearray()
        self._unsent = bytearray()
        self._closed = False
        channel.setblocking(False)
        loop.add_reader(self._fd, self._readable)
        loop.add_reader(output, self._printed)

    def send(self, data: bytes) -> None:
        """Send now what the socket takes, and the rest when it can."""
        if self._closed:
            return
        if self._unsent:
            self._unsent += data
            return
        try:
            sent = self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            return  # it has ended; reading tells
        if sent < len(data):
            self._unsent += memoryview(data)[sent:]
            self._loop.add_writer(self._fd, self._writable)

    def _writable(self) -> None:
        try:
            sent = self._socket.send(self._unsent)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._unsent.clear()
            sent = 0
        del self._unsent[:sent]
        if not self._unsent:
            self._loop.remove_writer(self._fd)

    def _readable(self) -> None:
        try:
            data = self._socket.recv(_READ)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._end(False)
            return
        buffer = self._buffer
        if not buffer and len(data) >= wire.HEAD.size:
            kind, meta, payload = wire.HEAD.unpack_from(data)
            start = wire.HEAD.size + meta
            if len(data) == start + payload:  # nearly always: one whole frame
                self._on_frame(kind, data[wire.HEAD.size : start], data[start:])
                return
        buffer += data
        self._parse()

    def _parse(self) -> None:
        buffer = self._buffer
        size = wire.HEAD.size
        while len(buffer) >= size and not self._closed:
            kind, meta, payload = wire.HEAD.unpack_from(buffer)
            if meta > wire.MAX_META or payload > self._limit:
                self._end(True)
                return
            start = size + meta
            if len(buffer) < start + payload:
                return
            head, body = bytes(buffer[size:start]), bytes(buffer[start : start + payload])
            del buffer[: start + payload]
            self._on_frame(kind, head, body)

    def _printed(self) -> None:
        for _ in range(_PIPE_READS):
            if self._closed or not self.drain_once():
                return

    def drain_once(self) -> bool:
        """Take up to one read of output; False: there is none now."""
        try:
            data = os.read(self._output, _READ)
        except (BlockingIOError, InterruptedError):
            return False
        if not data:
            self._loop.remove_reader(self._output)  # every writer is gone
            return False
        self._on_output(data)
        return len(data) == _READ

    def drain(self) -> None:
        """Take what the guest has printed until now, at most as much as the pipe holds."""
        if self._closed:
            return
        fcntl.ioctl(self._output, termios.FIONREAD, _unread)
        if _unread == _NOTHING:
            return  # as mostly: to ask is a quarter of what a read costs that fails
        for _ in range(_PIPE_READS):
            if self._closed or not self.drain_once():
                return

    def _end(self, broken: bool) -> None:
        self._loop.remove_reader(self._fd)
        self._on_end(broken)

    def close(self) -> None:
        """Stop listening and close the socket; the pipe belongs to the sandbox."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._loop.remove_reader(self._output)
        self._socket.close()
