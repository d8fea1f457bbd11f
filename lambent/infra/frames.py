"""The invocation stream between callers (frontend, poller) and workers: framed messages on a socket.

One connection carries many invocations at once, each frame tagged with its call. Frames that become ready in one
turn of the loop leave in one write. Payloads are opaque bytes from end to end. The leases that permit all this travel
over gRPC (`lease_service.proto`); docs/decisions/0004-framed-invocation-stream.md has the measurements that keep
payloads off it: 41 µs of processor time an invocation over both processes against 196 µs.

    frame  = length:u32  kind:u8  call:u64  meta_length:u32  meta  payload        (little-endian)
    length = bytes after the length field; meta = msgpack of the kind's struct, empty where it has none
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Any

import msgspec

_HEAD = struct.Struct("<IBQI")
HEAD_BYTES = _HEAD.size
_AFTER_LENGTH = HEAD_BYTES - 4
_pack = _HEAD.pack
MAX_FRAME_BYTES = 64 * 1024 * 1024


class Kind(IntEnum):
    """What a frame says."""

    HELLO = 1  # caller → worker: Hello. First on every connection; anything else first is cut off.
    INVOKE = 2  # caller → worker: Invoke, payload = the event.
    RESULT = 3  # worker → caller: Result, payload = the response or the error document.
    REJECT = 4  # worker → caller: Reject. The handler did not run; the caller may lease another environment.
    CANCEL = 5  # caller → worker: the call's outcome is not wanted; the environment is stopped and replaced.
    STREAM = 6  # worker → caller: Stream. The response comes piece by piece, before a result without payload.
    PIECE = 7  # worker → caller: payload = the next bytes of a response that streams.
    CREDIT = 8  # caller → worker: Credit. So much more of the response may be sent.
    LEAVE = 9  # worker → caller: send nothing new on this connection, and close it once all calls have ended.


class Hello(msgspec.Struct, array_like=True):
    """Who dials in."""

    caller_id: str
    token: str  # the cluster's shared secret


class Invoke(msgspec.Struct, array_like=True):
    """One invocation for one environment."""

    slot: int  # the environment's number on its worker
    environment_id: str  # guards against a slot that has been given to another environment since
    request_id: str
    arn: str  # as the caller named the function, alias included
    trace: str  # X-Amzn-Trace-Id header for the function
    client_context: str | None  # JSON text, already decoded from base64
    tail: bool  # whether the last 4 KB of the log are wanted
    streams: bool = False  # whether the caller takes the response piece by piece
    # Whether nothing is to run: the answer says how the init phase went, by a Prepared where it went well.
    prepares: bool = False


class Prepared(msgspec.Struct):
    """What an environment that nothing is to run in says of itself; a payload, as JSON."""

    snapshot: bool  # whether it came of a snapshot
    reason: str  # why it did, or did not


class Result(msgspec.Struct, array_like=True):
    """What came of it. Durations are milliseconds."""

    error: str | None  # value of X-Amz-Function-Error; None: the handler returned
    error_type: str | None  # errorType of the error document, for metrics and spans
    duration_ms: float
    init_ms: float | None  # duration of the init phase; None on warm invocations
    billed_ms: int
    memory_mb: int  # most memory used so far
    started: float  # epoch seconds at which the event was handed to the handler
    tail: bytes | None  # the log tail, where it was asked for
    reusable: bool  # False: the environment is gone with this invocation


class Reject(msgspec.Struct, array_like=True):
    """Why an invocation was not begun."""

    reason: str  # a value of services/worker/core/reasons.py


class Stream(msgspec.Struct, array_like=True):
    """A response begins that comes piece by piece."""

    content_type: str  # as the function gave it


class Credit(msgspec.Struct, array_like=True):
    """How much of a response its caller has taken."""

    size: int  # bytes


# How much of a response may be on its way without having been taken. Bytes.
WINDOW = 256 * 1024

_META: dict[int, msgspec.msgpack.Decoder[Any]] = {
    Kind.HELLO: msgspec.msgpack.Decoder(Hello),
    Kind.INVOKE: msgspec.msgpack.Decoder(Invoke),
    Kind.RESULT: msgspec.msgpack.Decoder(Result),
    Kind.REJECT: msgspec.msgpack.Decoder(Reject),
    Kind.STREAM: msgspec.msgpack.Decoder(Stream),
    Kind.CREDIT: msgspec.msgpack.Decoder(Credit),
}
_ENCODER = msgspec.msgpack.Encoder()

Meta = Hello | Invoke | Result | Reject | Stream | Credit | None
Frame = tuple[int, int, Meta, bytes]  # kind, call, meta, payload


class FrameError(Exception):
    """The peer sent what is no frame; the connection is of no further use."""


def encode(kind: int, call: int, meta: Meta = None, payload: bytes = b"") -> bytes:
    """One frame as bytes."""
    packed = b"" if meta is None else _ENCODER.encode(meta)
    size = len(packed)
    return _pack(_AFTER_LENGTH + size + len(payload), kind, call, size) + packed + payload


class FrameReader:
    """Turns received bytes into frames. Keeps what is incomplete."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def incomplete(self) -> int:
        """Bytes of what has begun and not ended."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete now. Raises FrameError on a length, kind or meta that cannot be."""
        buffer: bytes | bytearray = self._buffer
        if buffer:
            self._buffer += data
        else:
            buffer = data  # nearly always: whole frames, which need no copy
        frames: list[Frame] = []
        offset, end = 0, len(buffer)
        while end - offset >= _HEAD.size:
            length, kind, call, meta_length = _HEAD.unpack_from(buffer, offset)
            stop = offset + 4 + length
            start = offset + _HEAD.size
            if length > MAX_FRAME_BYTES or start + meta_length > stop:
                raise FrameError(f"frame of {length} bytes with {meta_length} bytes of meta")
            if stop > end:
                break
            meta: Meta = None
            if meta_length:
                decoder = _META.get(kind)
                if decoder is None:
                    raise FrameError(f"frame of unknown kind {kind}")
                try:
                    meta = decoder.decode(buffer[start : start + meta_length])
                except msgspec.MsgspecError as error:
                    raise FrameError(f"meta of a frame of kind {kind}: {error}") from error
            frames.append((kind, call, meta, bytes(buffer[start + meta_length : stop])))
            offset = stop
        if buffer is data:
            if offset < end:
                self._buffer += memoryview(data)[offset:]
        elif offset:
            del self._buffer[:offset]
        return frames
