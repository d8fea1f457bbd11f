"""The program that fetches one container image: a process of its own, since it takes time, processor and memory that
invocations need. It reads a request from its standard input, answers on its standard output, and yields to everything.

    image-layer-WHOSE-DIGEST/   entries.json, and the content of each file under its number
    image-WHOSE-DIGEST/         note.json, and root: the image's file system, out of links to the layers' files

Files belong to the worker and keep their permissions, but for the right to be another user. Functions run as users of
their own, and can do with a file what everybody can, as on AWS.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import msgspec

from lambent.domain.images import Fault, ImageError, Layer, parse_name
from lambent.infra.clock import SystemClock
from lambent.infra.connections import Connection
from lambent.infra.packages import whole_folder
from lambent.infra.registries import Registry, whose
from services.worker.artifacts.image_shelf import ROOT, Note, write_note
from services.worker.artifacts.image_tree import Entry, Kind, Tree
from services.worker.artifacts.layer_sets import link

# Where sandboxes mount something (services/worker/guest/roots.py).
_MOUNTED_FOLDERS, _MOUNTED_FILES = ("proc", "dev", "tmp", "mnt"), ("etc/resolv.conf", "etc/hosts")
_ENTRIES = "entries.json"
_CHUNK = 1024 * 1024
_MODE = 0o777  # what is kept of permissions
# What reading a tar file raises that is none.
_NO_TAR = (tarfile.TarError, EOFError, zlib.error, ValueError, OverflowError, UnicodeError)
_HAS_OWNER = 0o700  # the worker takes folders away again
_NICE = 10
_PR_SET_PDEATHSIG = 1
_PROGRAM = f"from lambent.entry import load; load({__name__!r}).main()"


class Request(msgspec.Struct, frozen=True):
    """What is to be fetched."""

    connection: Connection  # to its registry
    uri: str  # resolved
    architecture: str  # AWS's name for this machine's processors
    folder: str  # where layers and images are kept
    most_bytes: int  # of all layers, unpacked
    most_entries: int  # of all layers


class Outcome(msgspec.Struct, frozen=True):
    """What became of it."""

    error: str = ""  # empty: the image is there
    bytes: int = 0  # of all layers, unpacked


def image_folder(folder: Path, connection: Connection, digest: str) -> Path:
    """Where an image is kept."""
    return folder / f"image-{whose(connection)}-{digest}"


def fetch_apart(request: Request) -> int:
    """`fetch` by a process of its own, which this thread waits for. Raises OSError, whatever the matter is."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", _PROGRAM], input=msgspec.json.encode(request), stdout=subprocess.PIPE, check=False
    )
    try:
        outcome = msgspec.json.decode(done.stdout, type=Outcome)
    except msgspec.MsgspecError:
        raise OSError(f"what fetches images has ended with {done.returncode}") from None
    if outcome.error:
        raise OSError(outcome.error)
    return outcome.bytes


def main() -> None:
    """The program."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setpriority(os.PRIO_PROCESS, 0, _NICE)
    os.umask(0o022)
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    try:
        outcome = Outcome(bytes=fetch(request))
    except ImageError as error:
        outcome = Outcome(str(error))
    except (OSError, ValueError) as error:
        outcome = Outcome(f"it cannot be unpacked: {error}")
    sys.stdout.buffer.write(msgspec.json.encode(outcome))


def fetch(request: Request) -> int:
    """Make an image's folder, whole or not at all; answers the bytes of its layers. Raises ImageError and OSError."""
    registry = Registry(request.connection, SystemClock())
    name, folder = parse_name(request.uri), Path(request.folder)
    found = registry.resolve(name, request.architecture)
    room, sizes = Room(request.most_bytes), {}
    layers = []
    for layer in found.manifest.layers:
        before = room.used
        place = folder / f"image-layer-{whose(request.connection)}-{layer.blob.digest}"
        _layer(place, layer, _Download(registry.blob(name, layer.blob, room.most)), room)
        layers.append(place)
        sizes[place.name] = room.used - before
    target = image_folder(folder, request.connection, found.digest)
    _build(layers, Note(found.built, sizes), target, request.most_entries)
    return room.used


