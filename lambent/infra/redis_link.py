"""One connection to a Redis-compatible server: commands go out one behind the other, answers come back in that order.

The library makes the connection, as it knows about passwords, TLS, Sentinels and clusters; then the transport speaks to
a `RedisLink` instead of to the library's reader. That one takes limits of time and a dozen coroutines for each command
or message, several times what these themselves need.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import Any, cast

from redis._parsers import BaseParser
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError


class RedisLink(asyncio.Protocol):
    """The connection. What was sent is never sent again: where the link breaks, whoever waits is told, and decides."""

    def __init__(self, connection: Any, seconds: float) -> None:
        """`connection`: one of the library's, connected. `seconds`: for one answer."""
        self.connection = connection
        self._transport: asyncio.Transport = connection._writer.transport
        self._former = self._transport.get_protocol()  # is told of the end, which the library may wait for
        self._transport.set_protocol(self)
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[float, asyncio.Future[Any]]] = deque()  # until when, by the loop's clock
        self._timer: asyncio.TimerHandle | None = None
        self._heard: asyncio.Queue[bytes | RedisError] | None = None  # messages of a channel; None: none is listened to
        self._chunks: list[bytes] = []  # received, and not all of an answer yet
        self._size = 0  # of these together
        self._needed = 0  # how many bytes there must be before it is worth looking at them again
        self.broken = False

    def ask(self, command: bytes) -> asyncio.Future[Any]:
        """Send a packed command; answers what the server answers. Raises RedisError, also for an error that it answers.

        A command whose caller gives up is carried out nevertheless; its answer is thrown away.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        if self.broken:
            future.set_exception(RedisConnectionError("Connection closed"))
            return future
        self._waiting.append((self._loop.time() + self._seconds, future))
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._look)
        self._transport.write(command)
        return future

    def listen(self, channel: str) -> asyncio.Queue[bytes | RedisError]:
        """Subscribe; nothing else may be asked then. Answers where messages come, the last of which is why it ended."""
        heard = self._heard = asyncio.Queue()
        self._transport.write(pack(("SUBSCRIBE", channel)))
        return heard

    def close(self) -> None:
        """End it; whoever waits is told."""
        self._break(RedisConnectionError("Connection closed"))

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        self._chunks.append(data)
        self._size += len(data)
        if self._size < self._needed:
            return
        if len(self._chunks) > 1:
            data = b"".join(self._chunks)
        at, size, needed = 0, len(data), 0
        try:
            while at < size:
                answer, end = parse(data, at)
                if data[at] == _PUSH or self._heard is not None:
                    self._tell(answer)
                else:
                    self._answer(answer)
                at = end
        except Incomplete as incomplete:
            needed = incomplete.size - at
        except RedisError as error:
            self._break(error)
        self._chunks = [data[at:]] if at < size else []
        self._size, self._needed = size - at, needed

    def connection_lost(self, error: Exception | None) -> None:
        self._break(RedisConnectionError(f"Connection lost: {error or 'closed by the server'}"))
        self._former.connection_lost(error)

    def _answer(self, answer: Any) -> None:
        if not self._waiting:
            raise InvalidResponse("an answer to nothing")
        _, future = self._waiting.popleft()
        if future.done():
            return
        if not isinstance(answer, RedisError):
            future.set_result(answer)
            return
        future.set_exception(answer)
        if isinstance(answer, ReadOnlyError):
            # It is no master any more: the next link asks the Sentinels, where there are any, who is.
            raise RedisConnectionError("The previous master is a replica now")

    def _tell(self, told: Any) -> None:
        """What the server says unasked; on a link that listens, everything."""
        if isinstance(told, RedisError):
            raise told
        if self._heard is not None and told[0] == b"message":
            self._heard.put_nowait(told[2])

    def _look(self) -> None:
        """Whether the answer that is expected next is overdue."""
        self._timer = None
        if not self._waiting:
            return
        left = self._waiting[0][0] - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self._break(RedisTimeoutError("The store did not answer in time"))

    def _break(self, error: RedisError) -> None:
        if self.broken:
            return
        self.broken = True
        if self._timer is not None:
            self._timer.cancel()
        self._transport.abort()
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(type(error)(*error.args))
        self._waiting.clear()
        if self._heard is not None:
            self._heard.put_nowait(error)


async def messages(client: Redis, channel: str) -> AsyncGenerator[bytes]:
    """Messages of a channel from the subscription on, as they come. Raises RedisError and OSError where it ends."""
    if isinstance(client, RedisCluster):
        # A cluster's client learns from a first command which nodes there are; any of them has all messages.
        await cast(Any, client).ping()
        node = client.get_random_node()
        connection = node.connection_class(**node.connection_kwargs)
    else:
        connection = cast(Any, client.connection_pool).make_connection()
    try:
        await connection.connect()
        link = RedisLink(connection, 0.0)
        heard = link.listen(channel)
        try:
            while not isinstance(message := await heard.get(), RedisError):
                yield message
            raise message
        finally:
            link.close()
    finally:
        await connection.disconnect(nowait=True)


def pack(parts: Sequence[str | bytes]) -> bytes:
    """A command as the server reads it. Source: https://redis.io/docs/latest/develop/reference/protocol-spec/."""
    packed = [b"*%d\r\n" % len(parts)]
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        packed.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(packed)


class Incomplete(Exception):
    """The answer is not all there."""

    def __init__(self, size: int) -> None:
        """`size`: of data that has more of it, at the least."""
        super().__init__(size)
        self.size = size


_BULK, _INTEGER, _ARRAY, _PUSH, _STATUS, _ERROR, _NULL = b"$:*>+-_"


def parse(data: bytes, at: int) -> tuple[Any, int]:
    """The answer at a position, and where it ends: bytes, int, None, a list, or an error that the server answered.

    Only what scripts and channels answer. Raises Incomplete, and InvalidResponse for what is none of these.
    Source: as of `pack`.
    """
    line = data.find(b"\r\n", at)
    if line < 0:
        raise Incomplete(len(data) + 1)
    kind, said, start = data[at], data[at + 1 : line], line + 2
    if kind == _BULK:
        size = int(said)
        if size < 0:
            return None, start
        end = start + size
        if end + 2 > len(data):
            raise Incomplete(end + 2)
        return data[start:end], end + 2
    if kind == _INTEGER:
        return int(said), start
    if kind in (_ARRAY, _PUSH):
        if said == b"-1":
            return None, start
        items = []
        for _ in range(int(said)):
            item, start = parse(data, start)
            items.append(item)
        return items, start
    if kind == _STATUS:
        return said, start
    if kind == _ERROR:
        return cast(Any, BaseParser).parse_error(said.decode(errors="replace")), start
    if kind == _NULL:
        return None, start
    raise InvalidResponse(f"an answer that begins with {data[at : at + 1]!r}")
