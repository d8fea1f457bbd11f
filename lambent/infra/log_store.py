"""What functions wrote, kept by (account, region, function). A port with two implementations under one contract suite.

Workers append, frontends read. The directory store is for machines that share a disk (one machine, or one volume).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import msgspec

from lambent.domain.names import Tenant


class LogChunk(msgspec.Struct, array_like=True, frozen=True):
    """Lines that arrived together, of one invocation or of one environment's init phase."""

    time_ms: int  # epoch milliseconds at which the worker received them
    stream: str  # YYYY/MM/DD/[version]id, the environment
    request_id: str | None  # None: not within an invocation
    lines: list[str]  # each without its final newline; a record of several lines keeps its inner ones


class LogStore(Protocol):
    """Where log chunks go. Appending is cheap and buffered; `flush` makes what was appended readable."""

    def append(self, tenant: Tenant, function_name: str, chunk: LogChunk) -> None: ...

    def flush(self) -> None: ...

    def read(
        self, tenant: Tenant, function_name: str, after: Position | None = None
    ) -> tuple[list[LogChunk], Position]:
        """The chunks after `after` in the order of arrival, and where to go on."""
        ...


class Position(msgspec.Struct, frozen=True):
    """How far a reader has come: file name → bytes (directory) or "" → chunks (memory)."""

    offsets: dict[str, int]


class MemoryLogStore:
    """The twin for tests."""

    def __init__(self) -> None:
        self._chunks: dict[tuple[Tenant, str], list[LogChunk]] = {}

    def append(self, tenant: Tenant, function_name: str, chunk: LogChunk) -> None:
        self._chunks.setdefault((tenant, function_name), []).append(chunk)

    def flush(self) -> None:
        """Nothing is buffered."""

    def read(
        self, tenant: Tenant, function_name: str, after: Position | None = None
    ) -> tuple[list[LogChunk], Position]:
        chunks = self._chunks.get((tenant, function_name), [])
        start = 0 if after is None else after.offsets.get("", 0)
        return chunks[start:], Position({"": len(chunks)})


class DirectoryLogStore:
    """`root/ACCOUNT/REGION/FUNCTION/YYYY-MM-DD.WRITER.jsonl`: one JSON array a chunk, one file a day and writer."""

    def __init__(
        self, root: Path, writer: str, *, keep_days: int = 14, max_file_bytes: int = 256 * 1024 * 1024
    ) -> None:
        """`writer` tells processes apart that append to one directory. Days older than `keep_days` are removed when
        a new day's file is begun; a file that has reached `max_file_bytes` takes no more that day."""
        self._root = root
        self._writer = writer
        self._keep_days = keep_days
        self._max_file_bytes = max_file_bytes
        self._buffers: dict[tuple[Tenant, str], list[bytes]] = {}
        self._encoder = msgspec.json.Encoder()
        self._decoder = msgspec.json.Decoder(LogChunk)

    def append(self, tenant: Tenant, function_name: str, chunk: LogChunk) -> None:
        self._buffers.setdefault((tenant, function_name), []).append(self._encoder.encode(chunk))

    def flush(self) -> None:
        buffers, self._buffers = self._buffers, {}
        for (tenant, name), encoded in buffers.items():
            folder = self._folder(tenant, name)
            day = datetime.now(UTC).strftime("%Y-%m-%d")
            path = folder / f"{day}.{self._writer}.jsonl"
            if not path.exists():
                folder.mkdir(parents=True, exist_ok=True)
                self._prune(folder)
            elif path.stat().st_size >= self._max_file_bytes:
                continue
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(descriptor, b"\n".join(encoded) + b"\n")
            finally:
                os.close(descriptor)

    def read(
        self, tenant: Tenant, function_name: str, after: Position | None = None
    ) -> tuple[list[LogChunk], Position]:
        known = {} if after is None else after.offsets
        offsets: dict[str, int] = {}
        chunks: list[LogChunk] = []
        for path in self._files(tenant, function_name):
            with path.open("rb") as file:
                file.seek(known.get(path.name, 0))
                data = file.read()
            complete = data.rfind(b"\n") + 1
            offsets[path.name] = known.get(path.name, 0) + complete
            chunks.extend(self._decoder.decode(line) for line in data[:complete].splitlines() if line)
        chunks.sort(key=lambda chunk: chunk.time_ms)
        return chunks, Position(offsets)

    def _folder(self, tenant: Tenant, name: str) -> Path:
        return self._root / tenant.account / tenant.region / name

    def _files(self, tenant: Tenant, name: str) -> Sequence[Path]:
        folder = self._folder(tenant, name)
        return sorted(folder.glob("*.jsonl")) if folder.is_dir() else []

    def _prune(self, folder: Path) -> None:
        for path in self._expired(folder):
            path.unlink(missing_ok=True)

    def _expired(self, folder: Path) -> Iterator[Path]:
        oldest = time.strftime("%Y-%m-%d", time.gmtime(datetime.now(UTC).timestamp() - self._keep_days * 86400))
        return (path for path in folder.glob("*.jsonl") if path.name[:10] < oldest)
