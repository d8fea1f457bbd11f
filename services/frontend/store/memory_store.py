"""The store's twin for tests: the same answers from plain dictionaries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from lambent.domain.functions import FunctionRecord
from lambent.domain.names import Tenant
from services.frontend.store.port import Change


class MemoryFunctionStore:
    """A `FunctionStore` in this process."""

    def __init__(self) -> None:
        self._functions: dict[Tenant, dict[str, FunctionRecord]] = {}
        self._generations: dict[Tenant, int] = {}
        self._readers: list[tuple[Tenant, asyncio.Queue[Change]]] = []

    async def next_generation(self, tenant: Tenant) -> int:
        self._generations[tenant] = self._generations.get(tenant, 0) + 1
        return self._generations[tenant]

    async def create(self, record: FunctionRecord, code_limit: int) -> str | None:
        functions = self._functions.setdefault(record.tenant, {})
        if record.name in functions:
            return "exists"
        if await self.code_bytes(record.tenant) + record.code.size > code_limit:
            return "code-storage"
        functions[record.name] = record
        self._tell(record.tenant, record.name, record.generation)
        return None

    async def get(self, tenant: Tenant, name: str) -> FunctionRecord | None:
        return self._functions.get(tenant, {}).get(name)

    async def replace(self, record: FunctionRecord, expected_revision: str, code_limit: int) -> str | None:
        functions = self._functions.get(record.tenant, {})
        current = functions.get(record.name)
        if current is None:
            return "missing"
        if current.revision_id != expected_revision:
            return "revision"
        added = record.code.size - current.code.size
        if added > 0 and await self.code_bytes(record.tenant) + added > code_limit:
            return "code-storage"
        functions[record.name] = record
        self._tell(record.tenant, record.name, record.generation)
        return None

    async def delete(self, tenant: Tenant, name: str, generation: int) -> bool:
        if self._functions.get(tenant, {}).pop(name, None) is None:
            return False
        self._tell(tenant, name, generation)
        return True

    async def list(self, tenant: Tenant, after: str, limit: int) -> list[FunctionRecord]:
        functions = self._functions.get(tenant, {})
        return [functions[name] for name in sorted(functions) if name > after][:limit]

    async def code_bytes(self, tenant: Tenant) -> int:
        return sum(record.code.size for record in self._functions.get(tenant, {}).values())

    async def changes(self, tenant: Tenant) -> AsyncIterator[Change]:
        queue: asyncio.Queue[Change] = asyncio.Queue()
        self._readers.append((tenant, queue))
        while True:
            yield await queue.get()

    def _tell(self, tenant: Tenant, name: str, generation: int) -> None:
        for reader, queue in self._readers:
            if reader == tenant:
                queue.put_nowait(Change(tenant, name, generation))
