"""Checks requests against the constraints that protos/lambent/v1 declares (FieldRule), and answers in AWS's words.

All violations are collected, in the order of the members. Compiled once for each message class; a check looks only
at what the message carries, so that an invocation costs two or three microseconds. Texts: AWS's recorded answers, e.g.
"1 validation error detected: Value '901' at 'timeout' failed to satisfy constraint: Member must have value less than
or equal to 900".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from lambent.domain.errors import validation as validation_error
from lambent.v1 import options_pb2

# A value longer than this is cut in an error: an answer is never as large as a request.
MAX_SHOWN = 4096

# Longer values are matched each time.
_REMEMBERED_LENGTH = 256

# Values longer than this and than their field allows are not matched against its pattern.
_MATCHED_LENGTH = 2048

_NOT_NULL = "Member must not be null"
_SURROGATES = re.compile(r"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")
# Java's classes of characters, as what stands between the brackets of Python's. Beyond ASCII everything is a letter.
_CLASSES: Mapping[str, str] = {
    "\\p{Print}": "\\x20-\\x7e",
    "\\p{L}": "A-Za-z\\xaa-\\U0010ffff",
    "\\p{N}": "0-9",
    "\\p{Z}": "\\x20\\xa0",
}
_CLASS = re.compile(r"\\p\{\w+\}")
_LITERALS = re.compile(r"[A-Za-z0-9_.-]+(?:\|[A-Za-z0-9_.-]+)*")

# A constraint on one value: None when it holds, else its text.
Constraint = Callable[[Any], str | None]
# All violations of one field's value, with the path to it.
FieldCheck = Callable[[Any, str], Iterator[str]]


def validator(message_class: type[Message], refusal: str = "ValidationException") -> Callable[[Message], None]:
    """Compile `check(message)`, which raises `refusal`."""
    checks = _checks(message_class.DESCRIPTOR, {})

    def check(message: Message) -> None:
        violations = checks.violations(message, "")
        if violations:
            raise validation_error(violations, refusal)

    return check


class _MessageChecks:
    """The checks of one message type, compiled."""

    def __init__(self) -> None:
        self._required: list[tuple[int, str, str, bool]] = []  # number, field name, name in errors, has presence
        self._fields: dict[int, tuple[str, Constraint | None, FieldCheck]] = {}

    def compile(self, descriptor: Any, known: dict[str, _MessageChecks]) -> None:
        """`known`: what is compiled or being compiled, so that a type may contain itself."""
        for field in descriptor.fields:
            rule = field.GetOptions().Extensions[options_pb2.field]
            name = member_name(field)
            if rule.required:
                self._required.append((field.number, field.name, name, field.has_presence))
            compiled = _field(field, rule, known)
            if compiled is not None:
                self._fields[field.number] = (name, *compiled)

    def violations(self, message: Message, prefix: str) -> list[str]:
        """In the order of the members."""
        found: list[tuple[int, str]] = []
        fields = self._fields
        for field, value in message.ListFields():
            entry = fields.get(field.number)
            if entry is None:
                continue
            name, quick, check = entry
            # Nearly every value is good: one call says so without making a generator.
            if quick is not None and quick(value) is None:
                continue
            found += [(field.number, text) for text in check(value, prefix + name)]
        for number, field_name, name, has_presence in self._required:
            # Presence is per field; a repeated field that is required cannot be told from an empty one.
            if not (message.HasField(field_name) if has_presence else getattr(message, field_name)):
                found.append(
                    (number, f"Value null at '{prefix + name}' failed to satisfy constraint: Member must not be null")
                )
        if len(found) > 1:
            found.sort(key=lambda item: item[0])
        return [text for _, text in found]


def _checks(descriptor: Any, known: dict[str, _MessageChecks]) -> _MessageChecks:
    checks = known.get(descriptor.full_name)
    if checks is None:
        checks = known[descriptor.full_name] = _MessageChecks()
        checks.compile(descriptor, known)
    return checks


def member_name(field: FieldDescriptor) -> str:
    """As AWS names it in errors: `MemorySize` → `memorySize`, `KMSKeyArn` → `kMSKeyArn`."""
    return field.json_name[0].lower() + field.json_name[1:]


def _field(
    field: FieldDescriptor, rule: options_pb2.FieldRule, known: dict[str, _MessageChecks]
) -> tuple[Constraint | None, FieldCheck] | None:
    """(a quick test of the whole value, the full check); None: anything goes."""
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        # Texts and lists have a length, numbers a value.
        kind = field.message_type.fields_by_name["value"].type
        sized = kind in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_MESSAGE)
        return _leaf(_map_constraints(rule, sized=sized), rule)
    if field.message_type is not None:
        if field.message_type.full_name.startswith("google.protobuf."):
            return None
        nested = _checks(field.message_type, known)
        if field.is_repeated:
            return None, _list_of_messages(nested, _length(rule), clearable=rule.clearable)
        return None, lambda value, path: iter(nested.violations(value, f"{path}."))
    return _leaf(_list_constraints(rule) if field.is_repeated else _scalar_constraints(rule), rule)


def _leaf(constraints: list[Constraint], rule: options_pb2.FieldRule) -> tuple[Constraint | None, FieldCheck] | None:
    if not constraints:
        return None
    sensitive = rule.sensitive

    def check(value: Any, path: str) -> Iterator[str]:
        for constraint in constraints:
            text = constraint(value)
            if text is not None:
                yield f"Value '{_show(value, sensitive)}' at '{path}' failed to satisfy constraint: {text}"

    if len(constraints) == 1:
        return constraints[0], check

    def quick(value: Any) -> str | None:
        for constraint in constraints:
            text = constraint(value)
            if text is not None:
                return text
        return None

    return quick, check


def _list_of_messages(nested: _MessageChecks, constraints: list[Constraint], *, clearable: bool) -> FieldCheck:
    def check(value: Any, path: str) -> Iterator[str]:
        if clearable and len(value) == 1 and not value[0].ByteSize():
            return  # one empty item, which stands for none
        for constraint in constraints:
            text = constraint(value)
            if text is not None:
                yield f"Value '[{len(value)} items]' at '{path}' failed to satisfy constraint: {text}"
        for position, item in enumerate(value, 1):
            yield from nested.violations(item, f"{path}.{position}.member.")

    return check


def _scalar_constraints(rule: options_pb2.FieldRule) -> list[Constraint]:
    constraints: list[Constraint] = []
    if rule.pattern:
        constraints.append(_pattern(rule.pattern, rule.length.max if rule.length.HasField("max") else None))
    if rule.values:
        constraints.append(_values(list(rule.values)))
    constraints += _length(rule)
    if rule.HasField("value"):
        constraints += _bounds(rule.value)
    return constraints


def _list_constraints(rule: options_pb2.FieldRule) -> list[Constraint]:
    constraints = _length(rule)
    if rule.item_pattern:
        # A plain word, or a choice of them, is what AWS's model calls an enum.
        words = _LITERALS.fullmatch(rule.item_pattern)
        item = _values(rule.item_pattern.split("|")) if words else _pattern(rule.item_pattern)
        clearable = rule.clearable

        def items(value: Any) -> str | None:
            if clearable and list(value) == [""]:
                return None
            for each in value:
                text = item(each)
                if text is not None:
                    return f"Member must satisfy constraint: [{text}]"
            return None

        constraints.append(items)
    return constraints


def _lengths(what: str, bounds: options_pb2.Bounds, parts: Callable[[Any], Any]) -> Constraint:
    """Of each key of a map, or of each value that is a text or a list."""
    within, texts = _within(bounds)
    return _every(what, [within], texts, parts)


def _within(bounds: options_pb2.Bounds) -> tuple[Constraint, list[str]]:
    """That a text or a list is as long as it may be, and how AWS says so."""
    low, high = bounds.min, bounds.max
    return (lambda part: None if low <= len(part) <= high else ""), [
        f"Member must have length less than or equal to {high}",
        f"Member must have length greater than or equal to {low}",
    ]


def _map_constraints(rule: options_pb2.FieldRule, *, sized: bool) -> list[Constraint]:
    constraints = _length(rule)
    if rule.key_pattern:
        keys = [_pattern(rule.key_pattern)]
        texts = [f"Member must satisfy regular expression pattern: {rule.key_pattern}"]
        if rule.HasField("key_length"):
            within, lengths = _within(rule.key_length)
            keys.append(within)
            texts = [*lengths, *texts, _NOT_NULL]
        constraints.append(_every("Map keys", keys, texts, lambda value: value))
    elif rule.HasField("key_length"):
        constraints.append(_lengths("Map keys", rule.key_length, lambda value: value))
    if rule.HasField("item_value") and sized:
        constraints.append(_lengths("Map value", rule.item_value, lambda value: value.values()))
    elif rule.HasField("item_value"):
        low, high = rule.item_value.min, rule.item_value.max
        texts = [
            f"Member must have value less than or equal to {float(high)}",
            f"Member must have value greater than or equal to {float(low)}",
            _NOT_NULL,
        ]
        constraints.append(_every("Map value", _bounds(rule.item_value), texts, lambda value: value.values()))
    return constraints


def _every(what: str, constraints: list[Constraint], texts: list[str], parts: Callable[[Any], Any]) -> Constraint:
    """Each key or value of a map; AWS then lists all that it must satisfy."""
    text = f"{what} must satisfy constraint: [{', '.join(texts)}]"

    def check(value: Any) -> str | None:
        good = all(constraint(part) is None for part in parts(value) for constraint in constraints)
        return None if good else text

    return check


def _pattern(pattern: str, longest: int | None = None) -> Constraint:
    """`longest`: the field's own bound. What is far beyond it is refused for that: some of AWS's patterns would take
    the square of its length to match it."""
    match = re.compile(java_pattern(pattern), re.ASCII).fullmatch
    text = f"Member must satisfy regular expression pattern: {pattern}"
    # The same few names come again and again, and a name's pattern takes longer than all else here.
    known = lru_cache(maxsize=512)(lambda value: match(value) is not None)

    def check(value: Any) -> str | None:
        if longest is not None and len(value) > max(longest, _MATCHED_LENGTH):
            return None
        good = known(value) if len(value) <= _REMEMBERED_LENGTH else match(value) is not None
        return None if good else text

    return check


def _values(values: list[str]) -> Constraint:
    allowed = frozenset(values)
    text = f"Member must satisfy enum value set: [{', '.join(values)}]"
    return lambda value: None if value in allowed else text


def _length(rule: options_pb2.FieldRule) -> list[Constraint]:
    if not rule.HasField("length"):
        return []
    low = rule.length.min if rule.length.HasField("min") else 0
    high = rule.length.max if rule.length.HasField("max") else None
    too_short = f"Member must have length greater than or equal to {low}"
    too_long = f"Member must have length less than or equal to {high}"

    def check(value: Any) -> str | None:
        size = len(value)
        if size < low:
            return too_short
        return too_long if high is not None and size > high else None

    return [check]


def _bounds(bounds: options_pb2.Bounds) -> list[Constraint]:
    low = bounds.min if bounds.HasField("min") else None
    high = bounds.max if bounds.HasField("max") else None

    def check(value: Any) -> str | None:
        # `not (>=)` so that a NaN is out of bounds.
        if low is not None and not value >= low:
            return f"Member must have value greater than or equal to {low}"
        if high is not None and not value <= high:
            return f"Member must have value less than or equal to {high}"
        return None

    return [check]


def _show(value: Any, sensitive: bool) -> str:
    if sensitive:
        return "***"
    if isinstance(value, str):
        text = value
    elif isinstance(value, bytes):
        text = f"{len(value)} bytes"
    elif isinstance(value, Mapping):
        text = "{" + ", ".join(f"{key}={each}" for key, each in value.items()) + "}"
    elif isinstance(value, Sequence):
        text = "[" + ", ".join(str(each) for each in value) + "]"
    else:
        text = str(value)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."


def java_pattern(pattern: str) -> str:
    """A pattern of AWS's model, which are Java's, as Python reads it with re.ASCII.

    What differs among the things that these patterns use: Java's dot stops at every kind of line end, a hyphen beside a
    range in a class is a plain hyphen, which Python warns of when it meets two, characters may be written as two
    surrogates, and Python has no classes by name.
    """
    out: list[str] = []
    in_class = False
    position = 0
    while position < len(pattern):
        character = pattern[position]
        if character == "\\":
            pair = _SURROGATES.match(pattern, position)
            if pair is not None:
                # Java writes what is beyond the Basic Multilingual Plane as two halves.
                high, low = int(pair[1], 16), int(pair[2], 16)
                out.append(f"\\U{0x10000 + ((high - 0xD800) << 10) + low - 0xDC00:08x}")
                position = pair.end()
            elif named := _CLASS.match(pattern, position):
                characters = _CLASSES[named[0]]
                out.append(characters if in_class else f"[{characters}]")
                position = named.end()
            else:
                out.append(pattern[position : position + 2])
                position += 2
            continue
        if character == "[" and not in_class:
            in_class = True
        elif character == "]" and in_class:
            in_class = False
        elif character == "." and not in_class:
            character = "[^\\n\\r\\u0085\\u2028\\u2029]"
        elif character == "-" and in_class and out and out[-1] == "-":
            character = "\\-"
        out.append(character)
        position += 1
    return "".join(out)
