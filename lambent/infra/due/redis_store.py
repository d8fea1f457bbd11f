"""Records that are due at times, in Redis. Keys of one tenant share a hash tag; KIND is rules, schedules or
schedule-groups.

lambent:{ACCOUNT:REGION}:KIND        hash: record (JSON) by its key
lambent:{ACCOUNT:REGION}:KIND-keys   sorted set of the keys, all with the score 0: in their order
lambent:KIND-due                     sorted set of ACCOUNT:REGION:KEY, by the time (epoch seconds) at which the record
                                     is to be looked at: when it is due, or earlier, or when a claim to it ends

The last is of another hash slot, so no script changes it with the others. A record is therefore entered before it is
kept, so that none is forgotten where that fails, and again after it, as somebody who looked in between may have taken
it out. Either ends a claim: whoever has it may have read the record as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic, cast

import msgspec
from redis.asyncio import Redis

from lambent.domain.event_schedules import Group, Schedule
from lambent.domain.names import Tenant
from lambent.domain.rules import Rule
from lambent.infra.due.port import Claim, R, Replaced
from lambent.infra.redis_client import store_errors

_FOLDER = Path(__file__).parent
_ENCODER = msgspec.json.Encoder()


class RedisDueStore(Generic[R]):
    """A `DueStore` in a Redis-compatible server."""

    def __init__(self, client: Redis, kind: str, record: type[R]) -> None:
        self._client = client
        self._kind = kind
        self._decoder = msgspec.json.Decoder(record)
        self._due = f"lambent:{kind}-due"
        self._claim, self._enter, self._replace, self._settle = (
            client.register_script((_FOLDER / f"{name}.lua").read_text())
            for name in ("claim_due", "enter_due", "replace_record", "settle_due")
        )

    def _keys(self, tenant: Tenant) -> list[str]:
        return [f"lambent:{tenant.tag}:{self._kind}", f"lambent:{tenant.tag}:{self._kind}-keys"]

    async def get(self, tenant: Tenant, key: str) -> R | None:
        async with store_errors():
            encoded = await cast(Any, self._client.hget(self._keys(tenant)[0], key))
        return None if encoded is None else self._decoder.decode(encoded)

    async def list(self, tenant: Tenant) -> Sequence[R]:
        async with store_errors():
            encoded: Any = await cast(Any, self._client.hvals(self._keys(tenant)[0]))
        return sorted((self._decoder.decode(each) for each in encoded), key=lambda record: record.key)

    async def page(self, tenant: Tenant, prefix: str, after: str, count: int) -> Sequence[R]:
        records, keys = self._keys(tenant)
        first = f"({after}" if after >= prefix and after else f"[{prefix}"
        async with store_errors():
            # Keys are ASCII: all that begin with the prefix come before it with this byte.
            found: Any = await cast(
                Any, self._client.zrange(keys, first, f"({prefix}\xff", bylex=True, offset=0, num=count)
            )
            encoded: Any = await cast(Any, self._client.hmget(records, found)) if found else []
        return [self._decoder.decode(each) for each in encoded if each is not None]

    async def replace(self, before: R | None, after: R | None, most: int, *, claimed: bool = False) -> Replaced:
        record = after or before
        assert record is not None
        entry: list[str | int] = []
        if not claimed and after is not None and after.due is not None:
            entry = [f"{record.tenant.text}:{record.key}", after.due]
        encoded: str | bytes = "" if after is None else _ENCODER.encode(after)
        async with store_errors():
            if entry:
                await self._enter(keys=[self._due], args=entry)
            said: Any = await self._replace(
                keys=self._keys(record.tenant),
                args=[record.key, "" if before is None else before.revision, encoded, most],
            )
            if entry and said == b"done":
                await self._enter(keys=[self._due], args=entry)
        return cast(Replaced, said.decode())

    async def claim(self, now: float, seconds: float, most: int) -> Sequence[Claim]:
        until = round(now + seconds, 3)
        async with store_errors():
            members: Any = await self._claim(keys=[self._due], args=[now, until, most])
        return [_claim(member.decode(), until) for member in members]

    async def settle(self, claim: Claim, at: float | None) -> None:
        member = f"{claim.tenant.text}:{claim.key}"
        async with store_errors():
            await self._settle(keys=[self._due], args=[member, claim.until, "" if at is None else at])


def rules(client: Redis) -> RedisDueStore[Rule]:
    """EventBridge's rules."""
    return RedisDueStore(client, "rules", Rule)


def schedules(client: Redis) -> RedisDueStore[Schedule]:
    """EventBridge Scheduler's schedules."""
    return RedisDueStore(client, "schedules", Schedule)


def schedule_groups(client: Redis) -> RedisDueStore[Group]:
    """Groups of schedules, which are never due."""
    return RedisDueStore(client, "schedule-groups", Group)


def _claim(member: str, until: float) -> Claim:
    account, region, key = member.split(":", 2)
    return Claim(Tenant(account, region), key, until)
