"""LogService: what functions wrote."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from itertools import islice

from google.protobuf.timestamp_pb2 import Timestamp

from lambent.domain.clock import Clock
from lambent.domain.names import LATEST, Tenant, not_found, parse
from lambent.infra.functions.port import FunctionStore
from lambent.infra.log_store import EVER, LogChunk, LogStore, Position, StoredChunk
from lambent.v1 import log_service_pb2 as pb
from services.frontend.transport.call import Call

DEFAULT_LINES = 1000
# How often a follower looks for new lines.
FOLLOW_SECONDS = 0.25
# The last lines are looked for further and further back: milliseconds.
_BACK_MS = (60_000, 3_600_000, 86_400_000, EVER)
# So many lines are in memory at once.
_AT_ONCE = 100


class LogOperations:
    """The operations of lambent.v1.LogService."""

    def __init__(self, store: FunctionStore, logs: LogStore, clock: Clock) -> None:
        self._store = store
        self._logs = logs
        self._clock = clock

    async def tail_logs(self, request: pb.TailLogsRequest, call: Call) -> AsyncGenerator[pb.LogLine]:
        """Stored lines, then, for a follower, new ones as they come."""
        ref = parse(request.function_name, None, call.tenant)
        record = await self._store.get(ref.tenant, ref.name)
        if record is None or ref.qualifier not in (None, LATEST):
            raise not_found(ref)
        group = record.configuration.log_group
        position = await asyncio.to_thread(self._logs.end, ref.tenant, group)
        last = await asyncio.to_thread(self._last, ref.tenant, group, ref.name, request, position)
        while True:
            stored = await asyncio.to_thread(lambda: list(islice(last, _AT_ONCE)))
            for line in stored:
                yield line
            if not stored:
                break
        while request.follow:
            await asyncio.sleep(FOLLOW_SECONDS)
            chunks, position = await asyncio.to_thread(self._logs.read, ref.tenant, group, position)
            for chunk in chunks:
                if _is_wanted(chunk, ref.name, request):
                    for line in _lines(chunk):
                        yield line

    def _last(
        self, tenant: Tenant, group: str, name: str, request: pb.TailLogsRequest, end: Position
    ) -> Iterator[pb.LogLine]:
        """The newest lines before `end`: they are counted first, then read as they are asked for."""

        def wanted(start_ms: int, end_ms: int) -> Iterator[StoredChunk]:
            for stored in self._logs.scan(tenant, group, start_ms, end_ms):
                if stored.offset < end.offsets.get(stored.source, 0) and _is_wanted(stored.chunk, name, request):
                    yield stored

        most = request.limit or DEFAULT_LINES
        earliest = request.start_time.ToMilliseconds() if request.HasField("start_time") else 0
        now, before, count = int(self._clock.epoch() * 1000), EVER, 0
        first: tuple[int, str, int] | None = None
        for back in _BACK_MS:
            since = max(earliest, now - back)
            kept: deque[tuple[tuple[int, str, int], int]] = deque()  # where a chunk lies, and its lines
            size = 0
            for stored in wanted(since, before):
                kept.append((stored[:3], len(stored.chunk.lines)))
                size += kept[-1][1]
                while size - kept[0][1] >= most - count:
                    size -= kept.popleft()[1]
            if kept:
                first = kept[0][0]
            count, before = count + size, since
            if count >= most or since == earliest:
                break
        if first is None:
            return iter(())
        lines = (line for stored in wanted(first[0], EVER) if stored[:3] >= first for line in _lines(stored.chunk))
        return islice(lines, max(0, count - most), None)


def _is_wanted(chunk: LogChunk, name: str, request: pb.TailLogsRequest) -> bool:
    if chunk.function != name or (request.HasField("request_id") and chunk.request_id != request.request_id):
        return False
    return not request.HasField("start_time") or chunk.time_ms >= request.start_time.ToMilliseconds()


def _lines(chunk: LogChunk) -> Iterator[pb.LogLine]:
    time = Timestamp()
    time.FromMilliseconds(chunk.time_ms)
    for line in chunk.lines:
        yield pb.LogLine(time=time, request_id=chunk.request_id, log_stream=chunk.stream, message=line)
