"""Rules in Redis. Keys of one tenant share a hash tag.

lambent:{ACCOUNT:REGION}:rules   hash: record (JSON) of each rule by its name
lambent:rules-due                sorted set of ACCOUNT:REGION:NAME, by the time (epoch seconds) at which the rule is to
                                 be looked at: when it is due, or earlier, or when a claim to it ends

The two are of different hash slots, so no script changes both. A rule is therefore entered before it is kept, so that
none is forgotten where that fails, and again after it, as somebody who looked in between may have taken it out. Either
ends a claim: whoever has it may have read the rule as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
from redis.asyncio import Redis

from lambent.domain.names import Tenant
from lambent.domain.rules import Rule
from lambent.infra.redis_client import store_errors
from lambent.infra.rules.port import Claim, Replaced

_DUE = "lambent:rules-due"
_FOLDER = Path(__file__).parent

_ENCODER = msgspec.json.Encoder()
_RULE = msgspec.json.Decoder(Rule)


class RedisRuleStore:
    """A `RuleStore` in a Redis-compatible server."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._enter = client.register_script((_FOLDER / "enter_due_rule.lua").read_text())
        self._replace = client.register_script((_FOLDER / "replace_rule.lua").read_text())

    async def get(self, tenant: Tenant, name: str) -> Rule | None:
        async with store_errors():
            encoded = await cast(Any, self._client.hget(_key(tenant), name))
        return None if encoded is None else _RULE.decode(encoded)

    async def list(self, tenant: Tenant) -> Sequence[Rule]:
        async with store_errors():
            encoded: Any = await cast(Any, self._client.hvals(_key(tenant)))
        return sorted((_RULE.decode(each) for each in encoded), key=lambda rule: rule.name)

    async def replace(self, before: Rule | None, after: Rule | None, most: int, *, claimed: bool = False) -> Replaced:
        rule = after or before
        assert rule is not None
        entry: list[str | int] = []
        if not claimed and after is not None and after.due is not None:
            entry = [f"{rule.tenant.text}:{rule.name}", after.due]
        record: str | bytes = "" if after is None else _ENCODER.encode(after)
        async with store_errors():
            if entry:
                await self._enter(keys=[_DUE], args=entry)
            said: Any = await self._replace(
                keys=[_key(rule.tenant)],
                args=[rule.name, "" if before is None else before.revision, record, most],
            )
            if entry and said == b"done":
                await self._enter(keys=[_DUE], args=entry)
        return cast(Replaced, said.decode())


class RedisDueRules:
    """`DueRules` in a Redis-compatible server."""

    def __init__(self, client: Redis) -> None:
        self._claim = client.register_script((_FOLDER / "claim_due_rules.lua").read_text())
        self._settle = client.register_script((_FOLDER / "settle_due_rule.lua").read_text())

    async def claim(self, now: float, seconds: float, most: int) -> Sequence[Claim]:
        until = round(now + seconds, 3)
        async with store_errors():
            members: Any = await self._claim(keys=[_DUE], args=[now, until, most])
        return [_claim(member.decode(), until) for member in members]

    async def settle(self, claim: Claim, at: float | None) -> None:
        member = f"{claim.tenant.text}:{claim.name}"
        async with store_errors():
            await self._settle(keys=[_DUE], args=[member, claim.until, "" if at is None else at])


def _claim(member: str, until: float) -> Claim:
    account, region, name = member.split(":", 2)
    return Claim(Tenant(account, region), name, until)


def _key(tenant: Tenant) -> str:
    return f"lambent:{tenant.tag}:rules"
