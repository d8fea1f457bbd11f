"""Scripts that are run for every few events, over connections that are kept for them.

The library's own way through pools, hooks, a task for each write and a coroutine for each line that is read took about
a third of a frontend's time for an event. Here a command is packed in one go, written to one of the library's own
connections, which knows about passwords, TLS and Sentinels, and its answer read from there.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import NoScriptError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

Script = Callable[[Sequence[str], Sequence[str | bytes]], Awaitable[Any]]

# Connections that are kept: as many as run at once, which are one for each tenant, or queue, that is busy.
_KEPT = 16


class ScriptRunner:
    """Runs scripts on one server, or a cluster. Raises what the library raises; what was sent is never sent again."""

    def __init__(self, client: Redis, seconds: float) -> None:
        """`client`: whose connections are used; they are closed with it. `seconds`: for one answer."""
        self._client: Any = client
        self._seconds = seconds
        self._idle: list[Any] = []

    def script(self, text: str) -> Script:
        """A script, to be called with keys and arguments."""
        if isinstance(self._client, RedisCluster):
            # Which node has the keys now is the library's to find out.
            registered = self._client.register_script(text)
            return lambda keys, arguments: registered(keys=keys, args=arguments)
        digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

        async def run(keys: Sequence[str], arguments: Sequence[str | bytes]) -> Any:
            command = pack(("EVALSHA", digest, str(len(keys)), *keys, *arguments))
            try:
                return await self._run(command)
            except NoScriptError:
                # The server has not run it: it is new, or has been started again.
                await self._run(pack(("SCRIPT", "LOAD", text)))
                return await self._run(command)

        return run

    async def _run(self, command: bytes) -> Any:
        connection = self._idle.pop() if self._idle else await self._take()
        usable = False
        try:
            async with asyncio.timeout(self._seconds):
                if connection.is_connected and await connection.can_read():
                    # It was closed by the server, or has an answer that nobody waits for.
                    await connection.disconnect()
                await connection.send_packed_command(command, check_health=False)
                answer = await connection.read_response(disable_decoding=True)
            usable = True
            return answer
        except ResponseError:
            usable = True
            raise
        except TimeoutError:
            raise RedisTimeoutError("the store did not answer in time") from None
        finally:
            if not usable:
                await connection.disconnect(nowait=True)
            if len(self._idle) < _KEPT:
                self._idle.append(connection)
            else:
                await self._client.connection_pool.release(connection)

    async def _take(self) -> Any:
        connection = await self._client.connection_pool.get_connection()
        # One limit for all of it, above, instead of a task for each write.
        connection.socket_timeout = None
        return connection


def pack(parts: Sequence[str | bytes]) -> bytes:
    """A command as the server reads it. Source: https://redis.io/docs/latest/develop/reference/protocol-spec/."""
    packed = [b"*%d\r\n" % len(parts)]
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        packed.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(packed)
