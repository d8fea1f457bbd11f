"""The files of a container image, planned before any is made: layers over layers, with what each takes away. Pure.

No path of a layer ever reaches the worker's file system: links are followed in the plan alone, where nothing leads out
of the image. Source: https://github.com/opencontainers/image-spec/blob/main/layer.md
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import IntEnum

import msgspec

from lambent.domain.images import Fault, ImageError

_AWAY = ".wh."  # before the name of what a layer takes away
_ALL_AWAY = ".wh..wh..opq"  # everything that the layers below have in this folder
_FOREIGN = ".wh..wh."  # notes of a file system that others do not know
_MOST_LINKS = 40  # followed for one path, as by Linux
_MOST_FOLDERS = 255  # within each other
_MOST_NAME, _MOST_PATH = 255, 4096  # bytes
_FOLDER_MODE = 0o755


class Kind(IntEnum):
    """What an entry is. Devices and pipes are left out: no function may have any."""

    FOLDER = 0
    FILE = 1
    LINK = 2  # symbolic
    SAME = 3  # the file that another path of the image names


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One entry of a layer."""

    path: str
    kind: Kind
    mode: int = 0  # permissions, of folders and files
    target: str = ""  # of links, as it is written; of SAME, the path
    number: int = -1  # of files: what its content is called


class Node:
    """Something in the image."""

    __slots__ = ("children", "kind", "layer", "mode", "number", "target")

    def __init__(self, kind: Kind, mode: int = 0, target: str = "", layer: int = -1, number: int = -1) -> None:
        """`layer`, `number`: of a file, the position of its layer and its content there; -1: it is empty."""
        self.kind = kind
        self.mode = mode
        self.target = target
        self.layer = layer
        self.number = number
        self.children: dict[str, Node] | None = {} if kind is Kind.FOLDER else None


class Tree:
    """The image so far."""

    def __init__(self, most: int) -> None:
        """`most`: entries of all layers together."""
        self.root = Node(Kind.FOLDER, _FOLDER_MODE)
        self._left = most
        self._layers = 0

    def add(self, layer: Sequence[Entry]) -> None:
        """Lay a layer over those before. Raises ImageError."""
        self._left -= len(layer)
        if self._left < 0:
            raise ImageError(Fault.TOO_LARGE, "it has too many files")
        entries = [(_parts(entry.path), entry) for entry in layer]
        # What it takes away is of the layers below, wherever in the layer it stands.
        for parts, _ in entries:
            if parts and parts[-1].startswith(_AWAY):
                self._take_away(parts)
        for parts, entry in entries:
            if parts and not parts[-1].startswith(_AWAY):
                self._put(parts, entry)
        self._layers += 1

    def make_room(self, folders: Sequence[str], files: Sequence[str]) -> None:
        """Have folders and empty files where something is to be mounted, whatever else was there."""
        for path in folders:
            self._room(path.split("/"))
        for path in files:
            *above, name = path.split("/")
            here = self._room(above)
            there = here.get(name)
            if there is None or there.kind is not Kind.FILE:
                here[name] = Node(Kind.FILE, 0o644)

    def _room(self, parts: Sequence[str]) -> dict[str, Node]:
        here = _children(self.root)
        for part in parts:
            node = here.get(part)
            if node is None or node.children is None:
                node = here[part] = Node(Kind.FOLDER, _FOLDER_MODE)
            here = _children(node)
        return here

    def _take_away(self, parts: list[str]) -> None:
        *above, name = parts
        folder = self._folder(above, make=False)
        if folder is None:
            return
        if name == _ALL_AWAY:
            _children(folder).clear()
        elif not name.startswith(_FOREIGN):
            _children(folder).pop(name[len(_AWAY) :], None)

    def _put(self, parts: list[str], entry: Entry) -> None:
        *above, name = parts
        folder = self._folder(above, make=True)
        assert folder is not None
        here = _children(folder)
        there = here.get(name)
        if entry.kind is Kind.FOLDER:
            if there is not None and there.kind is Kind.FOLDER:
                there.mode = entry.mode
            else:
                here[name] = Node(Kind.FOLDER, entry.mode)
        elif entry.kind is Kind.SAME:
            *above, name_there = _parts(entry.target) or [""]
            other = self._folder(above, make=False)
            same = None if other is None else _children(other).get(name_there)
            if same is None or same.kind is Kind.FOLDER:
                raise ImageError(Fault.MALFORMED, f"the entry {entry.path!r} is the same as nothing")
            here[name] = same
        elif entry.kind is Kind.LINK:
            if not 0 < len(entry.target) < _MOST_PATH or "\0" in entry.target:
                raise ImageError(Fault.MALFORMED, f"the entry {entry.path!r} leads nowhere")
            here[name] = Node(Kind.LINK, target=entry.target)
        else:
            here[name] = Node(Kind.FILE, entry.mode, layer=self._layers, number=entry.number)

    def _folder(self, parts: Sequence[str], *, make: bool) -> Node | None:
        """The folder at a path, through links, none of which leads out of the image. None: there is none, and none is
        to be made."""
        above: list[Node] = []
        here = self.root
        waiting = list(reversed(parts))
        followed = 0
        while waiting:
            part = waiting.pop()
            if part == "..":
                here = above.pop() if above else self.root
                continue
            node = _children(here).get(part)
            if node is not None and node.kind is Kind.LINK:
                followed += 1
                if followed > _MOST_LINKS:
                    raise ImageError(Fault.MALFORMED, "links that lead to each other")
                if node.target.startswith("/"):
                    above, here = [], self.root
                waiting += [each for each in reversed(node.target.split("/")) if each not in ("", ".")]
                continue
            if node is None or node.kind is not Kind.FOLDER:
                if not make:
                    return None
                node = _children(here)[part] = Node(Kind.FOLDER, _FOLDER_MODE)
            above.append(here)
            if len(above) > _MOST_FOLDERS:
                raise ImageError(Fault.MALFORMED, f"more than {_MOST_FOLDERS} folders within each other")
            here = node
        return here

    def walk(self) -> Iterator[tuple[str, Node]]:
        """Everything with its path below the root, each folder before what is in it."""
        waiting: list[tuple[str, Node]] = [("", self.root)]
        while waiting:
            path, folder = waiting.pop()
            for name, node in _children(folder).items():
                place = f"{path}/{name}" if path else name
                yield place, node
                if node.kind is Kind.FOLDER:
                    waiting.append((place, node))


def _children(folder: Node) -> dict[str, Node]:
    assert folder.children is not None
    return folder.children


def _parts(path: str) -> list[str]:
    """The names of a path, as layers have it: with or without a root, or a dot for it. Raises ImageError."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ImageError(Fault.MALFORMED, f"the entry {path!r} climbs")
    # Bytes that are no text stand as one character each, and must still go.
    sizes = [len(part.encode("utf-8", "surrogateescape")) for part in parts]
    if "\0" in path or sum(sizes) + len(sizes) > _MOST_PATH or max(sizes, default=0) > _MOST_NAME:
        raise ImageError(Fault.MALFORMED, "an entry whose name is none")
    return parts
