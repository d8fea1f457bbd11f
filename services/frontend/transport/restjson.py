"""AWS's restJson1 and our messages, in both directions, as the protos' FieldRules say. Compiled once for each class.

Where plain proto JSON differs from AWS: a long is a JSON number, a Timestamp is epoch seconds, absent differs from
zero, members that AWS does not know are ignored, null means absent, a member of a wrong type is a
SerializationException, and some members travel in the path, the query, headers, the status line, or as the whole body.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, cast
from urllib.parse import unquote_plus

import msgspec
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from lambent.domain.errors import AwsError, validation
from lambent.v1 import options_pb2
from services.frontend.transport.validation import member_name

_JSON = (b"Content-Type", b"application/json")

# Reads one JSON value and returns what the field takes.
Reader = Callable[[Any], Any]
# Makes a JSON value of a field's value.
Writer = Callable[[Any], Any]
Filler = Callable[[Any, Any], None]

_INT32 = (-(1 << 31), (1 << 31) - 1)
_INT64 = (-(1 << 63), (1 << 63) - 1)
_F = FieldDescriptor
# Heads of requests that are remembered, and the most characters of one.
_HEADS = 1024
_HEAD_LENGTH = 1024
# Base64 text that is decoded at once; divisible by four.
_BASE64_PIECE = 1024 * 1024


class RequestCodec:
    """Reads the requests of one RPC."""

    def __init__(self, message_class: type[Message], path_fields: list[str]) -> None:
        """`path_fields`: fields that the path's variables are for, in the template's order."""
        descriptor: Any = message_class.DESCRIPTOR
        self._make: Callable[..., Any] = message_class
        self._path = [(name, _text_reader(descriptor.fields_by_name[name])) for name in path_fields]
        self._query: dict[str, tuple[FieldDescriptor, Callable[[str], Any]]] = {}
        self._headers: list[tuple[bytes, str, Callable[[str], Any]]] = []
        self._payload: str | None = None
        self._payload_tag = b""
        self._payload_required = False
        self._from_bytes = cast(Callable[[bytes], Any], message_class.FromString)
        self._heads: dict[tuple[object, ...], bytes] = {}
        body: list[FieldDescriptor] = []
        for field in descriptor.fields:
            rule = field.GetOptions().Extensions[options_pb2.field]
            if rule.location == options_pb2.LOCATION_QUERY:
                self._query[rule.name] = (field, _text_reader(field))
            elif rule.location == options_pb2.LOCATION_HEADER:
                self._headers.append((rule.name.lower().encode(), field.name, _text_reader(field)))
            elif rule.location == options_pb2.LOCATION_PAYLOAD:
                self._payload = field.name
                self._payload_tag = _varint(field.number << 3 | 2)
                self._payload_required = rule.required
            elif field.name not in path_fields:
                body.append(field)
        self._fill = _filler(body, {}) if body else None

    @property
    def takes_payload(self) -> bool:
        """The body is one member's bytes."""
        return self._payload is not None

    def read(self, variables: tuple[str, ...], raw_query: bytes, headers: Mapping[bytes, bytes], body: bytes) -> Any:
        """The request. Raises SerializationException."""
        try:
            values: dict[str, Any] = {
                name: from_text(text) for (name, from_text), text in zip(self._path, variables, strict=True)
            }
            for wire_name, name, from_text in self._headers:
                raw = headers.get(wire_name)
                if raw is not None:
                    values[name] = from_text(raw.decode())
            # Every request has a body, if an empty one: a payload that must be there is never missing.
            if self._payload is not None and (body or self._payload_required):
                values[self._payload] = body
            message = self._make(**values)
            if raw_query and self._query:
                self._read_query(message, raw_query)
            if self._fill is not None and body:
                self._fill(message, _parse(body))
            return message
        except UnicodeError:
            raise _bad("Text must be valid UTF-8") from None

    def read_checked(
        self,
        variables: tuple[str, ...],
        raw_query: bytes,
        headers: Mapping[bytes, bytes],
        payload: bytes,
        check: Callable[[Any], None],
    ) -> Any:
        """The request of an RPC that takes a payload, after `check`. Raises what it raises, and SerializationException.

        Invocations of one function differ in their payloads only. What stands around it is read and checked once, and
        kept as it is serialised: a message's fields may come in pieces.
        """
        key = (variables, raw_query, *[headers.get(wire_name) for wire_name, _, _ in self._headers])
        head = self._heads.get(key)
        if head is None:
            message = self.read(variables, raw_query, headers, b"")
            check(message)
            head = message.SerializeToString()
            if len(head) + len(raw_query) <= _HEAD_LENGTH:
                if len(self._heads) >= _HEADS:
                    self._heads.clear()
                self._heads[key] = head
        if payload:
            head = b"%b%b%b%b" % (head, self._payload_tag, _varint(len(payload)), payload)
        return self._from_bytes(head)

    def _read_query(self, message: Any, raw_query: bytes) -> None:
        for part in raw_query.decode("ascii", "surrogateescape").split("&"):
            name, _, value = part.partition("=")
            known = self._query.get(unquote_plus(name, errors="strict"))
            if known is None:
                continue
            field, from_text = known
            parsed = from_text(unquote_plus(value, errors="strict"))
            if field.is_repeated:
                getattr(message, field.name).append(parsed)
            else:
                setattr(message, field.name, parsed)


