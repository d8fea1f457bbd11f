"""Many calls over one stream: requests of a unary RPC as they come, each answered once it has ended.

Every item is a call like any other: checked, counted, bounded and refused by itself. A stream has only so many under
way; what comes beyond is not read, and gRPC's flow control holds the caller back. Answers that are ready by the time
that the last message has left leave in one. Nothing that was begun goes unanswered while the stream lasts, so that one
that has to end (its token has run out, this process leaves) first answers what it has begun.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

from google.protobuf.message_factory import GetMessageClass

from lambent.domain.clock import Clock
from lambent.domain.errors import AwsError
from lambent.infra.tasks import TaskOwner
from services.frontend.transport.call import Call
from services.frontend.transport.dispatch import Entry, Observer

# Answers beyond it go into the next message. Bytes.
_MESSAGE_BYTES = 1024 * 1024


class Exchange:
    """One stream."""

    def __init__(
        self,
        entry: Entry,
        caller: Call,
        expires: float,
        *,
        parse: Callable[[bytes], Any],
        most: int,
        most_bytes: int,
        new_id: Callable[[], str],
        clock: Clock,
        observe: Observer,
    ) -> None:
        """`caller`: whose calls these are. `expires`: until when that is proved, epoch seconds. `parse`: a message;
        raises AwsError. `most`: calls under way at once; nothing is begun either while their requests, and the answers
        that have not left, take `most_bytes`."""
        assert entry.many is not None
        assert entry.many.run is not None
        self._entry = entry
        self._run = entry.many.run
        self._caller = caller
        self._expires = expires
        self._most = most
        self._most_bytes = most_bytes
        self._new_id = new_id
        self._clock = clock
        self._observe = observe
        self._parse = parse
        results: Any = entry.response_class.DESCRIPTOR.fields_by_name["results"]
        self._result_class: Any = GetMessageClass(results.message_type)
        self._tasks = TaskOwner("exchange", expected=(AwsError,))
        self._reading: asyncio.Task[None] | None = None
        self._under_way = 0  # calls whose answers have not left
        self._held = 0  # bytes of their requests, or of their answers once they have ended
        self._ready: deque[tuple[Any, int]] = deque()  # answers that have not left, and their bytes
        self._news = asyncio.Event()  # an answer is ready, or reading has ended
        self._room = asyncio.Event()

    async def answers(self, requests: AsyncIterator[bytes]) -> AsyncGenerator[Any]:
        """Messages with answers, until the caller has said its last and all is answered. Given up, all that is under
        way is cancelled. Raises AwsError, after the answers to what was begun before."""
        outcome = "Cancelled"
        self._reading = self._tasks.start("read", self._read(requests))
        self._reading.add_done_callback(lambda _: self._news.set())
        try:
            while not self._reading.done() or self._under_way:
                await self._news.wait()
                self._news.clear()
                while self._ready:
                    yield self._message()
            if self._reading.cancelled():
                raise AwsError("ServiceUnavailableException", "This frontend leaves; what has no answer was not begun.")
            self._reading.result()
            outcome = "OK"
        except AwsError as error:
            outcome = error.name
            raise
        finally:
            await self._tasks.close()
            self._observe(self._entry.name, outcome)

    def leave(self) -> None:
        """Begin nothing more."""
        if self._reading is not None:
            self._reading.cancel()

    async def _read(self, requests: AsyncIterator[bytes]) -> None:
        async for raw in requests:
            for item in self._parse(raw).items:
                while self._under_way >= self._most or self._held >= self._most_bytes:
                    self._room.clear()
                    await self._room.wait()
                if self._clock.epoch() >= self._expires:
                    raise AwsError("ExpiredTokenException", "The security token included in the request is expired.")
                self._under_way += 1
                size = item.ByteSize()
                self._held += size
                self._tasks.start("call", self._call(item, size))

    async def _call(self, item: Any, size: int) -> None:
        caller, request_id = self._caller, self._new_id()
        call = Call(request_id, caller.tenant, caller.principal, caller.door, caller.deadline, caller.trace_header)
        result = self._result_class(number=item.number)
        try:
            result.response.CopyFrom(await self._run(item.request, call))
        except AwsError as error:
            told = result.error
            told.name, told.message = error.name, error.message
            if error.reason is not None:
                told.reason = error.reason
            if error.retry_after_seconds is not None:
                told.retry_after_seconds = error.retry_after_seconds
        result.request_id = call.answered_id or request_id
        answered = result.ByteSize()
        self._held += answered - size
        self._ready.append((result, answered))
        self._news.set()

    def _message(self) -> Any:
        """The answers that are ready, or as many as one message is for."""
        results: list[Any] = []
        size = 0
        while self._ready and (not results or size + self._ready[0][1] <= _MESSAGE_BYTES):
            result, answered = self._ready.popleft()
            results.append(result)
            size += answered
        self._held -= size
        self._under_way -= len(results)
        self._room.set()
        return self._entry.response_class(results=results)
