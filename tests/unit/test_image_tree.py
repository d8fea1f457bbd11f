"""Layers of container images over each other."""

from __future__ import annotations

import pytest

from lambent.domain.images import ImageError
from services.worker.artifacts.image_tree import Entry, Kind, Tree


def folder(path: str, mode: int = 0o755) -> Entry:
    return Entry(path, Kind.FOLDER, mode)


def file(path: str, number: int = 0, mode: int = 0o644) -> Entry:
    return Entry(path, Kind.FILE, mode, number=number)


def link(path: str, target: str) -> Entry:
    return Entry(path, Kind.LINK, target=target)


def same(path: str, target: str) -> Entry:
    return Entry(path, Kind.SAME, target=target)


def laid(*layers: list[Entry], most: int = 1000) -> Tree:
    tree = Tree(most)
    for layer in layers:
        tree.add(layer)
    return tree


def shown(tree: Tree) -> dict[str, object]:
    """By path: (layer, number) of a file, the target of a link, the mode of a folder."""
    found: dict[str, object] = {}
    for path, node in tree.walk():
        if node.kind is Kind.FILE:
            found[path] = node.layer, node.number
        else:
            found[path] = node.target if node.kind is Kind.LINK else oct(node.mode)
    return found


def test_later_layers_lie_over_earlier_ones() -> None:
    tree = laid(
        [folder("a"), file("a/one", 1), file("a/two", 2), folder("gone"), file("gone/x", 3)],
        [folder("./a/", 0o700), file("/a/two", 0), file("gone", 1)],
    )
    assert shown(tree) == {"a": "0o700", "a/one": (0, 1), "a/two": (1, 0), "gone": (1, 1)}


def test_folders_that_no_layer_names_are_made() -> None:
    assert shown(laid([file("a/b/c")])) == {"a": "0o755", "a/b": "0o755", "a/b/c": (0, 0)}


def test_a_layer_takes_away_what_is_below_and_not_what_it_brings() -> None:
    below = [file("a/one"), file("a/two"), file("b/one"), file("b/c/two"), file("kept")]
    above = [file("b/new", 1), file("b/.wh..wh..opq"), file("a/.wh.one"), file(".wh.nothing"), file("no/.wh.thing")]
    assert shown(laid(below, [*above, file("b/.wh.new"), file("a/.wh..wh.aufs")])) == {
        "a": "0o755", "a/two": (0, 1 - 1), "b": "0o755", "b/new": (1, 1), "kept": (0, 0),
    }  # fmt: skip


def test_a_folder_that_was_taken_away_can_come_again() -> None:
    tree = laid([file("a/old")], [file(".wh.a"), folder("a"), file("a/new", 1)])
    assert shown(tree) == {"a": "0o755", "a/new": (1, 1)}


def test_entries_below_a_link_go_where_it_leads() -> None:
    tree = laid(
        [folder("usr/bin"), link("bin", "usr/bin"), link("sbin", "/bin")], [file("bin/sh", 1), file("sbin/init", 2)]
    )
    found = shown(tree)
    assert found["bin"] == "usr/bin"
    assert (found["usr/bin/sh"], found["usr/bin/init"]) == ((1, 1), (1, 2))
    assert shown(laid([folder("usr/bin"), link("bin", "usr/bin"), file("usr/bin/x")], [file("bin/.wh.x")])) == {
        "usr": "0o755", "usr/bin": "0o755", "bin": "usr/bin",
    }  # fmt: skip


@pytest.mark.parametrize("target", ["../../../etc", "/../../etc", "a/../../../../etc"])
def test_no_link_leads_out_of_the_image(target: str) -> None:
    found = shown(laid([folder("deep/a"), link("deep/out", target)], [file("deep/out/passwd", 1)]))
    assert found["deep/out"] == target
    assert found["etc/passwd"] == (1, 1)


def test_a_link_to_nothing_becomes_a_folder_where_it_leads() -> None:
    found = shown(laid([link("data", "srv/data")], [file("data/x", 1)]))
    assert found == {"data": "srv/data", "srv": "0o755", "srv/data": "0o755", "srv/data/x": (1, 1)}


def test_the_same_file_has_several_names() -> None:
    tree = laid([file("bin/perl", 7)], [same("bin/perl5", "/bin/perl"), link("l", "bin"), same("again", "l/perl5")])
    assert shown(tree) == {"bin": "0o755", "bin/perl": (0, 7), "bin/perl5": (0, 7), "l": "bin", "again": (0, 7)}


@pytest.mark.parametrize(
    "entries",
    [
        [file("../out")],
        [file("a/../../out")],
        [same("a", "nothing")],
        [folder("a"), same("b", "a")],
        [same("a", "/")],
        [link("a", "b"), link("b", "a"), file("a/x")],
        [file("/".join("d" * 300))],
        [file("n" * 256)],
        [file("nul\0")],
        [link("a", "")],
        [link("a", "b\0")],
        [link("a", "b" * 4096)],
        [file("/".join(["n" * 200] * 30))],
    ],
    ids=lambda entries: entries[-1].path[:12],
)
def test_what_is_no_image_is_refused(entries: list[Entry]) -> None:
    with pytest.raises(ImageError):
        laid(entries)


def test_entries_are_counted_over_all_layers() -> None:
    with pytest.raises(ImageError, match="too many files"):
        laid([file("a"), file("b")], [file("c"), file("d")], most=3)


def test_there_is_room_for_what_is_mounted_whatever_was_there() -> None:
    tree = laid([link("proc", "/etc"), file("dev"), link("etc", "usr"), file("usr/hosts"), file("tmp/x")])
    tree.make_room(["proc", "dev", "tmp", "var/task"], ["etc/hosts"])
    found = shown(tree)
    assert {found[path] for path in ("proc", "dev", "etc", "tmp", "var/task")} == {"0o755"}
    assert (found["etc/hosts"], found["tmp/x"]) == ((-1, -1), (0, 0))
    tree.make_room([], ["etc/hosts", "usr/hosts"])
    assert shown(tree)["usr/hosts"] == (0, 0)
