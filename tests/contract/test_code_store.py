"""Code stores: the directory and its twin in memory answer alike."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from lambent.infra.code_store import CodeStore, DirectoryCodeStore, MemoryCodeStore


@pytest.fixture(params=["memory", "directory"])
def code(request: pytest.FixtureRequest, tmp_path: Path) -> CodeStore:
    return MemoryCodeStore() if request.param == "memory" else DirectoryCodeStore(tmp_path / "code")


def test_packages_are_found_by_their_digest(code: CodeStore) -> None:
    digest = code.put(b"bytes")
    assert digest == hashlib.sha256(b"bytes").hexdigest()
    assert code.put(b"bytes") == digest
    assert code.get(digest) == b"bytes"
    assert digest in code


def test_an_unknown_digest_is_a_key_error(code: CodeStore) -> None:
    with pytest.raises(KeyError):
        code.get("00" * 32)
    assert "00" * 32 not in code
