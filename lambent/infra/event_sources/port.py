"""What operations and pollers ask of the store of event source mappings. Two implementations under one contract suite
(tests/contract/test_event_source_store.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from lambent.domain.event_sources import EventSourceMapping
from lambent.domain.names import Tenant
from lambent.domain.stream_windows import Windows


@dataclass(frozen=True, slots=True)
class Taken:
    """Another mapping has the same source and function."""

    uuid: str


class EventSourceStore(Protocol):
    """Mappings by tenant. Every method raises ServiceUnavailableException where the store cannot be reached."""

    async def create(self, mapping: EventSourceMapping) -> Taken | None:
        """Keep a new mapping. None: done."""
        ...

    async def get(self, tenant: Tenant, uuid: str) -> EventSourceMapping | None:
        """One mapping."""
        ...

    async def list(self, tenant: Tenant) -> Sequence[EventSourceMapping]:
        """A tenant's mappings, by UUID."""
        ...

    async def all(self) -> Sequence[EventSourceMapping]:
        """Every tenant's."""
        ...

    async def change(self, before: EventSourceMapping, after: EventSourceMapping | None) -> Taken | bool:
        """Keep what a mapping is from now on; None: it is no more. False: it is not any more as it was read (its
        `revision` says), so that the caller reads and decides again."""
        ...


class ReaderIndex(Protocol):
    """Which pollers there are, and who of them reads a mapping's queue. Raises as above."""

    async def announce(self, reader: str, seconds: float) -> Sequence[str]:
        """Be there for so many seconds; answers everybody who is."""
        ...

    async def leave(self, reader: str) -> None:
        """Be there no more."""
        ...

    async def claim(self, tenant: Tenant, uuid: str, reader: str, seconds: float) -> bool:
        """Be the one reader of a mapping for so many seconds, from the call on; again, before they are over. False:
        another is."""
        ...

    async def release(self, tenant: Tenant, uuid: str, reader: str) -> None:
        """Let another read it. Nothing happens where this one is not its reader."""
        ...


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a mapping has come with a shard; while it has not come to any record, where it is to begin."""

    sequence: str | None = None  # sequence number of the last record that is done, with all before it
    since: float | None = None  # epoch seconds
    newest: bool = False  # behind all that was there
    closed: bool = False  # everything is done, and nothing more will come
    windows: Windows | None = None  # with all that is done; None: the mapping has no tumbling windows


class Checkpoints(Protocol):
    """Checkpoints by mapping and shard. Raises as above."""

    async def load(self, tenant: Tenant, uuid: str) -> Mapping[str, Checkpoint]:
        """All of a mapping, by shard."""
        ...

    async def save(self, tenant: Tenant, uuid: str, reader: str, changes: Mapping[str, Checkpoint | None]) -> bool:
        """Keep some; None: the shard is forgotten. False: `reader` is not the mapping's one any more, and nothing is
        kept."""
        ...

    async def drop(self, tenant: Tenant, uuid: str) -> None:
        """Forget all of a mapping."""
        ...
