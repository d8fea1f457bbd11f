"""Patterns: which records of a source an event source mapping invokes its function with, which events a rule is for.

    {"a": ["x", "y"], "b": {"c": [null]}}      every key must be met; of a key's values one is enough
    {"$or": [{"a": ["x"]}, {"b": [1]}]}        one of the objects is enough
    {"a": [{"equals-ignore-case": "x"}]}       also prefix and suffix: texts only
    {"a": [{"anything-but": ["x", 1]}]}        there, and none of these; also {"anything-but": {"prefix": "x"}}
    {"a": [{"numeric": [">", 0, "<=", 5]}]}    numbers by value; everywhere else 5, 5.0 and 5e0 are three numbers
    {"a": [{"exists": false}]}                 no such key; true: the key has a value that is no object

Case and spelling count. Of an array in a record one element has to meet the pattern; an empty array is as good as no
key. Where a pattern has an object and the record has none, an empty one stands in, which lacks every key.

Those of rules have more:

    {"a": [{"wildcard": "x*.y"}]}              * is any text, \\* the sign; also {"anything-but": {"wildcard": "x*"}}
    {"a": [{"prefix": {"equals-ignore-case": "x"}}]}    also suffix
    {"a": [{"cidr": "10.0.0.0/24"}]}           addresses of a network

Sources: https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventfiltering.html and
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html
"""

from __future__ import annotations

import base64
import ipaddress
import json
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, DecimalException
from functools import cached_property, partial
from typing import Any, NoReturn

from lambent.domain.errors import AwsError, invalid_parameter

# Whether a record of an event source is meant. The record is a plain JSON value.
Filter = Callable[[Mapping[str, Any]], bool]
# The same of one value that is there and is neither an object nor an array.
_Test = Callable[[Any], bool]
# Tests of texts, by the operator's name, made of its operand.
_Texts = Mapping[str, Callable[[Any], _Test]]

# Objects within each other, alternatives of $or counted; a pattern of any use needs far fewer.
MOST_NESTED = 32

_ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def parse(pattern: str) -> Filter:
    """The filter of one pattern, a JSON text; {} means every record. Raises InvalidParameterValueException."""
    document = _decoded_pattern(pattern)
    return _every if document == {} else _object(document, 1, _TEXTS)


def for_bus(pattern: str) -> Filter:
    """The same of a rule's pattern, for events that `event` has read; {} is none. Raises as `parse`."""
    return _object(_decoded_pattern(pattern), 1, _MORE_TEXTS)


def event(text: str) -> Mapping[str, Any]:
    """An event, an object of JSON, as patterns of rules are compared with it."""
    read: Mapping[str, Any] = _DATA.decode(text)
    return read


def any_of(patterns: Sequence[str]) -> Filter:
    """Whether one of these is met; none at all: every record is. Raises InvalidParameterValueException."""
    return _either([parse(each) for each in patterns]) if patterns else _every


def for_queue(patterns: Sequence[str]) -> Filter:
    """The same of a queue's messages, as the function's event holds them.

    An object for `body` is compared with the JSON object that the body's text holds, and met by no other text; a list
    for `body` is compared with the text itself. Raises InvalidParameterValueException.
    """
    return _of_data(patterns, "body", lambda body: body)


def for_kinesis(patterns: Sequence[str]) -> Filter:
    """The same of a data stream's records, as the function's event holds them: of what their `kinesis` has.

    `data` is what its base64 stands for, and compared as `body` is of a queue's message. Data that is no text in UTF-8
    is there nevertheless: a list that has `exists` or `anything-but` may be met by it, nothing else is. Raises
    InvalidParameterValueException.
    """
    met = _of_data(patterns, "data", _decoded)
    return lambda record: met(record["kinesis"])


def for_kafka(patterns: Sequence[str]) -> Filter:
    """The same of a topic's records, as the function's event holds them: of what their `value` stands for. Raises
    InvalidParameterValueException."""
    return _of_data(patterns, "value", _decoded)


def for_dynamodb(patterns: Sequence[str]) -> Filter:
    """The same of the records of a table's stream, as the function's event holds them. An item's numbers are texts
    there: {"N": "5"}. Raises InvalidParameterValueException."""
    return any_of(patterns)


def _of_data(patterns: Sequence[str], name: str, read: Callable[[Any], Any]) -> Filter:
    """The filter of records whose member `name` holds data. `read`: what there is to compare of that member's value."""
    if not patterns:
        return _every
    met = any_of(patterns)
    return lambda record: met({**record, name: _Data(record.get(name), read)})


def _decoded(data: Any) -> str | bytes | None:
    """What base64 stands for; bytes where that is no text; None: there is no data."""
    if not isinstance(data, str):
        return None
    try:
        content = base64.b64decode(data, validate=True)
    except ValueError:
        return data.encode(errors="replace")
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content


