"""A raw HTTP peer, an echo, and time by hand, for tests of the HTTP server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager

from lambent.infra.http import HttpRequest, HttpResponse, HttpServer


class ManualClock:
    """Time that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def monotonic(self) -> float:
        return self.now

    def epoch(self) -> float:
        return self.now


class Echo:
    """Answers with what came; some paths do something else."""

    def __init__(self) -> None:
        self.requests: list[HttpRequest] = []
        self.entered = asyncio.Event()
        self.release = asyncio.Event()
        self.left = asyncio.Event()

    async def handle(self, request: HttpRequest) -> HttpResponse:
        self.requests.append(request)
        if request.raw_path == b"/wait":
            self.entered.set()
            try:
                await self.release.wait()
            finally:
                self.left.set()
        if request.raw_path == b"/fail":
            raise RuntimeError("a defect")
        if request.raw_path == b"/none":
            return HttpResponse(204)
        if request.raw_path == b"/pieces":
            return HttpResponse(int(request.raw_query or 200), pieces=self.made())
        if request.raw_path == b"/inject":
            return HttpResponse(200, [(b"X-Value", b"a\r\nX-Evil: 1")])
        return HttpResponse(200, [(b"X-Path", request.raw_path)], request.body)

    async def made(self) -> AsyncGenerator[bytes]:
        """A body in two pieces, the second of which may be waited for with `left`."""
        yield b"one"
        yield b"two"
        self.left.set()


class Peer:
    """A raw client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))

    async def answer(self, *, head: bool = False) -> tuple[int, dict[str, str], bytes]:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        size = 0 if head else int(headers.get("content-length", 0))
        return int(lines[0].split()[1]), headers, await self.reader.readexactly(size)

    async def at_end(self) -> bytes:
        return await self.reader.read()


@asynccontextmanager
async def connect(server: HttpServer) -> AsyncIterator[Peer]:
    port = await server.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Peer(reader, writer)
    finally:
        writer.close()


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until something inside the server is so; nothing outside tells."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


async def settled(server: HttpServer, connections: int) -> None:
    """Until the server has so many connections."""
    await until(lambda: len(server.connections) == connections)
