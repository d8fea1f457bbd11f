"""Whatever a registry sends as a layer: it is unpacked, or refused as a layer."""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path
from typing import IO, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambent.domain.images import Fault, ImageError
from services.worker.artifacts.image_fetch import Room, entries_of, unpack
from services.worker.artifacts.image_tree import Tree
from tests.registry import layer

PLAIN = layer(
    {"a": None, "a/file": b"x" * 1000, "l": "->a/file", "h": "==a/file", "ü" * 60 + "/" + "n" * 100: b"long", "e": b""},
    compressed=False,
)


def unpacked(data: bytes, folder: Path, *, compressed: bool = False, most: int = 100_000) -> Tree:
    unpack(cast(IO[bytes], io.BytesIO(data)), compressed, folder, Room(most))
    tree = Tree(1000)
    tree.add(entries_of(folder))
    return tree


def test_the_one_that_is_changed_is_one(tmp_path: Path) -> None:
    assert len(list(unpacked(PLAIN, tmp_path).walk())) == 7


@given(
    st.lists(st.tuples(st.integers(0, len(PLAIN) - 1), st.integers(0, 255)), max_size=12), st.integers(0, len(PLAIN))
)
def test_bytes_that_are_others_are_refused_or_unpacked(changes: list[tuple[int, int]], end: int) -> None:
    data = bytearray(PLAIN)
    for place, value in changes:
        data[place] = value
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.suppress(ImageError):
            unpacked(bytes(data[: end or len(data)]), Path(folder))
        # Nothing but numbered files and the list, whatever it says.
        assert all(path.name == "entries.json" or path.name.isdecimal() for path in Path(folder).rglob("*"))


@given(st.binary(max_size=300))
def test_no_gzip_is_refused(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.raises(ImageError):
        unpacked(data, Path(folder), compressed=True)


def test_what_unpacks_to_more_than_there_may_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError) as error:
        unpacked(layer({"zeros": bytes(10_000_000)}), tmp_path, compressed=True)
    assert error.value.fault is Fault.TOO_LARGE
