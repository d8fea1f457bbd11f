"""What the HTTP server does not buffer: bodies that nobody wants, too many at once, endless trailers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from lambent.infra.http import HttpLimits, HttpRequest, HttpResponse, HttpServer, PlainService, error_response
from tests.unit.http_support import Echo, ManualClock, connect, settled, until


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.mark.parametrize("endless", [b"X-Long: " + b"a" * 3000, b"".join(b"X-%d: y\r\n" % n for n in range(500))])
async def test_endless_trailers_are_given_up(clock: ManualClock, echo: Echo, endless: bytes) -> None:
    server = HttpServer(PlainService(echo.handle, 10), clock=clock, limits=HttpLimits(overhead_bytes=2000))
    async with connect(server) as peer:
        peer.send(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        await until(lambda: any(each._request is not None for each in server.connections))
        peer.send(b"0\r\n", endless)
        assert (await peer.answer())[0] == 431
    await server.close()


class Picky(PlainService):
    """Wants no body of those who do not say who they are."""

    def unwelcome(self, head: HttpRequest) -> HttpResponse | None:
        return None if b"authorization" in head.headers else error_response("AccessDeniedException", "who are you")


@pytest.fixture
async def picky(clock: ManualClock, echo: Echo) -> AsyncIterator[HttpServer]:
    limits = HttpLimits(small_body_bytes=1000, buffered_bytes=5000, sweep_seconds=3600)
    server = HttpServer(Picky(echo.handle, 1_000_000), clock=clock, limits=limits)
    yield server
    await server.close()


@pytest.mark.parametrize(
    "request_", [b"Content-Length: 1001\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n3E9\r\n" + b"x" * 1001]
)
async def test_a_large_body_is_not_read_when_the_head_rules_it_out(
    picky: HttpServer, echo: Echo, request_: bytes
) -> None:
    async with connect(picky) as peer:
        peer.send(b"POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000)
        assert (await peer.answer())[0] == 200
        peer.send(b"POST / HTTP/1.1\r\nAuthorization: x\r\nContent-Length: 1001\r\n\r\n" + b"x" * 1001)
        assert (await peer.answer())[0] == 200
        peer.send(b"POST / HTTP/1.1\r\n", request_)
        status, headers, _ = await peer.answer()
        assert (status, headers["connection"]) == (403, "close")
    assert len(echo.requests) == 2


async def test_bodies_of_all_connections_are_bounded_together(picky: HttpServer, echo: Echo) -> None:
    head = b"POST %b HTTP/1.1\r\nAuthorization: x\r\nContent-Length: 4000\r\n\r\n"
    async with connect(picky) as first, connect(picky) as second:
        first.send(head % b"/wait", b"x" * 4000)
        await echo.entered.wait()
        assert picky.buffered == 4000
        second.send(head % b"/", b"x" * 4000)
        status, headers, body = await second.answer()
        assert (status, headers["retry-after"], headers["connection"]) == (503, "1", "close")
        assert "Message" in json.loads(body)
        echo.release.set()
        assert (await first.answer())[0] == 200
    await settled(picky, 0)
    assert picky.buffered == 0
    async with connect(picky) as third:
        third.send(head % b"/", b"x" * 3000)
        await until(lambda: picky.buffered == 3000)
    await settled(picky, 0)
    assert picky.buffered == 0
