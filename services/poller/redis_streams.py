"""The built-in destinations: streams in Redis, from which a user reads what would have gone to AWS.

lambent:{ACCOUNT:REGION}:destination:ARN   stream: kind, request-id, function, condition, attributes (JSON), body
"""

from __future__ import annotations

from typing import Any

import msgspec
from redis.asyncio import Redis

from lambent.domain.destinations import Destination
from lambent.domain.names import Tenant
from lambent.infra.queue.records import Delivery
from lambent.infra.redis_client import store_errors

# About as many are kept of each destination; the oldest make room.
STREAM_LENGTH = 10_000


class RedisStreams:
    """A `BuiltIn` in Redis."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def keep(self, tenant: Tenant, destination: Destination, delivery: Delivery, body: bytes) -> None:
        attributes = {name: value for name, (_, value) in delivery.attributes.items()}
        fields: dict[Any, Any] = {
            "kind": delivery.kind,
            "request-id": delivery.request_id,
            "function": delivery.function_arn,
            "condition": delivery.condition,
            "attributes": msgspec.json.encode(attributes),
            "body": body,
        }
        key = f"lambent:{tenant.tag}:destination:{destination.arn}"
        async with store_errors():
            await self._client.xadd(key, fields, maxlen=STREAM_LENGTH, approximate=True)
