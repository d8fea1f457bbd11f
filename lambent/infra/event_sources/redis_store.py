"""Event source mappings in Redis. Keys of one tenant share a hash tag; each change is one atomic script.

lambent:{ACCOUNT:REGION}:event-sources             hash: record (JSON) of each mapping by its UUID
lambent:{ACCOUNT:REGION}:event-source-pairs        hash: UUID by source and function's ARN, each pair once
lambent:{ACCOUNT:REGION}:event-source-reader:UUID  who reads a mapping's queue; ends by itself
lambent:{ACCOUNT:REGION}:event-source-checkpoints:UUID  hash: how far a mapping has come (JSON), by shard
lambent:event-source-tenants                       set of ACCOUNT:REGION: every tenant that may have mappings
lambent:event-source-readers                       sorted set of readers, by the time (epoch seconds of the server's
                                                   clock) until which they are there
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
from redis.asyncio import Redis

from lambent.domain.event_sources import EventSourceMapping
from lambent.domain.names import Tenant
from lambent.infra.event_sources.port import Checkpoint, Taken
from lambent.infra.redis_client import store_errors

_TENANTS, _READERS = "lambent:event-source-tenants", "lambent:event-source-readers"
_FOLDER = Path(__file__).parent

_ENCODER = msgspec.json.Encoder()
_MAPPING = msgspec.json.Decoder(EventSourceMapping)
_CHECKPOINT = msgspec.json.Decoder(Checkpoint)


class RedisEventSourceStore:
    """An `EventSourceStore` in a Redis-compatible server."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._create = client.register_script((_FOLDER / "create_mapping.lua").read_text())
        self._change = client.register_script((_FOLDER / "change_mapping.lua").read_text())

    async def create(self, mapping: EventSourceMapping) -> Taken | None:
        async with store_errors():
            # Of another hash slot, so not within the script: before it, as a tenant too many does no harm.
            await cast(Any, self._client.sadd(_TENANTS, mapping.tenant.text))
            other = await self._create(
                keys=_keys(mapping.tenant), args=[mapping.uuid, _ENCODER.encode(mapping), mapping.pair]
            )
        return None if other is None else Taken(other.decode())

    async def get(self, tenant: Tenant, uuid: str) -> EventSourceMapping | None:
        async with store_errors():
            encoded = await cast(Any, self._client.hget(_key(tenant, "event-sources"), uuid))
        return None if encoded is None else _MAPPING.decode(encoded)

    async def list(self, tenant: Tenant) -> Sequence[EventSourceMapping]:
        async with store_errors():
            encoded: Any = await cast(Any, self._client.hvals(_key(tenant, "event-sources")))
        return sorted((_MAPPING.decode(each) for each in encoded), key=lambda mapping: mapping.uuid)

    async def all(self) -> Sequence[EventSourceMapping]:
        async with store_errors():
            tenants: Any = await cast(Any, self._client.smembers(_TENANTS))
        return [mapping for each in sorted(tenants) for mapping in await self.list(Tenant.of(each.decode()))]

    async def change(self, before: EventSourceMapping, after: EventSourceMapping | None) -> Taken | bool:
        then = ["", ""] if after is None else [_ENCODER.encode(after), after.pair]
        async with store_errors():
            said, *other = await self._change(
                keys=_keys(before.tenant), args=[before.uuid, before.revision, before.pair, *then]
            )
        return Taken(other[0].decode()) if other else bool(said == b"done")


class RedisReaderIndex:
    """A `ReaderIndex` in a Redis-compatible server, by whose clock it goes."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._announce = client.register_script((_FOLDER / "announce_reader.lua").read_text())
        self._claim = client.register_script((_FOLDER / "claim_mapping.lua").read_text())
        self._release = client.register_script((_FOLDER / "release_mapping.lua").read_text())

    async def announce(self, reader: str, seconds: float) -> list[str]:
        async with store_errors():
            readers: Any = await self._announce(keys=[_READERS], args=[reader, seconds])
        return sorted(each.decode() for each in readers)

    async def leave(self, reader: str) -> None:
        async with store_errors():
            await self._client.zrem(_READERS, reader)

    async def claim(self, tenant: Tenant, uuid: str, reader: str, seconds: float) -> bool:
        milliseconds = max(1, round(seconds * 1000))
        async with store_errors():
            claimed = await self._claim(keys=[_reader_key(tenant, uuid)], args=[reader, milliseconds])
        return bool(claimed)

    async def release(self, tenant: Tenant, uuid: str, reader: str) -> None:
        async with store_errors():
            await self._release(keys=[_reader_key(tenant, uuid)], args=[reader])


class RedisCheckpoints:
    """`Checkpoints` in a Redis-compatible server."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._save = client.register_script((_FOLDER / "save_checkpoints.lua").read_text())

    async def load(self, tenant: Tenant, uuid: str) -> Mapping[str, Checkpoint]:
        async with store_errors():
            fields: Any = await cast(Any, self._client.hgetall(_checkpoints_key(tenant, uuid)))
        return {shard.decode(): _CHECKPOINT.decode(encoded) for shard, encoded in fields.items()}

    async def save(self, tenant: Tenant, uuid: str, reader: str, changes: Mapping[str, Checkpoint | None]) -> bool:
        args: list[Any] = [reader]
        for shard, checkpoint in changes.items():
            args += [shard, "" if checkpoint is None else _ENCODER.encode(checkpoint)]
        async with store_errors():
            saved = await self._save(keys=[_reader_key(tenant, uuid), _checkpoints_key(tenant, uuid)], args=args)
        return bool(saved)

    async def drop(self, tenant: Tenant, uuid: str) -> None:
        async with store_errors():
            await self._client.delete(_checkpoints_key(tenant, uuid))


def _key(tenant: Tenant, rest: str) -> str:
    return f"lambent:{tenant.tag}:{rest}"


def _keys(tenant: Tenant) -> list[str]:
    return [_key(tenant, rest) for rest in ("event-sources", "event-source-pairs")]


def _reader_key(tenant: Tenant, uuid: str) -> str:
    return _key(tenant, f"event-source-reader:{uuid}")


def _checkpoints_key(tenant: Tenant, uuid: str) -> str:
    return _key(tenant, f"event-source-checkpoints:{uuid}")
