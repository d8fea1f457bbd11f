"""Logs in a folder that workers and frontends share: a folder each log group, in it a file a day and writer.

ROOT/ACCOUNT/REGION/GROUP.group/group.json              what is set of the group
                               /YYYY-MM-DD.WRITER.jsonl  one JSON array a chunk, in the order of their times
Slashes of a group's name are percent signs there, which no name has; a name that is too long for a folder's is hashed.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import msgspec

from lambent.domain.names import Tenant
from lambent.infra.log_store import EVER, Change, LogChunk, LogGroup, LogStream, Position, StoredChunk, note_chunk

_LONGEST_NAME = 200
_ABOUT = "group.json"
# How far a writer's clock may have been put back between two of its chunks.
_DISORDER_MS = 60_000
# A file is halved until so little is left, which is read.
_HALVED_BYTES = 64 * 1024
# So much of a file is read at once: several times what the largest chunk takes.
_READ_BYTES = 16 * 1024 * 1024
# Ten digits write no later day.
_LAST_MS = 253_402_300_799_000
# Groups whose files' streams are remembered.
_REMEMBERED = 64


@dataclass(slots=True)
class _Summary:
    """The streams of the beginning of one file."""

    read: int = 0  # bytes
    streams: dict[str, LogStream] = field(default_factory=dict)


class DirectoryLogStore:
    """A `LogStore` in a folder."""

    def __init__(
        self, root: Path, writer: str, *, keep_days: int = 14, max_file_bytes: int = 256 * 1024 * 1024
    ) -> None:
        """`writer` tells processes apart that append to one directory. Days older than `keep_days`, or than what is set
        for their group, are not read, and are removed when a new day's file is begun; a file that has reached
        `max_file_bytes` takes no more that day."""
        self._root = root
        self._writer = writer
        self._keep_days = keep_days
        self._max_file_bytes = max_file_bytes
        self._buffers: dict[tuple[Tenant, str], list[bytes]] = {}
        self._encoder = msgspec.json.Encoder()
        self._decoder = msgspec.json.Decoder(LogChunk)
        self._about = msgspec.json.Decoder(LogGroup)
        self._summaries: dict[Path, dict[str, _Summary]] = {}
        self._summarising = Lock()

    # Writing

    def append(self, tenant: Tenant, group: str, chunk: LogChunk) -> None:
        self._buffers.setdefault((tenant, group), []).append(self._encoder.encode(chunk))

    def flush(self) -> None:
        buffers, self._buffers = self._buffers, {}
        now = datetime.now(UTC)
        for (tenant, name), encoded in buffers.items():
            folder = self._folder(tenant, name)
            path = folder / f"{now:%Y-%m-%d}.{self._writer}.jsonl"
            if not path.exists():
                self.create(tenant, LogGroup(name, int(now.timestamp() * 1000)))
                self._prune(folder)
            elif path.stat().st_size >= self._max_file_bytes:
                continue
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            except FileNotFoundError:
                continue  # the group has just been deleted
            try:
                os.write(descriptor, b"\n".join(encoded) + b"\n")
            finally:
                os.close(descriptor)

    # Reading

    def read(self, tenant: Tenant, group: str, after: Position | None = None) -> tuple[list[LogChunk], Position]:
        known = {} if after is None else after.offsets
        offsets: dict[str, int] = {}
        chunks: list[LogChunk] = []
        for path in self._files(self._folder(tenant, group)):
            try:
                file = path.open("rb")
            except FileNotFoundError:
                continue  # it has just been removed
            with file:
                file.seek(known.get(path.name, 0))
                data = file.read(_READ_BYTES)
            complete = data.rfind(b"\n") + 1
            offsets[path.name] = known.get(path.name, 0) + complete
            found = (self._decode(line) for line in data[:complete].splitlines())
            chunks.extend(chunk for chunk in found if chunk is not None)
        chunks.sort(key=lambda chunk: chunk.time_ms)
        return chunks, Position(offsets)

    def end(self, tenant: Tenant, group: str) -> Position:
        offsets: dict[str, int] = {}
        for path in self._files(self._folder(tenant, group)):
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                start, whole = size, 0
                # What its writer is in the middle of is not there yet.
                while not whole and start > max(0, size - _READ_BYTES):
                    start = max(0, start - _HALVED_BYTES)
                    whole = os.pread(file.fileno(), _HALVED_BYTES, start).rfind(b"\n") + 1
                offsets[path.name] = start + whole
        return Position(offsets)

    def scan(
        self, tenant: Tenant, group: str, start_ms: int = 0, end_ms: int = EVER, stream: str | None = None
    ) -> Iterator[StoredChunk]:
        # A chunk lies in its own day's file, or in the next one's if it was written about midnight.
        first = _day(start_ms)
        last = _day(end_ms + 86_400_000)
        files = [path for path in self._files(self._folder(tenant, group)) if first <= path.name[:10] <= last]
        return heapq.merge(*(self._chunks(path, start_ms, end_ms, stream) for path in files))

    def _chunks(self, path: Path, start_ms: int, end_ms: int, stream: str | None) -> Iterator[StoredChunk]:
        marked = None if stream is None else self._encoder.encode(stream)
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return  # it has just been removed
        with file:
            offset = _seek(file, start_ms - _DISORDER_MS)
            for line in file:
                here, offset = offset, offset + len(line)
                moment = _time(line)
                if moment is None or not start_ms <= moment < end_ms or (marked is not None and marked not in line):
                    if moment is not None and moment >= end_ms + _DISORDER_MS:
                        return
                    continue
                chunk = self._decode(line)
                if chunk is not None and stream in (None, chunk.stream):
                    yield StoredChunk(chunk.time_ms, path.name, here, chunk)

    def _decode(self, line: bytes) -> LogChunk | None:
        """None: its writer died in the middle of it."""
        try:
            return self._decoder.decode(line)
        except msgspec.DecodeError:
            return None

    def groups(self, tenant: Tenant) -> list[LogGroup]:
        found = (self._read_about(folder) for folder in self._tenant(tenant).glob("*.group"))
        return sorted((group for group in found if group is not None), key=lambda group: group.name)

    def group(self, tenant: Tenant, name: str) -> LogGroup | None:
        return self._read_about(self._folder(tenant, name))

    def stored_bytes(self, tenant: Tenant, group: str) -> int:
        sizes = 0
        for path in self._files(self._folder(tenant, group)):
            with contextlib.suppress(FileNotFoundError):
                sizes += path.stat().st_size
        return sizes

    def streams(self, tenant: Tenant, group: str) -> dict[str, LogStream]:
        folder = self._folder(tenant, group)
        found: dict[str, LogStream] = {}
        with self._summarising:
            known = self._summaries.pop(folder, {})
            summaries = {path.name: _summarise(path, known.get(path.name)) for path in self._files(folder)}
            while len(self._summaries) >= _REMEMBERED:
                del self._summaries[next(iter(self._summaries))]
            if summaries:
                self._summaries[folder] = summaries
            for summary in summaries.values():
                for each in summary.streams.values():
                    note_chunk(found, each.name, each.first_ms, each.stored_bytes)
                    note_chunk(found, each.name, each.last_ms, 0)
        return found

    # Groups

    def create(self, tenant: Tenant, group: LogGroup) -> bool:
        folder = self._folder(tenant, group.name)
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / _ABOUT).exists():
            return False
        self._write_about(folder, group)
        return True

    def change(self, tenant: Tenant, group: str, change: Change) -> bool:
        folder = self._folder(tenant, group)
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)  # frontends are several
            found = self._read_about(folder)
            if found is None:
                return False
            self._write_about(folder, change(found))
        finally:
            os.close(lock)
        self._prune(folder)
        return True

    def delete(self, tenant: Tenant, group: str) -> bool:
        self._root.mkdir(parents=True, exist_ok=True)
        gone = Path(tempfile.mkdtemp(dir=self._root, prefix=".deleted-"))
        try:
            # At once, so that whoever writes meanwhile writes to the old one or to a new one.
            self._folder(tenant, group).rename(gone / "group")
        except FileNotFoundError:
            return False
        finally:
            shutil.rmtree(gone, ignore_errors=True)
        return True

    def _read_about(self, folder: Path) -> LogGroup | None:
        try:
            return self._about.decode((folder / _ABOUT).read_bytes())
        except FileNotFoundError:
            return None

    def _write_about(self, folder: Path, group: LogGroup) -> None:
        descriptor, partial = tempfile.mkstemp(dir=folder, prefix=".about-")
        with os.fdopen(descriptor, "wb") as file:
            file.write(self._encoder.encode(group))
        Path(partial).rename(folder / _ABOUT)

    # Files

    def _tenant(self, tenant: Tenant) -> Path:
        return self._root / tenant.account / tenant.region

    def _folder(self, tenant: Tenant, group: str) -> Path:
        name = group.replace("/", "%")
        if len(name) > _LONGEST_NAME:
            name = f"={sha256(name.encode()).hexdigest()}"
        return self._tenant(tenant) / f"{name}.group"

    def _files(self, folder: Path) -> list[Path]:
        """The files that are still kept, by day."""
        oldest = self._oldest(folder)
        return sorted(path for path in folder.glob("*.jsonl") if path.name[:10] >= oldest)

    def _prune(self, folder: Path) -> None:
        oldest = self._oldest(folder)
        for path in folder.glob("*.jsonl"):
            if path.name[:10] < oldest:
                path.unlink(missing_ok=True)

    def _oldest(self, folder: Path) -> str:
        """The oldest day that is kept."""
        about = self._read_about(folder)
        days = self._keep_days if about is None or about.retention_days is None else about.retention_days
        return f"{datetime.now(UTC) - timedelta(days=days):%Y-%m-%d}"


def _day(time_ms: int) -> str:
    """The UTC day of epoch milliseconds; the last that is written so where it is later."""
    return f"{datetime.fromtimestamp(min(max(0, time_ms), _LAST_MS) / 1000, UTC):%Y-%m-%d}"


def _time(line: bytes) -> int | None:
    """The time of a chunk as it is written. None: it is not whole."""
    if line[-1:] != b"\n":
        return None
    try:
        return int(line[1 : line.index(b",")])
    except ValueError:
        return None


def _seek(file: BinaryIO, wanted_ms: int) -> int:
    """Go to a line before which all are earlier than `wanted_ms`, and answer where that is."""
    low, high = 0, file.seek(0, os.SEEK_END)
    while high - low > _HALVED_BYTES:
        middle = (low + high) // 2
        file.seek(middle)
        file.readline()
        moment = _time(file.readline())
        if moment is not None and moment < wanted_ms:
            low = middle
        else:
            high = middle
    file.seek(low)
    return low + len(file.readline()) if low else 0


def _summarise(path: Path, known: _Summary | None) -> _Summary:
    """The streams of a whole file, from what is known of its beginning on."""
    summary = known or _Summary()
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return _Summary()
    with file:
        if file.seek(0, os.SEEK_END) < summary.read:
            summary = _Summary()  # another file than before
        file.seek(summary.read)
        for line in file:
            moment = _time(line)
            if moment is None and line[-1:] != b"\n":
                break
            summary.read += len(line)
            parts = line.split(b'"', 2)
            if moment is not None and len(parts) == 3:
                # Names of streams have nothing that JSON escapes.
                note_chunk(summary.streams, parts[1].decode("utf-8", "replace"), moment, len(line))
    return summary
