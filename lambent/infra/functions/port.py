"""What the operations ask of the store. Two implementations under one contract suite (tests/contract/test_store.py)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from lambent.domain.concurrency import ConcurrencyState
from lambent.domain.event_invoke import EventInvokeConfig
from lambent.domain.function_urls import FunctionUrl, UrlPlace
from lambent.domain.functions import AliasRecord, Function, FunctionRecord, RuntimeManagement, VersionRecord
from lambent.domain.lineage import RecursiveLoop
from lambent.domain.names import Tenant
from lambent.domain.policies import Policy

# `outdates` of a change after which every environment can go on: of aliases, of concurrency, of a version that is new.
NOBODY = "-"
# `outdates` of a change that leaves no environment of the function: its deletion.
EVERY_VERSION = ""

# What stands against a change: there is none such, $LATEST is not as it was read, something else is not (read again
# and decide again), or the tenant's packages would be too large.
Obstacle = Literal["missing", "revision", "conflict", "code-storage"]


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of a tenant's change log."""

    tenant: Tenant
    name: str
    generation: int  # of the change; 0 where it outdates nobody
    outdates: str  # whose environments: $LATEST, a number, EVERY_VERSION or NOBODY


@dataclass(frozen=True, slots=True)
class Edit:
    """One atomic change of a function and its tenant's concurrency settings, with what it was decided on."""

    tenant: Tenant
    name: str
    outdates: str  # as in Change
    generation: int = 0  # as in Change

    # What must still be so. None: it does not matter.
    revision: str | None = None  # of $LATEST
    stamp: str | None = None  # Function.stamp
    settings_revision: int | None = None

    # What then is. None: as before; in the maps, None: gone.
    record: FunctionRecord | None = None
    new_stamp: str | None = None
    versions: Mapping[str, VersionRecord | None] = field(default_factory=dict)
    aliases: Mapping[str, AliasRecord | None] = field(default_factory=dict)
    event_configs: Mapping[str, EventInvokeConfig | None] = field(default_factory=dict)
    policies: Mapping[str, Policy | None] = field(default_factory=dict)
    urls: Mapping[str, FunctionUrl | None] = field(default_factory=dict)
    tags: Mapping[str, str] | None = None  # all of them
    recursive_loop: RecursiveLoop | None = None
    runtime_management: Mapping[str, RuntimeManagement | None] = field(default_factory=dict)
    settings: ConcurrencyState | None = None
    added_bytes: int = 0  # of packages, $LATEST's and all versions' together
    delete: bool = False  # the function, with all that belongs to it; its settings go by `settings`


class FunctionStore(Protocol):
    """Functions by tenant. Every method raises ServiceUnavailableException where the store cannot be reached."""

    async def next_generation(self, tenant: Tenant) -> int:
        """A number greater than all before it for this tenant."""
        ...

    async def create(
        self, record: FunctionRecord, stamp: str, version: VersionRecord | None, code_limit: int
    ) -> Literal["exists", "code-storage"] | None:
        """Keep a new function, perhaps with a version of it. None: done. Otherwise what stands against it."""
        ...

    async def change(self, edit: Edit, code_limit: int) -> Obstacle | None:
        """All of an edit or nothing. None: done. Otherwise what stands against it."""
        ...

    async def get(self, tenant: Tenant, name: str) -> FunctionRecord | None:
        """A function's $LATEST."""
        ...

    async def find(self, tenant: Tenant, name: str, qualifier: str) -> Function | None:
        """A function; of its versions and aliases no more than `qualifier` stands for, of the rest what is set for it.
        None: there is no function."""
        ...

    async def read(self, tenant: Tenant, name: str) -> Function | None:
        """A function with everything published of it."""
        ...

    async def list(self, tenant: Tenant, after: str, limit: int) -> list[FunctionRecord]:
        """At most `limit` functions whose names sort after `after`, by name."""
        ...

    async def count(self, tenant: Tenant) -> int:
        """How many functions a tenant has."""
        ...

    async def code_bytes(self, tenant: Tenant) -> int:
        """Bytes of all packages of a tenant together, published versions and layers included."""
        ...

    async def settings(self, tenant: Tenant) -> ConcurrencyState:
        """A tenant's concurrency settings."""
        ...

    async def tenants_with_settings(self) -> tuple[Tenant, ...]:
        """Every tenant that has concurrency settings; some may be among them that have none any more."""
        ...

    def changes(self, tenant: Tenant) -> AsyncIterator[Change]:
        """The change log from the moment of the first `anext` on, for as long as it is read."""
        ...


class UrlIndex(Protocol):
    """Whose function URLs are. A second half of what functions say of theirs (docs/decisions/0009): a place is noted
    before the function has the address, and may stay when it has it no more. Raises ServiceUnavailableException where
    the store cannot be reached."""

    async def note(self, id_: str, place: UrlPlace) -> None:
        """Keep the place of an address."""
        ...

    async def find(self, id_: str) -> UrlPlace | None:
        """The place of an address, unless there never was one. Whether it is still there the function knows."""
        ...

    async def forget(self, id_: str) -> None:
        """An address is no more."""
        ...
