"""Code stores: the directory, the one in Redis, and their twin in memory answer alike."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from lambent.infra.code_store import CodeStore, DirectoryCodeStore, MemoryCodeStore
from lambent.infra.redis_client import connect_for_threads
from lambent.infra.redis_code import RedisCodeStore


@pytest.fixture(params=["memory", "directory", "redis", "cluster"])
def code(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CodeStore]:
    match request.param:
        case "memory":
            yield MemoryCodeStore()
        case "directory":
            yield DirectoryCodeStore(tmp_path / "code")
        case "redis" | "cluster":
            with connect_for_threads(request.getfixturevalue("redis_url")) as client:
                yield RedisCodeStore(client)


def test_packages_are_found_by_their_digest(code: CodeStore) -> None:
    digest = code.put(b"bytes")
    assert digest == hashlib.sha256(b"bytes").hexdigest()
    assert code.put(b"bytes") == digest
    assert code.get(digest) == b"bytes"
    assert digest in code
    assert set(code.digests()) == {digest}


def test_an_unknown_digest_is_a_key_error(code: CodeStore) -> None:
    with pytest.raises(KeyError):
        code.get("00" * 32)
    assert "00" * 32 not in code
