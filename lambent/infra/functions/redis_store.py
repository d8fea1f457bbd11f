"""Functions in Redis. Keys of one tenant share a hash tag; each change is one atomic script, change log included.

lambent:{ACCOUNT:REGION}:function:NAME   hash: record (JSON), revision, stamp, bytes, and JSON in a field version:NUMBER
                                         for each version, alias:NAME for each alias, events:QUALIFIER where the
                                         handling of events is set, policy:QUALIFIER where others are allowed
                                         something, url:QUALIFIER where it has an address, runtime:VERSION where it is
                                         said when its runtime changes, tags and loops (what becomes of it in a
                                         recursive one) once they have been set
lambent:{ACCOUNT:REGION}:functions       sorted set of names, all with score 0: sorted by name
lambent:{ACCOUNT:REGION}:code-bytes      bytes of all packages
lambent:{ACCOUNT:REGION}:concurrency     hash: state (JSON), revision
lambent:{ACCOUNT:REGION}:generation      counter
lambent:{ACCOUNT:REGION}:changes         stream: name, generation, version
lambent:concurrency-tenants              set of ACCOUNT:REGION: every tenant that may have concurrency settings
lambent:function-urls                    hash: id of each function URL, and the ARN that has, or had, it
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import msgspec
from redis.asyncio import Redis

from lambent.domain.concurrency import ConcurrencyState
from lambent.domain.event_invoke import EventInvokeConfig
from lambent.domain.function_urls import FunctionUrl, UrlPlace
from lambent.domain.functions import AliasRecord, Function, FunctionRecord, RuntimeManagement, VersionRecord
from lambent.domain.lineage import TERMINATE, RecursiveLoop
from lambent.domain.names import Tenant, is_version
from lambent.domain.policies import Policy
from lambent.infra.functions.port import EVERY_VERSION, Change, Edit, Obstacle
from lambent.infra.redis_client import STORE_FAILURES, store_errors

CHANGE_LOG_LENGTH = 10_000
# How long one read of the change log waits on the server.
READ_MILLISECONDS = 10_000
# How often an alias is read again whose version was deleted between the two reads.
FIND_ATTEMPTS = 5

T = TypeVar("T")

_TENANTS, _URLS = "lambent:concurrency-tenants", "lambent:function-urls"
_VERSION, _ALIAS, _EVENTS, _POLICY, _URL, _RUNTIME = "version:", "alias:", "events:", "policy:", "url:", "runtime:"
_TAGS, _LOOPS = "tags", "loops"

_ENCODER = msgspec.json.Encoder()
_RECORD = msgspec.json.Decoder(FunctionRecord)
_VERSIONS = msgspec.json.Decoder(VersionRecord)
_ALIASES = msgspec.json.Decoder(AliasRecord)
_EVENT_CONFIGS = msgspec.json.Decoder(EventInvokeConfig)
_POLICIES = msgspec.json.Decoder(Policy)
_FUNCTION_URLS = msgspec.json.Decoder(FunctionUrl)
_RUNTIME_MANAGEMENT = msgspec.json.Decoder(RuntimeManagement)
_RECURSIVE_LOOP = msgspec.json.Decoder(RecursiveLoop)
_TAG_MAP = msgspec.json.Decoder(dict[str, str])
_SETTINGS = msgspec.json.Decoder(ConcurrencyState)


class RedisFunctionStore:
    """A `FunctionStore` in a Redis-compatible server."""

    def __init__(self, client: Redis, blocking: Redis) -> None:
        """`blocking`: a second client, for reads that wait."""
        self._client = client
        self._blocking = blocking
        folder = Path(__file__).parent
        self._create = client.register_script((folder / "create_function.lua").read_text())
        self._change = client.register_script((folder / "change_function.lua").read_text())

    @staticmethod
    def _key(tenant: Tenant, rest: str) -> str:
        return f"lambent:{tenant.tag}:{rest}"

    async def next_generation(self, tenant: Tenant) -> int:
        async with store_errors():
            return int(await self._client.incr(self._key(tenant, "generation")))

    async def create(
        self, record: FunctionRecord, stamp: str, version: VersionRecord | None, code_limit: int
    ) -> Literal["exists", "code-storage"] | None:
        tenant, size = record.tenant, record.code.size
        fields = _record_fields(record)
        fields["stamp"] = stamp
        if version is not None:
            fields[_VERSION + version.number] = _ENCODER.encode(version)
            size += version.deployed.code.size
        keys = [f"function:{record.name}", "functions", "code-bytes", "changes"]
        async with store_errors():
            answer = await self._create(
                keys=[self._key(tenant, key) for key in keys],
                args=[record.name, size, code_limit, record.generation, CHANGE_LOG_LENGTH, *_flat(fields)],
            )
        return cast(Literal["exists", "code-storage"] | None, _obstacle(answer))

    async def change(self, edit: Edit, code_limit: int) -> Obstacle | None:
        tenant, settings = edit.tenant, edit.settings
        guards = {"revision": edit.revision, "stamp": edit.stamp}
        needed = {key: value for key, value in guards.items() if value is not None}
        fields = {} if edit.record is None else _record_fields(edit.record)
        if edit.new_stamp is not None:
            fields["stamp"] = edit.new_stamp
        if edit.tags is not None:
            fields[_TAGS] = _ENCODER.encode(edit.tags)
        if edit.recursive_loop is not None:
            fields[_LOOPS] = _ENCODER.encode(edit.recursive_loop)
        changed: dict[str, Mapping[str, object]] = {
            _VERSION: edit.versions, _ALIAS: edit.aliases, _EVENTS: edit.event_configs, _POLICY: edit.policies,
            _URL: edit.urls, _RUNTIME: edit.runtime_management,
        }  # fmt: skip
        published = {prefix + key: each for prefix, some in changed.items() for key, each in some.items()}
        fields |= {key: _ENCODER.encode(each) for key, each in published.items() if each is not None}
        keys = [f"function:{edit.name}", "functions", "code-bytes", "concurrency", "changes"]
        async with store_errors():
            if settings is not None and not settings.empty:
                # Of another hash slot, so not within the script: before it, as a tenant too many does no harm.
                await cast(Any, self._client.sadd(_TENANTS, tenant.text))
            answer = await self._change(
                keys=[self._key(tenant, key) for key in keys],
                args=[
                    edit.name, edit.added_bytes, code_limit, edit.generation, edit.outdates, CHANGE_LOG_LENGTH,
                    "delete" if edit.delete else "keep",
                    "" if edit.settings_revision is None else edit.settings_revision,
                    "" if settings is None else _ENCODER.encode(settings),
                    "" if settings is None else settings.revision,
                    len(needed), *_flat(needed), len(fields), *_flat(fields),
                    *(key for key, each in published.items() if each is None),
                ],
            )  # fmt: skip
        return cast(Obstacle | None, _obstacle(answer))

    async def get(self, tenant: Tenant, name: str) -> FunctionRecord | None:
        (record,) = await self._fields(tenant, name, ["record"])
        return None if record is None else _RECORD.decode(record)

    async def find(self, tenant: Tenant, name: str, qualifier: str) -> Function | None:
        own = (_VERSION if is_version(qualifier) else _ALIAS) + qualifier
        for attempt in range(FIND_ATTEMPTS):
            beside = [_EVENTS + qualifier, _POLICY + qualifier, _URL + qualifier, _RUNTIME + qualifier, _TAGS, _LOOPS]
            record, stamp, found, *others = await self._fields(tenant, name, ["record", "stamp", own, *beside])
            if record is None:
                return None
            hash_: dict[str, bytes] = {"record": record, "stamp": stamp or b""}
            hash_ |= {key: value for key, value in zip(beside, others, strict=True) if value is not None}
            if found is not None:
                hash_[own] = found
                if own.startswith(_ALIAS):
                    wanted = [_VERSION + each for each in _ALIASES.decode(found).versions if is_version(each)]
                    values = await self._fields(tenant, name, wanted) if wanted else ()
                    # An alias keeps its versions from being deleted: where one is gone, the alias was moved meanwhile.
                    if None in values and attempt < FIND_ATTEMPTS - 1:
                        continue
                    hash_ |= {key: value for key, value in zip(wanted, values, strict=True) if value is not None}
            return _function(hash_)
        raise AssertionError("unreachable")

    async def read(self, tenant: Tenant, name: str) -> Function | None:
        async with store_errors():
            raw: Any = await cast(Any, self._client.hgetall(self._key(tenant, f"function:{name}")))
        return _function({_text(key): value for key, value in raw.items()}) if raw else None

    async def list(self, tenant: Tenant, after: str, limit: int) -> list[FunctionRecord]:
        start = f"({after}" if after else "-"
        async with store_errors():
            names = await self._client.zrangebylex(self._key(tenant, "functions"), start, "+", 0, limit)
            async with self._client.pipeline(transaction=False) as pipeline:
                for name in names:
                    pipeline.hget(self._key(tenant, f"function:{_text(name)}"), "record")
                records: list[Any] = await pipeline.execute() if names else []
        # A function deleted between the two reads is simply not listed.
        return [_RECORD.decode(record) for record in records if record is not None]

    async def count(self, tenant: Tenant) -> int:
        async with store_errors():
            return int(await self._client.zcard(self._key(tenant, "functions")))

    async def code_bytes(self, tenant: Tenant) -> int:
        async with store_errors():
            return int(await self._client.get(self._key(tenant, "code-bytes")) or 0)

    async def settings(self, tenant: Tenant) -> ConcurrencyState:
        async with store_errors():
            encoded = await self._client.hget(self._key(tenant, "concurrency"), "state")
        return ConcurrencyState() if encoded is None else _SETTINGS.decode(encoded)

    async def tenants_with_settings(self) -> tuple[Tenant, ...]:
        async with store_errors():
            members: Any = await cast(Any, self._client.smembers(_TENANTS))
        return tuple(Tenant.of(_text(member)) for member in sorted(members))

    async def changes(self, tenant: Tenant) -> AsyncIterator[Change]:
        key = self._key(tenant, "changes")
        last = "$"
        while True:
            try:
                if last == "$":
                    newest: Any = await self._client.xrevrange(key, count=1)
                    last = newest[0][0] if newest else "0-0"
                answer: Any = await self._blocking.xread({key: last}, block=READ_MILLISECONDS)
            except STORE_FAILURES:
                await asyncio.sleep(0.5)
                continue
            streams = answer.values() if isinstance(answer, dict) else [entries for _, entries in answer or []]
            for entries in streams:
                flat = entries[0] if entries and isinstance(entries[0], list) else entries
                for entry_id, fields in flat:
                    last = entry_id
                    outdates = fields.get(b"version", EVERY_VERSION.encode()).decode()
                    yield Change(tenant, fields[b"name"].decode(), int(fields[b"generation"]), outdates)

    async def _fields(self, tenant: Tenant, name: str, fields: Sequence[str]) -> tuple[bytes | None, ...]:
        async with store_errors():
            values: Any = await cast(Any, self._client.hmget(self._key(tenant, f"function:{name}"), fields))
        return tuple(values)


class RedisUrlIndex:
    """A `UrlIndex` in a Redis-compatible server."""

    def __init__(self, client: Redis) -> None:
        self._client: Any = client

    async def note(self, id_: str, place: UrlPlace) -> None:
        async with store_errors():
            await self._client.hset(_URLS, id_, place.text)

    async def find(self, id_: str) -> UrlPlace | None:
        async with store_errors():
            text = await self._client.hget(_URLS, id_)
        return None if text is None else UrlPlace.of(text.decode())

    async def forget(self, id_: str) -> None:
        async with store_errors():
            await self._client.hdel(_URLS, id_)


def _record_fields(record: FunctionRecord) -> dict[str, Any]:
    return {"record": _ENCODER.encode(record), "revision": record.revision_id}


def _function(fields: Mapping[str, bytes]) -> Function:
    """A function from the fields of its hash that were read."""
    return Function(
        record=_RECORD.decode(fields["record"]),
        stamp=fields.get("stamp", b"").decode(),
        versions=_named(fields, _VERSION, _VERSIONS),
        aliases=_named(fields, _ALIAS, _ALIASES),
        event_configs=_named(fields, _EVENTS, _EVENT_CONFIGS),
        policies=_named(fields, _POLICY, _POLICIES),
        urls=_named(fields, _URL, _FUNCTION_URLS),
        tags_since=_TAG_MAP.decode(fields[_TAGS]) if _TAGS in fields else None,
        runtime_management=_named(fields, _RUNTIME, _RUNTIME_MANAGEMENT),
        recursive_loop=_RECURSIVE_LOOP.decode(fields[_LOOPS]) if _LOOPS in fields else TERMINATE,
    )


def _named(fields: Mapping[str, bytes], prefix: str, decoder: msgspec.json.Decoder[T]) -> dict[str, T]:
    """What a hash has in the fields with a prefix, by what stands behind it."""
    return {key.removeprefix(prefix): decoder.decode(each) for key, each in fields.items() if key.startswith(prefix)}


def _flat(fields: Mapping[str, Any]) -> list[Any]:
    return [part for pair in fields.items() for part in pair]


def _obstacle(answer: bytes) -> str | None:
    return None if answer == b"ok" else answer.decode()


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode()
