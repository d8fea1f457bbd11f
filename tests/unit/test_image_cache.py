"""Container images on a worker: each layer fetched once, whole or not at all, and taken away when there are too many."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from lambent.domain.limits import Limits
from lambent.domain.names import Tenant
from lambent.infra.clock import SystemClock
from lambent.infra.connections import Connection, Connections
from services.worker.artifacts.image_shelf import ImageShelf, surplus
from services.worker.artifacts.images import ImageCache
from services.worker.artifacts.making import PackageUnavailable
from tests import registry
from tests.registry import Image, layer

TENANT = Tenant("000000000000", "us-east-1")
BASE = layer({"bin/sh": b"#!", "lib/a.so": b"x" * 1000, "secret": b"s"}, {"bin/sh": 0o4755, "secret": 0o600})
Make = Callable[..., ImageCache]


@pytest.fixture
def shelf() -> Iterator[registry.Registry]:
    with registry.twin() as made:
        yield made


@pytest.fixture
async def make(shelf: registry.Registry, tmp_path: Path) -> AsyncIterator[Make]:
    caches: list[ImageCache] = []

    def made(most: int = 1 << 30, limits: Limits | None = None) -> ImageCache:
        table = Connections([Connection(f"http://{shelf.host}", service="ecr")])
        room = ImageShelf(tmp_path, most, SystemClock())
        caches.append(ImageCache(table, tmp_path, limits or Limits(), "x86_64", room))
        return caches[-1]

    yield made
    for each in caches:
        await each.close()


def pushed(shelf: registry.Registry, name: str, *layers: bytes) -> str:
    digest = shelf.push(f"{name}:v1", Image([BASE, *layers], {"Cmd": [name]}))
    return f"{shelf.host}/{name}@sha256:{digest}"


def blobs_asked(shelf: registry.Registry) -> int:
    assert shelf.twin is not None
    return sum("/blobs/" in path for path in shelf.twin.asked)


async def test_an_image_is_its_layers_over_each_other(shelf: registry.Registry, make: Make) -> None:
    uri = pushed(shelf, "one", layer({"lib/.wh.a.so": b"", "app": b"mine", "link": "->/bin/sh", "hard": "==bin/sh"}))
    found = await make().unpacked(TENANT, uri)
    assert found.built is not None
    assert found.built.command == ("one",)
    assert sorted(os.listdir(found.code)) == [
        "app",
        "bin",
        "dev",
        "etc",
        "hard",
        "lib",
        "link",
        "mnt",
        "proc",
        "secret",
        "tmp",
    ]
    assert os.listdir(found.code / "lib") == []
    assert (found.code / "app").read_bytes() == b"mine"
    assert (found.code / "link").readlink() == Path("/bin/sh")
    assert (found.code / "hard").samefile(found.code / "bin/sh")
    # Nothing makes who runs it somebody else; who may read it stays as it was.
    assert (found.code / "bin/sh").stat().st_mode & 0o7777 == 0o755
    assert (found.code / "secret").stat().st_mode & 0o7777 == 0o600


async def test_what_images_have_in_common_is_fetched_once(shelf: registry.Registry, make: Make) -> None:
    cache = make()
    one, two = pushed(shelf, "one", layer({"app": b"1"})), pushed(shelf, "two", layer({"app": b"2"}))
    first, same = await asyncio.gather(cache.unpacked(TENANT, one), cache.unpacked(TENANT, one))
    assert first is same is cache.known(TENANT, one)
    assert blobs_asked(shelf) == 3  # its configuration and two layers
    second = await cache.unpacked(TENANT, two)
    assert blobs_asked(shelf) == 5
    assert (second.code / "bin/sh").samefile(first.code / "bin/sh")
    # A worker that starts anew finds it.
    again = make()
    assert again.known(TENANT, one) is None
    assert (await again.unpacked(TENANT, one)).built == first.built
    assert blobs_asked(shelf) == 5


async def test_what_is_an_accounts_own_is_not_shared(shelf: registry.Registry, tmp_path: Path) -> None:
    rows = [Connection(f"http://{shelf.host}", service="ecr", account=account) for account in ("1" * 12, "2" * 12)]
    room = ImageShelf(tmp_path, 1 << 30, SystemClock())
    cache = ImageCache(Connections(rows), tmp_path, Limits(), "x86_64", room)
    uri = pushed(shelf, "one")
    one, two = [await cache.unpacked(Tenant(account, "r"), uri) for account in ("1" * 12, "2" * 12)]
    assert one.code != two.code
    assert not (one.code / "bin/sh").samefile(two.code / "bin/sh")
    assert cache.known(TENANT, uri) is None
    await cache.close()


async def test_what_cannot_be_had_leaves_nothing(shelf: registry.Registry, make: Make, tmp_path: Path) -> None:
    assert shelf.twin is not None
    uri = pushed(shelf, "broken", b"no archive")
    with pytest.raises(PackageUnavailable, match="no archive that can be read"):
        await make().unpacked(TENANT, uri)
    uri = pushed(shelf, "climbs", layer({"../../out": b"x"}))
    with pytest.raises(PackageUnavailable, match="climbs"):
        await make().unpacked(TENANT, uri)
    large = layer({"zeros": bytes(3_000_000)})
    with pytest.raises(PackageUnavailable, match="more than 2000000 bytes"):
        await make(limits=Limits(image_bytes=2_000_000)).unpacked(TENANT, pushed(shelf, "large", large))
    with pytest.raises(PackageUnavailable, match="too many files"):
        await make(limits=Limits(image_entries=2)).unpacked(TENANT, pushed(shelf, "many"))
    uri = pushed(shelf, "other", layer({"app": b"1"}))
    shelf.twin.blobs = {digest: data[:-1] for digest, data in shelf.twin.blobs.items()}
    with pytest.raises(PackageUnavailable, match="something else"):
        await make().unpacked(TENANT, uri)
    with pytest.raises(PackageUnavailable, match=r"no connection of this cluster leads to other\.example"):
        await make().unpacked(TENANT, f"other.example/a@sha256:{'0' * 64}")
    assert not [name for name in os.listdir(tmp_path) if "layer" not in name and name.startswith((".part", "image-"))]


async def test_images_go_that_are_too_much_and_not_in_use(shelf: registry.Registry, make: Make, tmp_path: Path) -> None:
    cache = make(most=2600)
    uris = [pushed(shelf, name, layer({"app": name.encode() * 250})) for name in ("one", "two", "six")]
    for uri in uris:
        await cache.unpacked(TENANT, uri)
    one, two, six = uris
    cache.known(TENANT, one)
    cache.trim([(TENANT, six)])  # 1,003 bytes that they share and 750 of each
    assert [cache.known(TENANT, uri) is not None for uri in uris] == [True, False, True]
    names = set(os.listdir(tmp_path))
    assert len([name for name in names if name.startswith("image-layer-")]) == 3
    assert f"image-all-{two[-64:]}" not in names
    cache.trim([(TENANT, uri) for uri in uris])
    assert cache.known(TENANT, one) is not None
    assert (await cache.unpacked(TENANT, two)).code.is_dir()


async def test_of_workers_that_share_a_folder_none_takes_any_away(shelf: registry.Registry, make: Make) -> None:
    cache = make(most=0)
    uri = pushed(shelf, "one", layer({"app": b"1"}))
    await cache.unpacked(TENANT, uri)
    other = make(most=0)
    cache.trim([])
    assert cache.known(TENANT, uri) is not None
    await other.close()
    cache.trim([])
    assert cache.known(TENANT, uri) is None


def test_what_is_shared_goes_with_the_last_that_has_it() -> None:
    images = {"a": {"base": 100, "x": 1}, "b": {"base": 100, "y": 2}, "c": {"z": 50}}
    used = {"a": 1.0, "b": 2.0, "c": 3.0}
    assert surplus(images, used, [], 153) == []
    assert surplus(images, used, [], 152) == ["a"]
    assert surplus(images, used, [], 60) == ["a", "b"]
    assert surplus(images, used, ["a"], 60) == ["b", "c"]
    assert surplus(images, {}, ["a", "b", "c"], 0) == []
