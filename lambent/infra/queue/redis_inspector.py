"""Looking after the queue in Redis. Reads are not of one instant: what is counted moves on meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

from redis.asyncio import Redis

from lambent.domain.names import Tenant
from lambent.infra.queue import redis_keys as keys
from lambent.infra.queue.port import Depth, Entry, Place, QueueKey
from lambent.infra.redis_client import store_errors

# Most items that one command forgets or queues again, so that none holds the server up for long.
_AT_ONCE = 1000
_TIMED = (Place.DELAYED, Place.LEASED, Place.DEAD)


class RedisInspector:
    """A `QueueInspector` of a `RedisQueue`."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._purge, self._redrive, self._resume = (
            client.register_script(keys.script(name)) for name in ("purge", "redrive", "resume")
        )

    async def depths(self, tenant: Tenant) -> list[Depth]:
        async with store_errors():
            async with self._client.pipeline(transaction=False) as pipeline:
                pipeline.zrange(keys.index(tenant), 0, -1)
                pipeline.smembers(keys.of_tenant(tenant, "names"))
                pipeline.hkeys(keys.of_tenant(tenant, "paused"))
                pipeline.hgetall(keys.of_tenant(tenant, "priorities"))
                indexed, named, paused, priorities = await pipeline.execute()
            names = sorted({name.decode() for name in (*indexed, *named, *paused, *priorities)})
            async with self._client.pipeline(transaction=False) as pipeline:
                for name in names:
                    fresh, *timed = keys.of_queue(tenant, name, Place.FRESH, *_TIMED)
                    pipeline.llen(fresh)
                    for key in timed:
                        pipeline.zcard(key)
                    pipeline.lindex(fresh, 0)
                    pipeline.zrange(timed[0], 0, 0, withscores=True)
                answers: list[Any] = await pipeline.execute() if names else []
            rows = [answers[at : at + 6] for at in range(0, len(answers), 6)]
            async with self._client.pipeline(transaction=False) as pipeline:
                for name, row in zip(names, rows, strict=True):
                    [values] = keys.of_queue(tenant, name, "values")
                    pipeline.hget(values, (row[4] or b"").decode())
                firsts: list[Any] = await pipeline.execute() if names else []
        found = []
        for name, row, first in zip(names, rows, firsts, strict=True):
            counts = dict(zip((Place.FRESH, *_TIMED), row[:4], strict=True))
            is_paused = name.encode() in paused
            priority = int(priorities.get(name.encode(), 0))
            if is_paused or priority or any(counts.values()):
                due = row[5][0][1] / 1000 if row[5] else None
                found.append(Depth(name, counts, is_paused, first, due, priority))
        return found

    async def entries(self, key: QueueKey, place: Place, limit: int, after: float | None = None) -> list[Entry]:
        [ids_key] = keys.of_queue(*key, place)
        found: Any
        async with store_errors():
            if place is Place.FRESH:
                found = [(id_, None) for id_ in await cast(Any, self._client.lrange(ids_key, 0, limit - 1))]
            else:
                start = "-inf" if after is None else keys.milliseconds(after)
                found = await cast(Any, self._client).zrange(
                    ids_key, start, "+inf", byscore=True, offset=0, num=limit, withscores=True
                )
            if not found:
                return []
            ids = [id_.decode() for id_, _ in found]
            async with self._client.pipeline(transaction=False) as pipeline:
                for part in keys.of_queue(*key, "values", "states", "tokens"):
                    pipeline.hmget(part, ids)
                values, states, tokens = await pipeline.execute()
        return [
            Entry(id_, place, None if at is None else at / 1000, (token or b"").decode(), value, state or b"")
            for id_, (_, at), value, state, token in zip(ids, found, values, states, tokens, strict=True)
            if value is not None
        ]

    async def entry(self, key: QueueKey, id_: str) -> Entry | None:
        async with store_errors(), self._client.pipeline(transaction=True) as pipeline:
            for part in keys.of_queue(*key, "values", "states", "tokens"):
                pipeline.hget(part, id_)
            for part in keys.of_queue(*key, *_TIMED):
                pipeline.zscore(part, id_)
            value, state, token, *times = await pipeline.execute()
        if value is None:
            return None
        for place, at in zip(_TIMED, times, strict=True):
            if at is not None:
                return Entry(id_, place, at / 1000, (token or b"").decode(), value, state or b"")
        return Entry(id_, Place.FRESH, None, "", value, state or b"")

    async def pause(self, key: QueueKey, now: float) -> None:
        async with store_errors():
            paused = keys.of_tenant(key.tenant, "paused")
            await cast(Any, self._client.hsetnx(paused, key.name, keys.milliseconds(now)))

    async def resume(self, key: QueueKey, now: float) -> bool:
        tenant, name = key
        async with store_errors():
            answer = await self._resume(
                keys=[keys.index(tenant), keys.of_tenant(tenant, "paused")],
                args=[name, keys.milliseconds(now), keys.WAKES, tenant.text],
            )
        return bool(answer)

    async def prioritize(self, key: QueueKey, priority: int) -> None:
        priorities = keys.of_tenant(key.tenant, "priorities")
        async with store_errors():
            if priority:
                await cast(Any, self._client.hset(priorities, key.name, str(priority)))
            else:
                await cast(Any, self._client.hdel(priorities, key.name))

    async def purge(self, key: QueueKey, what: Literal["waiting", "dead"]) -> int:
        parts = keys.of_queue(*key, "fresh", "delayed", "dead", "values", "states")
        total = 0
        while True:
            async with store_errors():
                count = int(await self._purge(keys=parts, args=[what, _AT_ONCE]))
            total += count
            if count == 0:
                return total

    async def redrive(self, key: QueueKey, ids: Sequence[str], state: bytes, now: float) -> int:
        tenant, name = key
        parts = [keys.index(tenant), *keys.of_queue(tenant, name, "fresh", "dead", "states")]
        common: list[str | bytes] = [name, keys.milliseconds(now), keys.WAKES, tenant.text, state]
        total = 0
        for start in range(0, len(ids), _AT_ONCE):
            async with store_errors():
                total += int(await self._redrive(keys=parts, args=common + list(ids[start : start + _AT_ONCE])))
        return total
