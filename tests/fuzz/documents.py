"""Values, JSON documents and protobuf messages that are nearly right."""

from __future__ import annotations

import base64
import json
import random
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from tests.fuzz.packages import any_package

_F = FieldDescriptor

# What is written into JSON as it stands.
RAW = [
    "NaN",
    "-Infinity",
    "1e999",
    "-0",
    "01",
    "1" * 400,
    "0x10",
    "tru",
    "'x'",
    '"\\ud800"',
    '"\\u0000"',
    '"\\x"',
    "//",
    "{",
    "1e5",
]
STRINGS = [
    "", " ", "x", "x" * 65, "x" * 141, "x" * 300, "x" * 70_000, "\0", "a\0b", "\n", "ü", "\N{SNAKE}", "../..", "%2e%2e", "$LATEST",
    "null", "'; DROP", "${jndi:x}", "\ud800", "\ufeff", "\u202e", "arn:aws:lambda:us-east-1:000000000000:function:steady",
    "python3.11", "-1", "1e3", "{{x}}", "app.handler", "no.such.module.handler", "noDot", ".", "..handler", "true",
]  # fmt: skip
NUMBERS: list[Any] = [
    0,
    -1,
    1,
    3,
    128,
    900,
    901,
    10_240,
    10_241,
    2**31,
    -(2**31) - 1,
    2**63,
    -(2**63) - 1,
    2**64,
    10**30,
    0.5,
    3.0,
    1e308,
    -0.0,
]


class Raw(str):
    """Text that goes into a document without quotes."""

    __slots__ = ()


def confused(rng: random.Random) -> Any:
    """A value of any type."""
    match rng.randrange(9):
        case 0:
            return None
        case 1:
            return rng.random() < 0.5
        case 2 | 3:
            return rng.choice(NUMBERS)
        case 4 | 5:
            return rng.choice(STRINGS)
        case 6:
            return [confused(rng) for _ in range(rng.randrange(4))]
        case 7:
            return {rng.choice(STRINGS): confused(rng) for _ in range(rng.randrange(4))}
        case _:
            return Raw(rng.choice(RAW))


def plausible(rng: random.Random, field: FieldDescriptor, depth: int = 0) -> Any:
    """A JSON value of the field's own type."""
    nested = field.message_type
    if nested is not None and nested.GetOptions().map_entry:
        kind = nested.fields_by_name["value"].type
        lists = [[], STRINGS[:1], STRINGS[:11]]
        values = STRINGS if kind == _F.TYPE_STRING else lists if kind == _F.TYPE_MESSAGE else NUMBERS
        return {rng.choice(["KEY", "1", "2", *STRINGS[:8]]): rng.choice(values) for _ in range(rng.randrange(4))}
    value: Any
    if nested is not None and nested.full_name.startswith("google.protobuf."):
        value = rng.choice([0, 1.5, -1, 1e18, "2026-01-01T00:00:00Z", "never"])
    elif nested is not None:
        value = {} if depth > 3 else _members(rng, nested, depth)
    elif field.type == _F.TYPE_BOOL:
        value = rng.random() < 0.5
    elif field.type in (_F.TYPE_STRING,):
        value = rng.choice(STRINGS)
    elif field.type == _F.TYPE_BYTES:
        value = blob(rng)
    else:
        value = rng.choice(NUMBERS)
    return [value] * rng.randrange(3) if field.is_repeated else value


def _members(rng: random.Random, descriptor: Descriptor, depth: int) -> dict[str, Any]:
    fields = list(descriptor.fields)
    chosen = rng.sample(fields, min(len(fields), rng.randrange(3)))
    return {field.json_name: plausible(rng, field, depth + 1) for field in chosen}


def blob(rng: random.Random) -> str:
    """Base64 of a package, or what is none."""
    text = base64.b64encode(any_package(rng)[1]).decode()
    if rng.random() < 0.8:
        return text
    return rng.choice(
        ["", "=", "====", "a", "###", text[:-1], text + "=", text.replace("A", "-"), " " + text, text + "\n", "ü"]
    )


