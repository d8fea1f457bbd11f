"""Which events a filter pattern means, by examples of every form and by a model for terms."""

from __future__ import annotations

import contextlib
import fnmatch
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambent.domain.errors import AwsError
from lambent.domain.log_filters import parse

BAD, UNAUTHORIZED, MISSING = (
    "[ERROR 400] BAD REQUEST",
    "[ERROR 401] UNAUTHORIZED REQUEST",
    "[ERROR 419] MISSING ARGUMENTS",
)
EVENTS = (BAD, UNAUTHORIZED, MISSING, "done\n")


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("", EVENTS),
        ("  ", EVENTS),
        ("ERROR", (BAD, UNAUTHORIZED, MISSING)),
        ("error", ()),
        ("ERROR REQUEST", (BAD, UNAUTHORIZED)),
        ("?400 ?ARGUMENTS", (BAD, MISSING)),
        ('?"BAD REQUEST" ?done', (BAD, "done\n")),
        ("ERROR -ARGUMENTS", (BAD, UNAUTHORIZED)),
        ("-ERROR", ("done\n",)),
        ('"ERROR 401"', (UNAUTHORIZED,)),
        ('-"ERROR 401" ERROR', (BAD, MISSING)),
        ("REQUEST ?401", (BAD, UNAUTHORIZED)),
        ('"[ERROR"', (BAD, UNAUTHORIZED, MISSING)),
        ("[", None), ("[a, b]", None), ('"open', None), ('a"b"', None), ("%[a-z]+%", None), ('""', EVENTS),
    ],
)  # fmt: skip
def test_terms(pattern: str, found: tuple[str, ...] | None) -> None:
    if found is None:
        with pytest.raises(AwsError, match="InvalidParameterException: Invalid filter pattern"):
            parse(pattern)
    else:
        assert tuple(filter(parse(pattern), EVENTS)) == found


def test_quotes_within_phrases() -> None:
    assert parse(r'"say \"hi\" \\"')('they say "hi" \\ and go')
    assert not parse(r'"say \"hi\""')("say hi")


EVENT = {
    "level": "ERROR", "took": 2.5, "count": 0, "user": None, "ok": True, "eventType": "UpdateTrail", "a b": {"c-d": 1},
    "items": [{"n": 1}, {"n": 2}], "text": "a*b\nc",
}  # fmt: skip


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ('$.level = "ERROR"', True), ("$.level = ERROR", True), ('$.level != "ERROR"', False), ('$.level = "ERR"', False),
        ('$.eventType = "Upd*"', True), ('$.eventType = "*Trail"', True), ('$.eventType != "Upd*"', False), ('$.text = "a*c"', True),
        ("$.took = 2.5", True), ("$.took > 2.5", False), ("$.took >= 2.5e0", True), ("$.took<3", True), ("$.took != 2", True),
        ("$.count <= 0", True), ("$.count = -0", True), ('$.count = "0"', False), ("$.ok = 1", False), ("$.level > 1", False),
        ("$.ok IS TRUE", True), ("$.ok is false", False), ("$.user IS NULL", True), ("$.count IS FALSE", False),
        ("$.nothing NOT EXISTS", True), ("$.user NOT EXISTS", False), ("$.user EXISTS", True), ("$.nothing = 1", False),
        ("$.nothing != 1", False), ("$.items[1].n = 2", True), ("$.items[2].n = 2", False), ("$.items[*].n = 1", True),
        ("$['a b']['c-d'] = 1", True), ('$.["a b"].c-d = 1', True), ("$.level.deeper = 1", False),
        ("$.ok IS TRUE && $.took > 9 || $.count = 0", True), ("$.ok IS TRUE && ($.took > 9 || $.count = 1)", False),
        ("(($.took > 2))", True),
    ],
)  # fmt: skip
def test_json_selectors(condition: str, holds: bool) -> None:
    assert parse(f"{{ {condition} }}")(json.dumps(EVENT) + "\n") is holds
    assert parse(f"{{{condition}}}")(json.dumps(EVENT)) is holds


@pytest.mark.parametrize(
    "pattern",
    [
        "{", "{}", "{ }", "{ $.a }", "{ $.a = }", "{ a = 1 }", "{ $.a == 1 }", "{ $.a > x }", '{ $.a > "1" }', "{ $.a IS 1 }",
        "{ $.a NOT }", "{ $.a = 1 && }", "{ ($.a = 1 }", "{ $.a = 1) }", "{ $.a = 1 $.b = 2 }", '{ $.a = "x }', "{ $.a = 1 } x",
        "{ " + "(" * 400 + "$.a = 1" + ")" * 400 + " }",
    ],
)  # fmt: skip
def test_patterns_that_are_none(pattern: str) -> None:
    with pytest.raises(AwsError, match="InvalidParameterException: Invalid filter pattern"):
        parse(pattern)


@pytest.mark.parametrize("message", ["", "text", "[1]", "{", "{" * 5000, '{"a":' * 5000, '{"a": "1"}'])
def test_events_that_are_no_such_object_are_not_meant(message: str) -> None:
    assert parse("{ $.a = 1 }")(message) is False


@given(
    st.lists(st.tuples(st.sampled_from(["", "-", "?"]), st.text("abc", min_size=1, max_size=2)), max_size=5),
    st.text("abc ", max_size=8),
)
def test_terms_as_a_model_has_them(terms: list[tuple[str, str]], message: str) -> None:
    every, never, one = ([term in message for kind, term in terms if kind == each] for each in ("", "-", "?"))
    expected = all(every) and not any(never) and (bool(every or never) or not one or any(one))
    assert parse(" ".join(kind + term for kind, term in terms))(message) is expected


@given(st.text(max_size=40), st.text(max_size=20))
def test_no_pattern_does_anything_but_match_or_be_refused(pattern: str, message: str) -> None:
    for each in (pattern, f"{{{pattern}}}", f"{{ $.a = {pattern} }}"):
        with contextlib.suppress(AwsError):
            found: Any = parse(each)
            assert found(message) in (True, False)


@given(st.text("ab*", max_size=6), st.text("ab", max_size=8))
def test_wildcards_as_a_model_has_them(text: str, value: str) -> None:
    expected = fnmatch.fnmatchcase(value, text)
    assert parse(f'{{ $.v = "{text}" }}')(json.dumps({"v": value})) is expected
