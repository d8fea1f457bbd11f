"""Code stores and log stores: the directory and its twin in memory answer alike."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from lambent.domain.names import Tenant
from lambent.infra.code_store import CodeStore, DirectoryCodeStore, MemoryCodeStore
from lambent.infra.log_store import DirectoryLogStore, LogChunk, LogStore, MemoryLogStore

ONE, OTHER = Tenant("000000000001", "us-east-1"), Tenant("000000000001", "eu-west-1")


@pytest.fixture(params=["memory", "directory"])
def code(request: pytest.FixtureRequest, tmp_path: Path) -> CodeStore:
    return MemoryCodeStore() if request.param == "memory" else DirectoryCodeStore(tmp_path / "code")


@pytest.fixture(params=["memory", "directory"])
def logs(request: pytest.FixtureRequest, tmp_path: Path) -> LogStore:
    return MemoryLogStore() if request.param == "memory" else DirectoryLogStore(tmp_path / "logs", "w1")


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


def chunk(time: int, *lines: str, request: str | None = "r") -> LogChunk:
    return LogChunk(time, "2026/01/01/[$LATEST]ab", request, list(lines))


def test_log_chunks_come_back_in_order_and_from_where_one_left_off(logs: LogStore) -> None:
    logs.append(ONE, "f", chunk(1, "a", "two\nlines"))
    logs.append(ONE, "f", chunk(2, "ünïcode", request=None))
    logs.append(ONE, "g", chunk(1, "other function"))
    logs.append(OTHER, "f", chunk(1, "other tenant"))
    logs.flush()
    chunks, position = logs.read(ONE, "f")
    assert chunks == [chunk(1, "a", "two\nlines"), chunk(2, "ünïcode", request=None)]
    assert logs.read(ONE, "f", position)[0] == []
    logs.append(ONE, "f", chunk(3, "later"))
    logs.flush()
    assert logs.read(ONE, "f", position)[0] == [chunk(3, "later")]


def test_no_log_is_an_empty_log(logs: LogStore) -> None:
    assert logs.read(ONE, "nothing")[0] == []


def test_days_that_are_too_old_are_removed_when_a_new_one_begins(tmp_path: Path) -> None:
    store = DirectoryLogStore(tmp_path, "w1", keep_days=2)
    folder = tmp_path / ONE.account / ONE.region / "f"
    folder.mkdir(parents=True)
    (folder / "2020-01-01.w1.jsonl").write_bytes(b"")
    store.append(ONE, "f", chunk(1, "now"))
    store.flush()
    assert [path.name for path in folder.iterdir() if path.name.startswith("2020")] == []
