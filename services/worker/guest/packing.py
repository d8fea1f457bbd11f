"""Keeps what sandboxes allocate for themselves together, so that they share more of the zygote's memory.

Python's allocator gives out the free blocks of half-filled pools first, and an interpreter that has imported much has
such pools all over: every small object that a sandbox makes then costs a page of its own. With those blocks taken, new
objects come from fresh pools, side by side.
"""

from __future__ import annotations

from typing import List

_CLASSES = range(48, 513, 16)  # bytes of the allocator's size classes; bytes objects are no smaller than the first
_HEADER = 33  # bytes of an empty bytes object
_POOL = 16384  # bytes of a pool since Python 3.10; smaller ones before, for which this takes a little too much
_MOST = 200_000  # blocks of one class; beyond it something is not as it is thought to be

_taken: List[bytes] = []


def fill() -> None:
    """Take every free block of every half-filled pool, for good."""
    for size in _CLASSES:
        content = size - _HEADER
        whole = (_POOL - 64) // size - 1
        in_row = last = 0
        for _ in range(_MOST):
            block = bytes(content)
            _taken.append(block)
            in_row = in_row + 1 if id(block) - last == size else 1
            last = id(block)
            if in_row >= whole:
                break  # a whole pool in one go: a fresh one, so that no half-filled one is left
        del block
        del _taken[-in_row:]  # of the fresh pool: it is where the next objects go
