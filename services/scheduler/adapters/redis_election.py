"""Who leads, by a key in Redis that expires.

lambent:{scheduler}:leader   string: who leads and its term; expires unless renewed
lambent:{scheduler}:term     the last term: milliseconds since 1970, or one more than the one before
"""

from __future__ import annotations

from pathlib import Path

from redis.asyncio import Redis

from lambent.infra.redis_client import store_errors

LEADER, TERM = "lambent:{scheduler}:leader", "lambent:{scheduler}:term"


class RedisElection:
    """An `Election` among the schedulers that share one Redis."""

    def __init__(self, client: Redis, name: str, seconds: float) -> None:
        """`name`: unique among live schedulers. `seconds`: how long one leads unless it renews."""
        self._name = name
        self._milliseconds = int(seconds * 1000)
        folder = Path(__file__).parent
        self._acquire = client.register_script((folder / "acquire_leadership.lua").read_text())
        self._renew = client.register_script((folder / "renew_leadership.lua").read_text())

    async def acquire(self) -> int | None:
        async with store_errors():
            return int(await self._acquire(keys=[LEADER, TERM], args=[self._name, self._milliseconds])) or None

    async def renew(self, term: int) -> bool:
        async with store_errors():
            return bool(await self._renew(keys=[LEADER], args=[self._name, term, self._milliseconds]))

    async def release(self, term: int) -> None:
        async with store_errors():
            await self._renew(keys=[LEADER], args=[self._name, term, 0])
