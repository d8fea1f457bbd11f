"""Functions in Redis. Keys of one tenant share a hash tag; each change is one atomic script, change log included.

lambent:{ACCOUNT:REGION}:function:NAME   hash: record (JSON), revision, bytes
lambent:{ACCOUNT:REGION}:functions       sorted set of names, all with score 0: sorted by name
lambent:{ACCOUNT:REGION}:code-bytes      bytes of all packages
lambent:{ACCOUNT:REGION}:generation      counter
lambent:{ACCOUNT:REGION}:changes         stream: name, generation
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from lambent.domain.functions import FunctionRecord
from lambent.domain.names import Tenant
from lambent.infra.redis_client import store_errors
from services.frontend.store.port import Change

CHANGE_LOG_LENGTH = 10_000
# How long one read of the change log waits on the server.
READ_MILLISECONDS = 10_000

_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(FunctionRecord)


class RedisFunctionStore:
    """A `FunctionStore` in a Redis-compatible server."""

    def __init__(self, client: Redis, blocking: Redis) -> None:
        """`blocking`: a second client, for reads that wait."""
        self._client = client
        self._blocking = blocking
        folder = Path(__file__).parent
        self._create = client.register_script((folder / "create_function.lua").read_text())
        self._replace = client.register_script((folder / "replace_function.lua").read_text())
        self._delete = client.register_script((folder / "delete_function.lua").read_text())

    @staticmethod
    def _key(tenant: Tenant, rest: str) -> str:
        return f"lambent:{tenant.tag}:{rest}"

    async def next_generation(self, tenant: Tenant) -> int:
        async with store_errors():
            return int(await self._client.incr(self._key(tenant, "generation")))

    async def create(self, record: FunctionRecord, code_limit: int) -> str | None:
        tenant = record.tenant
        async with store_errors():
            answer = await self._create(
                keys=[
                    self._key(tenant, f"function:{record.name}"), self._key(tenant, "functions"),
                    self._key(tenant, "code-bytes"), self._key(tenant, "changes"),
                ],
                args=[
                    _ENCODER.encode(record), record.name, record.code.size, code_limit, record.generation,
                    CHANGE_LOG_LENGTH, record.revision_id,
                ],
            )  # fmt: skip
        return _obstacle(answer)

    async def get(self, tenant: Tenant, name: str) -> FunctionRecord | None:
        async with store_errors():
            encoded = await self._client.hget(self._key(tenant, f"function:{name}"), "record")
        return None if encoded is None else _DECODER.decode(encoded)

    async def replace(self, record: FunctionRecord, expected_revision: str, code_limit: int) -> str | None:
        tenant = record.tenant
        async with store_errors():
            answer = await self._replace(
                keys=[
                    self._key(tenant, f"function:{record.name}"), self._key(tenant, "code-bytes"),
                    self._key(tenant, "changes"),
                ],
                args=[
                    _ENCODER.encode(record), record.name, record.code.size, code_limit, record.generation,
                    CHANGE_LOG_LENGTH, expected_revision, record.revision_id,
                ],
            )  # fmt: skip
        return _obstacle(answer)

    async def delete(self, tenant: Tenant, name: str, generation: int) -> bool:
        async with store_errors():
            answer = await self._delete(
                keys=[
                    self._key(tenant, f"function:{name}"), self._key(tenant, "functions"),
                    self._key(tenant, "code-bytes"), self._key(tenant, "changes"),
                ],
                args=[name, generation, CHANGE_LOG_LENGTH],
            )  # fmt: skip
        return bool(answer)

    async def list(self, tenant: Tenant, after: str, limit: int) -> list[FunctionRecord]:
        start = f"({after}" if after else "-"
        async with store_errors():
            names = await self._client.zrangebylex(self._key(tenant, "functions"), start, "+", 0, limit)
            async with self._client.pipeline(transaction=False) as pipeline:
                for name in names:
                    pipeline.hget(self._key(tenant, f"function:{_text(name)}"), "record")
                records: list[Any] = await pipeline.execute() if names else []
        # A function deleted between the two reads is simply not listed.
        return [_DECODER.decode(record) for record in records if record is not None]

    async def code_bytes(self, tenant: Tenant) -> int:
        async with store_errors():
            return int(await self._client.get(self._key(tenant, "code-bytes")) or 0)

    async def changes(self, tenant: Tenant) -> AsyncIterator[Change]:
        key = self._key(tenant, "changes")
        last = "$"
        while True:
            try:
                if last == "$":
                    newest: Any = await self._client.xrevrange(key, count=1)
                    last = newest[0][0] if newest else "0-0"
                answer: Any = await self._blocking.xread({key: last}, block=READ_MILLISECONDS)
            except (RedisError, OSError):
                await asyncio.sleep(0.5)
                continue
            streams = answer.values() if isinstance(answer, dict) else [entries for _, entries in answer or []]
            for entries in streams:
                flat = entries[0] if entries and isinstance(entries[0], list) else entries
                for entry_id, fields in flat:
                    last = entry_id
                    yield Change(tenant, fields[b"name"].decode(), int(fields[b"generation"]))


def _obstacle(answer: bytes) -> str | None:
    return None if answer == b"ok" else answer.decode()


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode()
