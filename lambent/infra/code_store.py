"""Packages, content-addressed by SHA-256. A port with two implementations under one contract suite.

Frontends put, workers get. A digest says all about its bytes, so nothing is ever overwritten and any copy will do.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol


class PackageSource(Protocol):
    """Where packages are had from. Digests are lower-case hex SHA-256."""

    def get(self, digest: str) -> bytes:
        """The bytes. Raises KeyError where there are none."""
        ...


class CodeStore(PackageSource, Protocol):
    """Where packages are kept."""

    def put(self, data: bytes) -> str:
        """Keep `data`, durably, and answer its digest. Storing the same bytes again does nothing."""
        ...

    def __contains__(self, digest: str) -> bool: ...

    def digests(self) -> Iterator[str]:
        """All that are kept, in no order."""
        ...


class MemoryCodeStore:
    """The twin for tests."""

    def __init__(self) -> None:
        self._packages: dict[str, bytes] = {}

    def put(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        self._packages[digest] = data
        return digest

    def get(self, digest: str) -> bytes:
        return self._packages[digest]

    def __contains__(self, digest: str) -> bool:
        return digest in self._packages

    def digests(self) -> Iterator[str]:
        return iter(list(self._packages))


class DirectoryCodeStore:
    """`root/ab/abcdef….zip`, written beside its place and renamed into it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)

    def _path(self, digest: str) -> Path:
        return self._root / digest[:2] / f"{digest}.zip"

    def put(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        path = self._path(digest)
        if path.exists():
            return digest
        path.parent.mkdir(exist_ok=True)
        descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=".partial-")
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(partial).rename(path)
        return digest

    def get(self, digest: str) -> bytes:
        try:
            return self._path(digest).read_bytes()
        except FileNotFoundError:
            raise KeyError(digest) from None

    def __contains__(self, digest: str) -> bool:
        return self._path(digest).exists()

    def digests(self) -> Iterator[str]:
        return (path.stem for path in self._root.glob("??/*.zip"))