def _layer(place: Path, layer: Layer, download: _Download, room: Room) -> None:
    """Make the folder of a layer, where it is not there already."""
    if place.is_dir():
        for entry in entries_of(place):
            room.take(os.stat(place / str(entry.number)).st_size if entry.kind is Kind.FILE else 0)
        return
    with whole_folder(place) as partial:
        unpack(cast(IO[bytes], download), layer.compressed, partial, room)
        download.finish()


class Room:
    """How much an image may have, all layers together."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0

    def take(self, size: int) -> None:
        """Count so many bytes. Raises ImageError."""
        self.used += size
        if self.used > self.most:
            raise ImageError(Fault.TOO_LARGE, f"unpacked it has more than {self.most} bytes")


class _Download:
    """What comes in pieces, read as a file is."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none: that was all."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = piece
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece

    def finish(self) -> None:
        """Take what nobody has read: whether all is right is known at the end."""
        for _ in self._pieces:
            pass


def unpack(source: IO[bytes], compressed: bool, folder: Path, room: Room) -> None:
    """Put the files of a layer into a folder, and what else it has into its list. Raises ImageError and OSError."""
    entries: list[Entry] = []
    try:
        with tarfile.open(fileobj=source, mode="r|gz" if compressed else "r|") as archive:
            for member in archive:
                archive.members = []  # type: ignore[attr-defined]  # it would keep every one
                entry = _entry(member, len(entries))
                if entry is None:
                    continue
                if entry.kind is Kind.FILE:
                    content = archive.extractfile(member)
                    assert content is not None
                    _write(content, folder / str(entry.number), entry.mode, room)
                entries.append(entry)
    except _NO_TAR as error:
        raise ImageError(Fault.MALFORMED, f"a layer is no archive that can be read: {error}") from error
    # The standard library's, since names may have bytes that are no text, which others refuse.
    (folder / _ENTRIES).write_text(json.dumps([msgspec.to_builtins(entry) for entry in entries]))


def _entry(member: tarfile.TarInfo, number: int) -> Entry | None:
    """What an archive's member is; None: nothing that functions have."""
    if member.isreg():
        return Entry(member.name, Kind.FILE, member.mode & _MODE, number=number)
    if member.isdir():
        return Entry(member.name, Kind.FOLDER, member.mode & _MODE)
    if member.issym():
        return Entry(member.name, Kind.LINK, target=member.linkname)
    return Entry(member.name, Kind.SAME, target=member.linkname) if member.islnk() else None


def _write(content: IO[bytes], place: Path, mode: int, room: Room) -> None:
    with place.open("xb") as file:
        while piece := content.read(_CHUNK):
            room.take(len(piece))
            file.write(piece)
        os.fchmod(file.fileno(), mode)


def entries_of(layer: Path) -> list[Entry]:
    """The list of an unpacked layer."""
    return msgspec.convert(json.loads((layer / _ENTRIES).read_text()), list[Entry])


def _build(layers: list[Path], note: Note, target: Path, most: int) -> None:
    """Make an image's folder, whole or not at all."""
    tree = Tree(most)
    for layer in layers:
        tree.add(entries_of(layer))
    tree.make_room(_MOUNTED_FOLDERS, _MOUNTED_FILES)
    with whole_folder(target) as partial:
        write_note(partial, note)
        root = partial / ROOT
        root.mkdir()
        folders = [(root, 0o755)]
        for path, node in tree.walk():
            place = root / path
            if node.kind is Kind.FOLDER:
                place.mkdir()
                folders.append((place, node.mode | _HAS_OWNER))
            elif node.kind is Kind.LINK:
                place.symlink_to(node.target)
            elif node.number < 0:
                place.touch()
                place.chmod(node.mode)
            else:
                link(layers[node.layer] / str(node.number), place)
        for place, mode in folders:
            place.chmod(mode)
