"""Which functions are attached to a network, and when each was used last: what makes them Inactive in the end.

lambent:attached   sorted set of ACCOUNT:REGION:NAME, by the time of the last use (epoch seconds). A function comes into
                   it before it is kept as attached; of those that are not any more, whoever finds one takes it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, cast

from redis.asyncio import Redis

from lambent.domain.names import Tenant
from lambent.infra.redis_client import store_errors

_KEY = "lambent:attached"


class AttachedFunctions(Protocol):
    """Two implementations under one contract suite (tests/contract/test_attached_functions.py). Every method raises
    ServiceUnavailableException where the store cannot be reached."""

    async def add(self, tenant: Tenant, name: str, now: float) -> None:
        """A function is attached, or used, at `now`."""
        ...

    async def remove(self, tenant: Tenant, name: str) -> None:
        """A function is not attached any more."""
        ...

    async def used(self, uses: Mapping[tuple[Tenant, str], float]) -> None:
        """Functions were used. Nothing is kept of those that are not attached; the latest use counts."""
        ...

    async def unused_since(self, moment: float) -> list[tuple[Tenant, str]]:
        """Those that were last used at `moment` or before."""
        ...


class RedisAttachedFunctions:
    """In a Redis-compatible server."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def add(self, tenant: Tenant, name: str, now: float) -> None:
        async with store_errors():
            await self._client.zadd(_KEY, {_member(tenant, name): now}, gt=True)

    async def remove(self, tenant: Tenant, name: str) -> None:
        async with store_errors():
            await self._client.zrem(_KEY, _member(tenant, name))

    async def used(self, uses: Mapping[tuple[Tenant, str], float]) -> None:
        if uses:
            async with store_errors():
                await self._client.zadd(_KEY, {_member(*key): moment for key, moment in uses.items()}, xx=True, gt=True)

    async def unused_since(self, moment: float) -> list[tuple[Tenant, str]]:
        async with store_errors():
            found: Any = await cast(Any, self._client.zrangebyscore(_KEY, "-inf", moment))
        members = [member if isinstance(member, str) else member.decode() for member in found]
        split = (member.rpartition(":") for member in members)
        return [(Tenant.of(tenant), name) for tenant, _, name in split]


class MemoryAttachedFunctions:
    """The twin for tests."""

    def __init__(self) -> None:
        self._used: dict[tuple[Tenant, str], float] = {}

    async def add(self, tenant: Tenant, name: str, now: float) -> None:
        self._used[tenant, name] = max(now, self._used.get((tenant, name), now))

    async def remove(self, tenant: Tenant, name: str) -> None:
        self._used.pop((tenant, name), None)

    async def used(self, uses: Mapping[tuple[Tenant, str], float]) -> None:
        self._used |= {key: max(moment, self._used[key]) for key, moment in uses.items() if key in self._used}

    async def unused_since(self, moment: float) -> list[tuple[Tenant, str]]:
        return [key for key, used in sorted(self._used.items(), key=lambda item: item[1]) if used <= moment]


def _member(tenant: Tenant, name: str) -> str:
    return f"{tenant.text}:{name}"
