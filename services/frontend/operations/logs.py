"""LogService: what functions wrote."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from google.protobuf.timestamp_pb2 import Timestamp

from lambent.domain.names import LATEST, not_found, parse
from lambent.infra.functions.port import FunctionStore
from lambent.infra.log_store import LogChunk, LogStore
from lambent.v1 import log_service_pb2 as pb
from services.frontend.transport.call import Call

DEFAULT_LINES = 1000
# How often a follower looks for new lines.
FOLLOW_SECONDS = 0.25


class LogOperations:
    """The operations of lambent.v1.LogService."""

    def __init__(self, store: FunctionStore, logs: LogStore) -> None:
        self._store = store
        self._logs = logs

    async def tail_logs(self, request: pb.TailLogsRequest, call: Call) -> AsyncIterator[pb.LogLine]:
        """Stored lines, then, for a follower, new ones as they come."""
        ref = parse(request.function_name, None, call.tenant)
        record = await self._store.get(ref.tenant, ref.name)
        if record is None or ref.qualifier not in (None, LATEST):
            raise not_found(ref)
        group = record.configuration.log_group
        chunks, position = await asyncio.to_thread(self._logs.read, ref.tenant, group)
        lines = [line for chunk in chunks for line in self._lines(chunk, ref.name, request)]
        for line in lines[-(request.limit or DEFAULT_LINES) :]:
            yield line
        while request.follow:
            await asyncio.sleep(FOLLOW_SECONDS)
            chunks, position = await asyncio.to_thread(self._logs.read, ref.tenant, group, position)
            for chunk in chunks:
                for line in self._lines(chunk, ref.name, request):
                    yield line

    @staticmethod
    def _lines(chunk: LogChunk, name: str, request: pb.TailLogsRequest) -> list[pb.LogLine]:
        if chunk.function != name:
            return []
        if request.HasField("request_id") and chunk.request_id != request.request_id:
            return []
        if request.HasField("start_time") and chunk.time_ms < request.start_time.ToMilliseconds():
            return []
        time = Timestamp()
        time.FromMilliseconds(chunk.time_ms)
        return [
            pb.LogLine(time=time, request_id=chunk.request_id, log_stream=chunk.stream, message=line)
            for line in chunk.lines
        ]
