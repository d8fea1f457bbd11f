"""Container images unpacked once on this worker, layer by layer: what several images have in common is fetched and kept
once.

    image-layer-WHOSE-DIGEST/   entries.json, and the content of each file under its number
    image-WHOSE-DIGEST/         note.json, and root: the image's file system, out of links to the layers' files

Files belong to the worker and keep their permissions, but for the right to be another user. Functions run as users of
their own, and can do with a file what everybody can, as on AWS.
"""

from __future__ import annotations

import json
import logging
import os
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, cast

import msgspec

from lambent.domain.images import Fault, ImageError, ImageName, Layer, parse_name
from lambent.domain.limits import Limits
from lambent.domain.names import Tenant
from lambent.infra.packages import whole_folder
from lambent.infra.registries import Registries, Registry
from services.worker.artifacts.cache import Unpacked
from services.worker.artifacts.image_shelf import ROOT, ImageShelf, Note, read_note, write_note
from services.worker.artifacts.image_tree import Entry, Kind, Tree
from services.worker.artifacts.layer_sets import link
from services.worker.artifacts.making import Making, PackageUnavailable

_log = logging.getLogger(__name__)

# Where sandboxes mount something (services/worker/guest/roots.py).
_MOUNTED_FOLDERS, _MOUNTED_FILES = ("proc", "dev", "tmp"), ("etc/resolv.conf", "etc/hosts")
_ENTRIES = "entries.json"
_CHUNK = 1024 * 1024
_MODE = 0o777  # what is kept of permissions
# What reading a tar file raises that is none.
_NO_TAR = (tarfile.TarError, EOFError, zlib.error, ValueError, OverflowError, UnicodeError)
_HAS_OWNER = 0o700  # the worker takes folders away again


class ImageCache:
    """The images of one worker."""

    def __init__(
        self, registries: Registries, folder: Path, limits: Limits, architecture: str, shelf: ImageShelf
    ) -> None:
        """`architecture`: AWS's name for this machine's processors."""
        self._architecture = architecture
        self._registries = registries
        self._folder = folder
        self._limits = limits
        self._shelf = shelf
        self._made: Making[Unpacked] = Making("images")

    def known(self, tenant: Tenant, uri: str) -> Unpacked | None:
        """An image by its resolved URI, if it has been unpacked."""
        found = self._made.known.get(_key(tenant, uri))
        if found is not None:
            self._shelf.used(found.code.parent.name)
        return found

    async def unpacked(self, tenant: Tenant, uri: str) -> Unpacked:
        """An image by its resolved URI, fetched now if need be. Raises PackageUnavailable."""
        found = await self._made.obtain(_key(tenant, uri), lambda: self._make(tenant, uri))
        self._shelf.used(found.code.parent.name)
        return found

    def trim(self, in_use: Iterable[tuple[Tenant, str]]) -> None:
        """Take images away that are too much, of those that no tenant's URI `in_use` stands for. Nobody else may be
        about to use one."""
        if self._made.idle:
            known = self._made.known
            used = [known[key] for key in {_key(tenant, uri) for tenant, uri in in_use} if key in known]
            gone = self._shelf.trim({found.code.parent.name for found in used})
            for key in [key for key, found in known.items() if found.code.parent.name in gone]:
                del known[key]

    def _make(self, tenant: Tenant, uri: str) -> Unpacked:
        try:
            name = parse_name(uri)
            if name.digest is None:
                raise ImageError(Fault.MALFORMED, "no digest")
            registry = self._registries.of(tenant, name.host)
            target = self._folder / f"image-{registry.whose}-{name.digest}"
            if not target.is_dir():
                self._fetch(registry, name, target)
            built = read_note(target).built
        except ImageError as error:
            raise PackageUnavailable(f"image {uri} cannot be had: {error}") from error
        except (OSError, msgspec.MsgspecError) as error:
            raise PackageUnavailable(f"image {uri} cannot be unpacked: {error}") from error
        return Unpacked(target / ROOT, None, built)

    def _fetch(self, registry: Registry, name: ImageName, target: Path) -> None:
        found = registry.resolve(name, self._architecture)
        room, sizes = Room(self._limits.image_bytes), {}
        layers = []
        for layer in found.manifest.layers:
            before = room.used
            place = self._folder / f"image-layer-{registry.whose}-{layer.blob.digest}"
            self._layer(place, layer, _Download(registry.blob(name, layer.blob, room.most)), room)
            layers.append(place)
            sizes[layers[-1].name] = room.used - before
        _build(layers, Note(found.built, sizes), target, self._limits.image_entries)
        _log.info("image unpacked", extra={"image": name.resolved(found.digest), "bytes": room.used})

    def _layer(self, place: Path, layer: Layer, download: _Download, room: Room) -> None:
        """Make the folder of a layer, where it is not there already."""
        if place.is_dir():
            for entry in entries_of(place):
                room.take(os.stat(place / str(entry.number)).st_size if entry.kind is Kind.FILE else 0)
            return
        with whole_folder(place) as partial:
            unpack(cast(IO[bytes], download), layer.compressed, partial, room)
            download.finish()

    async def close(self) -> None:
        """Give up what is under way."""
        await self._made.close()
        self._shelf.close()


def _key(tenant: Tenant, uri: str) -> str:
    """What one account may have, another need not be let to."""
    return f"{tenant.account} {uri}"


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
