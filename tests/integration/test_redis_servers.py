"""Stores that are not the embedded one: behind Sentinels, and the program of containers. Real servers."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from lambent.domain.errors import AwsError
from lambent.infra.clock import SystemClock
from lambent.infra.functions.redis_store import RedisFunctionStore
from lambent.infra.queue.port import Item, QueueKey
from lambent.infra.queue.redis_queue import RedisQueue
from lambent.infra.redaction import without_password
from lambent.infra.redis_client import StoreUnreachable, connect, reach
from lambent.local.redis_server import find_server
from tests.conftest import free_port
from tests.records import ONE
from tests.redis_cluster import redis_cluster

SECONDS = 30.0

# In a process of its own: the library leaves connections to Sentinels to the garbage collector.
USER = """
import asyncio, sys
from lambent.infra.redis_client import connect, connect_for_threads, reach
async def main(url):
    client = connect(url)
    await reach(client, url, 60.0)
    await client.set("a", "1")
    print((await client.config_get("port"))["port"], connect_for_threads(url).get("a"), flush=True)
asyncio.run(main(sys.argv[1]))
"""


@asynccontextmanager
async def running(*command: str | Path, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *command, env=os.environ | environment, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def test_a_master_is_found_through_sentinels(tmp_path: Path) -> None:
    program = find_server()
    assert program is not None
    ports = free_port(2)
    master, sentinel = str(ports), str(ports + 1)
    file = tmp_path / "sentinel.conf"
    file.write_text(
        f"port {sentinel}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {master} 1\nsentinel auth-pass main p:ss/w@rd\n"
    )
    url = f"redis+sentinel://:p%3Ass%2Fw%40rd@127.0.0.1:{sentinel}/main/3"
    async with (
        running(program, "--port", master, "--bind", "127.0.0.1", "--dir", tmp_path, "--requirepass", "p:ss/w@rd"),
        running(program, file, "--sentinel"),
    ):
        user = await asyncio.create_subprocess_exec(sys.executable, "-c", USER, url, stdout=asyncio.subprocess.PIPE)
        out, _ = await asyncio.wait_for(user.communicate(), 2 * SECONDS)
        assert out.decode() == f"{master} b'1'\n"


async def test_a_store_that_does_not_answer_is_told_without_its_password() -> None:
    url = "redis://user:secret@127.0.0.1:1/0"
    client = connect(url)
    with pytest.raises(StoreUnreachable) as error:
        await reach(client, url, 0.0)
    assert "redis://***@127.0.0.1:1/0" in str(error.value)
    assert "secret" not in str(error.value)
    await client.aclose()
    assert without_password("unix:///run/redis.sock") == "unix:///run/redis.sock"


async def test_the_store_of_containers_takes_its_password_from_the_environment(tmp_path: Path) -> None:
    port = str(free_port())
    command = (sys.executable, "-c", "import sys; from lambent.local.store import main; sys.exit(main())")
    async with running(*command, "--port", port, "--dir", tmp_path, STORE_PASSWORD="s3cret") as process:
        client = connect(f"redis://:s3cret@127.0.0.1:{port}")
        await reach(client, "", SECONDS)
        # The kernel asks a server that says nothing whether it is there: one whose machine is gone sends no farewell.
        pool: Any = client.connection_pool
        link = await pool.get_connection()
        assert link._writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 3
        await pool.release(link)
        assert not any(b"s3cret" in shown for shown in _shown(process.pid))
        await client.aclose()
        reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
        writer.write(b"PING\r\n")
        assert (await reader.readline()).startswith(b"-NOAUTH")
        writer.close()
    async with running(*command, "--ping", STORE_PASSWORD="s3cret") as ping:
        assert await ping.wait() == 1  # nobody listens on its port here
    async with running(*command, STORE_PASSWORD='a"b') as refused:
        assert await refused.wait() == 2


def _shown(pid: int) -> list[bytes]:
    """What other processes of its user see of a process."""
    return [Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ")]


async def test_a_cluster_that_is_gone_is_a_store_that_cannot_be_reached(tmp_path: Path) -> None:
    with redis_cluster(tmp_path) as servers:
        client, blocking = connect(servers.url), connect(servers.url, blocking=True)
        functions = RedisFunctionStore(client, blocking)
        queue = RedisQueue(client, SystemClock(), "p", dead_seconds=1e9, dead_items=9)
        assert await functions.get(ONE, "f") is None
        assert await queue.tenants() == ()
        follow = asyncio.ensure_future(anext(aiter(functions.changes(ONE))))
        listen = asyncio.ensure_future(anext(aiter(queue.wakes())))
        await asyncio.sleep(0)
        for process in servers.processes:
            process.kill()
            process.wait()
        now = queue.now()
        for asked in (
            functions.get(ONE, "f"),
            functions.settings(ONE),
            queue.tenants(),
            queue.lease(QueueKey(ONE, "f"), 1, now, now + 1),
            queue.append(ONE, [Item("f", "1", b"")], now),
        ):
            with pytest.raises(AwsError) as caught:
                await asked
            assert caught.value.name == "ServiceUnavailableException"
        with pytest.raises(StoreUnreachable):
            await reach(client, servers.url, 0.0)
        assert not follow.done(), "whoever follows goes on when the store is back"
        assert not listen.done()
        for task in (follow, listen):
            task.cancel()
        await asyncio.gather(follow, listen, return_exceptions=True)
        await client.aclose()
        await blocking.aclose()
