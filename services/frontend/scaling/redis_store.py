"""Application Auto Scaling's settings in Redis. Keys of one tenant share a hash tag.

lambent:{ACCOUNT:REGION}:scaling              hash: state (JSON), revision
lambent:{ACCOUNT:REGION}:scaling-activities   list of JSON documents, the newest first
lambent:scaling-tenants                       set of ACCOUNT:REGION: every tenant that may have scalable targets
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import msgspec
from redis.asyncio import Redis

from lambent.domain.names import Tenant
from lambent.domain.scaling import Activity, ScalingState
from lambent.infra.redis_client import store_errors

_TENANTS = "lambent:scaling-tenants"

_ENCODER = msgspec.json.Encoder()
_STATE = msgspec.json.Decoder(ScalingState)
_ACTIVITY = msgspec.json.Decoder(Activity)


class RedisScalingStore:
    """A `ScalingStore` in a Redis-compatible server."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._replace = client.register_script((Path(__file__).parent / "replace_scaling.lua").read_text())

    @staticmethod
    def _key(tenant: Tenant, rest: str) -> str:
        return f"lambent:{tenant.tag}:{rest}"

    async def scaling(self, tenant: Tenant) -> ScalingState:
        async with store_errors():
            encoded = await cast(Any, self._client.hget(self._key(tenant, "scaling"), "state"))
        return ScalingState() if encoded is None else _STATE.decode(encoded)

    async def replace_scaling(self, tenant: Tenant, before: ScalingState, after: ScalingState) -> bool:
        async with store_errors():
            if not after.empty:
                # Of another hash slot, so not within the script: before it, as a tenant too many does no harm.
                await cast(Any, self._client.sadd(_TENANTS, tenant.text))
            answer = await self._replace(
                keys=[self._key(tenant, "scaling")], args=[before.revision, after.revision, _ENCODER.encode(after)]
            )
        return bool(answer == b"ok")

    async def tenants_with_scaling(self) -> tuple[Tenant, ...]:
        async with store_errors():
            members: Any = await cast(Any, self._client.smembers(_TENANTS))
        return tuple(Tenant.of(member.decode()) for member in sorted(members))

    async def add_activity(self, tenant: Tenant, activity: Activity, most: int) -> None:
        key = self._key(tenant, "scaling-activities")
        async with store_errors(), self._client.pipeline(transaction=True) as pipeline:
            pipeline.lpush(key, _ENCODER.encode(activity))
            pipeline.ltrim(key, 0, most - 1)
            await pipeline.execute()

    async def activities(self, tenant: Tenant) -> list[Activity]:
        async with store_errors():
            encoded: Any = await cast(Any, self._client.lrange(self._key(tenant, "scaling-activities"), 0, -1))
        return [_ACTIVITY.decode(each) for each in encoded]
