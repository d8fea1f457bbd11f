"""`lambent backup`: functions, versions, aliases, layers, concurrency, scaling, queues and packages in one file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import click

from lambent import __version__
from lambent.cli.stored import Stored, with_store
from lambent.infra import backup_file
from lambent.infra.backup_file import Head, KeyFile, Package, Record
from lambent.infra.clock import SystemClock
from lambent.infra.secrets import mark_of


@click.command("backup")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--data", help="Data folder of a cluster on this machine.")
@click.option("--logs", is_flag=True, help="Functions' logs too, where they are kept in Redis.")
@click.option("--keys", is_flag=True, help="The folder of keys too. Whoever has the file can then open what is sealed.")
def command(file: str, data: str | None, logs: bool, keys: bool) -> None:
    """Write what is kept to FILE; - is the standard output. A cluster may go on meanwhile.

    Each tenant is as of one instant. Environment variables stay sealed: they open with the same master.key alone, which
    is in the backup only with --keys.
    """
    said: list[str] = []

    def work(stored: Stored) -> None:
        if file == "-":
            said.append(_write(sys.stdout.buffer, stored, logs, keys))
            return
        target = Path(file)
        partial = target.with_name(f".{target.name}.partial")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as output:
                said.append(_write(output, stored, logs, keys))
                output.flush()
                os.fsync(output.fileno())
            partial.rename(target)
        finally:
            partial.unlink(missing_ok=True)

    with_store(data, work, running=True)
    click.echo(said[0], err=True)


def _write(output: IO[bytes], stored: Stored, logs: bool, keys: bool) -> str:
    count = backup_file.write(output, _records(stored, logs, keys))
    return f"{count - 1} records written" + ("" if keys else "; keep master.key and cluster.key as safely elsewhere")


def _records(stored: Stored, logs: bool, keys: bool) -> Iterator[Record]:
    created = SystemClock().epoch()
    yield Head(backup_file.FORMAT, __version__, created, mark_of(stored.layout.master_key()))
    if keys:
        for path in sorted(stored.layout.keys.iterdir()):
            yield KeyFile(path.name, path.read_bytes())
    # Functions first: a package that comes while they are written has its function in no older state.
    yield from stored.keys.values(logs=logs)
    for digest in stored.code.digests():
        yield Package(stored.code.get(digest))
