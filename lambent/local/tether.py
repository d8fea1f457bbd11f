"""Becomes a program that ends with its parent: `python tether.py PARENT PROGRAM ARGUMENT...`; PARENT is a process id.

A program of its own: what is done between a fork and its exec is done in a copy of the parent, and with threads there,
gRPC's above all, one in some hundred of such copies never came to its exec.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, command: list[str]) -> None:
    """Does not return, unless the parent has ended meanwhile."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The terminal's Ctrl-C is for the supervisor alone, which stops its children in order.
    os.setpgid(0, 0)
    if os.getppid() == parent:
        os.execv(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