def change(rng: random.Random, document: dict[str, Any], descriptor: Descriptor) -> dict[str, Any]:
    """One or two members other than they should be."""
    changed = dict(document)
    fields = list(descriptor.fields)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        field = rng.choice(fields)
        match rng.randrange(6):
            case 0:
                changed[field.json_name] = confused(rng)
            case 1 | 2:
                changed[field.json_name] = plausible(rng, field)
            case 3:
                changed.pop(rng.choice(list(changed) or [""]), None)
            case 4:
                changed[rng.choice(["Unknown", "", "__proto__", field.json_name.lower(), field.name, *STRINGS])] = (
                    confused(rng)
                )
            case _:
                if changed:
                    changed[rng.choice(list(changed))] = confused(rng)
    return changed


def text(value: Any) -> str:
    """JSON, with raw pieces as they are."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(json.dumps(str(key)) + ":" + text(each) for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(text(each) for each in value) + "]"
    return json.dumps(value)


def spoil(rng: random.Random, body: bytes) -> bytes:
    """A text that is JSON no more, or barely."""
    match rng.randrange(9):
        case 0:
            return body[: rng.randrange(len(body) + 1)]
        case 1:
            return body + rng.choice([b"}", b"x", b"\0", b" " * 1000, b"{}"])
        case 2:
            return b"\xef\xbb\xbf" + body
        case 3:
            return body.decode("utf-8", "replace").encode("utf-16")
        case 4:
            return flipped(rng, body)
        case 5:
            return b'{"a":' + b"[" * (depth := rng.choice([10, 1100, 100_000])) + b"]" * depth + b"}"
        case 6:
            return rng.choice([b"", b"null", b"[]", b'"x"', b"1", b"true", b"\xff", b"\0" * 100, b"{" * 5000])
        case 7:
            return body[:-1] + b"," + body[1:]
        case _:
            return body.replace(b'":', b'":\xff\xfe', 1)


def flipped(rng: random.Random, data: bytes) -> bytes:
    """A few bytes changed, taken out or put in."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 5)):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(3):
            case 0:
                changed[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del changed[at : at + rng.randint(1, 8)]
            case _:
                changed[at:at] = rng.randbytes(rng.randint(1, 8))
    return bytes(changed)


def wire_value(rng: random.Random, number: int) -> bytes:
    """A protobuf field of any wire type, with any content."""
    kind = rng.choice([0, 1, 2, 2, 5, 3, 4, 6, 7])
    tag = varint(number << 3 | kind)
    match kind:
        case 0:
            return tag + varint(rng.choice([0, 1, 2**31, 2**63, 2**64 - 1]))
        case 1:
            return tag + rng.randbytes(8)
        case 2:
            content = rng.choice([b"", b"x", b"\xff\xfe", rng.randbytes(30), b"y" * 70_000])
            return tag + varint(len(content) + rng.choice([0, 0, 0, 1, 2**31])) + content
        case 5:
            return tag + rng.randbytes(4)
        case _:
            return tag


def varint(value: int) -> bytes:
    """As protobuf writes numbers."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def message_bytes(rng: random.Random, message: Message) -> bytes:
    """A message's bytes, mostly with something wrong."""
    data = message.SerializeToString()
    numbers = [field.number for field in message.DESCRIPTOR.fields]
    match rng.randrange(7):
        case 0:
            return data
        case 1:
            return flipped(rng, data)
        case 2:
            return data[: rng.randrange(len(data) + 1)]
        case 3:
            return data + wire_value(rng, rng.choice([*numbers, 999, 2**28]))
        case 4:
            return (
                data + varint(rng.choice([900, 5000]) << 3) + varint(rng.randrange(2**40))
            )  # a field that nobody knows
        case 5:
            return rng.randbytes(rng.choice([1, 10, 200, 5000]))
        case _:
            return data + b"".join(wire_value(rng, rng.choice(numbers or [1])) for _ in range(3))
