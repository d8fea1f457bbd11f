"""The response of one environment that comes piece by piece: from its connection to whoever takes it, no faster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from lambent.domain.limits import Limits
from services.worker.core.outcomes import Outcome, response_too_large, response_truncated
from services.worker.runtime_api.connection import ApiConnection
from services.worker.runtime_api.streaming import ResponseStream

# After a connection was lost: a runtime that has ended closes its connection first, and is told by how it ended.
_TRUNCATED_SECONDS = 0.5


class Taker(Protocol):
    """Where the pieces go."""

    def guest_streams(self, content_type: str) -> bool:
        """The response begins to come piece by piece; False: the caller does not take it so."""
        ...

    def guest_piece(self, data: bytes) -> None:
        """The next bytes of it."""
        ...


@dataclass(slots=True)
class _Streaming:
    connection: ApiConnection
    request_id: str
    response: ResponseStream
    timer: asyncio.TimerHandle | None = None  # nothing is read before


class StreamedResponses:
    """At most one response at a time."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limits: Limits,
        taker: Taker,
        on_failure: Callable[[str, Outcome], None],
    ) -> None:
        """`on_failure(request id, why)`: the response does not come to its end."""
        self._loop = loop
        self._limits = limits
        self._taker = taker
        self._on_failure = on_failure
        self._now: _Streaming | None = None

    def begin(self, connection: ApiConnection, request_id: str, content_type: str) -> bool:
        """A response begins; False: it is not taken piece by piece."""
        if self._now is not None:
            return False
        self._now = _Streaming(connection, request_id, ResponseStream(self._limits))
        if self._taker.guest_streams(content_type):
            return True
        self._now = None
        return False

    def piece(self, connection: ApiConnection, data: bytes) -> None:
        """The next bytes have come."""
        now = self._now
        if now is None or now.connection is not connection:
            return  # it was given up
        delay = now.response.sent(len(data), self._loop.time())
        if now.response.too_large:
            self._fail(response_too_large(self._limits.streamed_response_bytes))
            connection.close()
            return
        self._taker.guest_piece(data)
        if delay > 0 and now.timer is None:
            now.timer = self._loop.call_later(delay, self._go_on, now)
        if delay > 0 or now.response.full:
            connection.pause()

    def credit(self, size: int) -> None:
        """So many bytes have been taken."""
        now = self._now
        if now is not None:
            now.response.taken(size)
            if not now.response.full and now.timer is None:
                now.connection.resume()

    def _go_on(self, streaming: _Streaming) -> None:
        streaming.timer = None
        if self._now is streaming and not streaming.response.full:
            streaming.connection.resume()

    def end(self, connection: ApiConnection) -> str | None:
        """It has come to its end; answers its request id. None: it was given up before."""
        now = self._now
        if now is None or now.connection is not connection:
            return None
        self.close()
        connection.resume()  # it may have waited for the caller; what comes next on it is the runtime's next request
        return now.request_id

    def lost(self, connection: ApiConnection) -> None:
        """A connection has ended, perhaps in the middle of a response."""
        now = self._now
        if now is not None and now.connection is connection:
            self._loop.call_later(_TRUNCATED_SECONDS, self._truncated, now)

    def truncated(self) -> None:
        """Its runtime goes on as if it had ended: if its connection has ended, so has it."""
        if self._now is not None and not self._now.connection.open:
            self._truncated(self._now)

    def _truncated(self, streaming: _Streaming) -> None:
        if self._now is streaming:
            self._fail(response_truncated())

    def _fail(self, outcome: Outcome) -> None:
        now = self._now
        self.close()
        if now is not None:
            self._on_failure(now.request_id, outcome)

    def close(self) -> None:
        """Forget the response."""
        now, self._now = self._now, None
        if now is not None and now.timer is not None:
            now.timer.cancel()
