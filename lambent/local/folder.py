"""A data folder belongs to one at a time: a running cluster, or a command that works on what it left."""

from __future__ import annotations

import fcntl
import os
from typing import IO

from lambent.infra.layout import Layout


class FolderTaken(Exception):
    """Somebody else has it."""

    def __init__(self, owner: str) -> None:
        """`owner`: its process id, or unknown."""
        super().__init__(owner)
        self.owner = owner


def take(layout: Layout) -> IO[str]:
    """Make the folder and take it; closing what is answered gives it back. Raises FolderTaken, and OSError."""
    layout.make()
    lock = (layout.data / "lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.seek(0)
        owner = lock.read().strip() or "unknown"
        lock.close()
        raise FolderTaken(owner) from None
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock
