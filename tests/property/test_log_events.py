"""Pages of log events meet: whatever their size and direction, every event is on one of them, in its order."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambent.domain.errors import AwsError
from lambent.infra.log_store import EVER, LogChunk, StoredChunk
from services.frontend.operations.log_events import (
    Boundary,
    Event,
    backward,
    events,
    forward,
    read_token,
    write_token,
)

CHUNKS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from("ab"), st.lists(st.text("xyz", max_size=4), max_size=3)), max_size=8
).map(
    lambda made: sorted(
        StoredChunk(time, source, number, LogChunk(time, "s", None, lines))
        for number, (time, source, lines) in enumerate(made)
    )
)
SIZES = st.fixed_dictionaries({"most": st.integers(1, 4), "most_bytes": st.integers(1, 12)})


def every(chunks: list[StoredChunk]) -> list[Event]:
    return list(events(chunks))


@given(CHUNKS, SIZES, st.integers(1, 20), st.integers(0, 2))
def test_pages_forward_have_every_event_that_is_wanted_once(
    chunks: list[StoredChunk], sizes: dict[str, int], searched: int, start: int
) -> None:
    def wanted(event: Event) -> bool:
        return "x" in event.message

    place, found, whole = Boundary(start), list[Event](), False
    for _ in itertools.count():
        page = forward(iter(every(chunks)), place, **sizes, most_searched=searched, wanted=wanted)
        found += page.events
        assert len(page.events) <= sizes["most"]
        assert whole or page.whole or page.after > place
        if page.whole:
            break
        place = read_token(write_token(page.after))
    assert found == [event for event in every(chunks) if wanted(event) and event.place.time_ms >= start]


@given(CHUNKS, SIZES)
def test_pages_backward_meet_those_forward(chunks: list[StoredChunk], sizes: dict[str, int]) -> None:
    place, found = Boundary(EVER), list[Event]()
    while True:
        page = backward(iter(every(chunks)), place, nothing=place, **sizes)
        if not page.events:
            assert page.before == page.after == place
            break
        assert len(page.events) <= sizes["most"]
        again = forward(iter(every(chunks)), page.before, most=len(page.events), most_bytes=1000, most_searched=1000)
        assert again.events == page.events
        assert again.after == page.after
        found[:0] = page.events
        place = read_token(write_token(page.before))
    assert found == every(chunks)


@given(CHUNKS)
def test_ids_tell_events_apart(chunks: list[StoredChunk]) -> None:
    ids = [event.id for event in every(chunks)]
    assert len(set(ids)) == len(ids)
    assert all(len(each) == 56 and each.isdecimal() for each in ids)


@pytest.mark.parametrize("token", ["", "x", "ü", "[]", write_token(Boundary(1, "a", 2, 3))[:-2], "WzEsMiwzLDRd", "LTE"])
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(AwsError, match="InvalidParameterException: The specified nextToken is invalid"):
        read_token(token)
