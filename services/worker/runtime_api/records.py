"""Log records that a runtime writes to its own pipe, whole: `_LAMBDA_TELEMETRY_LOG_FD` of AWS's runtime clients.

    record = type:u32  length:u32  [microseconds:u64]  text        (big-endian)

The type is 0xA55A and two bytes of level and form; 0xA55A0001, of older clients, comes without a time.
Source: the sinks of AWS's clients (https://github.com/aws/aws-lambda-python-runtime-interface-client).
"""

from __future__ import annotations

import struct

_HEAD = struct.Struct(">II")
_MAGIC = 0xA55A
_UNTIMED = 0xA55A0001
_TIME_BYTES = 8
_MOST = 1024 * 1024  # bytes of one record; what claims more is no record


class RecordReader:
    """Cuts what comes through the pipe into records."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._broken = False

    def feed(self, data: bytes) -> list[bytes]:
        """The texts that are complete now. What does not have the form is handed on as it is."""
        if self._broken:
            return [data]
        buffer = self._buffer
        buffer += data
        found: list[bytes] = []
        while len(buffer) >= _HEAD.size:
            kind, length = _HEAD.unpack_from(buffer)
            if kind >> 16 != _MAGIC or length > _MOST:
                self._broken = True
                found.append(bytes(buffer))
                buffer.clear()
                break
            start = _HEAD.size + (0 if kind == _UNTIMED else _TIME_BYTES)
            if len(buffer) < start + length:
                break
            text = bytes(buffer[start : start + length])
            del buffer[: start + length]
            found.append(text[:-1] if text.endswith(b"\n") else text)
        return found
