"""A backup is read as it was written, and never taken for whole when it is not."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambent.infra.backup_file import FORMAT, BackupError, Head, KeyFile, Package, Record, Value, read, write

HEAD = Head(FORMAT, "1.0", 1.5, "mark")
_records = st.lists(
    st.one_of(
        st.builds(Package, st.binary(max_size=50)),
        st.builds(KeyFile, st.text(max_size=5), st.binary(max_size=32)),
        st.builds(Value, st.binary(max_size=20), st.integers(0, 2**60), st.binary(max_size=50)),
    ),
    max_size=10,
)


def written(*records: Record) -> bytes:
    file = io.BytesIO()
    write(file, records)
    return file.getvalue()


@given(_records)
def test_what_was_written_is_read(records: list[Record]) -> None:
    assert list(read(io.BytesIO(written(HEAD, *records)))) == [HEAD, *records]


@given(_records, st.data())
def test_what_was_cut_off_is_never_whole(records: list[Record], data: st.DataObject) -> None:
    whole = written(HEAD, *records)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with pytest.raises(BackupError):
        list(read(io.BytesIO(cut)))


@pytest.mark.parametrize(
    "content",
    [b"", b"text", written(), written(Package(b"no head")), written(Head(FORMAT + 1, "9.0", 1.5, ""))],
    ids=["empty", "text", "no-records", "no-head", "later-format"],
)
def test_other_files_are_told(content: bytes) -> None:
    with pytest.raises(BackupError, match="no backup"):
        list(read(io.BytesIO(content)))
