"""What the operations ask of the store. Two implementations under one contract suite (tests/contract/test_store.py)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from lambent.domain.functions import FunctionRecord
from lambent.domain.names import Tenant


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of a tenant's change log."""

    tenant: Tenant
    name: str
    generation: int


class FunctionStore(Protocol):
    """Functions by tenant. Every method raises ServiceUnavailableException where the store cannot be reached."""

    async def next_generation(self, tenant: Tenant) -> int:
        """A number greater than all before it for this tenant."""
        ...

    async def create(self, record: FunctionRecord, code_limit: int) -> str | None:
        """Keep a new function. None: done. Otherwise what stands against it: "exists" or "code-storage"."""
        ...

    async def get(self, tenant: Tenant, name: str) -> FunctionRecord | None: ...

    async def replace(self, record: FunctionRecord, expected_revision: str, code_limit: int) -> str | None:
        """Keep a changed function if its revision is still `expected_revision`.

        None: done. Otherwise what stands against it: "missing", "revision" or "code-storage".
        """
        ...

    async def delete(self, tenant: Tenant, name: str, generation: int) -> bool:
        """Forget a function; its deletion enters the change log as `generation`. False: there is none."""
        ...

    async def list(self, tenant: Tenant, after: str, limit: int) -> list[FunctionRecord]:
        """At most `limit` functions whose names sort after `after`, by name."""
        ...

    async def code_bytes(self, tenant: Tenant) -> int:
        """Bytes of all packages of a tenant together."""
        ...

    def changes(self, tenant: Tenant) -> AsyncIterator[Change]:
        """The change log from the moment of the first `anext` on, for as long as it is read."""
        ...
