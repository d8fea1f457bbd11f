"""Zip packages: what is refused, and unpacking what is not. Headers are never believed: bytes are counted as they come.

Frontends check when a package is uploaded, workers check again when they unpack: a code store may hold what no frontend
of ours has seen.
"""

from __future__ import annotations

import contextlib
import io
import os
import posixpath
import re
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path

from lambent.domain.limits import Limits

_CHUNK = 1024 * 1024
PARTIAL = ".partial-"  # before the names of folders that are being made
_MAX_LINK = 4096
_MAX_PATH = 4096
_MAX_FOLDERS = 255  # within each other; what walks a tree may do it by recursion
_LOCAL = struct.Struct("<4s5HIIIHH")
# An entry of the directory: its mark, the size of what is fixed, and the lengths of name, extra field and comment.
_ENTRY_MARK, _ENTRY_BYTES, _ENTRY_LENGTHS = b"PK\x01\x02", 46, struct.Struct("<3H")
# A link may climb first and descend then; a climb after a descent could lead anywhere once it passes another link.
_LINK = re.compile(r"(\.\./)*[^/]+(/[^/]+)*/?|(\.\./)*\.\.|\.")
_CLIMB = re.compile(r"(\.{1,2}/)*(\.{1,2}$)?")


class Fault(StrEnum):
    """Why a package is refused."""

    CORRUPT = "Corrupt"  # no zip file, a bad checksum, encrypted, a method nobody can read
    EMPTY = "Empty"
    OUTSIDE = "OutsidePackage"  # a path that is absolute or climbs out
    LINK = "LinkOutsidePackage"  # a symlink out of the tree, or an entry below a symlink
    DEVICE = "DeviceEntry"
    DUPLICATE = "DuplicateEntry"
    OVERLAP = "OverlappingEntries"
    TOO_MANY = "TooManyEntries"
    TOO_LARGE = "TooLarge"


class PackageError(Exception):
    """The package is refused."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


def check(data: bytes, limits: Limits) -> int:
    """Bytes of the package when unpacked. Raises PackageError."""
    total = 0
    with _open(data, limits) as archive:
        for info, kind, _ in _entries(archive, data, limits):
            if kind == stat.S_IFREG:
                total = _read(archive, info, total, limits, None)
    return total


def unpack(data: bytes, target: Path, limits: Limits) -> None:
    """Make `target`, a folder that is there whole or not at all, out of the package. Raises PackageError.

    Everyone may read what is made: functions run as users of their own.
    """
    with whole_folder(target) as partial:
        _unpack(data, partial, limits)


@contextlib.contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """An empty folder to fill, which becomes `target` at the end, or is gone where the filling fails.

    Somebody else may make the same meanwhile: names say all about what is in such folders.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=PARTIAL))
    try:
        yield partial
        partial.chmod(0o755)
        try:
            partial.rename(target)
        except OSError:
            if not target.is_dir():
                raise
            shutil.rmtree(partial)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _unpack(data: bytes, folder: Path, limits: Limits) -> None:
    total = 0
    with _open(data, limits) as archive:
        for info, kind, path in _entries(archive, data, limits):
            place = folder / path
            if kind == stat.S_IFDIR:
                _folder(folder, place)
                continue
            _folder(folder, place.parent)
            if kind == stat.S_IFLNK:
                place.symlink_to(_link(archive, info, path))
                continue
            descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
            with os.fdopen(descriptor, "wb") as file:
                total = _read(archive, info, total, limits, file.write)
                executable = info.external_attr >> 16 & 0o111
                os.fchmod(file.fileno(), 0o755 if executable else 0o644)


def _folder(root: Path, folder: Path) -> None:
    if folder.is_dir():
        return
    if folder != root:
        _folder(root, folder.parent)
    folder.mkdir(0o755)
    folder.chmod(0o755)


class _Archive(io.BytesIO):
    """A package. `zipfile` reads its directory at once and makes much larger objects of it: they are counted before."""

    def __init__(self, data: bytes, most: int) -> None:
        super().__init__(data)
        self._most = most

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        at = entries = 0
        while data.startswith(_ENTRY_MARK, at) and len(data) >= at + _ENTRY_BYTES:
            entries += 1
            if entries > self._most:
                raise PackageError(Fault.TOO_MANY, f"The package has more than {self._most} entries")
            at += _ENTRY_BYTES + sum(_ENTRY_LENGTHS.unpack_from(data, at + 28))
        return data


def _open(data: bytes, limits: Limits) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(_Archive(data, limits.zip_entries))
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, struct.error) as error:
        raise PackageError(Fault.CORRUPT, f"The package is not a readable zip file: {error}") from None


