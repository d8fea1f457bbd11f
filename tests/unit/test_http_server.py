"""The HTTP server over real sockets: framing, order, bounds, and what it does to peers that misbehave."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lambent.domain.errors import ERRORS
from lambent.infra.http import REFUSALS, HttpLimits, HttpServer, PlainService
from lambent.infra.http_messages import http_date
from tests.unit.http_support import Echo, ManualClock, Peer, connect, settled, until


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def echo() -> Echo:
    return Echo()


LIMITS = HttpLimits(head_bytes=4096, sweep_seconds=3600)


@pytest.fixture
async def server(clock: ManualClock, echo: Echo) -> AsyncIterator[HttpServer]:
    server = HttpServer(PlainService(echo.handle, 100_000), clock=clock, limits=LIMITS)
    yield server
    await server.close()


async def test_keep_alive_serves_several(server: HttpServer, echo: Echo) -> None:
    async with connect(server) as peer:
        for number in range(3):
            peer.send(
                b"POST /p%d?a=%%20b HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nX-a: 2\r\nContent-Length: 2\r\n\r\nhi" % number
            )
            status, headers, body = await peer.answer()
            assert (status, body, headers["x-path"]) == (200, b"hi", f"/p{number}")
            assert headers["date"] == "tue, 14 nov 2023 22:13:20 gmt"
    request = echo.requests[0]
    assert (request.method, request.raw_path, request.raw_query) == ("POST", b"/p0", b"a=%20b")
    assert request.headers[b"x-a"] == b"1,2"
    assert request.peer.startswith("127.0.0.1:")


async def test_pipelined_requests_are_answered_in_order(server: HttpServer, echo: Echo) -> None:
    async with connect(server) as peer:
        peer.send(b"GET /wait HTTP/1.1\r\n\r\n", b"GET /2 HTTP/1.1\r\n\r\nGET /3 HTTP/1.1\r\n\r\nGET /4 HT")
        await echo.entered.wait()
        assert len(echo.requests) == 1
        echo.release.set()
        peer.send(b"TP/1.1\r\n\r\n")
        paths = [(await peer.answer())[1]["x-path"] for _ in range(4)]
    assert paths == ["/wait", "/2", "/3", "/4"]


async def test_chunked_body_and_byte_by_byte(server: HttpServer) -> None:
    async with connect(server) as peer:
        message = (
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: 1\r\n\r\n"
        )
        for position in range(len(message)):
            peer.send(message[position : position + 1])
            await peer.writer.drain()
        assert (await peer.answer())[2] == b"abcde"


async def test_large_answer_waits_for_its_reader(server: HttpServer) -> None:
    async with connect(server) as peer:
        body = b"x" * 100_000
        request = b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n" + body
        for _ in range(40):
            peer.send(request)
        for _ in range(40):
            assert (await peer.answer())[2] == body


async def test_expect_continue(server: HttpServer) -> None:
    async with connect(server) as peer:
        peer.send(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert await peer.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        peer.send(b"ok")
        assert (await peer.answer())[2] == b"ok"


async def test_head_and_204_have_no_body(server: HttpServer) -> None:
    async with connect(server) as peer:
        peer.send(b"HEAD / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi", b"GET /none HTTP/1.1\r\n\r\n")
        status, headers, _ = await peer.answer(head=True)
        assert (status, headers["content-length"]) == (200, "2")
        status, headers, _ = await peer.answer()
        assert status == 204
        assert "content-length" not in headers


async def test_head_has_none_of_the_pieces_which_are_made_all_the_same(server: HttpServer, echo: Echo) -> None:
    async with connect(server) as peer:
        peer.send(b"HEAD /pieces HTTP/1.1\r\n\r\n", b"GET /next HTTP/1.1\r\n\r\n")
        status, headers, _ = await peer.answer(head=True)
        assert (status, headers["transfer-encoding"], echo.left.is_set()) == (200, "chunked", True)
        assert (await peer.answer())[1]["x-path"] == "/next"


@pytest.mark.parametrize("way", ["", "Connection: keep-alive\r\n"])
async def test_pieces_to_a_client_of_http_1_0_end_with_the_connection(server: HttpServer, way: str) -> None:
    async with connect(server) as peer:
        peer.send(f"GET /pieces HTTP/1.0\r\n{way}\r\n".encode())
        status, headers, _ = await peer.answer()
        assert (status, headers["connection"], "transfer-encoding" in headers) == (200, "close", False)
        assert await peer.at_end() == b"onetwo"


async def test_pieces_of_what_has_no_body_are_none(server: HttpServer) -> None:
    async with connect(server) as peer:
        peer.send(b"GET /pieces?204 HTTP/1.1\r\n\r\nGET /next HTTP/1.1\r\n\r\n")
        status, headers, _ = await peer.answer()
        assert (status, "transfer-encoding" in headers) == (204, False)
        assert (await peer.answer())[1]["x-path"] == "/next"


async def test_the_host_of_a_whole_url_counts(server: HttpServer, echo: Echo) -> None:
    async with connect(server) as peer:
        peer.send(b"GET http://there:80/p?q=1 HTTP/1.1\r\nHost: here\r\n\r\n")
        await peer.answer()
    request = echo.requests[0]
    assert (request.headers[b"host"], request.raw_path, request.raw_query) == (b"there:80", b"/p", b"q=1")


async def test_cookies_are_one_line_and_hosts_no_more_than_one(server: HttpServer, echo: Echo) -> None:
    async with connect(server) as peer:
        peer.send(b"GET / HTTP/1.1\r\nHost: x\r\nCookie: a=1\r\nCookie: b=2; c=3\r\n\r\n")
        await peer.answer()
        assert echo.requests[0].headers[b"cookie"] == b"a=1; b=2; c=3"
        peer.send(b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n")
        assert (await peer.answer())[0] == 400
        assert await peer.at_end() == b""


@pytest.mark.parametrize(
    "head", [b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
             b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nPRI *"]
)  # fmt: skip
async def test_connections_that_end_after_one(server: HttpServer, head: bytes) -> None:
    async with connect(server) as peer:
        peer.send(head)
        status, headers, _ = await peer.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert await peer.at_end() == b""


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nNo colon here\r\n\r\n",
        b"GET / HTTP/1.1\r\nA : b\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"GET  HTTP/1.1\r\n\r\n",
    ],
)
async def test_malformed_is_400_in_aws_form_and_the_end(server: HttpServer, garbage: bytes) -> None:
    async with connect(server) as peer:
        peer.send(garbage)
        status, headers, body = await peer.answer()
        assert status == 400
        assert headers["x-amzn-errortype"] == "badrequestexception"
        assert json.loads(body)["message"].startswith("Malformed request")
        assert await peer.at_end() == b""


async def test_malformed_after_a_good_one_is_told_after_its_answer(server: HttpServer, echo: Echo) -> None:
    async with connect(server) as peer:
        peer.send(b"GET /wait HTTP/1.1\r\n\r\nrubbish\r\n\r\n")
        await echo.entered.wait()
        echo.release.set()
        assert [(await peer.answer())[0] for _ in range(2)] == [200, 400]


async def test_head_too_large(server: HttpServer) -> None:
    async with connect(server) as peer:
        peer.send(b"GET / HTTP/1.1\r\nX-Long: ", b"a" * 5000)
        assert (await peer.answer())[0] == 431
        assert await peer.at_end() == b""


async def test_body_beside_a_small_head_is_not_counted_as_head(server: HttpServer) -> None:
    async with connect(server) as peer:
        peer.send(b"POST / HTTP/1.1\r\nContent-Length: 5000\r\n\r\n", b"a" * 5000)
        assert (await peer.answer())[0] == 200


async def test_declared_body_too_large_is_refused_before_it_comes(server: HttpServer, echo: Echo) -> None:
    async with connect(server) as peer:
        peer.send(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 100001\r\n\r\n")
        status, headers, body = await peer.answer()
        assert (status, headers["connection"]) == (413, "close")
        assert json.loads(body) == {"Type": "User", "message": "Request must be smaller than 100000 bytes"}
        # The client that writes all before it reads is not reset.
        peer.send(b"x" * 100_001)
        await peer.writer.drain()
        peer.writer.write_eof()
        assert await peer.at_end() == b""
    assert echo.requests == []


async def test_chunked_body_too_large_is_refused_while_it_comes(server: HttpServer) -> None:
    async with connect(server) as peer:
        peer.send(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        peer.send(b"186A1\r\n", b"x" * 100_001)
        assert (await peer.answer())[0] == 413


async def test_a_slow_head_and_a_slow_body_are_given_up(server: HttpServer, clock: ManualClock) -> None:
    for part, what in ((b"GET / HT", "head"), (b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab", "body")):
        async with connect(server) as peer:
            peer.send(part)
            await until(lambda: any(connection._started for connection in server.connections))
            server.sweep()
            clock.now += 60
            server.sweep()
            status, _, body = await peer.answer()
            assert (status, what in json.loads(body)["message"]) == (408, True)
            clock.now += 60
            server.sweep()
            assert await peer.at_end() == b""
        await settled(server, 0)


async def test_what_is_begun_behind_a_running_request_is_timed_from_its_turn(
    server: HttpServer, echo: Echo, clock: ManualClock
) -> None:
    async with connect(server) as peer:
        peer.send(b"GET /wait HTTP/1.1\r\n\r\nGET /next HT")
        await echo.entered.wait()
        clock.now += 900
        server.sweep()
        echo.release.set()
        assert (await peer.answer())[0] == 200
        clock.now += 9
        server.sweep()
        clock.now += 2
        server.sweep()
        assert (await peer.answer())[0] == 408


async def test_an_idle_connection_is_closed_quietly(server: HttpServer, clock: ManualClock) -> None:
    async with connect(server) as peer:
        await settled(server, 1)
        clock.now += 91
        server.sweep()
        assert await peer.at_end() == b""


async def test_a_running_handler_has_no_deadline_here(server: HttpServer, echo: Echo, clock: ManualClock) -> None:
    async with connect(server) as peer:
        peer.send(b"GET /wait HTTP/1.1\r\n\r\n")
        await echo.entered.wait()
        clock.now += 900
        server.sweep()
        echo.release.set()
        assert (await peer.answer())[0] == 200


async def test_failing_handler_is_500_and_one_log_line(server: HttpServer, caplog: pytest.LogCaptureFixture) -> None:
    async with connect(server) as peer:
        peer.send(b"GET /fail HTTP/1.1\r\n\r\n")
        status, _, body = await peer.answer()
        assert (status, json.loads(body)) == (500, {"Type": "Service", "Message": "Internal error"})
        peer.send(b"GET /ok HTTP/1.1\r\n\r\n")
        assert (await peer.answer())[0] == 200
    assert [record.message for record in caplog.records] == ["handler failed"]


async def test_client_gone_in_the_middle_lets_the_handler_end(
    server: HttpServer, echo: Echo, caplog: pytest.LogCaptureFixture
) -> None:
    async with connect(server) as peer:
        peer.send(b"GET /wait HTTP/1.1\r\n\r\n")
        await echo.entered.wait()
        peer.writer.transport.abort()
    echo.release.set()
    await settled(server, 0)
    assert echo.left.is_set()
    assert caplog.records == []


async def test_half_closed_client_still_gets_its_answer(server: HttpServer, echo: Echo) -> None:
    async with connect(server) as peer:
        peer.send(b"GET /wait HTTP/1.1\r\n\r\n")
        await echo.entered.wait()
        peer.writer.write_eof()
        echo.release.set()
        assert (await peer.answer())[0] == 200
        assert await peer.at_end() == b""


async def test_values_cannot_end_the_head(server: HttpServer) -> None:
    async with connect(server) as peer:
        peer.send(b"GET /inject HTTP/1.1\r\n\r\n")
        _, headers, _ = await peer.answer()
        assert "x-evil" not in headers


async def test_drain_ends_idle_ones_and_waits_for_running_ones(server: HttpServer, echo: Echo) -> None:
    port = await server.start("127.0.0.1", 0)
    idle, idle_writer = await asyncio.open_connection("127.0.0.1", port)
    busy = Peer(*await asyncio.open_connection("127.0.0.1", port))
    busy.send(b"GET /wait HTTP/1.1\r\n\r\n")
    await echo.entered.wait()
    await settled(server, 2)
    assert not await server.drain(0.01)
    assert await idle.read() == b""
    with pytest.raises(OSError, match=r"Connect|connect"):
        await asyncio.open_connection("127.0.0.1", port)
    draining = asyncio.ensure_future(server.drain(5))
    echo.release.set()
    status, headers, _ = await busy.answer()
    assert (status, headers["connection"]) == (200, "close")
    assert await draining
    idle_writer.close()
    busy.writer.close()


async def test_one_that_leaves_serves_on_and_sends_its_clients_elsewhere(server: HttpServer, echo: Echo) -> None:
    port = await server.start("127.0.0.1", 0)
    known = Peer(*await asyncio.open_connection("127.0.0.1", port))
    known.send(b"GET / HTTP/1.1\r\n\r\n")
    assert (await known.answer())[1].get("connection") != "close"
    server.leave()
    late = Peer(*await asyncio.open_connection("127.0.0.1", port))
    for peer in (known, late):
        peer.send(b"GET / HTTP/1.1\r\n\r\n")
        status, headers, _ = await peer.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert await peer.at_end() == b""
        peer.writer.close()


async def test_close_cancels_what_runs(server: HttpServer, echo: Echo) -> None:
    async with connect(server) as peer:
        peer.send(b"GET /wait HTTP/1.1\r\n\r\n")
        await echo.entered.wait()
        await server.close()
        assert echo.left.is_set()


async def test_a_taken_port_is_told(server: HttpServer) -> None:
    port = await server.start("127.0.0.1", 0)
    with pytest.raises(OSError, match=str(port)):
        await server.start("127.0.0.1", port)


async def test_unix_socket(server: HttpServer, tmp_path: Path) -> None:
    await server.start_unix(str(tmp_path / "s"))
    peer = Peer(*await asyncio.open_unix_connection(str(tmp_path / "s")))
    peer.send(b"GET http://host/path?q=1 HTTP/1.1\r\n\r\n")
    assert (await peer.answer())[1]["x-path"] == "/path"
    peer.writer.close()


async def test_too_many_connections(clock: ManualClock, echo: Echo) -> None:
    server = HttpServer(PlainService(echo.handle, 10), clock=clock, limits=HttpLimits(connections=1))
    async with connect(server):
        await settled(server, 1)
        port = server._listeners[0].sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b""
        writer.close()
        await server.close()


def test_http_date() -> None:
    assert http_date(784_111_777) == b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"


def test_refusals_are_rows_of_the_error_table() -> None:
    assert {status: ERRORS[name].status for status, name in REFUSALS.items()} == {status: status for status in REFUSALS}


async def test_trailers_are_not_headers(server: HttpServer, echo: Echo) -> None:
    async with connect(server) as peer:
        peer.send(
            b"POST / HTTP/1.1\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-A: 2\r\nX-B: 3\r\n\r\n"
        )
        assert (await peer.answer())[2] == b"a"
    assert echo.requests[0].headers == {b"x-a": b"1", b"transfer-encoding": b"chunked"}


async def test_half_closed_client_gets_what_waits_behind_an_answer_it_does_not_read(
    server: HttpServer, echo: Echo
) -> None:
    """Its answers fill the socket; what it asked for is not forgotten because it has nothing more to say."""
    port = await server.start("127.0.0.1", 0)
    raw = socket.create_connection(("127.0.0.1", port))
    raw.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=raw)
    peer = Peer(reader, writer)
    request = b"POST / HTTP/1.1\r\nContent-Length: 90000\r\n\r\n" + b"x" * 90_000
    for _ in range(60):
        peer.send(request)
    peer.send(b"rubbish\r\n\r\n")
    writer.write_eof()
    assert [(await peer.answer())[0] for _ in range(61)] == [200] * 60 + [400]
    writer.close()


async def test_an_upgrade_with_a_body_that_comes_later_is_answered_as_if_it_had_not_asked(
    server: HttpServer, echo: Echo
) -> None:
    async with connect(server) as peer:
        peer.send(b"POST / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 4\r\n\r\n")
        await until(lambda: any(each._request is not None for each in server.connections) or bool(echo.requests))
        peer.send(b"body")
        status, _, body = await peer.answer()
    assert (status, body) == (200, b"body")
