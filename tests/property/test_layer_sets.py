"""Layers laid over each other are what unpacking them one after the other gives, and nothing outside is touched."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from services.worker.artifacts.layer_sets import listing, make

# What a layer has at a path: the text of a file, or where a symbolic link leads.
Layer = dict[str, str]

PATHS = st.lists(st.sampled_from(["a", "b", "python", "x.py"]), min_size=1, max_size=3).map("/".join)
LAYERS = st.lists(
    st.dictionaries(PATHS, st.sampled_from(["1", "2", "-> ../..", "-> b"]), min_size=1, max_size=6), max_size=4
)


def lay_out(layer: Layer, root: Path) -> None:
    """One layer's folder; what does not go with what is there already is left out."""
    root.mkdir()
    for path, content in layer.items():
        place = root / path
        parents = [each for each in place.parents if each != root and root in each.parents]
        if place.exists() or place.is_symlink() or any(each.is_symlink() or each.is_file() for each in parents):
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if content.startswith("-> "):
            place.symlink_to(content[3:])
        else:
            place.write_text(content)


def contents(root: Path) -> dict[str, str]:
    """Path → a file's text, a link's target, or "folder"."""
    found: dict[str, str] = {}
    for folder in listing(root):
        found |= {str(Path(folder.path, name)): "folder" for name in folder.folders}
        for name in folder.others:
            path = root / folder.path / name
            found[str(Path(folder.path, name))] = f"-> {path.readlink()}" if path.is_symlink() else path.read_text()
    return found


def expected(layers: list[dict[str, str]]) -> dict[str, str]:
    """Whatever comes later stays, and takes away what it cannot stand beside."""
    found: dict[str, str] = {}
    for layer in layers:
        for path, content in layer.items():
            if content != "folder":
                found = {key: each for key, each in found.items() if not key.startswith(f"{path}/")}
            found[path] = content
    return found


@settings(max_examples=60)
@given(LAYERS)
def test_later_layers_lie_over_earlier_ones(layers: list[Layer]) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        roots = [folder / str(number) for number in range(len(layers))]
        for root, layer in zip(roots, layers, strict=True):
            lay_out(layer, root)
        before = [contents(root) for root in roots]
        make(roots, folder / "all" / "set")
        assert contents(folder / "all" / "set") == expected(before)
        assert [contents(root) for root in roots] == before
        assert [path.name for path in (folder / "all").iterdir()] == ["set"]
    finally:
        shutil.rmtree(folder)