def _entries(archive: zipfile.ZipFile, data: bytes, limits: Limits) -> Iterator[tuple[zipfile.ZipInfo, int, str]]:
    """Every entry with its file type and its clean path, once the list as a whole is known to be sound."""
    infos = archive.infolist()
    _check_overlap(infos, data, archive.start_dir)
    entries = [(info, _kind(info), _path(info)) for info in infos]
    kinds: dict[str, int] = {}
    for info, kind, path in entries:
        if path in kinds and not kind == kinds[path] == stat.S_IFDIR:
            raise PackageError(Fault.DUPLICATE, f"The package has the entry {info.filename!r} twice")
        kinds[path] = kind
    for _, _, path in entries:
        parent = posixpath.dirname(path)
        while parent:
            found = kinds.get(parent, stat.S_IFDIR)
            if found == stat.S_IFLNK:
                raise PackageError(Fault.LINK, f"The entry {path!r} lies below a symbolic link")
            if found != stat.S_IFDIR:
                raise PackageError(Fault.DUPLICATE, f"The entry {parent!r} is a file and a folder")
            parent = posixpath.dirname(parent)
    if all(kind == stat.S_IFDIR for kind in kinds.values()):
        raise PackageError(Fault.EMPTY, "The package has no files")
    for info, kind, path in entries:
        if kind == stat.S_IFLNK:
            _link(archive, info, path)
        if path:
            yield info, kind, path


def _check_overlap(infos: list[zipfile.ZipInfo], data: bytes, directory: int) -> None:
    # Many entries over the same bytes make a small file unpack to anything.
    end = 0
    for info in sorted(infos, key=lambda entry: entry.header_offset):
        start = info.header_offset
        if start < end:
            raise PackageError(Fault.OVERLAP, f"The entry {info.filename!r} overlaps another")
        if start < 0 or start + _LOCAL.size > len(data):
            raise PackageError(Fault.CORRUPT, f"The entry {info.filename!r} lies outside the file")
        fields = _LOCAL.unpack_from(data, start)
        end = start + _LOCAL.size + fields[9] + fields[10] + info.compress_size
        if end > directory:
            raise PackageError(Fault.OVERLAP, f"The entry {info.filename!r} reaches into the directory")


def _kind(info: zipfile.ZipInfo) -> int:
    if info.flag_bits & 0x1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise PackageError(Fault.CORRUPT, f"The entry {info.filename!r} is encrypted or uses an unknown method")
    mode = stat.S_IFMT(info.external_attr >> 16)
    if info.filename.endswith("/"):
        return stat.S_IFDIR
    if mode in (0, stat.S_IFREG):
        return stat.S_IFREG
    if mode in (stat.S_IFDIR, stat.S_IFLNK):
        return mode
    raise PackageError(Fault.DEVICE, f"The entry {info.filename!r} is neither file, folder nor symbolic link")


def _path(info: zipfile.ZipInfo) -> str:
    name = info.filename
    parts = name.split("/")
    if name.startswith(("/", "\\")) or ".." in parts or re.match(r"[A-Za-z]:[\\/]", name) or "\\..\\" in f"\\{name}\\":
        raise PackageError(Fault.OUTSIDE, f"The entry {name!r} lies outside the package")
    if len(name) > _MAX_PATH or any(len(part.encode("utf-8", "replace")) > 255 for part in parts):
        raise PackageError(Fault.CORRUPT, "The package has an entry whose name is too long")
    clean = [part for part in parts if part not in ("", ".")]
    if len(clean) > _MAX_FOLDERS:
        raise PackageError(Fault.CORRUPT, f"The package has more than {_MAX_FOLDERS} folders within each other")
    return "/".join(clean)


def _link(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: str) -> str:
    """Where a symbolic link leads; within the package."""
    if info.file_size > _MAX_LINK:
        raise PackageError(Fault.LINK, f"The symbolic link {path!r} is too long")
    content = bytearray()
    _read(archive, info, 0, Limits(unzipped_bytes=_MAX_LINK), content.extend)
    target = content.decode("utf-8", "replace")
    joined = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    # Not `lstrip`, which would take a name of three dots for a climb.
    descent = _CLIMB.sub("", target, count=1).split("/")
    sound = _LINK.fullmatch(target) and ".." not in descent and "\0" not in target
    if not sound or posixpath.isabs(target) or joined == ".." or joined.startswith("../"):
        raise PackageError(Fault.LINK, f"The symbolic link {path!r} leads out of the package")
    return target


def _read(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, total: int, limits: Limits, write: Callable[[bytes], object] | None
) -> int:
    try:
        with archive.open(info) as file:
            while chunk := file.read(_CHUNK):
                total += len(chunk)
                if total > limits.unzipped_bytes:
                    text = f"Unzipped size must be smaller than {limits.unzipped_bytes} bytes"
                    raise PackageError(Fault.TOO_LARGE, text)
                if write is not None:
                    write(chunk)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, ValueError) as error:
        raise PackageError(Fault.CORRUPT, f"The entry {info.filename!r} cannot be read: {error}") from None
    return total
