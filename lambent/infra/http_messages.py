"""What the HTTP server and what is served say to each other: requests, responses, bounds and refusals."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Protocol

import msgspec

from lambent.domain.errors import ERRORS


class HttpRequest:
    """A request as it came; nothing in it is decoded."""

    __slots__ = ("body", "found", "headers", "method", "peer", "raw_path", "raw_query")

    def __init__(
        self,
        method: str,
        raw_path: bytes,
        raw_query: bytes,
        headers: dict[bytes, bytes],
        body: bytes = b"",
        peer: str = "",
    ) -> None:
        """`headers`: lower-case names; what was sent several times is joined by commas, in order."""
        self.method = method
        self.raw_path = raw_path
        self.raw_query = raw_query
        self.headers = headers
        self.body = body
        self.peer = peer
        self.found: Any = None  # the service's own note of where the request leads


class HttpResponse:
    """What to answer. Framing headers (Content-Length, Transfer-Encoding, Connection, Date) are the server's."""

    __slots__ = ("body", "headers", "pieces", "status")

    def __init__(
        self,
        status: int,
        headers: list[tuple[bytes, bytes]] | None = None,
        body: bytes = b"",
        pieces: AsyncGenerator[bytes] | None = None,
    ) -> None:
        """`pieces`: the body as it is made, where it is not there yet; one that raises cuts the answer off."""
        self.status = status
        self.headers = headers if headers is not None else []
        self.body = body
        self.pieces = pieces


Handler = Callable[[HttpRequest], Coroutine[Any, Any, HttpResponse]]


class HttpService(Protocol):
    """What a server serves."""

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """The answer to a whole request."""
        ...

    def body_limit(self, head: HttpRequest) -> int:
        """Most bytes that the body of this request may have; asked before any of it is kept."""
        ...

    def unwelcome(self, head: HttpRequest) -> HttpResponse | None:
        """The answer to a request that its head alone rules out; asked before a large body is read. None: read it."""
        ...

    def too_large(self, head: HttpRequest, size: int) -> HttpResponse:
        """The answer to a body of `size` bytes (or, sent in chunks, of at least so many) over the limit."""
        ...

    def refused(self, status: int, message: str) -> HttpResponse:
        """The answer to what is no request, or cannot be one now; the statuses are those of REFUSALS."""
        ...


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Bounds of one server. A peer that holds a connection without progress loses it."""

    head_bytes: int = 1024 * 1024  # request line and headers together
    head_seconds: float = 10.0  # from a request's first byte to the end of its head
    body_seconds: float = 20.0  # for a body, beside the time that its size takes at the least rate
    body_bytes_per_second: int = 64 * 1024  # the least rate
    idle_seconds: float = 90.0  # between two requests; longer than SDKs keep an unused connection
    write_seconds: float = 60.0  # for a peer that does not read its answer
    linger_seconds: float = 5.0  # how long the rest of a refused body is read and thrown away, so that the
    # refusal reaches a client which reads only after it has written everything
    connections: int = 20_000  # beyond it new connections are closed at once
    small_body_bytes: int = 64 * 1024  # a body above it is read only when the head alone does not rule it out
    buffered_bytes: int = 512 * 1024 * 1024  # bodies of all connections together; beyond it the next piece is refused
    overhead_bytes: int = 1024 * 1024  # of a body's framing (chunk sizes, trailers), beside 16 bytes for each byte
    sweep_seconds: float = 1.0  # how often the times above are looked at


def error_response(error: str, message: str, reason: str | None = None) -> HttpResponse:
    """An error, by its name in the error table, in the envelope that AWS's clients read."""
    row = ERRORS[error]
    document: dict[str, str] = {}
    if reason is not None:
        document["Reason"] = reason
    if row.fault is not None:
        document["Type"] = row.fault
    document[row.member] = message
    headers = [(b"Content-Type", b"application/json"), (b"x-amzn-ErrorType", error.encode())]
    return HttpResponse(row.status, headers, msgspec.json.encode(document))


# What the server refuses by itself, by status: malformed, too slow, too large, head too large, handler failed, and no
# memory for the body now. All are rows of the error table.
REFUSALS = {
    ERRORS[name].status: name
    for name in (
        "BadRequestException",
        "RequestTimeoutException",
        "RequestEntityTooLargeException",
        "RequestHeaderFieldsTooLargeException",
        "ServiceException",
        "ServiceUnavailableException",
    )
}
RETRY_AFTER = (b"Retry-After", b"1")


class PlainService:
    """An HttpService from one handler, with one limit for all bodies."""

    def __init__(self, handler: Handler, body_bytes: int) -> None:
        self.handle = handler
        self._body_bytes = body_bytes

    def body_limit(self, head: HttpRequest) -> int:
        return self._body_bytes

    def unwelcome(self, head: HttpRequest) -> HttpResponse | None:
        return None

    def too_large(self, head: HttpRequest, size: int) -> HttpResponse:
        return error_response(REFUSALS[413], f"Request must be smaller than {self._body_bytes} bytes")

    def refused(self, status: int, message: str) -> HttpResponse:
        response = error_response(REFUSALS[status], message)
        if status == 503:
            response.headers.append(RETRY_AFTER)
        return response


# Statuses whose answers have no body (RFC 9110, section 6.4.1).
BODILESS = frozenset({204, 304})

# "HTTP/1.1 200 OK\r\n" by status; a status that HTTP does not name goes without a phrase.
STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def http_date(epoch: int) -> bytes:
    """`Date: Sun, 06 Nov 1994 08:49:37 GMT\\r\\n`; by hand, since strftime follows the locale."""
    t = datetime.fromtimestamp(epoch, UTC)
    day, month = _DAYS[t.weekday()], MONTHS[t.month - 1]
    return f"Date: {day}, {t.day:02} {month} {t.year} {t.hour:02}:{t.minute:02}:{t.second:02} GMT\r\n".encode()
