"""What operations and pollers ask of a store of records that are due at times. Two implementations under one contract
suite (tests/contract/test_due_store.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from lambent.domain.names import Tenant


class Record(Protocol):
    """What is kept: a rule or a schedule."""

    @property
    def tenant(self) -> Tenant: ...
    @property
    def key(self) -> str:
        """Unique among its tenant's; ASCII, without a colon."""
        ...

    @property
    def due(self) -> int | None:
        """Epoch seconds at which it is due next; None: never."""
        ...

    @property
    def revision(self) -> int:
        """Another one at each change."""
        ...


R = TypeVar("R", bound=Record)

# done; changed: it is not any more as it was read; full: the tenant has as many as it may have.
Replaced = Literal["done", "changed", "full"]


@dataclass(frozen=True, slots=True)
class Claim:
    """A record that may be due, claimed by one who looks."""

    tenant: Tenant
    key: str
    until: float  # epoch seconds; from then on another may claim it


class DueStore(Protocol[R]):
    """Records of one kind, by tenant. Every method raises ServiceUnavailableException where the store cannot be
    reached."""

    async def get(self, tenant: Tenant, key: str) -> R | None:
        """One record."""
        ...

    async def list(self, tenant: Tenant) -> Sequence[R]:
        """A tenant's records, by key."""
        ...

    async def page(self, tenant: Tenant, prefix: str, after: str, count: int) -> Sequence[R]:
        """The first so many of those whose keys begin with `prefix` and come after `after`, by key."""
        ...

    async def replace(self, before: R | None, after: R | None, most: int, *, claimed: bool = False) -> Replaced:
        """Keep what a record is from now on, if it is still as it was read (its `revision` says). One of the two may be
        None: there is none. `most`: records that the tenant may have. Whoever claims what is due finds the record at
        `after.due`, and earlier at times; `claimed`: not before the caller has settled its claim."""
        ...

    async def claim(self, now: float, seconds: float, most: int) -> Sequence[Claim]:
        """Claim those of all tenants that are to be looked at by now, at most so many, for so many seconds. Epoch
        seconds."""
        ...

    async def settle(self, claim: Claim, at: float | None) -> None:
        """Let a record be looked at again at that time; None: not. Nothing happens where the claim is not in force any
        more, as somebody else claimed it or the record was changed."""
        ...
