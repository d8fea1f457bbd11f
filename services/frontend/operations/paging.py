"""Pages of lists: markers are the last key of the page before, opaque to clients."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Protocol, TypeVar

from lambent.domain.errors import AwsError, validation
from lambent.domain.limits import Limits

T = TypeVar("T")


class PageRequest(Protocol):
    """A request of one page."""

    @property
    def marker(self) -> str: ...
    @property
    def max_items(self) -> int: ...


def page_size(request: PageRequest, limits: Limits, most: int | None = None) -> int:
    """How many items the page may have. `most`: the operation's own bound; None: that of lists in general."""
    bound = limits.list_page_items if most is None else most
    return min(request.max_items or bound, bound)


def marker_after(request: PageRequest) -> str:
    """The key after which the page begins; empty: at the beginning. Raises ValidationException."""
    text = (
        f"Value '{request.marker}' at 'marker' failed to satisfy constraint: Member must be a marker from a page before"
    )
    return key_of(request.marker, validation([text]))


def key_of(marker: str, error: AwsError) -> str:
    """The key that a marker, or a token as others call it, carries. Raises `error` where it is none."""
    try:
        return base64.b64decode(marker.encode(), altchars=b"-_", validate=True).decode()
    except ValueError:
        raise error from None


def page(items: Iterable[T], key: Callable[[T], str], size: int) -> tuple[list[T], str | None]:
    """The first `size` items, and the marker of the next page if there is one."""
    found = list(islice(items, size + 1))
    if len(found) <= size:
        return found, None
    return found[:size], base64.urlsafe_b64encode(key(found[size - 1]).encode()).decode()
