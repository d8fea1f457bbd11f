"""Which user ids sandboxes have, one each: those that are wanted, else those that there are. A container in a user
namespace of its own knows some 65,000 ids and no others (user_namespaces(7))."""

from __future__ import annotations

from pathlib import Path

# Ids below are the system's; the last one is who is nobody.
_FIRST, _NOBODY = 1000, 65_534
_MAPS = (Path("/proc/self/uid_map"), Path("/proc/self/gid_map"))


def first_user(wanted: int, count: int, *maps: str) -> int | None:
    """The first of `count` ids that all maps have: `wanted`, if it will do, else the last that will. None: there are
    not so many. `maps`: lines of first id inside, first id outside, length."""
    spans = [_spans(text) for text in maps]

    def known(first: int) -> bool:
        return all(any(start <= first and first + count <= end for start, end in each) for each in spans)

    ends = sorted({min(end, _NOBODY) for each in spans for _, end in each}, reverse=True)
    candidates = [wanted, *(end - count for end in ends if end - count >= _FIRST)]
    return next((first for first in candidates if known(first)), None)


def first_user_here(wanted: int, count: int) -> int | None:
    """The same, of this process's user namespace."""
    return first_user(wanted, count, *(path.read_text() for path in _MAPS))


def _spans(text: str) -> list[tuple[int, int]]:
    lines = [[int(word) for word in line.split()] for line in text.splitlines()]
    return [(first, first + length) for first, _, length in lines]
