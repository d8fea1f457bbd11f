"""Pages of log events: pure over chunks in their order. A page begins and ends at boundaries between events.

A boundary is a place: the events before it are less, those behind it are not. Tokens carry boundaries, so that pages in
both directions meet, and a page that is empty leads on to whatever comes later.
"""

from __future__ import annotations

import binascii
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from lambent.domain.errors import AwsError
from lambent.domain.log_filters import Filter
from lambent.infra import base64url
from lambent.infra.log_store import StoredChunk

_EVENT_ID_DIGITS = 56
_MOST_NUMBER = 1 << 63


class Boundary(NamedTuple):
    """A place before an event."""

    time_ms: int
    source: str = ""
    offset: int = 0
    line: int = 0


class Event(NamedTuple):
    """One line of a chunk, at its place."""

    place: Boundary
    stream: str
    message: str  # with a newline at its end, as functions write it and as AWS shows it

    @property
    def behind(self) -> Boundary:
        """The boundary after it."""
        return self.place._replace(line=self.place.line + 1)

    @property
    def id(self) -> str:
        """Digits that no other event has."""
        number = int.from_bytes(sha256(repr(self.place).encode()).digest())
        return str(number)[:_EVENT_ID_DIGITS].zfill(_EVENT_ID_DIGITS)


@dataclass(frozen=True, slots=True)
class Page:
    """Events in their order, and the boundaries around them."""

    events: list[Event]
    before: Boundary
    after: Boundary
    whole: bool  # there is nothing behind it


def events(chunks: Iterable[StoredChunk]) -> Iterator[Event]:
    """Every line as an event."""
    for time_ms, source, offset, chunk in chunks:
        for line, text in enumerate(chunk.lines):
            yield Event(Boundary(time_ms, source, offset, line), chunk.stream, f"{text}\n")


def forward(
    found: Iterator[Event],
    start: Boundary,
    *,
    most: int,
    most_bytes: int,
    most_searched: int,
    wanted: Callable[[Event], bool] = lambda event: True,
) -> Page:
    """The first events from a boundary on.

    `most_bytes` and `most_searched`: text of those that are wanted, and of all that are looked at; one always is.
    """
    page: list[Event] = []
    taken = searched = 0
    last: Event | None = None
    whole = True
    for event in found:
        if event.place < start:
            continue
        size = len(event.message)
        if len(page) >= most or (last and (taken + size > most_bytes or searched + size > most_searched)):
            whole = False
            break
        searched += size
        last = event
        if wanted(event):
            taken += size
            page.append(event)
    return Page(page, start, start if last is None else last.behind, whole)


def backward(found: Iterator[Event], end: Boundary, *, nothing: Boundary, most: int, most_bytes: int) -> Page:
    """The last events before a boundary; one is always taken. `nothing`: where a page is that has none."""
    page: deque[Event] = deque()
    taken = 0
    for event in found:
        if event.place >= end:
            break
        page.append(event)
        taken += len(event.message)
        while len(page) > most or (taken > most_bytes and len(page) > 1):
            taken -= len(page.popleft().message)
    if not page:
        return Page([], nothing, nothing, True)
    return Page(list(page), page[0].place, page[-1].behind, True)


def of_filter(pattern: Filter, streams: frozenset[str], prefix: str) -> Callable[[Event], bool]:
    """Which events a search means. `streams`: any of them, all if empty."""
    return lambda event: (
        (not streams or event.stream in streams) and event.stream.startswith(prefix) and pattern(event.message)
    )


def write_token(place: Boundary) -> str:
    """A boundary as text."""
    return base64url.encode(json.dumps(place).encode())


def read_token(token: str) -> Boundary:
    """The boundary that a text carries. Raises InvalidParameterException."""
    try:
        time_ms, source, offset, line = json.loads(base64url.decode(token))
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise invalid_token() from None
    numbers = (time_ms, offset, line)
    if not isinstance(source, str) or any(type(n) is not int or not 0 <= n < _MOST_NUMBER for n in numbers):
        raise invalid_token()
    return Boundary(time_ms, source, offset, line)


def invalid_token() -> AwsError:
    """AWS's answer to a token that is none of its own."""
    return AwsError("InvalidParameterException", "The specified nextToken is invalid.")
