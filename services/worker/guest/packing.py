"""Keeps what sandboxes allocate for themselves together, so that they share more of the zygote's memory.

Python's allocator gives out the free blocks of half-filled pools first, and an interpreter that has imported much has
such pools all over: every small object that a sandbox makes then costs a page of its own. With those blocks taken, new
objects come from fresh pools, side by side. Nor do they write more than they must to what is shared: see `forget`.
"""

from __future__ import annotations

import sys
from typing import List

_CLASSES = range(48, 513, 16)  # bytes of the allocator's size classes; bytes objects are no smaller than the first
_HEADER = 33  # bytes of an empty bytes object
_POOL = 16384 if sys.version_info >= (3, 10) else 4096  # bytes of a pool
_MOST = 512 * 1024  # bytes of one class; beyond it the allocator is not as it is thought to be

_taken: List[bytes] = []


def forget() -> None:
    """Empty the interpreter's table of what was looked up in which class, for a rehearsal to fill.

    What a sandbox looks up anew takes a place in it. Where another name had that place, its count of references is
    written, too: a page of each sandbox's own for a name that the zygote had looked up once, at its start.
    """
    sys._clear_type_cache()


def fill() -> None:
    """Take every free block of every half-filled pool, for good."""
    for size in _CLASSES:
        content = size - _HEADER
        whole = (_POOL - 64) // size - 1
        held = len(_taken)
        in_row = last = 0
        for _ in range(_MOST // size):
            block = bytes(content)
            _taken.append(block)
            in_row = in_row + 1 if id(block) - last == size else 1
            last = id(block)
            if in_row >= whole:
                # A whole pool in one go is a fresh one: no half-filled one is left. It is where the next objects go.
                del _taken[-in_row:]
                break
        else:
            del _taken[held:]
        del block