class ResponseCodec:
    """Writes the responses of one RPC."""

    def __init__(self, message_class: type[Message], success: int) -> None:
        self._success = success
        self._status: str | None = None
        self._payload: str | None = None
        self._headers: list[tuple[str, bytes]] = []
        body: list[FieldDescriptor] = []
        descriptor: Any = message_class.DESCRIPTOR
        for field in descriptor.fields:
            rule = field.GetOptions().Extensions[options_pb2.field]
            if rule.location == options_pb2.LOCATION_STATUS_CODE:
                self._status = field.name
            elif rule.location == options_pb2.LOCATION_PAYLOAD:
                self._payload = field.name
            elif rule.location == options_pb2.LOCATION_HEADER:
                self._headers.append((field.name, rule.name.encode()))
            else:
                body.append(field)
        # A response without body members has an empty body, as those of deletions.
        self._write = _writer(body, {}) if body else None

    @property
    def payload(self) -> str | None:
        """The member that is the body itself; None: there is none."""
        return self._payload

    def write(self, message: Any) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        """Status, headers and body."""
        status = self._success
        headers: list[tuple[bytes, bytes]] = []
        if self._status is not None:
            status = getattr(message, self._status) or status
        for name, wire_name in self._headers:
            value = getattr(message, name)
            if value:
                headers.append((wire_name, value.encode() if isinstance(value, str) else str(value).encode()))
        if self._payload is not None:
            headers.append(_JSON)
            return status, headers, getattr(message, self._payload)
        if self._write is None or status == 204:
            return status, headers, b""
        headers.append(_JSON)
        return status, headers, msgspec.json.encode(self._write(message))


