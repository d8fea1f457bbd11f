"""What functions wrote, kept by (account, region, log group). A port with two implementations under one contract suite.

Workers append, frontends read. `lambent.infra.log_files` is for machines that share a disk; here is the twin for tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import msgspec

from lambent.domain.names import Tenant

# No time that a clock shows is later.
EVER = 1 << 62


class LogChunk(msgspec.Struct, array_like=True, frozen=True):
    """Lines that arrived together, of one invocation or of one environment's init phase."""

    time_ms: int  # epoch milliseconds at which the worker received them
    stream: str  # the environment, as services/worker/variables.py names it
    request_id: str | None  # None: not within an invocation
    lines: list[str]  # each without its final newline; a record of several lines keeps its inner ones
    function: str = ""  # name of the function: several may share a group


class StoredChunk(NamedTuple):
    """A chunk where it lies. In this order they are read."""

    time_ms: int
    source: str  # what it lies in, e.g. a file
    offset: int  # where in it
    chunk: LogChunk


@dataclass(frozen=True, slots=True)
class LogGroup:
    """A log group: made by the first line that is written to it, or by hand."""

    name: str
    created_ms: int
    retention_days: int | None = None  # None: as long as the cluster keeps logs
    tags: dict[str, str] = field(default_factory=dict)


# From a group to what it is to be; neither its name nor when it was made is another.
Change = Callable[[LogGroup], LogGroup]


@dataclass(slots=True)
class LogStream:
    """What there is of one environment's log."""

    name: str
    first_ms: int
    last_ms: int
    stored_bytes: int


class Position(msgspec.Struct, frozen=True):
    """How far a reader has come: source of chunks (StoredChunk) → the first offset in it that is not read yet."""

    offsets: dict[str, int]


class LogWriter(Protocol):
    """Where log chunks go. Appending is cheap and buffered; `flush` makes what was appended readable."""

    def append(self, tenant: Tenant, group: str, chunk: LogChunk) -> None: ...

    def flush(self) -> None: ...


class LogStore(LogWriter, Protocol):
    """Where log chunks are. Whatever is no writing may take long: a loop has it done in a thread."""

    def read(self, tenant: Tenant, group: str, after: Position | None = None) -> tuple[list[LogChunk], Position]:
        """The chunks after `after` in the order of arrival, and where to go on: for there may be more of them than are
        read at once."""
        ...

    def end(self, tenant: Tenant, group: str) -> Position:
        """Where `read` goes on with what comes from now on."""
        ...

    def scan(
        self, tenant: Tenant, group: str, start_ms: int = 0, end_ms: int = EVER, stream: str | None = None
    ) -> Iterator[StoredChunk]:
        """The chunks of `start_ms` ≤ time < `end_ms`, perhaps of one stream only, in their order, read as they are
        asked for."""
        ...

    def groups(self, tenant: Tenant) -> list[LogGroup]:
        """A tenant's groups, by name."""
        ...

    def group(self, tenant: Tenant, name: str) -> LogGroup | None:
        """One group."""
        ...

    def stored_bytes(self, tenant: Tenant, group: str) -> int:
        """Bytes kept of a group."""
        ...

    def streams(self, tenant: Tenant, group: str) -> dict[str, LogStream]:
        """A group's streams by name."""
        ...

    def create(self, tenant: Tenant, group: LogGroup) -> bool:
        """Make a group. False: there is one of this name."""
        ...

    def change(self, tenant: Tenant, group: str, change: Change) -> bool:
        """Set something of a group. False: there is no such group. Raises what `change` raises, and changes nothing."""
        ...

    def delete(self, tenant: Tenant, group: str) -> bool:
        """Forget a group with all that is in it. False: there is no such group. What is written to it makes it anew."""
        ...


def note_chunk(streams: dict[str, LogStream], name: str, time_ms: int, size: int) -> None:
    """Count a chunk of so many bytes among its stream's."""
    known = streams.setdefault(name, LogStream(name, time_ms, time_ms, 0))
    known.first_ms, known.last_ms = min(known.first_ms, time_ms), max(known.last_ms, time_ms)
    known.stored_bytes += size


class MemoryLogStore:
    """The twin for tests."""

    def __init__(self) -> None:
        self._groups: dict[Tenant, dict[str, LogGroup]] = {}
        self._chunks: dict[tuple[Tenant, str], list[LogChunk]] = {}

    def append(self, tenant: Tenant, group: str, chunk: LogChunk) -> None:
        self.create(tenant, LogGroup(group, chunk.time_ms))
        self._chunks.setdefault((tenant, group), []).append(chunk)

    def flush(self) -> None:
        """Nothing is buffered."""

    def read(self, tenant: Tenant, group: str, after: Position | None = None) -> tuple[list[LogChunk], Position]:
        chunks = self._chunks.get((tenant, group), [])
        start = 0 if after is None else after.offsets.get("", 0)
        return chunks[start:], Position({"": len(chunks)})

    def end(self, tenant: Tenant, group: str) -> Position:
        return Position({"": len(self._chunks.get((tenant, group), []))})

    def scan(
        self, tenant: Tenant, group: str, start_ms: int = 0, end_ms: int = EVER, stream: str | None = None
    ) -> Iterator[StoredChunk]:
        chunks = enumerate(self._chunks.get((tenant, group), []))
        stored = sorted(StoredChunk(chunk.time_ms, "", number, chunk) for number, chunk in chunks)
        return (
            each for each in stored if start_ms <= each.time_ms < end_ms and stream in (None, each.chunk.stream)
        )  # fmt: skip

    def groups(self, tenant: Tenant) -> list[LogGroup]:
        groups = self._groups.get(tenant, {})
        return [groups[name] for name in sorted(groups)]

    def group(self, tenant: Tenant, name: str) -> LogGroup | None:
        return self._groups.get(tenant, {}).get(name)

    def stored_bytes(self, tenant: Tenant, group: str) -> int:
        return sum(stream.stored_bytes for stream in self.streams(tenant, group).values())

    def streams(self, tenant: Tenant, group: str) -> dict[str, LogStream]:
        found: dict[str, LogStream] = {}
        for chunk in self._chunks.get((tenant, group), []):
            note_chunk(found, chunk.stream, chunk.time_ms, len(msgspec.json.encode(chunk)))
        return found

    def create(self, tenant: Tenant, group: LogGroup) -> bool:
        return self._groups.setdefault(tenant, {}).setdefault(group.name, group) is group

    def change(self, tenant: Tenant, group: str, change: Change) -> bool:
        found = self.group(tenant, group)
        if found is not None:
            self._groups[tenant][group] = change(found)
        return found is not None

    def delete(self, tenant: Tenant, group: str) -> bool:
        self._chunks.pop((tenant, group), None)
        return self._groups.get(tenant, {}).pop(group, None) is not None