def _decoded_pattern(pattern: str) -> Any:
    try:
        return _PATTERN.decode(pattern)
    except (ValueError, RecursionError):
        raise _invalid() from None


def _invalid() -> AwsError:
    return invalid_parameter("Invalid filter pattern definition.")


def _every(record: Mapping[str, Any]) -> bool:
    return True


# Records


@dataclass(frozen=True, slots=True)
class _Number:
    """A number as it was spelled, which is how numbers are the same or not."""

    text: str

    def value(self) -> Decimal | None:
        """None: it is no finite number, or its exponent is beyond all that can be compared."""
        try:
            value = Decimal(self.text)
        except DecimalException:
            return None
        return value if value.is_finite() else None


class _Data:
    """The data of a record: a text that is read when a filter first asks, also as JSON, and then not again."""

    def __init__(self, value: Any, read: Callable[[Any], Any]) -> None:
        self._value = value
        self._read = read

    @cached_property
    def text(self) -> Any:
        """None: there is no data."""
        return self._read(self._value)

    @cached_property
    def document(self) -> dict[str, Any] | None:
        """None: the text is no JSON object, or one nested too deeply to look into."""
        if not isinstance(self.text, str):
            return None
        try:
            document = _DATA.decode(self.text)
        except (ValueError, RecursionError):
            return None
        return document if isinstance(document, dict) else None


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON's")


