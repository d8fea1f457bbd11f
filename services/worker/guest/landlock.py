"""Walls from Landlock, where no namespaces can be had: files, other processes, signals. Source: landlock(7).

What a process may open is a list of folders; it and what comes of it can trace nobody outside, and on newer kernels
signal nobody outside. Needs no right. The list cannot be taken back, only narrowed.
"""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Iterable

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_ASK_VERSION = 1
_PATH_BENEATH = 1

LEAST = 3  # the version that confines every way of writing (Linux 6.2)
SIGNALS = 6  # the version that keeps signals inside (Linux 6.12)

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_ALL_FILES = {3: (1 << 15) - 1, 5: (1 << 16) - 1}  # by version: rights that are the list's to give; 5 adds ioctl
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_OF_A_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | 1 << 14 | 1 << 15  # the last two: truncate, ioctl
_SCOPES = 1 | 2  # abstract sockets, signals

_libc = ctypes.CDLL(None, use_errno=True)


def version() -> int:
    """The version that this kernel has; 0: none, or it is switched off."""
    found: int = _libc.syscall(_CREATE_RULESET, None, 0, _ASK_VERSION)
    return max(0, found)


class Ruleset:
    """A list of folders, to be put on this process once it is complete."""

    def __init__(self) -> None:
        known = version()
        self._files = _ALL_FILES[5 if known >= 5 else 3]
        attributes = struct.pack("=QQQ", self._files, 0, _SCOPES if known >= SIGNALS else 0)
        size = 24 if known >= SIGNALS else 8
        self._descriptor = self._check(_libc.syscall(_CREATE_RULESET, attributes, size, 0), "landlock_create_ruleset")

    def read(self, paths: Iterable[str]) -> None:
        """Files and folders that may be read and run; what is not there is passed over."""
        for path in paths:
            self._allow(path, _READ)

    def write(self, paths: Iterable[str]) -> None:
        """Files and folders in which everything may be done."""
        for path in paths:
            self._allow(path, self._files)

    def _allow(self, path: str, rights: int) -> None:
        try:
            folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            if not os.path.isdir(path):
                rights &= _OF_A_FILE
            rule = struct.pack("=Qi", rights & self._files, folder)
            self._check(_libc.syscall(_ADD_RULE, self._descriptor, _PATH_BENEATH, rule, 0), "landlock_add_rule")
        finally:
            os.close(folder)

    def restrict(self) -> None:
        """From here on nothing else; no new privileges must have been set."""
        self._check(_libc.syscall(_RESTRICT_SELF, self._descriptor, 0), "landlock_restrict_self")
        os.close(self._descriptor)

    def _check(self, result: int, what: str) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, "%s: %s" % (what, os.strerror(number)))
        return result
