"""One HTTP connection from inside a sandbox: bytes in, calls to the API, answers out. The peer is not trusted.

One request at a time; a body is kept whole up to the call's limit, beyond it is read and thrown away before the
refusal, as clients read an answer only once they have sent everything. A streamed response goes on piece by piece, and
no more is read of it than the other end takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol, cast

import httptools

from lambent.infra.http_messages import STATUS_LINES
from services.worker.runtime_api.core import Answer, refusal
from services.worker.runtime_api.routes import Route, find

HEAD_BYTES = 1_310_720  # of one request; AWS's Python client sends up to 1 MB in one header
_EXCESS_BYTES = 64 * 1024 * 1024  # read and thrown away behind a limit, before the connection is cut
_FRAMING = 16  # bytes that go with a chunk, its length and line ends
_UNKNOWN = refusal(404, "NotFound", "The API does not know this path")
_OTHER_METHOD = refusal(405, "MethodNotAllowed", "The API does not know this method here")
_METHODS = {name.encode(): name for name in ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")}


class Api(Protocol):
    """What a connection talks to: the API of the one environment whose connection this is."""

    def opened(self, connection: ApiConnection) -> bool:
        """Whether the connection may be: a bounded number, from this sandbox only."""
        ...

    def closed(self, connection: ApiConnection) -> None: ...

    def body_limit(self, route: Route) -> int: ...

    def begin_stream(self, connection: ApiConnection, request_id: str, headers: Mapping[str, str]) -> bool:
        """A streamed response begins; False: its body is to be kept whole, as any other."""
        ...

    def stream(self, connection: ApiConnection, data: bytes) -> None: ...

    def end_stream(self, connection: ApiConnection, trailers: Mapping[str, str]) -> None: ...

    def call(
        self, connection: ApiConnection, route: Route, request_id: str, headers: Mapping[str, str], body: bytes
    ) -> None: ...

    def too_large(self, connection: ApiConnection, route: Route, request_id: str) -> None: ...

    def refused(self) -> None:
        """The peer has sent what is no call of the API."""
        ...


class ApiConnection(asyncio.Protocol):
    """What the peer has sent so far, and what it is owed."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._url = b""
        self._headers: dict[str, str] = {}
        self._trailers: dict[str, str] | None = None  # None: the head is being read
        self._head_size = 0
        self._route: Route | None = None
        self._request_id = ""
        self._refusal = _UNKNOWN  # the answer where there is no such route
        self._body: list[bytes] = []
        self._size = 0
        self._limit = 0
        self._streams = False
        self._busy = False  # a request waits for its answer
        self._closing = False

    @property
    def open(self) -> bool:
        """Whether an answer can still be sent."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def ends(self) -> tuple[tuple[str, int], tuple[str, int]]:
        """(the peer's address, ours)."""
        assert self._transport is not None
        peer, own = self._transport.get_extra_info("peername"), self._transport.get_extra_info("sockname")
        return (peer[0], peer[1]), (own[0], own[1])

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._api.opened(self):
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._api.closed(self)

    def pause(self) -> None:
        """Read no more for now."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        self._head_size += len(data)  # of trailers as well; what a body has is taken off again
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            raise
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._cut(refusal(400, "InvalidRequest", "The request is not HTTP/1.1"))
            return
        if not self._closing and self._head_size > HEAD_BYTES:
            self._cut(refusal(431, "RequestHeadersTooLarge", f"Headers exceed {HEAD_BYTES} bytes"))

    def _cut(self, answer: Answer) -> None:
        self._closing = True
        self.answer(answer)
        self._api.refused()

    # httptools

    def on_message_begin(self) -> None:
        if self._busy:  # nobody of this API sends ahead
            self._closing = True
        self._url, self._headers, self._trailers = b"", {}, None
        self._body, self._size, self._streams = [], 0, False
        self._route = None

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        into = self._headers if self._trailers is None else self._trailers
        into[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._head_size = 0
        self._trailers = {}
        method = _METHODS.get(self._parser.get_method(), "")
        path = self._url.partition(b"?")[0].decode("latin-1")
        route, self._request_id, other = find(method, path)
        self._route = route
        if route is None:
            self._api.refused()
            self._refusal = _OTHER_METHOD if other else _UNKNOWN
            return
        self._limit = self._api.body_limit(route)
        if self._headers.get("expect", "").lower() == "100-continue" and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if (
            route is Route.RESPONSE
            and "streaming" in self._headers.get("lambda-runtime-function-response-mode", "").lower()
        ):
            self._streams = self._api.begin_stream(self, self._request_id, self._headers)

    def on_body(self, chunk: bytes) -> None:
        self._head_size = max(0, self._head_size - len(chunk) - _FRAMING)
        if self._streams:
            self._api.stream(self, chunk)
            return
        self._size += len(chunk)
        if self._route is not None and self._size <= self._limit:
            self._body.append(chunk)
        elif self._size > self._limit + _EXCESS_BYTES:
            self._cut(refusal(413, "RequestEntityTooLarge", "The request does not end"))
        else:
            self._body.clear()

    def on_message_complete(self) -> None:
        self._head_size = 0
        if self._closing:
            return
        self._busy = True
        if not self._parser.should_keep_alive():
            self._closing = True
        route, body = self._route, b"".join(self._body)
        self._body.clear()
        if route is None:
            self.answer(self._refusal)
        elif self._streams:
            self._api.end_stream(self, self._trailers or {})
        elif self._size > self._limit:
            self._api.too_large(self, route, self._request_id)
        else:
            headers = self._headers
            if route is Route.RESPONSE and self._trailers:
                headers = {**headers, **self._trailers}
            self._api.call(self, route, self._request_id, headers, body)

    # The answer

    def answer(self, answer: Answer) -> None:
        """Answer the request that was read."""
        self.event(answer.headers, answer.body, answer.status)

    def event(self, headers: Sequence[tuple[str, str]], body: bytes, status: int = 200) -> None:
        """Answer with headers of our own; `Content-Type: application/json` where none is given."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._busy = False
        lines = [STATUS_LINES[status]]
        if not any(name == "Content-Type" for name, _ in headers):
            lines.append(b"Content-Type: application/json\r\n")
        # A header cannot hold what would end it: clients could then be told more headers than there are.
        lines += [f"{name}: {_plain(value)}\r\n".encode("utf-8", "replace") for name, value in headers]
        if self._closing:
            lines.append(b"Connection: close\r\n")
        lines.append(b"Content-Length: %d\r\n\r\n" % len(body))
        transport.write(b"".join(lines) + body)
        if self._closing:
            transport.close()

    def close(self) -> None:
        """End the connection once what was answered has left."""
        if self._transport is not None:
            self._transport.close()


def _plain(value: str) -> str:
    return value.replace("\r", " ").replace("\n", " ").replace("\0", " ")