def _once(members: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(members)
    if len(document) < len(members):
        raise ValueError("a key is there twice")
    return document


_DATA = json.JSONDecoder(parse_int=_Number, parse_float=_Number, parse_constant=_constant)
_PATTERN = json.JSONDecoder(parse_int=_Number, parse_float=_Number, parse_constant=_constant, object_pairs_hook=_once)


def _elements(value: Any) -> Iterator[Any]:
    """The value, or what an array and the arrays within it hold, in no order that matters."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, _Data):
            waiting.append([] if value.text is None else value.text)
        elif type(value) in (int, float):
            yield _Number(str(value))
        else:
            yield value


def _objects(value: Any) -> Sequence[Mapping[str, Any]]:
    """What an object of a pattern is compared with."""
    if isinstance(value, _Data):
        return () if value.document is None else (value.document,)
    return [each for each in _elements(value) if isinstance(each, dict)] or ({},)


def _value(record: Mapping[str, Any], key: str) -> Any:
    """A member; an empty array where there is none, for the two are the same to every pattern."""
    return record.get(key, [])


# Objects of patterns


def _object(pattern: Any, depth: int, texts: _Texts) -> Filter:
    """The filter of an object within a pattern. `depth`: how many there are around and with it."""
    if not isinstance(pattern, dict) or not pattern or depth > MOST_NESTED:
        raise _invalid()
    parts = [_member(key, rule, depth, texts) for key, rule in pattern.items()]
    return parts[0] if len(parts) == 1 else lambda record: all(part(record) for part in parts)


def _either(parts: Sequence[Filter]) -> Filter:
    return parts[0] if len(parts) == 1 else lambda record: any(part(record) for part in parts)


def _member(key: str, rule: Any, depth: int, texts: _Texts) -> Filter:
    if isinstance(rule, dict) and key != "$or":
        inner = _object(rule, depth + 1, texts)
        return lambda record: any(inner(each) for each in _objects(_value(record, key)))
    if not isinstance(rule, list) or not rule:
        raise _invalid()
    if key == "$or":
        return _either([_object(each, depth + 1, texts) for each in rule])
    return _leaf(key, rule, texts)


def _leaf(key: str, rule: list[Any], texts: _Texts) -> Filter:
    literals = frozenset(each for each in rule if not isinstance(each, dict | list))
    operators = [_operator(each, texts) for each in rule if isinstance(each, dict)]
    if any(isinstance(each, list) for each in rule):
        raise _invalid()
    tests = [test for test in operators if test is not _absent]
    if literals:
        tests.append(lambda value: value in literals)
    met_without = _absent in operators

    def met(record: Mapping[str, Any]) -> bool:
        empty = True
        for value in _elements(_value(record, key)):
            empty = False
            if not isinstance(value, dict) and any(test(value) for test in tests):
                return True
        return empty and met_without

    return met


# Operators


def _operator(rule: dict[str, Any], texts: _Texts) -> _Test:
    if len(rule) != 1:
        raise _invalid()
    [(name, operand)] = rule.items()
    if name in texts:
        return texts[name](operand)
    if name == "anything-but":
        return _anything_but(operand, texts)
    if name == "numeric":
        return _numeric(operand)
    if name == "exists" and isinstance(operand, bool):
        return _present if operand else _absent
    raise _invalid()


def _present(value: Any) -> bool:
    return True


def _absent(value: Any) -> bool:
    """Holds of no value; a leaf that has it is met where there is none."""
    return False


def _text(operand: Any) -> str:
    if not isinstance(operand, str):
        raise _invalid()
    return operand


def _prefix(operand: Any) -> _Test:
    start = _text(operand)
    return lambda value: isinstance(value, str) and value.startswith(start)


def _suffix(operand: Any) -> _Test:
    end = _text(operand)
    return lambda value: isinstance(value, str) and value.endswith(end)


def _in_any_case(operand: Any) -> _Test:
    wanted = _caseless(_text(operand))
    # The lengths come first: a value may be a million letters long, a pattern is not.
    return lambda value: isinstance(value, str) and len(value) == len(wanted) and _caseless(value) == wanted


def _caseless(text: str) -> list[str]:
    """Letter by letter, so that no letter is the same as two others."""
    return [letter.upper().lower() for letter in text]


def _at_one_end(end: str, operand: Any) -> _Test:
    """Begins or ends with a text, or with one in any case of its letters."""
    if not isinstance(operand, dict):
        return _TEXTS[end](operand)
    if operand.keys() != {"equals-ignore-case"}:
        raise _invalid()
    wanted = _caseless(_text(operand["equals-ignore-case"]))
    size = len(wanted)
    if end == "prefix":
        return lambda value: isinstance(value, str) and _caseless(value[:size]) == wanted
    return lambda value: isinstance(value, str) and _caseless(value[len(value) - size :]) == wanted


def _wildcard(operand: Any) -> _Test:
    parts = _between_stars(_text(operand))
    first, last = parts[0], parts[-1]
    if len(parts) == 1:
        return lambda value: bool(value == first)

    def test(value: Any) -> bool:
        if not isinstance(value, str) or not value.startswith(first):
            return False
        at, end = len(first), len(value) - len(last)
        for part in parts[1:-1]:
            found = value.find(part, at, max(end, 0))
            if found < 0:
                return False
            at = found + len(part)
        return at <= end and value.endswith(last)

    return test


def _between_stars(text: str) -> list[str]:
    """The texts before, between and after the stars that stand for any text."""
    parts, signs = [""], iter(text)
    for sign in signs:
        if sign == "*":
            if len(parts) > 1 and not parts[-1]:
                raise _invalid()  # two stars in a row
            parts.append("")
            continue
        if sign == "\\":
            sign = next(signs, "")
            if sign not in ("*", "\\"):
                raise _invalid()
        parts[-1] += sign
    return parts


def _cidr(operand: Any) -> _Test:
    try:
        network = ipaddress.ip_network(_text(operand), strict=False)
    except ValueError:
        raise _invalid() from None

    def test(value: Any) -> bool:
        try:
            return isinstance(value, str) and ipaddress.ip_address(value) in network
        except ValueError:
            return False

    return test


_TEXTS: _Texts = {"prefix": _prefix, "suffix": _suffix, "equals-ignore-case": _in_any_case}
_MORE_TEXTS: _Texts = {
    "prefix": partial(_at_one_end, "prefix"), "suffix": partial(_at_one_end, "suffix"),
    "equals-ignore-case": _in_any_case, "wildcard": _wildcard, "cidr": _cidr,
}  # fmt: skip


def _anything_but(operand: Any, texts: _Texts) -> _Test:
    if isinstance(operand, dict):
        if len(operand) != 1:
            raise _invalid()
        [(name, several)] = operand.items()
        if name not in texts or name == "cidr":
            raise _invalid()
        tests = [texts[name](each) for each in _several(several)]
        return lambda value: not any(test(value) for test in tests)
    excluded = _several(operand)
    if not all(isinstance(each, str | _Number) for each in excluded):
        raise _invalid()
    others = frozenset(excluded)
    return lambda value: value not in others


def _several(operand: Any) -> list[Any]:
    """One value or a list of them, as a list."""
    several = operand if isinstance(operand, list) else [operand]
    if not several:
        raise _invalid()
    return several


def _numeric(operand: Any) -> _Test:
    if not isinstance(operand, list) or len(operand) not in (2, 4):
        raise _invalid()
    bounds = [_bound(*operand[at : at + 2]) for at in range(0, len(operand), 2)]
    if len(bounds) == 2:
        (lower_sign, lower), (upper_sign, upper) = bounds
        if lower_sign not in (">", ">=") or upper_sign not in ("<", "<=") or lower >= upper:
            raise _invalid()

    def test(value: Any) -> bool:
        number = value.value() if isinstance(value, _Number) else None
        return number is not None and all(_ORDERS[sign](number, bound) for sign, bound in bounds)

    return test


def _bound(sign: Any, number: Any) -> tuple[str, Decimal]:
    bound = number.value() if isinstance(number, _Number) else None
    if not isinstance(sign, str) or sign not in _ORDERS or bound is None:
        raise _invalid()
    return sign, bound
