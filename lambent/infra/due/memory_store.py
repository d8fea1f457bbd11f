"""The twin for tests: the same answers from plain dictionaries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic

from lambent.domain.names import Tenant
from lambent.infra.due.port import Claim, R, Replaced


class MemoryDueStore(Generic[R]):
    """A `DueStore` in this process."""

    def __init__(self) -> None:
        self._records: dict[tuple[Tenant, str], R] = {}
        self._due: dict[tuple[Tenant, str], float] = {}

    async def get(self, tenant: Tenant, key: str) -> R | None:
        return self._records.get((tenant, key))

    async def list(self, tenant: Tenant) -> Sequence[R]:
        return [record for (owner, _), record in sorted(self._records.items()) if owner == tenant]

    async def page(self, tenant: Tenant, prefix: str, after: str, count: int) -> Sequence[R]:
        found = (each for each in await self.list(tenant) if each.key.startswith(prefix) and each.key > after)
        return [each for each, _ in zip(found, range(count), strict=False)]

    async def replace(self, before: R | None, after: R | None, most: int, *, claimed: bool = False) -> Replaced:
        record = after or before
        assert record is not None
        place = record.tenant, record.key
        kept = self._records.get(place)
        if (None if kept is None else kept.revision) != (None if before is None else before.revision):
            return "changed"
        if before is None and len(await self.list(record.tenant)) >= most:
            return "full"
        if after is None:
            del self._records[place]
            return "done"
        self._records[place] = after
        if after.due is not None and not claimed:
            entered = self._due.get(place)
            # As in Redis, a claim ends with it.
            self._due[place] = after.due if entered is None or entered > after.due else entered - 0.001
        return "done"

    async def claim(self, now: float, seconds: float, most: int) -> Sequence[Claim]:
        until = round(now + seconds, 3)
        due = sorted((at, place) for place, at in self._due.items() if at <= now)[:most]
        for _, place in due:
            self._due[place] = until
        return [Claim(tenant, key, until) for _, (tenant, key) in due]

    async def settle(self, claim: Claim, at: float | None) -> None:
        place = claim.tenant, claim.key
        if self._due.get(place) != claim.until:
            return
        if at is None:
            del self._due[place]
        else:
            self._due[place] = at
