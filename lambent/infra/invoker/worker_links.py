"""Connections to workers: one for each worker, dialled when first needed, carrying every invocation at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol, cast

from lambent.infra import frames, silence
from lambent.infra.certificates import NAME, Certificates
from lambent.infra.tasks import TaskOwner

_log = logging.getLogger(__name__)
_INVOKE, _LEAVE = int(frames.Kind.INVOKE), int(frames.Kind.LEAVE)
_STREAMED = frozenset({int(frames.Kind.STREAM), int(frames.Kind.PIECE)})


class Call(Protocol):
    """One invocation on its way."""

    def begun(self, sent: tuple[str, int]) -> None:
        """It was sent once its worker had been dialled; `sent` is what `cancel` and `credit` take."""
        ...

    def answered(self, result: frames.Result, payload: bytes) -> None:
        """The handler ran, well or not."""
        ...

    def streams(self, content_type: str) -> None:
        """The response comes piece by piece; `answered` is its end. Only for a call that takes it so."""
        ...

    def piece(self, data: bytes) -> None:
        """The next bytes of such a response."""
        ...

    def rejected(self, reason: str) -> None:
        """Nothing ran: the environment was gone or busy, or its worker could not be reached."""
        ...

    def lost(self) -> None:
        """The connection broke while it ran; whether it ended is not known."""
        ...


class _Link(asyncio.Protocol):
    """One connection."""

    def __init__(self, hello: bytes, closed: Callable[[_Link], None]) -> None:
        self._hello = hello
        self._closed = closed
        self._reader = frames.FrameReader()
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._out: list[bytes] = []
        self._calls: dict[int, Call] = {}
        self._next = 1
        self._leaving = False  # the worker takes nothing new on this connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are Transports in all but name.
        self._transport = cast(asyncio.Transport, transport)
        silence.notice(transport)
        self._transport.write(self._hello)

    def invoke(self, call: Call, meta: frames.Invoke, payload: bytes) -> int:
        number, self._next = self._next, self._next + 1
        self._calls[number] = call
        self._send(frames.encode(_INVOKE, number, meta, payload))
        return number

    def cancel(self, number: int) -> None:
        if self._calls.pop(number, None) is not None:
            self._send(frames.encode(frames.Kind.CANCEL, number))

    def _send(self, frame: bytes) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(frame)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._transport is not None and out:
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))

    def data_received(self, data: bytes) -> None:
        try:
            received = self._reader.feed(data)
        except frames.FrameError:
            _log.exception("a worker sent what is no frame")
            self.close()
            return
        for kind, number, meta, payload in received:
            if kind in _STREAMED:
                self._streamed(number, meta, payload)
                continue
            if kind == _LEAVE:
                self._leaving = True
                self._closed(self)
                continue
            call = self._calls.pop(number, None)
            if call is None:
                continue
            if isinstance(meta, frames.Result):
                call.answered(meta, payload)
            elif isinstance(meta, frames.Reject):
                call.rejected(meta.reason)
        if self._leaving and not self._calls:
            self._flush()
            self.close()

    def _streamed(self, number: int, meta: frames.Meta, payload: bytes) -> None:
        call = self._calls.get(number)
        if call is None:
            return  # given up
        if isinstance(meta, frames.Stream):
            call.streams(meta.content_type)
        else:
            call.piece(payload)

    def credit(self, number: int, size: int) -> None:
        if number in self._calls:
            self._send(frames.encode(frames.Kind.CREDIT, number, frames.Credit(size)))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self._leaving:
            self._closed(self)
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.lost()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class WorkerLinks:
    """All connections of one caller."""

    def __init__(self, caller_id: str, token: str, certificates: Certificates | None = None) -> None:
        """`token`: the cluster's shared secret. `certificates`: None for no TLS."""
        self._certificates = certificates
        self._hello = frames.encode(frames.Kind.HELLO, 0, frames.Hello(caller_id, token))
        self._links: dict[str, _Link] = {}
        self._dialling: dict[str, list[tuple[Call, frames.Invoke, bytes]]] = {}
        self._tasks = TaskOwner("worker-links")

    def invoke(self, address: str, call: Call, meta: frames.Invoke, payload: bytes) -> tuple[str, int] | None:
        """Send one invocation. Answers what `cancel` takes, None while the worker is still being dialled."""
        link = self._links.get(address)
        if link is not None:
            return address, link.invoke(call, meta, payload)
        waiting = self._dialling.get(address)
        if waiting is None:
            self._dialling[address] = [(call, meta, payload)]
            self._tasks.start(f"dial {address}", self._dial(address))
        else:
            waiting.append((call, meta, payload))
        return None

    def cancel(self, sent: tuple[str, int]) -> None:
        """The outcome is not wanted: the environment is stopped."""
        link = self._links.get(sent[0])
        if link is not None:
            link.cancel(sent[1])

    def credit(self, sent: tuple[str, int], size: int) -> None:
        """So many bytes of a response have been taken: as many more may come."""
        link = self._links.get(sent[0])
        if link is not None:
            link.credit(sent[1], size)

    async def _dial(self, address: str) -> None:
        loop = asyncio.get_running_loop()

        def closed(link: _Link) -> None:
            if self._links.get(address) is link:
                del self._links[address]

        def make() -> _Link:
            return _Link(self._hello, closed)

        try:
            if address.startswith("unix:"):
                _, link = await loop.create_unix_connection(make, address.removeprefix("unix:"))
            else:
                host, _, port = address.rpartition(":")
                tls = None if self._certificates is None else self._certificates.dialling()
                async with asyncio.timeout(silence.CONNECT_SECONDS):
                    _, link = await loop.create_connection(
                        make, host.strip("[]"), int(port), ssl=tls, server_hostname=None if tls is None else NAME
                    )
        except OSError as error:
            _log.warning("worker not reached", extra={"address": address, "reason": str(error) or "no answer"})
            for call, _, _ in self._dialling.pop(address):
                call.rejected("WorkerUnreachable")
            return
        self._links[address] = link
        for call, meta, payload in self._dialling.pop(address):
            call.begun((address, link.invoke(call, meta, payload)))

    async def close(self) -> None:
        """Close every connection."""
        await self._tasks.close()
        for link in list(self._links.values()):
            link.close()
