"""Answers of the store are read the same in whatever pieces they come."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import InvalidResponse, NoScriptError, ResponseError

from lambent.infra.redis_link import Incomplete, parse

Answer = st.recursive(
    st.none() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=40), lambda items: st.lists(items, max_size=4)
)


def written(answer: Any, resp3: bool) -> bytes:
    match answer:
        case None:
            return b"_\r\n" if resp3 else b"$-1\r\n"
        case int():
            return b":%d\r\n" % answer
        case bytes():
            return b"$%d\r\n%b\r\n" % (len(answer), answer)
    return b"*%d\r\n" % len(answer) + b"".join(written(each, resp3) for each in answer)


@given(Answer, st.binary(max_size=5), st.binary(max_size=5), st.booleans())
def test_an_answer_is_what_was_written_and_a_part_of_it_asks_for_more(
    answer: Any, before: bytes, after: bytes, resp3: bool
) -> None:
    data = before + written(answer, resp3)
    assert parse(data + after, len(before)) == (answer, len(data))
    for size in range(len(before), len(data)):
        with pytest.raises(Incomplete) as raised:
            parse(data[:size], len(before))
        assert size < raised.value.size <= len(data), "more is waited for than comes, or what is there is read again"


def test_errors_are_answers_and_what_is_none_is_refused() -> None:
    error, end = parse(b"-NOSCRIPT No matching script.\r\n", 0)
    assert isinstance(error, NoScriptError)
    assert end == 31
    [inner], _ = parse(b"*1\r\n-ERR no\r\n", 0)
    assert isinstance(inner, ResponseError)
    assert parse(b"*-1\r\n", 0) == (None, 5)
    assert parse(b"+OK\r\n", 0) == (b"OK", 5)
    with pytest.raises(InvalidResponse):
        parse(b"HTTP/1.1 400 Bad Request\r\n", 0)