@lru_cache(maxsize=1024)
def _varint(number: int) -> bytes:
    """A number as protobuf writes it."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _parse(body: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _bad(f"Could not parse request body into json: {error}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise _bad("Start of structure or map found where not expected.")
    return document


# Reading


def _filler(fields: list[FieldDescriptor], known: dict[str, Filler]) -> Filler:
    """`fill(message, document)` for these members."""
    by_name: dict[str, Filler] = {field.json_name: _member_filler(field, known) for field in fields}

    def fill(message: Any, document: Any) -> None:
        if not isinstance(document, dict):
            raise _unexpected(document, "a structure")
        for name, value in document.items():
            if value is not None and (member := by_name.get(name)) is not None:
                member(message, value)

    return fill


def _message_filler(descriptor: Any, known: dict[str, Filler]) -> Filler:
    """Looked up when called, so that a type may contain itself."""
    name = descriptor.full_name
    if name not in known:
        known[name] = lambda message, document: None
        known[name] = _filler(list(descriptor.fields), known)
    return lambda message, document: known[name](message, document)


def _member_filler(field: FieldDescriptor, known: dict[str, Filler]) -> Filler:
    name, rule = field.name, field.GetOptions().Extensions[options_pb2.field]
    nested = field.message_type
    if nested is not None and nested.GetOptions().map_entry:
        return _map_filler(name, nested.fields_by_name["value"])
    if nested is not None and nested.full_name == "google.protobuf.Timestamp":

        def fill_time(message: Any, value: Any) -> None:
            seconds, nanos = _timestamp(value)
            time = getattr(message, name)
            time.seconds, time.nanos = seconds, nanos
            time.SetInParent()

        return fill_time
    if nested is not None:
        fill_nested = _message_filler(nested, known)
        if field.is_repeated:

            def fill_messages(message: Any, value: Any) -> None:
                items = getattr(message, name)
                for each in (each for each in _list(value) if each is not None):
                    fill_nested(items.add(), each)
                if rule.clearable and not items:
                    items.add()  # as of other lists, one empty item stands for none

            return fill_messages

        def fill_message(message: Any, value: Any) -> None:
            inner = getattr(message, name)
            inner.SetInParent()  # {} is present and empty
            fill_nested(inner, value)

        return fill_message
    read = _reader(field)
    if field.is_repeated:
        if rule.clearable:
            return _clearable_filler(name, read)
        least = rule.length.min

        def fill_list(message: Any, value: Any) -> None:
            items = [read(each) for each in _list(value) if each is not None]
            if len(items) < least and not items:  # to a message, none is as absent
                raise validation(
                    [
                        f"Value '[]' at '{member_name(field)}' failed to satisfy constraint: "
                        f"Member must have length greater than or equal to {least}"
                    ]
                )
            getattr(message, name).extend(items)

        return fill_list
    return lambda message, value: setattr(message, name, read(value))


def _clearable_filler(name: str, read: Reader) -> Filler:
    """Of a list that takes away what was there by being empty, which messages say by one empty item (options.proto)."""

    def fill_list(message: Any, value: Any) -> None:
        # An empty item that somebody has sent is no such word: it becomes one that nothing takes.
        items = [" " if each in (None, "") else read(each) for each in _list(value)]
        getattr(message, name).extend(items or [""])

    return fill_list


def _map_filler(name: str, values: FieldDescriptor) -> Filler:
    listed = _is_list(values)
    read = _string if listed else _reader(values)

    def fill_map(message: Any, value: Any) -> None:
        if not isinstance(value, dict):
            raise _unexpected(value, "a map")
        target = getattr(message, name)
        for key, each in value.items():
            if listed and each is not None:
                target[key].extend([read(item) for item in _list(each) if item is not None])
            elif each is not None:
                target[key] = read(each)

    return fill_map


def _is_list(field: FieldDescriptor) -> bool:
    """Whether a map's values are lists of texts, for which messages have a type of protobuf's own."""
    return field.message_type is not None and field.message_type.full_name == "google.protobuf.ListValue"


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _unexpected(value, "a list")
    return value


def _reader(field: FieldDescriptor) -> Reader:
    """From a JSON value to what a scalar field takes."""
    match field.type:
        case _F.TYPE_STRING:
            return _string
        case _F.TYPE_BOOL:
            return _bool
        case _F.TYPE_BYTES:
            return _bytes
        case _F.TYPE_DOUBLE | _F.TYPE_FLOAT:
            return _number
        case _F.TYPE_INT32:
            return lambda value: _integer(value, _INT32, "an Integer")
        case _F.TYPE_INT64:
            return lambda value: _integer(value, _INT64, "a Long")
    raise TypeError(f"{field.full_name}: restJson1 has no value for this type")


def _string(value: Any) -> str:
    if type(value) is not str:
        raise _unexpected(value, "a String")
    return value


def _bool(value: Any) -> bool:
    if type(value) is not bool:
        raise _unexpected(value, "a Boolean")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise _unexpected(value, "a Double")
    try:
        return float(value)
    except OverflowError:
        raise _unexpected(value, "a Double") from None


def _integer(value: Any, bounds: tuple[int, int], what: str) -> int:
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not bounds[0] <= value <= bounds[1]:
        raise _unexpected(value, what)
    return int(value)


def _bytes(value: Any) -> bytes:
    text = _string(value)
    try:
        if len(text) <= _BASE64_PIECE:
            return base64.b64decode(text, validate=True)
        # Piece by piece, so that other threads get their turn; only the last one may be padded.
        out = bytearray()
        for at in range(0, len(text), _BASE64_PIECE):
            if len(out) != at // 4 * 3:
                raise ValueError("padding within")
            out += base64.b64decode(text[at : at + _BASE64_PIECE], validate=True)
        return bytes(out)
    except (binascii.Error, ValueError):
        raise _bad("Blob values must be base64 text") from None


def _timestamp(value: Any) -> tuple[int, int]:
    if type(value) is str:
        try:
            value = datetime.fromisoformat(value).timestamp()
        except ValueError:
            raise _unexpected(value, "a Timestamp") from None
    if type(value) not in (int, float) or not -62_135_596_800 <= value < 253_402_300_800:
        raise _unexpected(value, "a Timestamp")
    micros = round(value * 1_000_000)
    seconds, rest = divmod(micros, 1_000_000)
    return seconds, rest * 1000


def _text_reader(field: FieldDescriptor) -> Callable[[str], Any]:
    """From the text of a header, a query parameter or a part of the path."""
    match field.type:
        case _F.TYPE_STRING:
            return str
        case _F.TYPE_BOOL:
            return _text_bool
        case _F.TYPE_INT32:
            return lambda text: _text_integer(text, _INT32, "an Integer")
        case _F.TYPE_INT64:
            return lambda text: _text_integer(text, _INT64, "a Long")
    raise TypeError(f"{field.full_name}: cannot travel as text")


def _text_bool(text: str) -> bool:
    if text not in ("true", "false"):
        raise _unexpected(text, "a Boolean")
    return text == "true"


def _text_integer(text: str, bounds: tuple[int, int], what: str) -> int:
    if len(text) > 20 or not text.isascii() or not text.removeprefix("-").isdigit():
        raise _unexpected(text, what)
    return _integer(int(text), bounds, what)


# Writing


def _writer(fields: list[FieldDescriptor], known: dict[str, Writer]) -> Writer:
    """`write(message)` → the document of these members, in the protos' order."""
    members: dict[int, tuple[str, Writer | None]] = {}
    always: list[tuple[str, str, Any]] = []
    for field in fields:
        members[field.number] = (field.json_name, _member_writer(field, known))
        if field.GetOptions().Extensions[options_pb2.field].emit_empty:
            empty: Any = {} if field.message_type and field.message_type.GetOptions().map_entry else []
            always.append((field.name, field.json_name, empty))

    def write(message: Any) -> dict[str, Any]:
        document: dict[str, Any] = {}
        for field, value in message.ListFields():
            member = members.get(field.number)
            if member is not None:
                name, convert = member
                document[name] = value if convert is None else convert(value)
        for _, name, nothing in always:
            if name not in document:
                document[name] = nothing
        return document

    return write


