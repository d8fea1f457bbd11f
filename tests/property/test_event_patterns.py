"""Filter patterns against a model that walks pattern and record together, and by the laws of their operators."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lambent.domain.errors import AwsError
from lambent.domain.event_patterns import any_of, for_queue, parse


@dataclass(frozen=True)
class Spelled:
    """A number by its letters."""

    letters: str


def written(value: Any) -> str:
    """As JSON, with numbers as they are spelled."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{written(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    return value.letters if isinstance(value, Spelled) else json.dumps(value)


def any_key(values: st.SearchStrategy[Any], min_size: int = 0) -> st.SearchStrategy[Any]:
    return st.dictionaries(st.sampled_from("abc"), values, min_size=min_size, max_size=3)


_numbers = st.sampled_from(["0", "-0", "1", "1.0", "1e0", "10E-1", "1.5", "2", "2e0", "-3"]).map(Spelled)
_texts = st.text("aAb", max_size=3)
_literals = st.one_of(_texts, _numbers, st.booleans(), st.none())
_values = st.recursive(_literals, lambda inner: st.lists(inner, max_size=3) | any_key(inner), max_leaves=8)
_records = any_key(_values)
# The same with numbers as Python knows them.
_plain_records = _records.map(lambda record: json.loads(written(record)))

_upper_signs, _lower_signs = st.sampled_from(["<", "<="]), st.sampled_from([">", ">="])
_operators = st.one_of(
    st.builds(lambda name, text: {name: text}, st.sampled_from(["prefix", "suffix", "equals-ignore-case"]), _texts),
    st.builds(lambda operand: {"anything-but": operand}, st.one_of(_texts, _numbers, st.lists(_texts | _numbers, min_size=1, max_size=3))),
    st.builds(
        lambda name, operand: {"anything-but": {name: operand}},
        st.sampled_from(["prefix", "suffix", "equals-ignore-case"]),
        _texts | st.lists(_texts, min_size=1, max_size=2),
    ),
    st.builds(lambda sign, number: {"numeric": [sign, number]}, st.sampled_from(["=", "<", "<=", ">", ">="]), _numbers),
    st.builds(lambda lower, upper: {"numeric": [lower, Spelled("-1"), upper, Spelled("1.5e0")]}, _lower_signs, _upper_signs),
    st.builds(lambda there: {"exists": there}, st.booleans()),
)  # fmt: skip
_leaves = st.lists(_literals | _operators, min_size=1, max_size=3)


