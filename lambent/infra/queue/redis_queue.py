"""The queue in Redis; each change is one atomic script. `redis_keys` says what is where."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, cast

from redis.asyncio import Redis

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
from lambent.infra.redis_client import ANSWER_SECONDS, STORE_FAILURES, store_errors
from lambent.infra.redis_link import messages
from lambent.infra.redis_scripts import ScriptRunner
from lambent.infra.settings import Queue

# How long after the channel's end it is subscribed to again.
_RESUBSCRIBE_SECONDS = 0.5


class RedisQueue:
    """An `EventQueue` in a Redis-compatible server."""

    def __init__(self, client: Redis, clock: Clock, owner: str, *, dead_seconds: float, dead_items: int) -> None:
        """`owner`: who leases, for whoever looks. `dead_seconds`, `dead_items`: how long, and how many of each queue,
        dead items are kept."""
        self._client = client
        self._clock = clock
        self._owner = owner
        self._dead_seconds = dead_seconds
        self._dead_items = dead_items
        self._offset = 0.0  # the server's clock over our monotonic one
        self._known: set[Tenant] = set()
        scripts = ScriptRunner(client, ANSWER_SECONDS)
        self._append, self._lease, self._renew, self._settle = (
            scripts.script(keys.script(name)) for name in ("append", "lease", "renew", "settle")
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
            asked = terms.get(item.id)
            if asked is None:
                parts += (number[item.name], item.id, item.value, "")
                continue
            not_before = "0" if asked.not_before is None else keys.milliseconds(asked.not_before)
            parts += (number[item.name], item.id, item.value, "terms", not_before)
            if asked.token is None:
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
                used, [keys.milliseconds(now), keys.WAKES, tenant.text, str(len(number)), *number, *parts]
            )
        ids = [item.id for item in items]
        if not answer:
            return ids
        others = {answer[at].decode(): answer[at + 1].decode() for at in range(0, len(answer), 2)}
        return [others.get(id_, id_) for id_ in ids]

    async def lease(self, key: QueueKey, count: int, now: float, until: float) -> Batch:
        tenant, name = key
        parts = keys.of_queue(tenant, name, "fresh", "delayed", "leased", "tokens", "values", "states")
        async with store_errors():
            answer: Any = await self._lease(
                [
                    keys.index(tenant), *parts,
                    *(keys.of_tenant(tenant, part) for part in ("lease", "paused", "priorities")),
                ],
                [name, keys.milliseconds(now), keys.milliseconds(until), self._owner, str(count)],
            )  # fmt: skip
        due, token = int(answer[0]), answer[1].decode()
        return Batch(tuple(_leased(token, *answer[3:])), None if due < 0 else due / 1000, int(answer[2]))

    async def renew(self, key: QueueKey, held: Sequence[tuple[str, str]], until: float) -> frozenset[str]:
        async with store_errors():
            answer: Any = await self._renew(
                keys.of_queue(*key, "leased", "tokens"),
                [keys.milliseconds(until), *(part for each in held for part in each)],
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
                [keys.index(tenant), *own, keys.of_tenant(tenant, "names"), *more],
                [
                    name, keys.milliseconds(now), keys.milliseconds(now - self._dead_seconds), str(self._dead_items),
                    keys.WAKES, tenant.text, str(len(number)), *number, *parts,
                ],
            )  # fmt: skip
        late = frozenset(answer)
        return frozenset(each.id for number, each in enumerate(settlements) if number not in late)

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
                async with aclosing(messages(self._client, keys.WAKES)) as told:
                    async for message in told:
                        tenant, _, name = message.decode().partition(" ")
                        yield QueueKey(Tenant.of(tenant), name)
            except STORE_FAILURES:
                await asyncio.sleep(_RESUBSCRIBE_SECONDS)


def redis_queue(client: Redis, clock: Clock, owner: str, limits: Queue) -> RedisQueue:
    """The queue with the limits of the settings."""
    return RedisQueue(
        client, clock, owner,
        dead_seconds=limits.dead_days * 86_400, dead_items=limits.dead_events,
    )  # fmt: skip


def _numbered(tenant: Tenant, items: Sequence[Item], *parts: str) -> tuple[dict[str, str], list[str]]:
    """The queues of items, each with its number as scripts count, and these keys of each."""
    number = {name: str(at) for at, name in enumerate(dict.fromkeys(item.name for item in items), 1)}
    return number, [key for name in number for key in keys.of_queue(tenant, name, *parts)]


def _leased(token: str, sizes: bytes, parts: bytes) -> Iterator[Leased]:
    """Items from what they are made of, one part behind the other."""
    lengths = [int(size) for size in sizes.split(b",")] if sizes else []
    ends = list(itertools.accumulate(lengths, initial=0))
    for at in range(0, len(lengths), 3):
        id_, value, state = (parts[ends[each] : ends[each + 1]] for each in range(at, at + 3))
        yield Leased(id_.decode(), token, value, state)


def _verdict(verdict: Verdict) -> tuple[str, str, bytes]:
    match verdict:
        case Done():
            return "done", "", b""
        case Delayed(until, state):
            return "delayed", keys.milliseconds(until), state
        case Dead(state):
            return "dead", "", state
