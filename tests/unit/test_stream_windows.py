"""Tumbling windows: which records one holds, when it is over, and what becomes of its state."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambent.domain.stream_windows import GRACE_SECONDS, LAST_STATE_BYTES, STATE_BYTES, Windows

ARN = "arn:aws:kinesis:us-east-1:123456789012:stream/s"


def members(windows: Windows, *, last: bool = False) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(b"{" + windows.members("shardId-1", ARN, last=last) + b"}")
    return said


def test_a_window_begins_with_the_clock_and_holds_what_came_in_it() -> None:
    window = Windows().opened(1_607_497_475.5, 120)
    assert (window.start, window.end) == (1_607_497_440, 1_607_497_560)
    assert window.opened(1_700_000_000, 120) == window, "until it is over no other begins"
    assert window.holds([]) == 0
    assert window.holds([1.0, window.end - 0.1, window.end, 5.0]) == 2
    assert members(window) == {
        "window": {"start": "2020-12-09T07:04:00Z", "end": "2020-12-09T07:06:00Z"}, "state": {}, "shardId": "shardId-1",
        "eventSourceARN": ARN, "isFinalInvokeForWindow": False, "isWindowTerminatedEarly": False,
    }  # fmt: skip
    assert members(window, last=True)["isFinalInvokeForWindow"] is True


def test_a_window_is_over_when_nothing_of_it_can_come_any_more() -> None:
    window = Windows().opened(100.0, 10)
    assert not window.over(None, window.end)
    assert window.over(None, window.end + GRACE_SECONDS)
    assert window.over(window.end, 0.0), "a record of the next one is there"
    assert not window.over(window.end - 1.0, window.end + 100.0), "one of this one waits to be handled"
    assert not Windows().over(5.0, 1e9), "none is open"


@given(st.lists(st.tuples(st.floats(0, 1000), st.sampled_from([1, 7, 60])), max_size=30))
def test_windows_follow_each_other_and_every_record_belongs_to_one(came: list[tuple[float, int]]) -> None:
    windows, spans = Windows(), []
    for arrived, size in came:
        opened = windows.opened(arrived, size)
        assert opened.holds([arrived]) == 1 or arrived >= opened.end
        assert 0 < opened.end - opened.start <= size
        spans.append((opened.start, opened.end))
        windows = opened.closed()
        assert not windows.open
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (b'{"state": {"a": [1, 2.5, "\\u00e9"]}}', {"a": [1, 2.5, "\u00e9"]}),
        (b'{"state": {}, "batchItemFailures": []}', {}),
        (b'{"state": null}', {}),
        (b'{"batchItemFailures": []}', {}),
        (b"null", {}),
        (b"", {}),
        (b'{"state": [1]}', None),
        (b'{"state": "text"}', None),
        (b'"text"', None),
        (b'{"state": {"a": NaN}}', None),
        (b"{", None),
        (b"[" * 100_000, None),
    ],
)
def test_the_state_is_what_the_function_answered_last(answer: bytes, state: Any) -> None:
    before = Windows().opened(100.0, 10).after(b'{"state": {"old": 1}}')
    assert before is not None
    after = before.after(answer)
    assert (None if after is None else members(after)["state"]) == state


def test_a_state_that_is_too_large_ends_its_window_early_and_the_rest_goes_on_anew() -> None:
    window = Windows().opened(100.0, 10)
    large = window.after(json.dumps({"state": {"a": "x" * STATE_BYTES}}).encode())
    assert large is not None
    assert large.early
    assert large.over(101.0, 0.0)
    said = members(large, last=True)
    assert (said["isFinalInvokeForWindow"], said["isWindowTerminatedEarly"]) == (True, True)
    again = large.closed().opened(101.0, 10)
    assert (again.start, again.end, again.state) == (window.start, window.end, "{}")
    assert window.after(json.dumps({"state": {"a": "x" * LAST_STATE_BYTES}}).encode()) is None
