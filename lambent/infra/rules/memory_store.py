"""The twins for tests: the same answers from plain dictionaries."""

from __future__ import annotations

from collections.abc import Sequence

from lambent.domain.names import Tenant
from lambent.domain.rules import Rule
from lambent.infra.rules.port import Claim, Replaced


class MemoryRuleStore:
    """A `RuleStore` in this process, and the `DueRules` of what is in it."""

    def __init__(self) -> None:
        self._rules: dict[tuple[Tenant, str], Rule] = {}
        self._due: dict[tuple[Tenant, str], float] = {}

    async def get(self, tenant: Tenant, name: str) -> Rule | None:
        return self._rules.get((tenant, name))

    async def list(self, tenant: Tenant) -> Sequence[Rule]:
        return [rule for (owner, _), rule in sorted(self._rules.items()) if owner == tenant]

    async def replace(self, before: Rule | None, after: Rule | None, most: int, *, claimed: bool = False) -> Replaced:
        rule = after or before
        assert rule is not None
        key = rule.tenant, rule.name
        kept = self._rules.get(key)
        if (None if kept is None else kept.revision) != (None if before is None else before.revision):
            return "changed"
        if before is None and len(await self.list(rule.tenant)) >= most:
            return "full"
        if after is None:
            del self._rules[key]
            return "done"
        self._rules[key] = after
        if after.due is not None and not claimed:
            entered = self._due.get(key)
            # As in Redis, a claim ends with it.
            self._due[key] = after.due if entered is None or entered > after.due else entered - 0.001
        return "done"

    async def claim(self, now: float, seconds: float, most: int) -> Sequence[Claim]:
        until = round(now + seconds, 3)
        due = sorted((at, key) for key, at in self._due.items() if at <= now)[:most]
        for _, key in due:
            self._due[key] = until
        return [Claim(tenant, name, until) for _, (tenant, name) in due]

    async def settle(self, claim: Claim, at: float | None) -> None:
        key = claim.tenant, claim.name
        if self._due.get(key) != claim.until:
            return
        if at is None:
            del self._due[key]
        else:
            self._due[key] = at
