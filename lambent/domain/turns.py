"""When it is the turn of what is due at set times, where nobody may have looked for a while. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Turn:
    """A schedule that is due."""

    at: int  # epoch seconds at which it was
    next: int | None  # when it is due again; None: never


def turn(due: int, now: float, after: Callable[[int], int | None]) -> Turn:
    """What is due at `due`, which is not after `now`. `after`: the first time after one. Of all the times that were
    missed, as nobody looked, the last one counts."""
    following = after(due)
    if following is not None and following <= now:
        # The last time that is not after `now`: before it there is another one that is not, from it on there is none.
        low, high = due, int(now)
        while high - low > 1:
            middle = (low + high) // 2
            found = after(middle)
            low, high = (middle, high) if found is not None and found <= now else (low, middle)
        last = after(low)
        assert last is not None
        due, following = last, after(last)
    return Turn(due, following)


def first_revision(now: float) -> int:
    """Of a record that is made now: none of those that one of its name had before, should there have been one."""
    return int(now * 1000)
