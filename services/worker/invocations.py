"""Where invocations come in: the worker's side of lambent/infra/frames.py, on a Unix or a TCP socket.

Callbacks only: no task and no await for an invocation. Answers that are ready in one turn of the loop leave in one
write. A caller that goes away ends nothing: what runs goes on, its answer is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import cast

from lambent.infra import silence
from lambent.infra.certificates import Certificates
from lambent.infra.frames import Credit, FrameError, FrameReader, Hello, Invoke, Kind, Reject, Result, Stream, encode
from services.worker.core.reasons import Reason
from services.worker.counters import WorkerCounters
from services.worker.environment import Environment

_log = logging.getLogger(__name__)
_HELLO_SECONDS = 10.0
_HELLO_BYTES = 64 * 1024  # several times the longest
_INVOKE, _RESULT, _REJECT, _CANCEL = int(Kind.INVOKE), int(Kind.RESULT), int(Kind.REJECT), int(Kind.CANCEL)
_STREAM, _PIECE, _CREDIT, _LEAVE = int(Kind.STREAM), int(Kind.PIECE), int(Kind.CREDIT), int(Kind.LEAVE)
# How long callers may take to hang up. What they sent before they heard of it is refused, and so runs elsewhere.
_LEAVE_SECONDS = 1.0


class Connection(asyncio.Protocol):
    """One caller."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        token: bytes,
        slots: list[Environment | None],
        counters: WorkerCounters,
        on_end: Callable[[Connection], None],
    ) -> None:
        self._loop = loop
        self._token = token
        self._slots = slots
        self._counters = counters
        self._on_end = on_end
        self._frames = FrameReader()
        self._known = False
        self._running: dict[int, Environment] = {}  # by call
        self._out: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.caller_id = ""
        self.closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        silence.notice(transport)
        # A caller that reads slowly is not waited for; its answers are bounded by what it may have in flight.
        self._transport.set_write_buffer_limits(high=64 * 1024 * 1024)
        self._timer = self._loop.call_later(_HELLO_SECONDS, self.close)

    def data_received(self, data: bytes) -> None:
        try:
            frames = self._frames.feed(data)
        except FrameError as error:
            self._cut(str(error))
            return
        for kind, call, meta, payload in frames:
            if not self._known:
                if not self._greet(kind, meta):
                    return
            elif kind == _INVOKE and type(meta) is Invoke:
                self._invoke(call, meta, payload)
            elif kind == _CREDIT and type(meta) is Credit:
                environment = self._running.get(call)
                if environment is not None:
                    environment.credit(meta.size)
            elif kind == _CANCEL:
                environment = self._running.get(call)
                if environment is not None:
                    environment.stop(Reason.CANCELLED)
            else:
                self._cut(f"frame of kind {kind} without its meta")
                return
        if not self._known and self._frames.incomplete > _HELLO_BYTES:
            self._cut("the first frame is longer than a hello")

    def _greet(self, kind: int, meta: object) -> bool:
        if kind != Kind.HELLO or not isinstance(meta, Hello):
            self._cut("the first frame is no hello")
            return False
        if not hmac.compare_digest(meta.token.encode(), self._token):
            self._cut("wrong token")
            return False
        self._known = True
        self.caller_id = meta.caller_id
        if self._timer is not None:
            self._timer.cancel()
        return True

    def _invoke(self, call: int, request: Invoke, payload: bytes) -> None:
        slot = request.slot
        environment = self._slots[slot] if 0 <= slot < len(self._slots) else None
        reason: Reason | None
        if environment is None or environment.id != request.environment_id:
            reason = Reason.UNKNOWN
        elif self.closing:
            reason = Reason.CLOSING
        else:
            self._running[call] = environment
            begin = environment.prepare if request.prepares else environment.invoke
            reason = begin(request, payload, self, call)
            if reason is None:
                return
            del self._running[call]
        self._counters.rejected += 1
        self._queue(encode(_REJECT, call, Reject(reason.value)))

    def answer(self, call: int, result: Result, payload: bytes) -> None:
        """Tell the caller what came of a call."""
        self._running.pop(call, None)
        self._queue(encode(_RESULT, call, result, payload))

    def streams(self, call: int, content_type: str) -> None:
        """Tell the caller that the response comes piece by piece."""
        self._queue(encode(_STREAM, call, Stream(content_type)))

    def piece(self, call: int, data: bytes) -> None:
        """Send the next bytes of a response that streams."""
        self._queue(encode(_PIECE, call, None, data))

    def _queue(self, frame: bytes) -> None:
        out = self._out
        out.append(frame)
        if len(out) == 1:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        out, self._out = self._out, []
        transport = self._transport
        if transport is None or transport.is_closing() or not out:
            return
        if len(out) == 1:
            transport.write(out[0])
        else:
            transport.write(b"".join(out))

    def leave(self) -> None:
        """Have the caller send nothing new, and hang up once all its calls have ended."""
        self.closing = True
        if self._known:
            self._queue(encode(_LEAVE, 0))
        else:
            self.close()

    def _cut(self, cause: str) -> None:
        _log.warning("connection of a caller cut off", extra={"caller": self.caller_id, "cause": cause})
        self.close()

    def close(self) -> None:
        """End the connection once what is queued has left."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        running, self._running = self._running, {}
        for environment in running.values():
            environment.forget_caller(self)
        self._on_end(self)


class InvocationServer:
    """Listens for callers."""

    def __init__(
        self, address: str, token: str, slots: list[Environment | None], counters: WorkerCounters,
        certificates: Certificates | None = None,
    ) -> None:  # fmt: skip
        """`address` is unix:/path or host:port; port 0 takes a free one. `certificates`: None for no TLS."""
        self._certificates = certificates
        self._wanted = address
        self._token = token.encode()
        self._slots = slots
        self._counters = counters
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._closing = False
        self._ended = asyncio.Event()  # a connection has
        self.address = address

    async def start(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()

        def connection() -> Connection:
            made = Connection(loop, self._token, self._slots, self._counters, self._forget)
            made.closing = self._closing
            self._connections.add(made)
            return made

        if self._wanted.startswith("unix:"):
            path = self._wanted[5:]
            _make_way(Path(path))
            self._server = await loop.create_unix_server(connection, path)
            os.chmod(path, 0o600)
        else:
            host, _, port = self._wanted.rpartition(":")
            tls = None if self._certificates is None else self._certificates.listening()
            self._server = await loop.create_server(connection, host.strip("[]") or None, int(port), ssl=tls)
            self.address = f"{host}:{self._server.sockets[0].getsockname()[1]}"

    def _forget(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._ended.set()

    def refuse(self) -> None:
        """Take no more invocations."""
        self._closing = True
        for connection in list(self._connections):
            connection.leave()

    async def close(self) -> None:
        """Stop listening and end every connection: its caller hangs up, or it is closed once its answers have left."""
        if self._server is not None:
            self._server.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LEAVE_SECONDS):
                while self._connections:
                    self._ended.clear()
                    await self._ended.wait()
        for connection in list(self._connections):
            connection.close()
        if self._wanted.startswith("unix:"):
            with contextlib.suppress(OSError):
                os.unlink(self._wanted[5:])


def _make_way(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # what a worker that was killed has left
