"""Scripts and messages over links: no answer is another's, and a server that restarts, hangs or is replaced is survived."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from lambent.infra.authority import issue, make_authority
from lambent.infra.redis_client import connect
from lambent.infra.redis_link import RedisLink, messages, pack
from lambent.infra.redis_scripts import ScriptRunner

ECHO = "return { KEYS[1], ARGV[1] }"


@pytest.fixture(params=["plain", "the protocol before", "TLS"])
async def client(request: pytest.FixtureRequest, redis_url: str, tmp_path: Path) -> AsyncIterator[Redis]:
    if request.param == "TLS":
        async with tls_before(redis_url, tmp_path) as url:
            made = connect(url)
            yield made
            await made.aclose()
        return
    made = connect(redis_url if request.param == "plain" else f"{redis_url}?protocol=2")
    yield made
    await made.aclose()


@asynccontextmanager
async def tls_before(redis_url: str, folder: Path) -> AsyncIterator[str]:
    """The same server behind TLS."""
    authority = make_authority()
    issued = issue(authority, ["localhost"])
    for name, data in {"crt": issued.certificate, "key": issued.key, "ca": authority.certificate}.items():
        (folder / name).write_bytes(data)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "crt", folder / "key")

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, to_it = await asyncio.open_unix_connection(redis_url.removeprefix("unix://"))
        await asyncio.gather(pump(reader, to_it), pump(behind, writer))

    server = await asyncio.start_server(serve, "localhost", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    yield f"rediss://localhost:{port}/0?ssl_ca_certs={folder / 'ca'}"
    server.close()


def test_a_command_is_packed_as_the_protocol_says() -> None:
    assert pack(("GET", b"a\r\n\xff", "ü")) == b"*3\r\n$3\r\nGET\r\n$4\r\na\r\n\xff\r\n$2\r\n\xc3\xbc\r\n"


async def test_a_script_is_loaded_where_the_server_does_not_know_it(client: Redis) -> None:
    echo = ScriptRunner(client, 5.0).script(ECHO)
    for value in (b"", b"\r\n\x00\xff" * 30_000):
        assert await echo(["k"], [value]) == [b"k", value]
    await cast(Any, client.script_flush())
    assert await echo(["k"], ["again"]) == [b"k", b"again"]


async def test_calls_at_once_each_get_their_own_answer(client: Redis) -> None:
    echo = ScriptRunner(client, 5.0).script(ECHO)
    values = [f"v{number}".encode() for number in range(50)]
    assert [value for _, value in await asyncio.gather(*(echo(["k"], [value]) for value in values))] == values


async def test_an_error_of_the_script_is_raised_and_the_connection_goes_on(client: Redis) -> None:
    runner = ScriptRunner(client, 5.0)
    fails, echo = runner.script("return redis.error_reply('NO way')"), runner.script(ECHO)
    for _ in range(3):
        with pytest.raises(ResponseError, match="way"):
            await fails([], [])
        assert await echo(["k"], ["v"]) == [b"k", b"v"]


async def test_what_was_given_up_leaves_no_answer_to_the_next(client: Redis, redis_url: str) -> None:
    """Neither a caller that is cancelled, nor a server that hangs."""
    echo = ScriptRunner(client, 0.2).script(ECHO)
    await echo(["k"], ["loaded"])
    other = connect(redis_url)
    await cast(Any, other).client_pause(60_000, all=False)
    given_up = asyncio.ensure_future(echo(["k"], ["cancelled"]))
    await asyncio.sleep(0)
    given_up.cancel()
    with pytest.raises(RedisTimeoutError):
        await echo(["k"], ["late"])
    await cast(Any, other).client_unpause()
    assert await echo(["k"], ["next"]) == [b"k", b"next"]
    await other.aclose()
    with pytest.raises(asyncio.CancelledError):
        await given_up


async def test_a_connection_that_the_server_closed_is_made_anew(client: Redis, redis_url: str) -> None:
    echo = ScriptRunner(client, 5.0).script(ECHO)
    await echo(["k"], ["v"])
    other = connect(redis_url)
    await cast(Any, other).client_kill_filter(_type="normal", skipme=True)
    for number in range(3):  # at the most the one that is under way at that moment fails
        try:
            assert await echo(["k"], [f"{number}"]) == [b"k", f"{number}".encode()]
        except RedisError:
            assert number == 0
    await other.aclose()


async def test_a_server_that_takes_no_writes_any_more_is_asked_over_a_new_connection(client: Redis) -> None:
    """It may be a master that was replaced: where there are Sentinels, a new connection leads to the one of now."""
    append = ScriptRunner(client, 5.0).script("return redis.call('RPUSH', KEYS[1], 1)")
    await append(["k"], [])
    await cast(Any, client).replicaof("127.0.0.1", 1)
    before = {each["id"] for each in await cast(Any, client).client_list()}
    for _ in range(2):
        with pytest.raises(ReadOnlyError):
            await append(["k"], [])
    await cast(Any, client).replicaof("NO", "ONE")
    assert await append(["k"], []) == 2
    assert {each["id"] for each in await cast(Any, client).client_list()} - before


async def test_a_link_that_is_closed_tells_who_waits_and_who_comes(client: Redis) -> None:
    link = RedisLink(await cast(Any, client.connection_pool).get_connection(), 5.0)
    assert await link.ask(pack(("ECHO", "v"))) == b"v"
    waits = link.ask(pack(("BLPOP", "nothing", "0")))
    link.close()
    for asked in (waits, link.ask(pack(("PING",)))):
        with pytest.raises(RedisConnectionError):
            await asked


async def published(client: Redis, text: str, listeners: int) -> None:
    """Tell a message until so many have heard it."""
    for _ in range(500):
        if await cast(Any, client).publish("news", text) == listeners:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"not {listeners} who listen")


async def test_messages_come_until_the_connection_ends(client: Redis, redis_url: str) -> None:
    other = connect(redis_url)
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def hear() -> None:
        async with aclosing(messages(client, "news")) as told:
            async for message in told:
                heard.put_nowait(message)

    hearing = asyncio.ensure_future(hear())
    await published(other, "first", 1)
    for text in ("", "r\r\n" * 50_000):
        await cast(Any, other).publish("news", text)
    assert [await heard.get() for _ in range(3)] == [b"first", b"", b"r\r\n" * 50_000]
    await cast(Any, other).client_kill_filter(_type="pubsub")
    with pytest.raises(RedisError, match="Connection lost"):
        await hearing
    await other.aclose()


async def test_messages_that_nobody_wants_any_more_are_not_sent(client: Redis, redis_url: str) -> None:
    other = connect(redis_url)
    told = messages(client, "news")
    first = asyncio.ensure_future(anext(told))
    await published(other, "first", 1)
    assert await first == b"first"
    await told.aclose()
    await published(other, "second", 0)
    await other.aclose()
