"""A small HTTP/1.1 server: `async def handle(request) -> response`, with bodies whole and in memory.

Why not uvicorn: a warm invocation has 100 µs of CPU over all processes. The same echo on two shared cores takes
18 µs a request on a Protocol straight over httptools and 39-51 µs as an ASGI application on uvicorn.

The rule of this module and of http_connection.py: they know HTTP and nothing of what is served. Sizes and times are
bounded before anything is buffered; who is over a bound gets the service's own words (`HttpService`), because the
clients of a door expect that door's errors.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from lambent.domain.clock import Clock
from lambent.infra.http_connection import HttpConnection
from lambent.infra.http_messages import (
    REFUSALS,
    HttpLimits,
    HttpRequest,
    HttpResponse,
    HttpService,
    PlainService,
    error_response,
    http_date,
)

__all__ = [
    "REFUSALS",
    "HttpLimits",
    "HttpRequest",
    "HttpResponse",
    "HttpServer",
    "HttpService",
    "PlainService",
    "error_response",
]


class HttpServer:
    """Listens, and owns its connections."""

    def __init__(self, service: HttpService, *, clock: Clock, limits: HttpLimits | None = None) -> None:
        """`clock`: for timeouts and the Date header."""
        self.service = service
        self.limits = limits if limits is not None else HttpLimits()
        self.clock = clock
        self.leaving = False
        self.draining = False
        self.connections: set[HttpConnection] = set()
        self.buffered = 0  # bytes of bodies that are being read, wait, or are worked on
        self._listeners: list[asyncio.Server] = []
        self._sweeper: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Event = asyncio.Event()
        self._date = (0, b"")

    async def start(self, host: str, port: int, **options: Any) -> int:
        """Listen on TCP; port 0 takes any. Returns the port. Raises OSError when it is taken."""
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(lambda: HttpConnection(self, loop), host, port, backlog=1024, **options)
        self._listening(listener, loop)
        bound: int = listener.sockets[0].getsockname()[1]
        return bound

    async def start_unix(self, path: str) -> None:
        """Listen on a Unix socket. Raises OSError when the path cannot be bound."""
        loop = asyncio.get_running_loop()
        self._listening(await loop.create_unix_server(lambda: HttpConnection(self, loop), path, backlog=1024), loop)

    def _listening(self, listener: asyncio.Server, loop: asyncio.AbstractEventLoop) -> None:
        self._listeners.append(listener)
        if self._sweeper is None:
            self._tick(loop)

    def leave(self) -> None:
        """Go on serving, and close each connection with its next answer: its client then connects to another server."""
        self.leaving = True

    async def drain(self, seconds: float) -> bool:
        """Stop accepting, close idle connections, let running requests end; True if all did within `seconds`."""
        self.draining = True
        for listener in self._listeners:
            listener.close()
        for connection in list(self.connections):
            connection.close_if_idle()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.connections:
                    self._emptied.clear()
                    await self._emptied.wait()
        return not self.connections

    async def close(self) -> None:
        """Stop now: running handlers are cancelled, connections reset."""
        self.draining = True
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        tasks = [task for connection in list(self.connections) if (task := connection.abort()) is not None]
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)

    # What connections use.

    def opened(self, connection: HttpConnection) -> bool:
        """Take in a new connection; False: there are too many."""
        if len(self.connections) >= self.limits.connections or self.draining:
            return False
        self.connections.add(connection)
        return True

    def closed(self, connection: HttpConnection) -> None:
        """Forget a connection."""
        self.connections.discard(connection)
        if not self.connections:
            self._emptied.set()

    def date(self) -> bytes:
        """The Date header's line; made once a second. SDKs correct their clocks by it when a signature is refused."""
        now = int(self.clock.epoch())
        if now != self._date[0]:
            self._date = (now, http_date(now))
        return self._date[1]

    def sweep(self) -> None:
        """End what has taken too long."""
        now = self.clock.monotonic()
        for connection in [c for c in self.connections if c.deadline is not None and c.deadline <= now]:
            connection.overdue()

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self.sweep()
        self._sweeper = loop.call_later(self.limits.sweep_seconds, self._tick, loop)
