"""Packages that must be refused, and what is made of those that are not."""

from __future__ import annotations

import asyncio
import io
import os
import stat
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lambent.domain.limits import Limits
from lambent.infra.code_store import MemoryCodeStore
from lambent.infra.packages import Fault, PackageError, check, unpack
from services.worker.artifacts.cache import ArtifactCache, Unpacked
from services.worker.artifacts.making import PackageUnavailable

Entry = tuple[str, bytes, int]


def package(*entries: Entry, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content, mode in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = compression
            archive.writestr(info, content)
    return out.getvalue()


FILE = stat.S_IFREG | 0o644
LINK = stat.S_IFLNK | 0o777


def corrupted() -> bytes:
    data = bytearray(package(("app.py", b"x = 1\n" * 100, FILE), compression=zipfile.ZIP_STORED))
    data[60] ^= 0xFF
    return bytes(data)


def overlapping() -> bytes:
    data = package(("a.py", b"x" * 100, FILE), ("b.py", b"x" * 100, FILE), compression=zipfile.ZIP_STORED)
    second = data.rindex(b"PK\x01\x02")
    return data[: second + 42] + struct.pack("<I", 0) + data[second + 46 :]


def lying() -> bytes:
    """A bomb whose headers say that it is small."""
    data = bytearray(package(("a.bin", b"\0" * 2_000_000, FILE)))
    directory = data.rindex(b"PK\x01\x02")
    struct.pack_into("<I", data, directory + 24, 10)
    struct.pack_into("<I", data, 22, 10)
    return bytes(data)


def twice() -> bytes:
    with pytest.warns(UserWarning, match="Duplicate"):
        return package(("a.py", b"1", FILE), ("a.py", b"2", FILE))


SMALL = Limits(unzipped_bytes=1_000_000, zip_entries=5)
BAD: dict[str, tuple[Callable[[], bytes], Fault]] = {
    "not a zip": (lambda: b"PK but no zip", Fault.CORRUPT),
    "no bytes": (lambda: b"", Fault.CORRUPT),
    "bad checksum": (corrupted, Fault.CORRUPT),
    "truncated": (lambda: package(("a.py", b"x", FILE))[:-30], Fault.CORRUPT),
    "no entries": (lambda: package(), Fault.EMPTY),
    "folders only": (lambda: package(("a/", b"", stat.S_IFDIR | 0o755)), Fault.EMPTY),
    "climbs out": (lambda: package(("../a.py", b"x", FILE)), Fault.OUTSIDE),
    "climbs out later": (lambda: package(("a/../../b.py", b"x", FILE)), Fault.OUTSIDE),
    "absolute": (lambda: package(("/etc/passwd", b"x", FILE)), Fault.OUTSIDE),
    "drive": (lambda: package(("C:/a.py", b"x", FILE)), Fault.OUTSIDE),
    "backslashes": (lambda: package(("..\\a.py", b"x", FILE)), Fault.OUTSIDE),
    "link out": (lambda: package(("a.py", b"x", FILE), ("l", b"../secret", LINK)), Fault.LINK),
    "link absolute": (lambda: package(("a.py", b"x", FILE), ("l", b"/etc", LINK)), Fault.LINK),
    "link by a detour": (lambda: package(("a/b/c.py", b"x", FILE), ("l", b"a/b/../../..", LINK)), Fault.LINK),
    "link by three dots": (lambda: package(("a/b.py", b"x", FILE), ("a/l", b".../../..", LINK)), Fault.LINK),
    "through a link": (lambda: package(("l", b"a", LINK), ("l/b.py", b"x", FILE)), Fault.LINK),
    "device": (lambda: package(("d", b"", stat.S_IFCHR | 0o666)), Fault.DEVICE),
    "pipe": (lambda: package(("p", b"", stat.S_IFIFO | 0o666)), Fault.DEVICE),
    "twice": (twice, Fault.DUPLICATE),
    "file and folder": (lambda: package(("a", b"x", FILE), ("a/b", b"x", FILE)), Fault.DUPLICATE),
    "overlapping": (overlapping, Fault.OVERLAP),
    "too deep": (lambda: package(("a/" * 1500 + "b", b"x", FILE)), Fault.CORRUPT),
    "too many": (lambda: package(*((f"{n}.py", b"x", FILE) for n in range(6))), Fault.TOO_MANY),
    "too large": (lambda: package(("a.bin", b"\0" * 1_000_001, FILE)), Fault.TOO_LARGE),
    "headers lie": (lying, Fault.CORRUPT),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_package_is_refused_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    make, fault = BAD[name]
    data = make()
    with pytest.raises(PackageError) as refused:
        check(data, SMALL)
    assert refused.value.fault is fault
    with pytest.raises(PackageError) as refused:
        unpack(data, tmp_path / "made", SMALL)
    assert refused.value.fault is fault
    assert list(tmp_path.iterdir()) == []


def test_a_good_package_is_unpacked_as_it_is(tmp_path: Path) -> None:
    data = package(
        ("app.py", b"x = 1\n", stat.S_IFREG | 0o600),
        ("bin/tool", b"#!/bin/sh\n", stat.S_IFREG | 0o700),
        ("lib/one.so", b"1", FILE),
        ("lib/two.so", b"one.so", LINK),
        ("top", b"lib/one.so", LINK),
        ("empty/", b"", stat.S_IFDIR | 0o700),
    )
    assert check(data, Limits()) == len(b"x = 1\n#!/bin/sh\n1")
    made = tmp_path / "made"
    unpack(data, made, Limits())
    assert (made / "app.py").read_bytes() == b"x = 1\n"
    assert stat.S_IMODE((made / "app.py").stat().st_mode) == 0o644
    assert stat.S_IMODE((made / "bin/tool").stat().st_mode) == 0o755
    assert stat.S_IMODE((made / "empty").stat().st_mode) == 0o755
    assert os.readlink(made / "lib/two.so") == "one.so"
    assert (made / "top").read_bytes() == b"1"
    unpack(data, made, Limits())  # again: harmless
    assert [entry.name for entry in tmp_path.iterdir()] == ["made"]


async def test_many_who_ask_at_once_get_one_unpacking(tmp_path: Path) -> None:
    class Store(MemoryCodeStore):
        reads = 0

        def get(self, digest: str) -> bytes:
            Store.reads += 1
            return super().get(digest)

    store = Store()
    digest = store.put(package(("app.py", b"x = 1\n", FILE)))
    cache = ArtifactCache(store, tmp_path / "packages", Limits())
    found = await asyncio.gather(*(cache.unpacked(digest) for _ in range(20)))
    assert set(found) == {Unpacked(tmp_path / "packages" / digest, None)}
    assert Store.reads == 1
    assert cache.known(digest) == found[0]
    await cache.close()


async def test_a_package_that_is_missing_or_bad_is_unavailable(tmp_path: Path) -> None:
    store = MemoryCodeStore()
    cache = ArtifactCache(store, tmp_path / "packages", Limits())
    with pytest.raises(PackageUnavailable, match="no package"):
        await cache.unpacked("0" * 64)
    with pytest.raises(PackageUnavailable, match="no digest"):
        await cache.unpacked("../../etc")
    bad = store.put(b"nothing")
    with pytest.raises(PackageUnavailable, match="readable zip"):
        await cache.unpacked(bad)
    await cache.close()


TAG = sys.implementation.cache_tag


async def test_layers_are_laid_over_each_other_once_in_their_order(tmp_path: Path) -> None:
    store = MemoryCodeStore()
    code = store.put(package(("app.py", b"x = 1\n", FILE)))
    lower = store.put(
        package(
            ("python/both.py", b"x = 'lower'\n", FILE),
            ("python/own.py", b"x = 1\n", FILE),
            ("bin/tool", b"", FILE | 0o111),
            ("lib/l.so", b"l.so.1", LINK),
        )
    )
    upper = store.put(package(("python/both.py", b"x = (\n", FILE)))
    cache = ArtifactCache(store, tmp_path / "packages", Limits(), [Path(sys.executable)])
    found, again, other = await asyncio.gather(
        cache.unpacked(code, [lower, upper]), cache.unpacked(code, [lower, upper]), cache.unpacked(code, [upper, lower])
    )
    assert found == again == cache.known(code, [lower, upper])
    assert cache.known(code, [upper]) == Unpacked(found.code, tmp_path / "packages" / f"layer-{upper}")
    assert cache.known(code, [lower, lower]) is None
    assert found.opt is not None
    assert other.opt is not None
    assert (found.opt / "python/both.py").read_text() == "x = (\n"
    assert (other.opt / "python/both.py").read_text() == "x = 'lower'\n"
    assert os.readlink(found.opt / "lib/l.so") == "l.so.1"
    assert os.access(found.opt / "bin/tool", os.X_OK)
    single = tmp_path / "packages" / f"layer-{lower}"
    assert (found.opt / "python/own.py").samefile(single / "python/own.py")
    # What the lower layer's source was compiled to has gone with it; what is compiled names the place in the sandbox.
    assert {path.name for path in (found.opt / "python/__pycache__").iterdir()} == {f"own.{TAG}.pyc"}
    assert b"/opt/python/own.py" in (found.opt / f"python/__pycache__/own.{TAG}.pyc").read_bytes()
    await cache.close()
    later = ArtifactCache(store, tmp_path / "packages", Limits())
    assert await later.unpacked(code, [lower, upper]) == found
    await later.close()


async def test_a_layer_that_is_missing_makes_all_unavailable(tmp_path: Path) -> None:
    store = MemoryCodeStore()
    code = store.put(package(("app.py", b"x = 1\n", FILE)))
    cache = ArtifactCache(store, tmp_path / "packages", Limits())
    for bad in ("0" * 64, "../x"):
        with pytest.raises(PackageUnavailable):
            await cache.unpacked(code, [code, bad])
        assert cache.known(code, [code, bad]) is None
    await cache.close()
