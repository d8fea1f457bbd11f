"""Tables for people, JSON for programs; colours only on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
import msgspec
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

output_option = click.option(
    "--output", type=click.Choice(["table", "json"]), default="table", show_default=True, help="Form of the answer."
)


def print_json(value: object) -> None:
    """A value as indented JSON."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def document(message: Message, *, zeros: bool = False) -> dict[str, Any]:
    """A message as JSON's values, whole numbers as such: protobuf's own form has those of 64 bits as text. `zeros`:
    members without a value are there, too."""
    return _numbers(message.DESCRIPTOR, MessageToDict(message, always_print_fields_with_no_presence=zeros))


def _numbers(descriptor: Any, found: dict[str, Any]) -> dict[str, Any]:
    for field in descriptor.fields:
        value = found.get(field.json_name)
        if value is None:
            continue
        if field.cpp_type in (field.CPPTYPE_INT64, field.CPPTYPE_UINT64):
            found[field.json_name] = [int(each) for each in value] if isinstance(value, list) else int(value)
        elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, dict):  # times are texts
                    _numbers(field.message_type, each)
    return found


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Rows under headings; as wide as it takes where the output is not a terminal."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        widest = (max(map(len, cells)) for cells in zip(columns, *rows, strict=True))
        console = Console(width=max(80, sum(width + 3 for width in widest)))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


@contextmanager
def progress(*, quiet: bool, steps: int | None) -> Iterator[Callable[[str], None]]:
    """What is told of each step: a bar on a terminal, a line a step elsewhere; nothing if quiet.

    `steps`: how many; None: nobody knows.
    """
    if quiet:
        yield lambda text: None
        return
    if not sys.stderr.isatty():
        yield lambda text: click.echo(text, err=True)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(
        BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=Console(stderr=True), transient=True
    ) as bar:
        task = bar.add_task("starting", total=steps)
        yield lambda text: bar.update(task, advance=1, description=text)
