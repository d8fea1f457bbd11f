"""The file of a backup: gzip over records, each with its length before it, the last of which says that it is whole."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterable, Iterator
from typing import IO

import msgspec

FORMAT = 1
_LENGTH = struct.Struct(">Q")
# Longest record that is believed; longer values are no backup of ours.
_MOST_BYTES = 16 * 1024**3


class BackupError(Exception):
    """A file that is no backup, or a place that it cannot be restored to; one line with a hint."""


class Head(msgspec.Struct, frozen=True, tag="head"):
    """What a backup begins with."""

    format: int
    lambent: str  # version that wrote it
    created: float  # epoch seconds
    key_mark: str  # tells whether a master key is the one that variables are sealed with, and nothing of the key


class Package(msgspec.Struct, frozen=True, tag="package"):
    """A package or layer."""

    data: bytes


class KeyFile(msgspec.Struct, frozen=True, tag="key-file"):
    """A file of the folder of keys."""

    name: str
    data: bytes


class Value(msgspec.Struct, frozen=True, tag="value"):
    """One key of the store."""

    key: bytes
    expires: int  # epoch milliseconds; 0: never
    dump: bytes  # as the server's DUMP has it


class End(msgspec.Struct, frozen=True, tag="end"):
    """What it ends with."""

    records: int  # before this one


Record = Head | Package | KeyFile | Value | End
_DECODER = msgspec.msgpack.Decoder(Record)


def write(file: IO[bytes], records: Iterable[Record]) -> int:
    """Write a backup; answers how many records there are."""
    count = 0
    with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1, mtime=0) as packed:
        for record in records:
            _put(packed, record)
            count += 1
        _put(packed, End(count))
    return count


def _put(file: gzip.GzipFile, record: Record) -> None:
    data = msgspec.msgpack.encode(record)
    file.write(_LENGTH.pack(len(data)))
    file.write(data)


def read(file: IO[bytes]) -> Iterator[Record]:
    """The records, the head first, without the end. Raises BackupError, in the worst case after all that is whole."""
    count = 0
    try:
        with gzip.GzipFile(fileobj=file, mode="rb") as packed:
            while True:
                (length,) = _LENGTH.unpack(_take(packed, _LENGTH.size))
                if length > _MOST_BYTES:
                    raise BackupError("this is no backup of Lambent's")
                record = _DECODER.decode(_take(packed, length))
                if count == 0 and not (isinstance(record, Head) and record.format == FORMAT):
                    raise BackupError("this is no backup that this version can read")
                if isinstance(record, End):
                    if record.records != count:
                        raise BackupError(f"the backup has {count} records of {record.records}")
                    packed.read(1)  # so that gzip compares its checksum
                    return
                count += 1
                yield record
    except (OSError, EOFError, struct.error, msgspec.MsgspecError) as error:
        if count == 0:
            raise BackupError("this is no backup of Lambent's") from error
        raise BackupError(f"the backup is cut off or damaged after {count} records") from error


def _take(file: gzip.GzipFile, length: int) -> bytes:
    data = file.read(length)
    if len(data) != length:
        raise EOFError
    return data
