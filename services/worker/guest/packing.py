"""Keeps what sandboxes allocate for themselves together, so that they share more of the zygote's memory.

Allocators give out first what has been freed, and an interpreter that has imported much has free blocks all over: every
small object that a sandbox makes then costs a page of its own. With those blocks taken, new objects come from where
there was none before, side by side. That goes for Python's allocator and for the one beneath it, which larger objects
and the interpreter's own structures come from. Nor do sandboxes write more than they must to what is shared: `forget`.
"""

from __future__ import annotations

import ctypes
import sys
from typing import List

_CLASSES = range(48, 513, 16)  # bytes of the allocator's size classes; bytes objects are no smaller than the first
_HEADER = 33  # bytes of an empty bytes object
_POOL = 16384 if sys.version_info >= (3, 10) else 4096  # bytes of a pool
_MOST = 512 * 1024  # bytes of one class; beyond it the allocator is not as it is thought to be
# Of malloc, as in glibc: bytes of what it keeps lists of by size, largest first; of what it notes beside each; and how
# many in a row are no coincidence.
_CHUNKS, _NOTE, _ROW = range(1032, 23, -16), 8, 4

_libc = ctypes.CDLL(None)
_libc.malloc.restype, _libc.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
_libc.free.argtypes = (ctypes.c_void_p,)
_taken: List[bytes] = []


def forget() -> None:
    """Empty the interpreter's table of what was looked up in which class, for a rehearsal to fill.

    What a sandbox looks up anew takes a place in it. Where another name had that place, its count of references is
    written, too: a page of each sandbox's own for a name that the zygote had looked up once, at its start.
    """
    sys._clear_type_cache()


def fill() -> None:
    """Take every free block of every half-filled pool, and every small chunk that malloc has back, for good."""
    for size in _CLASSES:
        _fill_pools(size)
    for size in _CHUNKS:
        _fill_chunks(size)


def _fill_pools(size: int) -> None:
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
            return
    del _taken[held:]


def _fill_chunks(size: int) -> None:
    taken: List[int] = []
    in_row = last = 0
    for _ in range(_MOST // size):
        place = _libc.malloc(size) or 0
        taken.append(place)
        in_row = in_row + 1 if place - last == size + _NOTE else 1
        last = place
        if in_row >= _ROW:
            return  # nothing of this size was left, and a larger piece is being cut
    for place in taken:
        _libc.free(place)
