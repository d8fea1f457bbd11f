"""Logs in Redis, for clusters without a folder that all processes share. For small installs: what is kept of each log
group is bounded in bytes, the oldest goes first.

lambent:{ACCOUNT:REGION}:log-groups       hash: log group → what it is (JSON)
lambent:{ACCOUNT:REGION}:log:GROUP        stream of chunks: s log stream, t its time, epoch ms, c chunk (JSON)
lambent:{ACCOUNT:REGION}:log-sizes:GROUP  hash: bytes of what is in it
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import msgspec
from redis import Redis
from redis.exceptions import WatchError

from lambent.domain.clock import Clock
from lambent.domain.names import Tenant
from lambent.infra.log_store import EVER, Change, LogChunk, LogGroup, LogStream, Position, StoredChunk, note_chunk
from lambent.infra.redis_client import thread_store_errors

# How much later than its own time a chunk may come to the store: workers send again what did not arrive.
_DELAY_MS = 900_000
_PAGE = 500
_DAY_MS = 86_400_000
# An entry's id is milliseconds and a number within one; together they are one number here.
_WITHIN_BITS = 20
# Groups whose streams are remembered.
_REMEMBERED = 64

Entry = tuple[bytes, dict[bytes, bytes]]


@dataclass(slots=True)
class _Summary:
    """The log streams of the entries of a group up to one."""

    first: bytes = b""  # the oldest entry then
    last: bytes = b""
    streams: dict[str, LogStream] = field(default_factory=dict)


class RedisLogStore:
    """A `LogStore` in a Redis-compatible server. Every method raises ServiceUnavailableException without it."""

    def __init__(
        self, client: Redis, clock: Clock, *, keep_days: int = 14, group_bytes: int = 16 * 1024 * 1024
    ) -> None:
        """`client`: used from several threads. `keep_days`: where a group does not say. `group_bytes`: the most that is
        kept of one group."""
        self._client = client
        self._clock = clock
        self._keep_days = keep_days
        self._group_bytes = group_bytes
        self._append = client.register_script((Path(__file__).parent / "append_logs.lua").read_text())
        self._buffers: dict[tuple[Tenant, str], list[LogChunk]] = {}
        self._encoder = msgspec.json.Encoder()
        self._chunk = msgspec.json.Decoder(LogChunk)
        self._about = msgspec.json.Decoder(LogGroup)
        self._summaries: dict[tuple[Tenant, str], _Summary] = {}
        self._summarising = Lock()

    # Writing

    def append(self, tenant: Tenant, group: str, chunk: LogChunk) -> None:
        self._buffers.setdefault((tenant, group), []).append(chunk)

    def flush(self) -> None:
        buffers, self._buffers = self._buffers, {}
        now = int(self._clock.epoch() * 1000)
        with thread_store_errors():
            for (tenant, name), chunks in buffers.items():
                about = self._encoder.encode(LogGroup(name, now))
                parts: list[str | bytes | int] = [name, about, now, self._keep_days, self._group_bytes]
                for chunk in chunks:
                    parts += (chunk.stream, chunk.time_ms, self._encoder.encode(chunk))
                keys = [_groups(tenant), _stream(tenant, name), _sizes(tenant, name)]
                self._append(keys=keys, args=parts)

    # Reading

    def read(self, tenant: Tenant, group: str, after: Position | None = None) -> tuple[list[LogChunk], Position]:
        at = 0 if after is None else after.offsets.get("", 0)
        chunks: list[LogChunk] = []
        for id_, fields in self._entries(tenant, group, _text(at) if at else self._oldest(tenant, group)):
            at = _number(id_) + 1
            chunks.append(self._chunk.decode(fields[b"c"]))
        chunks.sort(key=lambda chunk: chunk.time_ms)
        return chunks, Position({"": at})

    def end(self, tenant: Tenant, group: str) -> Position:
        with thread_store_errors():
            last: Any = self._client.xrevrange(_stream(tenant, group), count=1)
        return Position({"": _number(last[0][0]) + 1 if last else 0})

    def scan(
        self, tenant: Tenant, group: str, start_ms: int = 0, end_ms: int = EVER, stream: str | None = None
    ) -> Iterator[StoredChunk]:
        wanted = None if stream is None else stream.encode()
        oldest = self._oldest(tenant, group)
        begin = str(max(int(oldest), start_ms - _DELAY_MS))
        end = "+" if end_ms >= EVER else str(end_ms + _DELAY_MS)
        # Entries come in the order of their arrival: an earlier chunk may still come within the delay.
        held: list[StoredChunk] = []
        for id_, fields in self._entries(tenant, group, begin, end):
            moment = int(fields[b"t"])
            if start_ms <= moment < end_ms and wanted in (None, fields[b"s"]):
                heapq.heappush(held, StoredChunk(moment, "", _number(id_), self._chunk.decode(fields[b"c"])))
            arrived = int(id_.split(b"-")[0])
            while held and held[0].time_ms < arrived - _DELAY_MS:
                yield heapq.heappop(held)
        while held:
            yield heapq.heappop(held)

    def _entries(self, tenant: Tenant, group: str, begin: str, end: str = "+") -> Iterator[Entry]:
        key = _stream(tenant, group)
        while True:
            with thread_store_errors():
                page: Any = self._client.xrange(key, begin, end, _PAGE)
            yield from page
            if len(page) < _PAGE:
                return
            begin = f"({page[-1][0].decode()}"

    def _oldest(self, tenant: Tenant, group: str) -> str:
        """From where entries are still kept."""
        about = self.group(tenant, group)
        days = self._keep_days if about is None or about.retention_days is None else about.retention_days
        return str(max(0, int(self._clock.epoch() * 1000) - days * _DAY_MS))

    def groups(self, tenant: Tenant) -> list[LogGroup]:
        with thread_store_errors():
            found: Any = self._client.hvals(_groups(tenant))
        return sorted((self._about.decode(each) for each in found), key=lambda group: group.name)

    def group(self, tenant: Tenant, name: str) -> LogGroup | None:
        with thread_store_errors():
            found: Any = self._client.hget(_groups(tenant), name)
        return None if found is None else self._about.decode(found)

    def stored_bytes(self, tenant: Tenant, group: str) -> int:
        with thread_store_errors():
            found: Any = self._client.hget(_sizes(tenant, group), "bytes")
        return int(found or 0)

    def streams(self, tenant: Tenant, group: str) -> dict[str, LogStream]:
        with self._summarising:
            summary = self._summaries.pop((tenant, group), _Summary())
            oldest = next(self._entries(tenant, group, self._oldest(tenant, group)), None)
            if oldest is None or oldest[0] != summary.first:
                summary = _Summary(b"" if oldest is None else oldest[0])
            begin = f"({summary.last.decode()}" if summary.last else summary.first.decode() or "+"
            for id_, fields in self._entries(tenant, group, begin):
                summary.last = id_
                note_chunk(summary.streams, fields[b"s"].decode(), int(fields[b"t"]), len(fields[b"c"]))
            while len(self._summaries) >= _REMEMBERED:
                del self._summaries[next(iter(self._summaries))]
            self._summaries[tenant, group] = summary
            return {
                name: LogStream(name, each.first_ms, each.last_ms, each.stored_bytes)
                for name, each in summary.streams.items()
            }

    # Groups

    def create(self, tenant: Tenant, group: LogGroup) -> bool:
        with thread_store_errors():
            return bool(self._client.hsetnx(_groups(tenant), group.name, self._text(group)))

    def change(self, tenant: Tenant, group: str, change: Change) -> bool:
        key = _groups(tenant)
        with thread_store_errors(), self._client.pipeline(transaction=True) as pipeline:
            while True:
                pipeline.watch(key)  # type: ignore[no-untyped-call]
                found: Any = pipeline.hget(key, group)
                if found is None:
                    return False
                changed = change(self._about.decode(found))
                pipeline.multi()
                pipeline.hset(key, group, self._text(changed))
                try:
                    pipeline.execute()
                except WatchError:
                    continue  # another frontend was faster
                return True

    def delete(self, tenant: Tenant, group: str) -> bool:
        with thread_store_errors(), self._client.pipeline(transaction=True) as pipeline:
            pipeline.hdel(_groups(tenant), group)
            pipeline.delete(_stream(tenant, group), _sizes(tenant, group))
            gone, _ = pipeline.execute()
        return bool(gone)

    def _text(self, group: LogGroup) -> str:
        return self._encoder.encode(group).decode()


def _groups(tenant: Tenant) -> str:
    return f"lambent:{tenant.tag}:log-groups"


def _stream(tenant: Tenant, group: str) -> str:
    return f"lambent:{tenant.tag}:log:{group}"


def _sizes(tenant: Tenant, group: str) -> str:
    return f"lambent:{tenant.tag}:log-sizes:{group}"


def _number(id_: bytes) -> int:
    milliseconds, _, within = id_.partition(b"-")
    return int(milliseconds) << _WITHIN_BITS | int(within)


def _text(number: int) -> str:
    return f"{number >> _WITHIN_BITS}-{number & (1 << _WITHIN_BITS) - 1}"
