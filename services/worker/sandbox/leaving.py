"""Sandboxes that have been told to end. The end of a process is the kernel's work of a millisecond or two, done in the
process's own turn: a thousand of them at once would keep a function that is invoked meanwhile waiting for a second. A
few go as they would; the rest take what nobody else wants, until it is their turn."""

from __future__ import annotations

import contextlib
from typing import Protocol

from services.worker.sandbox.cgroups import Weight

AT_ONCE = 8


class Weighed(Protocol):
    """A control group."""

    def weigh(self, weight: Weight) -> None:
        """Set its weight. Raises OSError where it is no more."""
        ...


class Leaving:
    """Those that have been told, oldest first. Their names are anything that tells them apart."""

    def __init__(self) -> None:
        self._going: set[object] = set()
        self._later: dict[object, Weighed] = {}

    def add(self, name: object, group: Weighed) -> None:
        """One is about to be told."""
        if len(self._going) < AT_ONCE:
            self._going.add(name)
        else:
            self._later[name] = group
            _weigh(group, Weight.LAST)

    def gone(self, name: object) -> None:
        """One has ended, or was never told."""
        self._later.pop(name, None)
        if name in self._going:
            self._going.discard(name)
            if self._later:
                following = next(iter(self._later))
                _weigh(self._later.pop(following), Weight.BEHIND)
                self._going.add(following)


def _weigh(group: Weighed, weight: Weight) -> None:
    with contextlib.suppress(OSError):  # then it ends as it would
        group.weigh(weight)
