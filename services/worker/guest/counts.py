"""Counts of references that no longer matter: what the zygote holds when it forks is never freed.

Whoever uses an object counts, in the object: a page of each sandbox's own for one word. From Python 3.12 on there is a
count that nobody changes, that of `None`; everything here gets it, and is written to no more. Before, a count is raised
beyond anything that could be counted back, and its upper half says so: a sandbox that compares its copies with the
image (image.py) takes two such words for equal. Whichever of the two it keeps, the object stays.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import sys
import types
from typing import Any, Callable, Dict, List

image: Any = importlib.import_module("_lambent_image")

_UNCHANGING = sys.version_info >= (3, 12)
_COUNT: Any = ctypes.c_uint32 if _UNCHANGING else ctypes.c_uint64
_AT: Callable[[int], Any] = _COUNT.from_address
_NONE = _AT(id(None)).value
_RAISED = image.RAISED << 32
_MIDDLE = 1 << 30  # what is counted up and down from here does not come to change the upper half
_LEAST = _NONE if _UNCHANGING else _RAISED  # nothing that is counted comes to this
_TIMES = 1000


def settle() -> int:
    """Make the counts of all objects that can be found matter no more; answers how many those are.

    Without those that do something when they are freed, as files do.
    """
    if not _understood():
        return 0
    settle_one, listed = _Settled().settle, gc.is_tracked
    todo = [each for each in gc.get_objects() + _unlisted() if settle_one(each)]
    for each in todo:  # grows meanwhile
        todo += [part for part in _parts(each) if not listed(part) and settle_one(part)]
    return len(todo)


def _understood() -> bool:
    """Whether counts are where they are thought to be, which an interpreter's build may change."""
    one = object()
    held = [one] * _TIMES
    counted = _AT(id(one)).value
    del held
    lost = counted - _AT(id(one)).value
    wide = sys.maxsize > 1 << 32 and sys.byteorder == "little"
    return wide and lost == _TIMES and (not _UNCHANGING or _NONE >= 1 << 31)


class _Settled(Dict[type, bool]):
    """Whether objects of a type are to be, each type looked at once."""

    def __missing__(self, kind: type) -> bool:
        self[kind] = found = not hasattr(kind, "__del__")
        return found

    def settle(self, each: object) -> bool:
        """Whether it was not, and is now."""
        count = _AT(id(each))
        if count.value >= _LEAST or not self[type(each)]:
            return False
        count.value = _NONE if _UNCHANGING else count.value + _RAISED + _MIDDLE
        return True


def _unlisted() -> List[Any]:
    """What the collector does not list and nothing needs to hold: single characters, small numbers, the types in C."""
    found: List[Any] = [None, True, False, Ellipsis, NotImplemented, (), "", b"", frozenset()]
    found += range(-5, 257)
    found += map(chr, range(256))
    found += (bytes((number,)) for number in range(256))
    kinds: List[Any] = [object]
    for kind in kinds:  # grows meanwhile
        kinds += type.__subclasses__(kind)
    return found + kinds


def _parts(each: object) -> List[Any]:
    """What it holds, as far as that is there already: nothing that is made when it is asked for."""
    kind = type(each)
    if kind is types.CodeType:
        code: Any = each
        held = ("co_consts", "co_names", "co_filename", "co_name", "co_qualname", "co_linetable", "co_exceptiontable")
        names = (*code.co_varnames, *code.co_freevars, *code.co_cellvars)
        return [*(getattr(code, name) for name in held if hasattr(code, name)), *names]
    found: List[Any] = gc.get_referents(each)
    if isinstance(each, dict):
        found += dict.keys(each)
    return found
