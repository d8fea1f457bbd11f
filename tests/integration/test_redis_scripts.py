"""Scripts over connections that are kept: no answer is another's, and a server that restarts or hangs is survived."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from lambent.infra.redis_client import connect
from lambent.infra.redis_scripts import ScriptRunner, pack

ECHO = "return { KEYS[1], ARGV[1] }"


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    made = connect(redis_url)
    yield made
    await made.aclose()


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
