"""A small HTTP/1.1 client for calls to services that a user has configured."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import httptools

# Most bytes of an answer, unless more are asked for.
ANSWER_BYTES = 1024 * 1024


class HttpFailure(Exception):
    """No answer: not reached, too slow, or what came is no HTTP."""


class AnswerTooLong(HttpFailure):
    """More comes than is taken."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said."""

    status: int
    headers: Mapping[str, str]  # lower-case names
    body: bytes


class _Answering:
    """Collects an answer from the parser's calls."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.parts: list[bytes] = []
        self.size = 0
        self.expected = 0  # bytes of the body, as the server says; 0: it does not
        self.done = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.expected = int(self.headers.get("content-length", 0))

    def on_body(self, part: bytes) -> None:
        self.parts.append(part)
        self.size += len(part)

    def on_message_complete(self) -> None:
        self.done = True


class HttpLink:
    """Requests to one endpoint, one after the other, over a connection that is kept where the server keeps it."""

    def __init__(self, endpoint: str, answer_bytes: int = ANSWER_BYTES) -> None:
        """`endpoint`: http(s)://HOST[:PORT]."""
        self._endpoint = endpoint
        self._answer_bytes = answer_bytes
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def exchange(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, seconds: float, *, last: bool = False
    ) -> Answer:
        """One request. `seconds`: how long it may take. `last`: the connection is not kept. Raises HttpFailure."""
        head = f"{method} {path} HTTP/1.1\r\n"
        lines = {**headers, "content-length": str(len(body)), "connection": "close" if last else "keep-alive"}
        head += "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n"
        request = head.encode() + body
        try:
            async with asyncio.timeout(seconds):
                if self._streams is not None:
                    try:
                        return await self._answer(request)
                    except (OSError, EOFError):
                        # The server has let go of it meanwhile.
                        self.close()
                return await self._answer(request)
        except TimeoutError:
            raise HttpFailure(f"{self._endpoint} did not answer within {seconds:g} s") from None
        except (OSError, httptools.HttpParserError, EOFError) as error:
            raise HttpFailure(f"{self._endpoint} cannot be reached: {error or type(error).__name__}") from error

    def close(self) -> None:
        """Hang up; another request connects again."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _answer(self, request: bytes) -> Answer:
        kept = False
        try:
            if self._streams is None:
                self._streams = await self._connect()
            reader, writer = self._streams
            writer.write(request)
            answer, kept = await _read(reader, self._answer_bytes)
            return answer
        finally:
            if not kept:
                self.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        parts = urlsplit(self._endpoint)
        secure = parts.scheme == "https"
        context = ssl.create_default_context() if secure else None
        return await asyncio.open_connection(parts.hostname, parts.port or (443 if secure else 80), ssl=context)


async def exchange(
    method: str, endpoint: str, path: str, headers: Mapping[str, str], body: bytes, seconds: float
) -> Answer:
    """One request to `endpoint`, over a connection of its own. Raises HttpFailure."""
    return await HttpLink(endpoint).exchange(method, path, headers, body, seconds, last=True)


async def _read(reader: asyncio.StreamReader, most: int) -> tuple[Answer, bool]:
    """The next answer, and whether the connection goes on."""
    answering = _Answering()
    parser = httptools.HttpResponseParser(answering)
    while not answering.done:
        data = await reader.read(65536)
        if not data:
            # An answer without a length ends with the connection.
            if answering.parts:
                break
            raise EOFError("the connection ended before the answer")
        parser.feed_data(data)
        if max(answering.size, answering.expected) > most:
            raise AnswerTooLong(f"the answer is longer than {most} bytes")
    answer = Answer(parser.get_status_code(), answering.headers, b"".join(answering.parts))
    return answer, answering.done and parser.should_keep_alive()


def host_of(endpoint: str) -> str:
    """The Host header of requests to an endpoint."""
    return urlsplit(endpoint).netloc