def _with_alternatives(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    objects = any_key(inner, min_size=1)
    several = st.lists(objects, min_size=1, max_size=3)
    return st.one_of(
        objects, st.builds(lambda rules, either: {**rules, "$or": either}, any_key(inner), several)
    )  # fmt: skip


_patterns = _with_alternatives(st.recursive(_leaves, _with_alternatives, max_leaves=4))


# The model


def number(spelled: Spelled) -> Fraction:
    return Fraction(spelled.letters)


def parts_of(value: Any) -> list[Any]:
    return [part for each in value for part in parts_of(each)] if isinstance(value, list) else [value]


def in_order(sign: str, left: Fraction, right: Fraction) -> bool:
    return {"=": left == right, "<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[sign]


def same(left: Any, right: Any) -> bool:
    return type(left) is type(right) and bool(left == right)


def like(name: str, text: str, value: Any) -> bool:
    if not isinstance(value, str):
        return False
    if name == "prefix":
        return value[: len(text)] == text
    return value.lower() == text.lower() if name == "equals-ignore-case" else value[::-1].find(text[::-1]) == 0


def holds(rule: Any, value: Any) -> bool:
    if not isinstance(rule, dict):
        return same(rule, value)
    [(name, operand)] = rule.items()
    if name == "exists":
        return bool(operand)
    if name == "numeric":
        pairs = list(zip(operand[::2], operand[1::2], strict=True))
        return isinstance(value, Spelled) and all(in_order(sign, number(value), number(to)) for sign, to in pairs)
    if name != "anything-but":
        return like(name, operand, value)
    if not isinstance(operand, dict):
        return all(not same(value, each) for each in parts_of(operand))
    [(inner, texts)] = operand.items()
    return all(not like(inner, each, value) for each in parts_of(texts))


def meant(pattern: dict[str, Any], record: dict[str, Any]) -> bool:
    for key, rule in pattern.items():
        if key == "$or":
            if all(not meant(each, record) for each in rule):
                return False
            continue
        there = parts_of(record[key]) if key in record else []
        objects = [each for each in there if isinstance(each, dict)]
        if isinstance(rule, dict):
            if all(not meant(rule, each) for each in objects or [{}]):
                return False
            continue
        plain = [each for each in there if not isinstance(each, dict)]
        lacking = not there and {"exists": False} in rule
        if not lacking and not any(holds(each, value) for each in rule for value in plain):
            return False
    return True


@given(_patterns, _records)
def test_bodies_as_the_model_has_them(pattern: dict[str, Any], record: dict[str, Any]) -> None:
    met = for_queue([written({"body": pattern})])({"messageId": "m", "body": written(record)})
    assert met is meant(pattern, record)


@given(_patterns, _plain_records)
def test_metadata_as_the_model_has_it(pattern: dict[str, Any], record: dict[str, Any]) -> None:
    def spelled(value: Any) -> Any:
        """With numbers by the letters that Python writes."""
        if isinstance(value, dict):
            return {key: spelled(each) for key, each in value.items()}
        if isinstance(value, list):
            return [spelled(each) for each in value]
        return Spelled(str(value)) if type(value) in (int, float) else value

    met = meant(pattern, spelled(record))
    assert parse(written(pattern))(record) is met
    assert for_queue([written(pattern)])({**record, "body": "{"}) is met


# Laws


@given(st.lists(_patterns, max_size=4), _plain_records)
def test_several_filters_are_an_or(patterns: list[dict[str, Any]], record: dict[str, Any]) -> None:
    texts = [written(each) for each in patterns]
    apart = any(parse(text)(record) for text in texts) or not texts
    assert any_of(texts)(record) is apart
    if texts:
        assert parse('{"$or": [' + ",".join(texts) + "]}")(record) is apart


@given(_patterns, _plain_records)
def test_several_keys_are_an_and(pattern: dict[str, Any], record: dict[str, Any]) -> None:
    apart = all(parse(written({key: rule}))(record) for key, rule in pattern.items())
    assert parse(written(pattern))(record) is apart


@given(_leaves, _plain_records)
def test_several_values_are_an_or(rules: list[Any], record: dict[str, Any]) -> None:
    apart = any(parse(written({"a": [rule]}))(record) for rule in rules)
    assert parse(written({"a": rules}))(record) is apart


@given(any_key(st.one_of(_literals, st.lists(_literals, max_size=3))))
def test_a_leaf_exists_or_does_not(record: dict[str, Any]) -> None:
    there, lacking = (parse(f'{{"a": [{{"exists": {each}}}]}}')(record) for each in ("true", "false"))
    assert there is not lacking
    assert there is (record.get("a", []) != [])


@given(_literals, _texts | _numbers)
def test_anything_but_a_value_is_every_other(value: Any, other: Any) -> None:
    body = {"body": written({"a": value})}
    equal, unequal = ({"body": {"a": [each]}} for each in (other, {"anything-but": other}))
    assert for_queue([written(equal)])(body) is not for_queue([written(unequal)])(body)


@given(st.integers(-(10**20), 10**20), st.integers(0, 20), st.integers(0, 20))
def test_one_value_in_two_spellings(value: int, zeros: int, more_zeros: int) -> None:
    one, other = (f"{value}.0{'0' * each}" for each in (zeros, more_zeros))
    for left, right in ((one, other), (one, str(value)), (one, f"{value}e0")):
        body = {"body": f'{{"a": {left}}}'}
        assert for_queue([f'{{"body": {{"a": [{right}]}}}}'])(body) is (left == right)
        assert for_queue([f'{{"body": {{"a": [{{"numeric": ["=", {right}]}}]}}}}'])(body)


@given(_patterns, st.text(max_size=20) | _values.filter(lambda value: not isinstance(value, dict)).map(written))
def test_an_object_is_never_met_by_a_body_that_is_none(pattern: dict[str, Any], body: str) -> None:
    assert not for_queue([written({"body": pattern})])({"body": body}) or json.loads(body).__class__ is dict


_any_json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.one_of(st.text(max_size=3), st.sampled_from(["$or", "numeric", "prefix", "anything-but", "exists", "body"])), inner, max_size=3
    ),
)  # fmt: skip


@given(
    st.text(max_size=40) | _any_json.map(json.dumps),
    st.dictionaries(st.text(max_size=3), _any_json),
    st.text(max_size=20),
)
def test_no_pattern_does_anything_but_match_or_be_refused(pattern: str, record: dict[str, Any], body: str) -> None:
    reads: list[Callable[[list[str]], Any]] = [any_of, for_queue]
    for text in (pattern, f'{{"body": {pattern}}}', f'{{"body": [{pattern}]}}'):
        for read in reads:
            with contextlib.suppress(AwsError):
                met = read([text])
                assert met({**record, "body": body}) in (True, False)
