"""How much room the container images of a worker take, and which of them go when it is too much."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from lambent.domain.clock import Clock
from lambent.domain.images import Built
from lambent.infra.packages import PARTIAL

_log = logging.getLogger(__name__)

ROOT = "root"  # the file system of an image, in its folder
_NOTE = "note.json"
_LOCK = ".images.lock"
_GONE = ".gone-"  # before the names of folders that are being removed


class Note(msgspec.Struct, frozen=True):
    """What is kept of an image beside its files."""

    built: Built
    layers: Mapping[str, int]  # folder of each layer → its bytes


def read_note(image: Path) -> Note:
    """That of an image's folder. Raises OSError and MsgspecError."""
    return msgspec.json.decode((image / _NOTE).read_bytes(), type=Note)


def write_note(image: Path, note: Note) -> None:
    """Keep it. Raises OSError."""
    (image / _NOTE).write_bytes(msgspec.json.encode(note))


def surplus(
    images: Mapping[str, Mapping[str, int]], last_used: Mapping[str, float], kept: Collection[str], most: int
) -> list[str]:
    """Which images have to go so that all layers together have at most `most` bytes: those used longest ago, and none
    of those `kept`. `images`: by name, the sizes of their layers."""
    users: dict[str, int] = {}
    sizes: dict[str, int] = {}
    for layers in images.values():
        for layer, size in layers.items():
            users[layer] = users.get(layer, 0) + 1
            sizes[layer] = size
    total = sum(sizes.values())
    gone: list[str] = []
    for image in sorted(images.keys() - set(kept), key=lambda name: (last_used.get(name, 0.0), name)):
        if total <= most:
            break
        gone.append(image)
        for layer in images[image]:
            users[layer] -= 1
            if not users[layer]:
                total -= sizes[layer]
    return gone


class ImageShelf:
    """The images in one folder. Of several workers that share a folder none takes any away, as none knows what the
    others use."""

    def __init__(self, folder: Path, most_bytes: int, clock: Clock) -> None:
        """`most_bytes`: of all layers together."""
        self._folder = folder
        self._most = most_bytes
        self._clock = clock
        self._last_used: dict[str, float] = {}
        self._remover = ThreadPoolExecutor(1, "image-remains")
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if self._alone():
            for remains in (*folder.glob(_GONE + "*"), *folder.glob(PARTIAL + "*")):  # of one that ended too early
                self._remover.submit(shutil.rmtree, remains, ignore_errors=True)
        fcntl.flock(self._lock, fcntl.LOCK_SH)

    def used(self, image: str) -> None:
        """An image, by the name of its folder, is used now."""
        self._last_used[image] = self._clock.monotonic()

    def trim(self, kept: Collection[str]) -> set[str]:
        """Take away what is too much, of all but those `kept`; answers what has gone. What is left of it is removed by
        a thread."""
        try:
            return self._trim(kept) if self._alone() else set()
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_SH)

    def _alone(self) -> bool:
        """Whether no other worker has this folder; none gets it until the lock is shared again."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _trim(self, kept: Collection[str]) -> set[str]:
        images = {image.name: _layers(image) for image in self._folder.glob("image-*") if (image / ROOT).is_dir()}
        gone = surplus(images, self._last_used, kept, self._most)
        if not gone:
            return set()
        left = {layer for name, layers in images.items() if name not in gone for layer in layers}
        orphans = {layer.name for layer in self._folder.glob("image-layer-*")} - left
        remains = Path(tempfile.mkdtemp(dir=self._folder, prefix=_GONE))
        for name in (*gone, *orphans):
            (self._folder / name).rename(remains / name)
            self._last_used.pop(name, None)
        _log.info("images taken away", extra={"images": ", ".join(gone)})
        self._remover.submit(shutil.rmtree, remains, ignore_errors=True)
        return set(gone)

    def close(self) -> None:
        """Let others have it alone. Harmless when it is closed."""
        self._remover.shutdown()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _layers(image: Path) -> Mapping[str, int]:
    try:
        return read_note(image).layers
    except (OSError, msgspec.MsgspecError):
        return {}
