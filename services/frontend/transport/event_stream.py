"""AWS's event stream encoding: what a streamed answer is made of on the REST door.

    message = total:u32  headers:u32  crc of both:u32  headers  payload  crc of all before:u32        (big-endian)
    header  = length:u8  name  7:u8  length:u16  value

Source: https://docs.aws.amazon.com/transcribe/latest/dg/event-stream.html, the one page that AWS has about it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any
from zlib import crc32

import msgspec
from google.protobuf.message import Message

from lambent.domain.errors import AwsError
from lambent.v1 import options_pb2

CONTENT_TYPE = "application/vnd.amazon.eventstream"
_LARGEST = 1024 * 1024  # bytes of payload in one message; clients take no more than 16 MB
_PRELUDE = struct.Struct(">II")
_CRC = struct.Struct(">I")
_STRING = 7
_TEXT = 8192  # characters of a header's text; it may have 32,767 bytes


def encode(headers: dict[str, str], payload: bytes) -> bytes:
    """One message."""
    packed = b"".join(
        struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", _STRING, len(value)) + value.encode()
        for name, value in headers.items()
    )
    total = _PRELUDE.size + _CRC.size + len(packed) + len(payload) + _CRC.size
    prelude = _PRELUDE.pack(total, len(packed))
    head = prelude + _CRC.pack(crc32(prelude)) + packed + payload
    return head + _CRC.pack(crc32(head))


def events(union: Message) -> Iterator[bytes]:
    """The messages of what is set in a message whose members are kinds of events."""
    descriptor: Any
    for descriptor, value in union.ListFields():
        headers = {":message-type": "event", ":event-type": descriptor.json_name}
        payload = _payload_field(value)
        if payload is None:
            document = {field.json_name: content for field, content in value.ListFields()}
            yield encode({**headers, ":content-type": "application/json"}, msgspec.json.encode(document))
            continue
        headers[":content-type"] = "application/octet-stream"
        data: bytes = getattr(value, payload)
        for start in range(0, max(1, len(data)), _LARGEST):
            yield encode(headers, data[start : start + _LARGEST])


def _payload_field(message: Message) -> str | None:
    for field in message.DESCRIPTOR.fields:
        if field.GetOptions().Extensions[options_pb2.field].location == options_pb2.LOCATION_PAYLOAD:
            return str(field.name)
    return None


def error(told: AwsError) -> bytes:
    """The last message of a stream that cannot go on."""
    return encode({":message-type": "error", ":error-code": told.name, ":error-message": told.message[:_TEXT]}, b"")
