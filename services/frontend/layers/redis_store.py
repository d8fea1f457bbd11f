"""Layers in Redis. Keys of one tenant share a hash tag; each change is one atomic script.

lambent:{ACCOUNT:REGION}:layer:NAME   hash: last (the number given last), and content (JSON) in a field version:NUMBER
                                      for each version; it outlives its versions
lambent:{ACCOUNT:REGION}:layer-policies:NAME
                                      hash: who may get each of its versions (JSON), by NUMBER
lambent:{ACCOUNT:REGION}:layers       sorted set of the names of layers with versions, all with score 0: sorted by name
lambent:{ACCOUNT:REGION}:code-bytes   bytes of all packages, those of functions included
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import msgspec
from redis.asyncio import Redis

from lambent.domain.layers import LayerContent, LayerVersion
from lambent.domain.names import LayerRef, Tenant
from lambent.domain.policies import Policy
from lambent.infra.redis_client import store_errors

_VERSION = "version:"

_ENCODER = msgspec.json.Encoder()
_CONTENT = msgspec.json.Decoder(LayerContent)
_POLICY = msgspec.json.Decoder(Policy)


class RedisLayerStore:
    """A `LayerStore` in a Redis-compatible server."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        folder = Path(__file__).parent
        self._publish = client.register_script((folder / "publish_layer_version.lua").read_text())
        self._delete = client.register_script((folder / "delete_layer_version.lua").read_text())
        self._set_policy = client.register_script((folder / "set_layer_policy.lua").read_text())

    @staticmethod
    def _key(tenant: Tenant, rest: str) -> str:
        return f"lambent:{tenant.tag}:{rest}"

    def _keys(self, layer: LayerRef) -> list[str]:
        return [self._key(layer.tenant, rest) for rest in (f"layer:{layer.name}", "layers", "code-bytes")]

    def _policies(self, layer: LayerRef) -> str:
        return self._key(layer.tenant, f"layer-policies:{layer.name}")

    async def publish(self, layer: LayerRef, content: LayerContent, code_limit: int) -> int | None:
        args: list[Any] = [layer.name, _ENCODER.encode(content), content.code.size, code_limit]
        async with store_errors():
            number = await self._publish(keys=self._keys(layer), args=args)
        return int(number) or None

    async def get(self, layer: LayerRef, number: int) -> LayerVersion | None:
        key = self._key(layer.tenant, f"layer:{layer.name}")
        async with store_errors():
            encoded = await cast(Any, self._client.hget(key, f"{_VERSION}{number}"))
        return None if encoded is None else LayerVersion(layer, number, _CONTENT.decode(encoded))

    async def versions(self, layer: LayerRef) -> list[LayerVersion]:
        key = self._key(layer.tenant, f"layer:{layer.name}")
        async with store_errors():
            fields: Any = await cast(Any, self._client.hgetall(key))
        versions = (
            LayerVersion(layer, int(name.decode().removeprefix(_VERSION)), _CONTENT.decode(encoded))
            for name, encoded in fields.items()
            if name.startswith(_VERSION.encode())
        )
        return sorted(versions, key=lambda version: -version.number)

    async def names(self, tenant: Tenant, after: str, limit: int) -> list[str]:
        start = f"({after}" if after else "-"
        async with store_errors():
            names: list[Any] = await self._client.zrangebylex(self._key(tenant, "layers"), start, "+", 0, limit)
        return [name.decode() for name in names]

    async def delete(self, version: LayerVersion) -> None:
        layer = version.layer
        keys = [*self._keys(layer), self._policies(layer)]
        async with store_errors():
            await self._delete(keys=keys, args=[layer.name, version.number, version.content.code.size])

    async def policy(self, layer: LayerRef, number: int) -> Policy | None:
        async with store_errors():
            encoded = await cast(Any, self._client.hget(self._policies(layer), str(number)))
        return None if encoded is None else _POLICY.decode(encoded)

    async def set_policy(self, layer: LayerRef, number: int, policy: Policy | None, revision: str | None) -> bool:
        keys = [self._keys(layer)[0], self._policies(layer)]
        args: list[Any] = [number, revision or "", b"" if policy is None else _ENCODER.encode(policy)]
        async with store_errors():
            return bool(await self._set_policy(keys=keys, args=args))
