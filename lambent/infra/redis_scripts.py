"""Scripts that are run for every few events, over a link that is kept for them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import NoScriptError
from redis.exceptions import TimeoutError as RedisTimeoutError

from lambent.infra.redis_link import RedisLink, pack

Script = Callable[[Sequence[str], Sequence[str | bytes]], Awaitable[Any]]


class ScriptRunner:
    """Runs scripts on one server, or a cluster. Raises what the library raises; what was sent is never sent again."""

    def __init__(self, client: Redis, seconds: float) -> None:
        """`client`: whose server it is; the link ends with it. `seconds`: for one answer."""
        self._client = client
        self._seconds = seconds
        self._link: RedisLink | None = None
        self._opening = asyncio.Lock()

    def script(self, text: str) -> Script:
        """A script, to be called with keys and arguments."""
        if isinstance(self._client, RedisCluster):
            # Which node has the keys now is the library's to find out.
            registered = self._client.register_script(text)
            return lambda keys, arguments: registered(keys=keys, args=arguments)
        digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

        async def run(keys: Sequence[str], arguments: Sequence[str | bytes]) -> Any:
            command = pack(("EVALSHA", digest, str(len(keys)), *keys, *arguments))
            link = self._link
            if link is None or link.broken:
                link = await self._opened()
            try:
                return await link.ask(command)
            except NoScriptError:
                # The server has not run it: it is new, or has been started again.
                await link.ask(pack(("SCRIPT", "LOAD", text)))
                return await link.ask(command)

        return run

    async def _opened(self) -> RedisLink:
        """A link that is whole, one for all who want it."""
        async with self._opening:
            link = self._link
            if link is not None and not link.broken:
                return link
            pool = cast(Any, self._client.connection_pool)
            try:
                async with asyncio.timeout(self._seconds):
                    if link is not None:
                        self._link = None
                        await link.connection.disconnect(nowait=True)
                        await pool.release(link.connection)
                    # Of the pool, which closes it with all others.
                    link = self._link = RedisLink(await pool.get_connection(), self._seconds)
            except TimeoutError:
                raise RedisTimeoutError("The store did not answer in time") from None
            return link
