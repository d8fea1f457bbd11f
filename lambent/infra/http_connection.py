"""One HTTP/1.1 connection: bytes in, requests one at a time to the service, responses out in order.

Requests that a client sends ahead (pipelining) wait here, and reading stops until they are served. A handler runs to
its end even when its client has gone: an invocation is not undone by a broken connection; its answer is dropped.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Literal, cast

import httptools

from lambent.infra.http_messages import BODILESS, STATUS_LINES, HttpRequest, HttpResponse

if TYPE_CHECKING:
    from lambent.infra.http import HttpServer

_log = logging.getLogger(__name__)

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_METHODS = {name.encode(): name for name in ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")}


class HttpConnection(asyncio.Protocol):
    """What the peer sent so far, and what it is owed."""

    __slots__ = (
        "_body", "_body_size", "_chunks", "_discarding", "_expects", "_half_closed", "_head_size", "_headers", "_limit",
        "_loop", "_overhead", "_parser", "_peer", "_reading_paused", "_repeated", "_request", "_server", "_started",
        "_taken", "_task", "_timed", "_transport", "_upgrade", "_url", "_waiting", "_writing_paused", "deadline",
    )  # fmt: skip

    def __init__(self, server: HttpServer, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._peer = ""
        self.deadline: float | None = None  # monotonic; None: nothing is expected of the peer
        # The request that is being read.
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._repeated: dict[bytes, list[bytes]] = {}  # values of headers that came more than once, in order
        self._head_size = 0  # bytes received before the head was complete
        self._request: HttpRequest | None = None  # its head, once complete
        self._chunks: list[bytes] = []
        self._body_size = 0
        self._limit = 0
        self._overhead = 0  # bytes received beside the body since the head was complete
        self._upgrade = False  # the head asks for another protocol, and is parsed again as if it had not
        self._expects = False  # the peer waits for 100 Continue
        self._started = False  # a first byte has come
        self._timed: Literal["head", "body"] | None = None  # what the deadline is for
        # What has been read and waits: (request, keep alive afterwards), or a last word before the connection ends.
        self._waiting: deque[tuple[HttpRequest, bool] | HttpResponse] = deque()
        self._task: asyncio.Task[None] | None = None  # the handler that runs
        self._reading_paused = False
        self._writing_paused = False
        self._taken: asyncio.Future[None] | None = None  # done when the peer has taken what was written
        self._discarding = False  # whatever else comes is thrown away
        self._half_closed = False  # the peer sends nothing more, but may still read

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._server.opened(self):
            self._transport.abort()
            return
        peer = transport.get_extra_info("peername")
        self._peer = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "unix"
        self._expect_within(self._server.limits.idle_seconds)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self.deadline = None
        self._discarding = True
        self._has_taken()
        self._drop_body()
        self._drop_waiting()
        if self._task is None:
            self._server.closed(self)

    def data_received(self, data: bytes) -> None:
        if self._discarding:
            return
        if self._request is None:
            self._head_size += len(data)
        else:
            self._overhead += len(data)
        try:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                if self._upgrade:
                    self._without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError:
            raise
        except httptools.HttpParserError as error:
            if not self._discarding:
                self._refuse(self._server.service.refused(400, f"Malformed request: {error}"))
        limits = self._server.limits
        if not self._discarding and (
            (self._request is None and self._head_size > limits.head_bytes)
            or self._overhead > limits.overhead_bytes + 16 * self._body_size
        ):
            self._refuse_head()
        if self._task is None:
            if self._started and not self._discarding:
                self._expect_rest()
        elif (self._waiting or self._started) and not self._reading_paused:
            self._pause_reading()

    def _without_upgrade(self, rest: bytes) -> None:
        """Read the body of a request whose head asked for another protocol; the connection ends after its answer."""
        head = [b"%b / HTTP/1.1" % self._parser.get_method(), b"Connection: close"]
        framing = (b"content-length", b"transfer-encoding")
        head += [name + b": " + self._headers[name] for name in framing if name in self._headers]
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(b"\r\n".join(head) + b"\r\n\r\n")
        if rest:
            self._parser.feed_data(rest)

    def eof_received(self) -> bool:
        # A client may send its request, close its side and wait for the answer.
        self._half_closed = True
        return self._task is not None or bool(self._waiting)

    def pause_writing(self) -> None:
        self._writing_paused = True
        if self._task is None:
            self._expect_within(self._server.limits.write_seconds)

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._has_taken()
        if self._task is None and (self._waiting or not self._discarding):
            self._serve_next()

    # httptools

    def on_message_begin(self) -> None:
        self._started = True
        if self._upgrade:
            return
        self._url = b""
        self._headers = {}

    def on_url(self, url: bytes) -> None:
        if not self._upgrade:
            self._url = self._url + url if self._url else url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._upgrade:
            return
        if self._request is not None:
            return  # a trailer: what stands behind a body changes nothing of what was asked for before it
        name = name.lower()
        headers = self._headers
        if name in headers:
            self._repeated.setdefault(name, [headers[name]]).append(value)
        else:
            headers[name] = value

    def on_headers_complete(self) -> None:
        if self._discarding:
            return
        server, headers = self._server, self._headers
        if self._repeated:
            self._join_repeated()
        if self._upgrade:
            self._upgrade = False
        elif self._parser.should_upgrade() and self._parser.get_method() != b"CONNECT":
            # The parser would leave out the body, which clients that offer h2c send nevertheless.
            self._upgrade = True
            return
        if self._head_size > server.limits.head_bytes:
            size = len(self._url) + sum(len(name) + len(value) + 4 for name, value in headers.items())
            if size > server.limits.head_bytes:
                self._refuse_head()
                return
        if b"," in headers.get(b"host", b""):
            self._refuse(server.service.refused(400, "Malformed request: more than one Host"))
            return
        url = self._url
        if url[:1] == b"/":
            path, _, query = url.partition(b"?")
        else:
            try:
                parsed = httptools.parse_url(url)
            except httptools.HttpParserInvalidURLError:
                self._refuse(server.service.refused(400, "Malformed request: invalid target"))
                return
            path, query = parsed.path or b"/", parsed.query or b""
            if parsed.host:
                port = b":%d" % parsed.port if parsed.port else b""
                headers[b"host"] = parsed.host + port  # it counts, not the header (RFC 9112, section 3.2.2)
        verb = self._parser.get_method()
        method = _METHODS.get(verb) or verb.decode("latin-1")
        request = self._request = HttpRequest(method, path, query, headers, b"", self._peer)
        length = headers.get(b"content-length")
        if length is None and b"transfer-encoding" not in headers:
            return
        self._limit = server.service.body_limit(request)
        size = int(length) if length is not None else 0
        if size > server.limits.small_body_bytes and (unwelcome := server.service.unwelcome(request)) is not None:
            self._refuse(unwelcome)
            return
        if size > self._limit:
            self._refuse(server.service.too_large(request, size))
            return
        if headers.get(b"expect", b"").lower() == b"100-continue":
            self._expects = True
            self._continue()

    def _join_repeated(self) -> None:
        """Once for each header: to lengthen a value takes as long as it is already."""
        for name, values in self._repeated.items():
            # Cookies have a separator of their own (RFC 9113, section 8.2.3).
            self._headers[name] = (b"; " if name == b"cookie" else b",").join(values)
        self._repeated = {}

    def on_body(self, chunk: bytes) -> None:
        if self._discarding:
            return
        self._expects = False
        server, request, before = self._server, self._request, self._body_size
        assert request is not None
        size = self._body_size = before + len(chunk)
        self._overhead -= len(chunk)
        server.buffered += len(chunk)
        if size > self._limit:
            self._refuse(server.service.too_large(request, size))
            return
        if server.buffered > server.limits.buffered_bytes:
            self._refuse(server.service.refused(503, "Too many request bodies are in transit; try again"))
            return
        small = server.limits.small_body_bytes
        if before <= small < size and b"content-length" not in request.headers:
            # Sent in chunks, it was not known to be large before.
            unwelcome = server.service.unwelcome(request)
            if unwelcome is not None:
                self._refuse(unwelcome)
                return
        self._chunks.append(chunk)

    def on_message_complete(self) -> None:
        request = self._request
        if self._discarding or request is None:
            return
        chunks = self._chunks
        if chunks:
            request.body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            self._chunks = []
            self._body_size = 0
        self._overhead = 0
        self._request = None
        self._expects = False
        self._head_size = 0
        self._started = False
        self._timed = None
        keep = self._parser.should_keep_alive() and not self._parser.should_upgrade()
        if self._task is None and not self._waiting and not self._writing_paused:
            self._run(request, keep)
        else:
            self._waiting.append((request, keep))

    # Serving

    def _run(self, request: HttpRequest, keep: bool) -> None:
        self.deadline = None
        # Not through a TaskOwner: the connection is the owner, and the handler's errors all end in `_handle`.
        self._task = self._loop.create_task(self._handle(request, keep))

    async def _handle(self, request: HttpRequest, keep: bool) -> None:
        try:
            try:
                response = await self._server.service.handle(request)
            except Exception as error:
                _log.error("handler failed", extra={"path": request.raw_path.decode("latin-1")}, exc_info=error)
                response = self._server.service.refused(500, "Internal error")
            keep = keep and not (self._server.draining or self._server.leaving)
            if response.pieces is not None:
                keep = keep and self._takes_chunks()
                await self._write_pieces(request.method, response, response.pieces, keep)
        finally:
            self._task = None
            self._server.buffered -= len(request.body)
            if self._transport is None:
                self._server.closed(self)
        if self._transport is None:
            return
        if response.pieces is None:
            self._write(request.method, response, keep)
        if not keep:
            self._end()
        elif not self._writing_paused:
            self._serve_next()

    async def _write_pieces(
        self, method: str, response: HttpResponse, pieces: AsyncGenerator[bytes], keep: bool
    ) -> None:
        """Answer with a body as it is made, no faster than the peer takes it. When the peer has gone, or wants the head
        alone, what it is made of still runs to its end."""
        wanted = method != "HEAD" and response.status not in BODILESS
        chunked = self._takes_chunks()
        try:
            if self._transport is not None:
                self._write(method, response, keep)
            async with aclosing(pieces):
                async for piece in pieces:
                    if self._transport is not None and piece and wanted:
                        self._transport.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                    while self._writing_paused and self._transport is not None:
                        self._expect_within(self._server.limits.write_seconds)
                        self._taken = self._loop.create_future()
                        await self._taken
                        self.deadline = None
        except Exception as error:
            _log.error("a response was cut off", exc_info=error)
            if self._transport is not None:
                self._transport.abort()
        else:
            if self._transport is not None and wanted and chunked:
                self._transport.write(b"0\r\n\r\n")

    def _takes_chunks(self) -> bool:
        """Clients of HTTP/1.0 do not: a body ends with its connection. The parser may be at a later request."""
        return self._parser.get_http_version() != "1.0"

    def _has_taken(self) -> None:
        if self._taken is not None and not self._taken.done():
            self._taken.set_result(None)

    def _serve_next(self) -> None:
        """Go on with what waits; else expect the peer to speak."""
        if self._waiting:
            item = self._waiting.popleft()
            if isinstance(item, HttpResponse):
                self._last_word(item)
            else:
                self._run(*item)
            return
        if self._started and not self._half_closed:
            # The next request began while this one ran; its time starts now that it is read again.
            self._expect_rest()
            self._continue()
        elif self._server.draining or self._half_closed:
            self._end()
            return
        else:
            self._expect_within(self._server.limits.idle_seconds)
        if self._reading_paused:
            self._reading_paused = False
            assert self._transport is not None
            self._transport.resume_reading()

    def _expect_rest(self) -> None:
        """Bound the time for the rest of the head, or of the body. Most requests come whole and are never timed."""
        part: Literal["head", "body"] = "head" if self._request is None else "body"
        if part == self._timed:
            return
        self._timed = part
        limits = self._server.limits
        if self._request is None:
            self._expect_within(limits.head_seconds)
        else:
            # A body sent in chunks gets the time of the largest that is allowed.
            size = int(self._request.headers.get(b"content-length", self._limit))
            self._expect_within(limits.body_seconds + size / limits.body_bytes_per_second)

    def _write(self, method: str, response: HttpResponse, keep: bool) -> None:
        transport, status, body = self._transport, response.status, response.body
        assert transport is not None
        lines = [b": ".join(header) for header in response.headers]
        if status in BODILESS:
            pass
        elif response.pieces is None:
            lines.append(b"Content-Length: %d" % len(body))
        elif self._takes_chunks():
            lines.append(b"Transfer-Encoding: chunked")
        if not keep:
            lines.append(b"Connection: close")
        head = b"\r\n".join(lines)
        ends = max(0, len(lines) - 1)
        if head.count(b"\n") != ends or head.count(b"\r") != ends:
            # A value that came from a function must not end the head.
            head = b"\r\n".join([line.replace(b"\r", b" ").replace(b"\n", b" ") for line in lines])
        first = STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
        parts = [first, self._server.date(), head, b"\r\n\r\n" if lines else b"\r\n"]
        if body and method != "HEAD" and status not in BODILESS:
            parts.append(body)
        transport.write(b"".join(parts))

    def _continue(self) -> None:
        if self._expects and self._task is None and not self._waiting and self._transport is not None:
            self._expects = False
            self._transport.write(_CONTINUE)

    # Ending

    def _refuse_head(self) -> None:
        limit = self._server.limits.head_bytes
        self._refuse(self._server.service.refused(431, f"Request line and headers must be smaller than {limit} bytes"))

    def _refuse(self, response: HttpResponse) -> None:
        """Answer with a refusal when its turn comes, and listen no more."""
        self._discarding = True
        self._drop_body()
        if self._task is not None or self._waiting or self._writing_paused:
            self._waiting.append(response)
        else:
            self._last_word(response)

    def _last_word(self, response: HttpResponse) -> None:
        transport = self._transport
        if transport is None:
            return
        self._discarding = True
        self._write("", response, keep=False)
        # Closing with unread input resets the connection, and the peer would lose the answer: it is given time to
        # read, while what it still sends is thrown away.
        if transport.can_write_eof():
            transport.write_eof()
        if self._reading_paused:
            self._reading_paused = False
            transport.resume_reading()
        self._expect_within(self._server.limits.linger_seconds)

    def _drop_body(self) -> None:
        """Forget what has been read of a body."""
        self._server.buffered -= self._body_size
        self._chunks = []
        self._body_size = 0

    def _drop_waiting(self) -> None:
        for item in self._waiting:
            if not isinstance(item, HttpResponse):
                self._server.buffered -= len(item[0].body)
        self._waiting.clear()

    def _end(self) -> None:
        self._discarding = True
        self._drop_body()
        self._drop_waiting()
        if self._transport is not None:
            self._transport.close()
            self._expect_within(self._server.limits.write_seconds)

    def overdue(self) -> None:
        """The deadline has passed."""
        self.deadline = None
        if self._transport is None:
            return
        if self._discarding or self._writing_paused:
            self._transport.abort()
        elif self._started:
            self._refuse(self._server.service.refused(408, f"The request's {self._timed} did not arrive in time"))
        else:
            self._end()

    def close_if_idle(self) -> None:
        """Draining: end now unless a request runs, waits or is being read."""
        if self._task is None and not self._waiting and not self._started:
            self._end()

    def abort(self) -> asyncio.Task[None] | None:
        """End without regard; the handler that was running, cancelled."""
        if self._transport is not None:
            self._transport.abort()
        task = self._task
        if task is not None:
            task.cancel()
        return task

    def _expect_within(self, seconds: float) -> None:
        self.deadline = self._server.clock.monotonic() + seconds

    def _pause_reading(self) -> None:
        if self._transport is not None:
            self._reading_paused = True
            self._transport.pause_reading()
