"""The layers of a function as one folder: what /opt shows. Later layers lie over earlier ones.

The folder is planned first and then made new, from links to the single layers' files. So no link within a layer is
ever followed, wherever several layers together would make it lead.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lambent.infra.packages import whole_folder

_COMPILED = "__pycache__"


class Folder(NamedTuple):
    """What lies in one folder of a layer."""

    path: str  # below the layer's root, which is ""
    folders: tuple[str, ...]  # names
    others: tuple[str, ...]  # names of files and symbolic links


def merge(layers: Sequence[Sequence[Folder]]) -> Mapping[str, Mapping[str, int]]:
    """By path of each folder: name of each file and link in it → the position of the layer that it is of.

    Each layer lists every folder before those within it. Of two things that have one place the later layer's stays;
    folders alone are joined. A source that takes another's place takes the other's compiled code away with it.
    """
    plan: dict[str, dict[str, int]] = {"": {}}
    for position, layer in enumerate(layers):
        for folder in layer:
            here = plan[folder.path]
            for name in folder.folders:
                here.pop(name, None)
                plan.setdefault(_join(folder.path, name), {})
            for name in folder.others:
                place = _join(folder.path, name)
                if place in plan:
                    _forget_folder(plan, place)
                if name in here and name.endswith(".py"):
                    _forget_compiled(plan.get(_join(folder.path, _COMPILED), {}), name[:-3])
                here[name] = position
    return plan


def _forget_folder(plan: dict[str, dict[str, int]], folder: str) -> None:
    for path in [each for each in plan if each == folder or each.startswith(f"{folder}/")]:
        del plan[path]


def _forget_compiled(compiled: dict[str, int], module: str) -> None:
    for name in [each for each in compiled if each.partition(".cpython-")[0] == module]:
        del compiled[name]


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def listing(root: Path) -> list[Folder]:
    """Every folder below and with `root`, each before those within it."""
    found: list[Folder] = []
    waiting = [""]
    while waiting:
        path = waiting.pop()
        folders: list[str] = []
        others: list[str] = []
        with os.scandir(root / path) as entries:
            for entry in entries:
                (folders if entry.is_dir(follow_symlinks=False) else others).append(entry.name)
        found.append(Folder(path, tuple(folders), tuple(others)))
        waiting += [_join(path, name) for name in folders]
    return found


def make(layers: Sequence[Path], target: Path) -> None:
    """Make `target`, whole or not at all, out of the folders of single layers. Raises OSError."""
    plan = merge([listing(layer) for layer in layers])
    with whole_folder(target) as partial:
        for path in sorted(plan):
            folder = partial / path
            if path:
                folder.mkdir()
                folder.chmod(0o755)
            for name, position in plan[path].items():
                link(layers[position] / path / name, folder / name)


def link(source: Path, place: Path) -> None:
    """Have what lies at `source`, which is never written to again, at `place` too. Raises OSError."""
    if source.is_symlink():
        place.symlink_to(source.readlink())
        return
    try:
        place.hardlink_to(source)
    except OSError:  # a file system without them, or with no more of them for this file
        shutil.copyfile(source, place)
        shutil.copymode(source, place)
