"""`lambent restore`: what `lambent backup` wrote, into a store that has nothing."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import click

from lambent.cli.stored import Stored, with_store
from lambent.infra import backup_file
from lambent.infra.backup_file import BackupError, Head, KeyFile, Package, Value
from lambent.infra.secrets import mark_of

_MASTER = "master.key"


@click.command("restore")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True, exists=True))
@click.option("--data", help="Data folder of a cluster on this machine; it must not run.")
@click.option("--replace", is_flag=True, help="Delete what is in the store first.")
@click.option("--without-key", is_flag=True, help="Even if environment variables cannot be opened with the key here.")
def command(file: str, data: str | None, replace: bool, without_key: bool) -> None:
    """Bring back what is in FILE; - is the standard input.

    On a machine the cluster is stopped meanwhile. On Kubernetes, restart frontends and pollers afterwards, as they
    remember what was. Events that ran when the backup was made run again.
    """
    said: list[str] = []

    def work(stored: Stored) -> None:
        if file == "-":
            # It is read twice.
            with tempfile.TemporaryFile() as source:
                shutil.copyfileobj(sys.stdin.buffer, source)
                said.append(_restore(source, stored, replace, without_key))
        else:
            with Path(file).open("rb") as source:
                said.append(_restore(source, stored, replace, without_key))

    with_store(data, work, running=False)
    click.echo(said[0], err=True)


def _restore(source: IO[bytes], stored: Stored, replace: bool, without_key: bool) -> str:
    """Everything that can stand against it is found before anything is changed."""
    source.seek(0)
    head, key_files = _look_through(source)
    _check_keys(stored, head, key_files, without_key)
    if not stored.keys.has_nothing():
        if not replace:
            raise BackupError("the store is not empty; restore into an empty one, or say --replace")
        stored.keys.clear()
    for name, data in key_files.items():
        path = stored.layout.keys / name
        if not path.exists():
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as output:
                output.write(data)
    packages = 0

    def values() -> Iterator[Value]:
        nonlocal packages
        for record in backup_file.read(source):
            if isinstance(record, Package):
                stored.code.put(record.data)
                packages += 1
            elif isinstance(record, Value):
                yield record

    source.seek(0)
    count = stored.keys.restore(values())
    return f"{count} keys and {packages} packages restored"


def _look_through(source: IO[bytes]) -> tuple[Head, dict[str, bytes]]:
    """The head and the key files of a backup that is whole."""
    heads, key_files = [], {}
    for record in backup_file.read(source):
        if isinstance(record, Head):
            heads.append(record)
        elif isinstance(record, KeyFile):
            key_files[Path(record.name).name] = record.data
    return heads[0], key_files


def _check_keys(stored: Stored, head: Head, key_files: Mapping[str, bytes], without_key: bool) -> None:
    folder = stored.layout.keys
    for name, data in key_files.items():
        path = folder / name
        if path.exists() and path.read_bytes() != data:
            raise BackupError(f"{path} is another key than the backup's; move it away first")
    if without_key or _MASTER in key_files:
        return
    path = folder / _MASTER
    if not path.exists() or mark_of(path.read_bytes()) != head.key_mark:
        raise BackupError(
            f"environment variables are sealed with a key that is not in {path}; put the backup's there, or say "
            "--without-key"
        )
