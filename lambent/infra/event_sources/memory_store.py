"""The twins for tests: the same answers from plain dictionaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lambent.domain.clock import Clock
from lambent.domain.event_sources import EventSourceMapping
from lambent.domain.names import Tenant
from lambent.infra.event_sources.port import Checkpoint, Taken


class MemoryEventSourceStore:
    """An `EventSourceStore` in this process."""

    def __init__(self) -> None:
        self._mappings: dict[tuple[Tenant, str], EventSourceMapping] = {}

    async def create(self, mapping: EventSourceMapping) -> Taken | None:
        taken = self._taken(mapping, "")
        if taken is None:
            self._mappings[mapping.tenant, mapping.uuid] = mapping
        return taken

    async def get(self, tenant: Tenant, uuid: str) -> EventSourceMapping | None:
        return self._mappings.get((tenant, uuid))

    async def list(self, tenant: Tenant) -> Sequence[EventSourceMapping]:
        return [mapping for mapping in await self.all() if mapping.tenant == tenant]

    async def all(self) -> Sequence[EventSourceMapping]:
        return [mapping for _, mapping in sorted(self._mappings.items())]

    async def change(self, before: EventSourceMapping, after: EventSourceMapping | None) -> Taken | bool:
        key = before.tenant, before.uuid
        kept = self._mappings.get(key)
        if kept is None or kept.revision != before.revision:
            return False
        if after is None:
            del self._mappings[key]
            return True
        taken = self._taken(after, before.uuid)
        if taken is None:
            self._mappings[key] = after
        return True if taken is None else taken

    def _taken(self, mapping: EventSourceMapping, own: str) -> Taken | None:
        """Whether a mapping other than `own` has the same source and function."""
        for (tenant, uuid), other in self._mappings.items():
            if tenant == mapping.tenant and uuid != own and other.pair == mapping.pair:
                return Taken(uuid)
        return None


class MemoryReaderIndex:
    """A `ReaderIndex` in this process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._readers: dict[str, float] = {}  # until when each is there
        self._claims: dict[tuple[Tenant, str], tuple[str, float]] = {}  # who reads a mapping, and until when

    async def announce(self, reader: str, seconds: float) -> list[str]:
        now = self._clock.monotonic()
        self._readers[reader] = now + seconds
        self._readers = {name: until for name, until in self._readers.items() if until > now}
        return sorted(self._readers)

    async def leave(self, reader: str) -> None:
        self._readers.pop(reader, None)

    async def claim(self, tenant: Tenant, uuid: str, reader: str, seconds: float) -> bool:
        now = self._clock.monotonic()
        other, until = self._claims.get((tenant, uuid), ("", now))
        if until > now and other != reader:
            return False
        self._claims[tenant, uuid] = reader, now + seconds
        return True

    async def release(self, tenant: Tenant, uuid: str, reader: str) -> None:
        if self._claims.get((tenant, uuid), ("", 0.0))[0] == reader:
            del self._claims[tenant, uuid]

    def reads(self, tenant: Tenant, uuid: str, reader: str) -> bool:
        """For the twin of the checkpoints, which asks who saves."""
        name, until = self._claims.get((tenant, uuid), ("", 0.0))
        return name == reader and until > self._clock.monotonic()


class MemoryCheckpoints:
    """`Checkpoints` in this process."""

    def __init__(self, index: MemoryReaderIndex) -> None:
        self._index = index
        self._kept: dict[tuple[Tenant, str], dict[str, Checkpoint]] = {}

    async def load(self, tenant: Tenant, uuid: str) -> Mapping[str, Checkpoint]:
        return dict(self._kept.get((tenant, uuid), {}))

    async def save(self, tenant: Tenant, uuid: str, reader: str, changes: Mapping[str, Checkpoint | None]) -> bool:
        if not self._index.reads(tenant, uuid, reader):
            return False
        kept = self._kept.setdefault((tenant, uuid), {})
        for shard, checkpoint in changes.items():
            kept.pop(shard, None)
            if checkpoint is not None:
                kept[shard] = checkpoint
        return True

    async def drop(self, tenant: Tenant, uuid: str) -> None:
        self._kept.pop((tenant, uuid), None)
