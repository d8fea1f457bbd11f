"""The guest's way to read and write JSON says what json.loads and json.dumps say."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.worker.guest import documents

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_writes_what_json_writes(value: Any) -> None:
    assert documents.write(value) == json.dumps(value, ensure_ascii=documents.ENSURE_ASCII)


@given(VALUES, st.sampled_from(["", " ", "\n"]), st.sampled_from(["", "\t", "\r\n "]))
def test_reads_what_json_reads(value: Any, before: str, after: str) -> None:
    text = (before + json.dumps(value) + after).encode()
    assert repr(documents.parse(text)) == repr(json.loads(text))


@pytest.mark.parametrize("text", [b"", b" ", b"{", b"[1] 2", b"{} x", b"\xff", b"nope", b'{"a": }'])
def test_what_is_no_json_fails_with_the_words_of_json(text: bytes) -> None:
    with pytest.raises(ValueError) as expected:
        json.loads(text)
    with pytest.raises(ValueError) as told:
        documents.parse(text)
    assert str(told.value) == str(expected.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_other_encodings_are_left_to_json(encoding: str) -> None:
    assert documents.parse('{"a": "ü"}'.encode(encoding)) == {"a": "ü"}


def test_a_failure_leaves_nothing_behind_for_the_next_document() -> None:
    inner: list[Any] = [Decimal("1.50"), set()]
    with pytest.raises(TypeError, match="Object of type set is not JSON serializable"):
        documents.write(inner)
    inner[1] = Decimal("2")
    assert documents.write([inner, inner]) == "[[1.50, 2], [1.50, 2]]"
    assert documents.write({"a": "decimal"}) == '{"a": "decimal"}'


def test_a_circular_reference_is_found() -> None:
    inner: list[Any] = []
    inner.append(inner)
    with pytest.raises(ValueError, match="Circular reference detected"):
        documents.write(inner)
    inner.clear()
    assert documents.write(inner) == "[]"
