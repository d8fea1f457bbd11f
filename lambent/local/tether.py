"""Becomes a program that ends with its parent: `python tether.py PARENT PROGRAM ARGUMENT...`; PARENT is a process id.

A program of its own: what is done between a fork and its exec is done in a copy of the parent, and with threads there,
gRPC's above all, one in some hundred of such copies never came to its exec.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
# How much before others it goes where processor time is short; as `nice` counts.
_NICE = -5


def main(parent: int, command: list[str]) -> None:
    """Does not return, unless the parent has ended meanwhile."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The terminal's Ctrl-C is for the supervisor alone, which stops its children in order.
    os.setsid()
    _take_precedence()
    if os.getppid() == parent:
        os.execv(command[0], command)


def _take_precedence() -> None:
    """Go before functions, and before all that nobody waits for: every invocation passes through here twice.

    Where that is not allowed it goes as anybody else. Linux compares sessions before processes, if they are not in
    control groups (sched(7), "The autogroup feature").
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
        with open("/proc/self/autogroup", "w") as session:
            session.write(str(_NICE))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
