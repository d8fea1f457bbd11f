"""The queue in Redis; each change is one atomic script. `redis_keys` says what is where."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from lambent.domain.clock import Clock
from lambent.domain.names import Tenant
from lambent.infra.queue import redis_keys as keys
from lambent.infra.queue.port import (
    NO_TERMS,
    Batch,
    Dead,
    Delayed,
    Done,
    Item,
    Leased,
    QueueKey,
    Settlement,
    Terms,
    Verdict,
)
from lambent.infra.redis_client import store_errors
from lambent.infra.settings import Queue

# How long one read of the channel waits, and the pause before it is subscribed to again.
_LISTEN_SECONDS, _RESUBSCRIBE_SECONDS = 30.0, 0.5


class RedisQueue:
    """An `EventQueue` in a Redis-compatible server."""

    def __init__(
        self, client: Redis, blocking: Redis, clock: Clock, owner: str, *, dead_seconds: float, dead_items: int
    ) -> None:
        """`blocking`: a second client, for reads that wait. `owner`: who leases, for whoever looks. `dead_seconds`,
        `dead_items`: how long, and how many of each queue, dead items are kept."""
        self._client = client
        self._blocking = blocking
        self._clock = clock
        self._owner = owner
        self._dead_seconds = dead_seconds
        self._dead_items = dead_items
        self._offset = 0.0  # the server's clock over our monotonic one
        self._known: set[Tenant] = set()
        self._append, self._lease, self._renew, self._settle = (
            client.register_script(keys.script(name)) for name in ("append", "lease", "renew", "settle")
        )

    def now(self) -> float:
        return self._clock.monotonic() + self._offset

    async def synchronize(self) -> None:
        async with store_errors():
            asked = self._clock.monotonic()
            seconds, microseconds = await cast(Any, self._client.time())
            # The server looked somewhere between.
            self._offset = seconds + microseconds / 1e6 - (asked + self._clock.monotonic()) / 2

    async def append(
        self, tenant: Tenant, items: Sequence[Item], now: float, terms: Mapping[str, Terms] = NO_TERMS
    ) -> list[str]:
        number, more = _numbered(tenant, items, "fresh", "values", "delayed")
        used = [keys.index(tenant), *more]
        parts: list[str | bytes] = []
        for item in items:
            parts += (number[item.name], item.id, item.value)
            asked = terms.get(item.id)
            parts.append("0" if asked is None or asked.not_before is None else keys.milliseconds(asked.not_before))
            if asked is None or asked.token is None:
                parts += ("0", "")
            else:
                used.append(keys.of_token(tenant, item.name, asked.token.text))
                parts += (str(len(used)), keys.milliseconds(asked.token.until))
        async with store_errors():
            if tenant not in self._known:
                # Of another hash slot, so not within the script: before it, as a tenant too many does no harm.
                await cast(Any, self._client.sadd(keys.TENANTS, tenant.text))
                self._known.add(tenant)
            answer: Any = await self._append(
                keys=used,
                args=[keys.milliseconds(now), keys.WAKES, tenant.text, len(number), *number, *parts],
            )
        return [id_.decode() for id_ in answer]

    async def lease(self, key: QueueKey, count: int, now: float, until: float) -> Batch:
        tenant, name = key
        parts = keys.of_queue(tenant, name, "fresh", "delayed", "leased", "tokens", "values", "states")
        async with store_errors():
            answer: Any = await self._lease(
                keys=[
                    keys.index(tenant), *parts,
                    *(keys.of_tenant(tenant, part) for part in ("lease", "paused", "priorities")),
                ],
                args=[name, keys.milliseconds(now), keys.milliseconds(until), self._owner, count],
            )  # fmt: skip
        due, token = int(answer[0]), answer[1].decode()
        items = tuple(
            Leased(answer[at].decode(), token, answer[at + 1], answer[at + 2]) for at in range(3, len(answer), 3)
        )
        return Batch(items, None if due < 0 else due / 1000, int(answer[2]))

    async def renew(self, key: QueueKey, held: Sequence[tuple[str, str]], until: float) -> frozenset[str]:
        async with store_errors():
            answer: Any = await self._renew(
                keys=keys.of_queue(*key, "leased", "tokens"),
                args=[keys.milliseconds(until), *(part for each in held for part in each)],
            )
        return frozenset(each.decode() for each in answer)

    async def settle(self, key: QueueKey, settlements: Sequence[Settlement], now: float) -> frozenset[str]:
        tenant, name = key
        number, more = _numbered(tenant, [item for each in settlements for item in each.then], "fresh", "values")
        parts: list[str | bytes] = []
        for each in settlements:
            parts += (each.id, each.token, *_verdict(each.verdict), str(len(each.then)))
            for item in each.then:
                parts += (number[item.name], item.id, item.value)
        own = keys.of_queue(tenant, name, "delayed", "leased", "tokens", "values", "states", "dead")
        async with store_errors():
            answer: Any = await self._settle(
                keys=[keys.index(tenant), *own, keys.of_tenant(tenant, "names"), *more],
                args=[
                    name, keys.milliseconds(now), keys.milliseconds(now - self._dead_seconds), self._dead_items,
                    keys.WAKES, tenant.text, len(number), *number, *parts,
                ],
            )  # fmt: skip
        return frozenset(each.decode() for each in answer)

    async def due(self, tenant: Tenant, before: float, limit: int) -> list[tuple[str, float]]:
        async with store_errors():
            found: Any = await self._client.zrange(
                keys.index(tenant), cast(int, "-inf"), int(keys.milliseconds(before)), byscore=True, offset=0,
                num=limit, withscores=True,
            )  # fmt: skip
        return [(name.decode(), score / 1000) for name, score in found]

    async def tenants(self) -> tuple[Tenant, ...]:
        async with store_errors():
            members: Any = await cast(Any, self._client.smembers(keys.TENANTS))
        return tuple(Tenant.of(member.decode()) for member in sorted(members))

    async def wakes(self) -> AsyncIterator[QueueKey]:
        while True:
            try:
                async with self._blocking.pubsub(ignore_subscribe_messages=True) as channel:
                    await channel.subscribe(keys.WAKES)
                    while True:
                        message = await channel.get_message(timeout=_LISTEN_SECONDS)
                        if message is not None:
                            tenant, _, name = message["data"].decode().partition(" ")
                            yield QueueKey(Tenant.of(tenant), name)
            except (RedisError, OSError):
                await asyncio.sleep(_RESUBSCRIBE_SECONDS)


def redis_queue(client: Redis, blocking: Redis, clock: Clock, owner: str, limits: Queue) -> RedisQueue:
    """The queue with the limits of the settings."""
    return RedisQueue(
        client, blocking, clock, owner,
        dead_seconds=limits.dead_days * 86_400, dead_items=limits.dead_events,
    )  # fmt: skip


def _numbered(tenant: Tenant, items: Sequence[Item], *parts: str) -> tuple[dict[str, str], list[str]]:
    """The queues of items, each with its number as scripts count, and these keys of each."""
    number = {name: str(at) for at, name in enumerate(dict.fromkeys(item.name for item in items), 1)}
    return number, [key for name in number for key in keys.of_queue(tenant, name, *parts)]


def _verdict(verdict: Verdict) -> tuple[str, str, bytes]:
    match verdict:
        case Done():
            return "done", "", b""
        case Delayed(until, state):
            return "delayed", keys.milliseconds(until), state
        case Dead(state):
            return "dead", "", state
