"""What frontends and pollers ask of the queue, and those who look after it.

Two implementations stand under one contract suite (tests/contract/test_queue.py).

An item is queued, leased, delayed or dead, and gone once it is done; it is in one of these at any time, and each change
is atomic. A lease is a token that fences its holder: once the lease has run out and the item was leased again, nothing
that the former holder says about it is heeded. Times are epoch seconds by the queue's own clock (`now`), kept to the
millisecond, and parameters: nothing here reads another clock.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Literal, NamedTuple, Protocol

from lambent.domain.names import Tenant


class QueueKey(NamedTuple):
    """One queue: a tenant has one for each function that events wait for."""

    tenant: Tenant
    name: str  # of the function


@dataclass(frozen=True, slots=True)
class Item:
    """Something to be queued. Its id is unique in its queue: what is there already is not queued again."""

    name: str  # of the queue
    id: str
    value: bytes  # never changed


@dataclass(frozen=True, slots=True)
class Token:
    """Stands for one item of its queue: while it is kept, nothing else that comes with it is queued."""

    text: str
    until: float  # how long it is kept, if it is not there already


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms an item is queued, beyond being there."""

    not_before: float | None = None  # it is not leased before; None: it may be leased at once
    token: Token | None = None


NO_TERMS: Mapping[str, Terms] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Leased:
    """An item that its holder may work on until the lease runs out."""

    id: str
    token: str
    value: bytes
    state: bytes  # what was last kept of it; empty: nothing yet


@dataclass(frozen=True, slots=True)
class Batch:
    """What one lease gave."""

    items: tuple[Leased, ...]
    next_due: float | None  # when there is something to lease again, as far as is known; None: the queue is empty
    priority: int = 0  # of the queue


@dataclass(frozen=True, slots=True)
class Done:
    """The item is forgotten."""


@dataclass(frozen=True, slots=True)
class Delayed:
    """The item can be leased again from `until` on."""

    until: float
    state: bytes


@dataclass(frozen=True, slots=True)
class Dead:
    """The item is kept for a while, to be looked at, and is not leased again."""

    state: bytes


Verdict = Done | Delayed | Dead


@dataclass(frozen=True, slots=True)
class Settlement:
    """What becomes of a leased item."""

    id: str
    token: str
    verdict: Verdict
    then: tuple[Item, ...] = ()  # what follows: queued in the same step


class Place(StrEnum):
    """Where an item is."""

    FRESH = "fresh"  # never leased, and may be at once
    DELAYED = "delayed"  # not to be leased before a time
    LEASED = "leased"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Depth:
    """How much is in one queue."""

    name: str
    counts: Mapping[Place, int]
    paused: bool
    first: bytes | None  # value of the item that was queued first, of those never leased
    next_due: float | None  # when the first of the delayed ones can be leased
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """An item as it lies in its queue."""

    id: str
    place: Place
    at: float | None  # end of the delay or of the lease, or the time of death; None: fresh
    token: str  # of its lease, with its holder behind it; empty: not leased
    value: bytes
    state: bytes


class QueueInspector(Protocol):
    """What those ask who look after the queue. Raises as `EventQueue` does; `test_queue.py` holds for both twins."""

    async def depths(self, tenant: Tenant) -> list[Depth]:
        """Every queue of a tenant that is paused, has a priority, or has anything, by name."""
        ...

    async def entries(self, key: QueueKey, place: Place, limit: int, after: float | None = None) -> list[Entry]:
        """At most `limit` items of one place: those never leased by age, others by their times, from `after` on."""
        ...

    async def entry(self, key: QueueKey, id_: str) -> Entry | None:
        """One item. None: it is not there, so it is done or forgotten."""
        ...

    async def pause(self, key: QueueKey, now: float) -> None:
        """Lease nothing more of a queue."""
        ...

    async def resume(self, key: QueueKey, now: float) -> bool:
        """Lease again. False: it was not paused."""
        ...

    async def prioritize(self, key: QueueKey, priority: int) -> None:
        """Set the priority that every lease of the queue tells from now on; 0 is that of all others."""
        ...

    async def purge(self, key: QueueKey, what: Literal["waiting", "dead"]) -> int:
        """Forget what waits (leased items are left), or what is dead; answers how many that were."""
        ...

    async def redrive(self, key: QueueKey, ids: Sequence[str], state: bytes, now: float) -> int:
        """Queue dead items again, to begin with a state; answers how many were there."""
        ...


class EventQueue(Protocol):
    """The queue. Every method raises ServiceUnavailableException where the store cannot be reached or refuses."""

    def now(self) -> float:
        """The time that all who use this queue go by."""
        ...

    async def synchronize(self) -> None:
        """Set `now` by the store's clock. To be called before anything else, and now and then."""
        ...

    async def append(
        self, tenant: Tenant, items: Sequence[Item], now: float, terms: Mapping[str, Terms] = NO_TERMS
    ) -> list[str]:
        """Queue items, all or none; they are as durable as the store is when this returns. `terms`: by id.

        Answers, for each item, its id, or that of the item which its token stands for: then it was not queued.
        """
        ...

    async def lease(self, key: QueueKey, count: int, now: float, until: float) -> Batch:
        """At most `count` items: first those whose lease ran out or whose delay is over, then those queued longest."""
        ...

    async def renew(self, key: QueueKey, held: Sequence[tuple[str, str]], until: float) -> frozenset[str]:
        """Hold leases longer; `held`: ids and tokens. Answers the ids that are still held."""
        ...

    async def settle(self, key: QueueKey, settlements: Sequence[Settlement], now: float) -> frozenset[str]:
        """End leases. Answers the ids whose lease was still held: for all others nothing has changed or followed."""
        ...

    async def due(self, tenant: Tenant, before: float, limit: int) -> list[tuple[str, float]]:
        """Queues in which something may be leased before a time, with that time, soonest first."""
        ...

    async def tenants(self) -> tuple[Tenant, ...]:
        """Every tenant that has ever queued anything."""
        ...

    def wakes(self) -> AsyncIterator[QueueKey]:
        """Queues that were empty of fresh items until one was appended, as it happens. Some may be missed."""
        ...
