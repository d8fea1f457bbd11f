"""A small HTTP/1.1 client for calls to services that a user has configured: one request, one connection."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import httptools

# Most bytes of an answer; those that are asked for here are short.
ANSWER_BYTES = 1024 * 1024


class HttpFailure(Exception):
    """No answer: not reached, too slow, or what came is no HTTP."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said."""

    status: int
    body: bytes


class _Answering:
    """Collects an answer from the parser's calls."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0
        self.done = False

    def on_body(self, part: bytes) -> None:
        self.parts.append(part)
        self.size += len(part)

    def on_message_complete(self) -> None:
        self.done = True


async def exchange(
    method: str, endpoint: str, path: str, headers: Mapping[str, str], body: bytes, seconds: float
) -> Answer:
    """One request to `endpoint` (http(s)://HOST[:PORT]). Raises HttpFailure."""
    parts = urlsplit(endpoint)
    secure = parts.scheme == "https"
    head = f"{method} {path} HTTP/1.1\r\n"
    lines = {**headers, "content-length": str(len(body)), "connection": "close"}
    head += "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n"
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(
                parts.hostname,
                parts.port or (443 if secure else 80),
                ssl=ssl.create_default_context() if secure else None,
            )
            try:
                writer.write(head.encode() + body)
                return await _answer(reader)
            finally:
                writer.close()
    except TimeoutError:
        raise HttpFailure(f"{endpoint} did not answer within {seconds:g} s") from None
    except (OSError, httptools.HttpParserError, EOFError) as error:
        raise HttpFailure(f"{endpoint} cannot be reached: {error or type(error).__name__}") from error


async def _answer(reader: asyncio.StreamReader) -> Answer:
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
        if answering.size > ANSWER_BYTES:
            raise EOFError("the answer is too long")
    return Answer(parser.get_status_code(), b"".join(answering.parts))


def host_of(endpoint: str) -> str:
    """The Host header of requests to an endpoint."""
    return urlsplit(endpoint).netloc
