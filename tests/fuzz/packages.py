"""Zip packages of every kind that an upload should not be, and good ones."""

from __future__ import annotations

import io
import random
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from functools import cache

CODE = b"def handler(event, context):\n    return event\n"


def package(*entries: tuple[str, bytes, int], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip file of (name, content, mode); mode 0 is a plain file. What zipfile warns of is meant."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for name, content, mode in entries:
                info = zipfile.ZipInfo(name)
                info.filename = name  # the constructor cuts at NUL
                info.external_attr = mode << 16
                info.compress_type = method
                archive.writestr(info, content)
    return buffer.getvalue()


GOOD = package(("app.py", CODE, 0))
_APP = ("app.py", CODE, 0)
_LINK = stat.S_IFLNK | 0o777


@cache
def bomb() -> bytes:
    """251 MiB of zeros in a quarter of a megabyte."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("zeros", "w", force_zip64=True) as entry,
    ):
        for _ in range(251):
            entry.write(bytes(1024 * 1024))
    return buffer.getvalue()


@cache
def crowd() -> bytes:
    """More entries than a package may have."""
    return package(*((f"f{number}", b"", 0) for number in range(65_600)), method=zipfile.ZIP_STORED)


def lying_bomb() -> bytes:
    """A bomb whose headers say that it unpacks to ten bytes."""
    data = bytearray(package(("zeros", bytes(2_000_000), 0)))
    struct.pack_into("<I", data, 22, 10)
    struct.pack_into("<I", data, data.rindex(b"PK\x01\x02") + 24, 10)
    return bytes(data)


def overlapping() -> bytes:
    """Two directory entries for the same bytes."""
    data = bytearray(package(_APP, ("zzz.py", CODE, 0)))
    second = data.rindex(b"PK\x01\x02")
    struct.pack_into("<I", data, second + 42, 0)
    return bytes(data)


def patched(signature: bytes, offset: int, value: int) -> bytes:
    """A good package with two bytes of a record set."""
    data = bytearray(GOOD)
    struct.pack_into("<H", data, data.rindex(signature) + offset, value)
    return bytes(data)


# By name, so that a failure says what was sent.
BAD: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "no zip": lambda: b"this is no zip file",
    "no entries": lambda: package(),
    "folders only": lambda: package(("a/", b"", stat.S_IFDIR | 0o755)),
    "climbs out": lambda: package(_APP, ("../evil.py", CODE, 0)),
    "climbs out below": lambda: package(_APP, ("a/../../evil.py", CODE, 0)),
    "backslashes": lambda: package(_APP, ("..\\evil.py", CODE, 0)),
    "absolute": lambda: package(_APP, ("/etc/cron.d/evil", CODE, 0)),
    "drive": lambda: package(_APP, ("C:\\evil.py", CODE, 0)),
    "link out": lambda: package(_APP, ("link", b"../../etc/passwd", _LINK)),
    "absolute link": lambda: package(_APP, ("link", b"/etc/passwd", _LINK)),
    "link with NUL": lambda: package(_APP, ("link", b"app.py\0/../..", _LINK)),
    "below a link": lambda: package(_APP, ("link", b".", _LINK), ("link/x.py", CODE, 0)),
    "empty link": lambda: package(_APP, ("link", b"", _LINK)),
    "link to itself": lambda: package(_APP, ("link", b"link", _LINK)),
    "long link": lambda: package(_APP, ("link", b"a/" * 3000, _LINK)),
    "fifo": lambda: package(_APP, ("fifo", b"", stat.S_IFIFO | 0o666)),
    "device": lambda: package(_APP, ("device", b"", stat.S_IFBLK | 0o666)),
    "setuid": lambda: package(_APP, ("tool", CODE, stat.S_IFREG | 0o4755)),
    "twice": lambda: package(_APP, _APP),
    "twice, spelled otherwise": lambda: package(_APP, ("./app.py", CODE, 0)),
    "file and folder": lambda: package(_APP, ("app.py/inner.py", CODE, 0)),
    "NUL in a name": lambda: package(_APP, ("a\0b.py", CODE, 0)),
    "only dots": lambda: package(_APP, (".", CODE, 0)),
    "empty name": lambda: package(_APP, ("", CODE, 0)),
    "long name": lambda: package(_APP, ("x" * 300, CODE, 0)),
    "long path": lambda: package(_APP, ("x/" * 3000 + "x", CODE, 0)),
    "deep path": lambda: package(_APP, ("x/" * 1200 + "x", CODE, 0)),
    "emoji": lambda: package(_APP, ("\N{SNAKE}.py", CODE, 0)),
    "newline in a name": lambda: package(_APP, ("a\nb.py", CODE, 0)),
    "lying sizes": lying_bomb,
    "overlapping": overlapping,
    "encrypted": lambda: patched(b"PK\x01\x02", 8, 1),
    "strange method": lambda: patched(b"PK\x01\x02", 10, 99),
    "lzma": lambda: package(_APP, method=zipfile.ZIP_LZMA),
    "wrong checksum": lambda: patched(b"PK\x01\x02", 16, 0xBEEF),
    "directory elsewhere": lambda: patched(b"PK\x05\x06", 16, 0xFFFF),
    "more entries than there are": lambda: patched(b"PK\x05\x06", 10, 7),
    "zip64 marks": lambda: patched(b"PK\x01\x02", 24, 0xFFFF),
    "extra field over the end": lambda: patched(b"PK\x01\x02", 30, 0xFFFF),
    "newer version": lambda: patched(b"PK\x01\x02", 6, 999),
    "in front": lambda: b"#!/bin/sh\n" * 10 + GOOD,
    "behind": lambda: GOOD + b"\0" * 1000,
    "no handler": lambda: package(("other.py", CODE, 0)),
    "handler is no code": lambda: package(("app.py", b"\xff\xfe def", 0)),
}


def any_package(rng: random.Random) -> tuple[str, bytes]:
    """(what it is, its bytes)."""
    if rng.random() < 0.004:
        return ("bomb", bomb()) if rng.random() < 0.5 else ("crowd", crowd())
    trick = rng.random()
    if trick < 0.15:
        return "good", GOOD
    if trick < 0.65:
        name = rng.choice(list(BAD))
        return name, BAD[name]()
    if trick < 0.75:
        return "cut", GOOD[: rng.randrange(len(GOOD))]
    data = bytearray(GOOD)
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return "bytes changed", bytes(data)