def _member_writer(field: FieldDescriptor, known: dict[str, Writer]) -> Writer | None:
    """None: the value is written as it is."""
    nested = field.message_type
    if nested is not None and nested.GetOptions().map_entry:
        if _is_list(nested.fields_by_name["value"]):
            return lambda value: {key: list(each) for key, each in value.items()}
        return dict
    if nested is not None:
        convert = _message_writer(nested, known)
        return (lambda value: [convert(each) for each in value]) if field.is_repeated else convert
    if field.type == _F.TYPE_BYTES:
        return lambda value: base64.b64encode(value).decode()
    return list if field.is_repeated else None


def _message_writer(descriptor: Any, known: dict[str, Writer]) -> Writer:
    name = descriptor.full_name
    if name == "google.protobuf.Timestamp":
        return _epoch
    if name not in known:
        known[name] = lambda message: {}
        known[name] = _writer(list(descriptor.fields), known)
    return lambda message: known[name](message)


def _epoch(time: Any) -> float | int:
    return time.seconds + time.nanos / 1e9 if time.nanos else int(time.seconds)


# Errors


def _unexpected(value: Any, what: str) -> AwsError:
    kinds = {str: "STRING_VALUE", int: "NUMBER_VALUE", float: "NUMBER_VALUE", list: "START_ARRAY", dict: "START_OBJECT"}
    found = ("TRUE_VALUE" if value else "FALSE_VALUE") if isinstance(value, bool) else kinds.get(type(value), "null")
    return _bad(f"{found} can not be converted to {what}")


def _bad(message: str) -> AwsError:
    return AwsError("SerializationException", message)
