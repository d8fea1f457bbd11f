"""`lambent functions`: list, show and delete."""

from __future__ import annotations

import click

from lambent.cli.connection import Connection, connected
from lambent.cli.output import document, output_option, print_json, print_table


@click.group("functions")
def command() -> None:
    """List, show and delete functions."""


@command.command("list")
@output_option
@connected
def list_functions(connection: Connection, output: str) -> None:
    """Every function of the account and region."""
    with connection.open() as client:
        functions = list(client.list_functions())
    if output == "json":
        print_json([document(function) for function in functions])
        return
    print_table(
        ["NAME", "RUNTIME", "HANDLER", "MEMORY", "TIMEOUT", "SIZE", "MODIFIED"],
        [
            [
                f.function_name, f.runtime or f.package_type.lower(), f.handler, f"{f.memory_size} MB",
                f"{f.timeout} s", f"{f.code_size}", f.last_modified[:19].replace("T", " "),
            ]
            for f in functions
        ],
    )  # fmt: skip


@command.command("show")
@click.argument("name")
@output_option
@connected
def show(connection: Connection, name: str, output: str) -> None:
    """One function's configuration."""
    with connection.open() as client:
        shown = document(client.get_function(name).configuration)
    if output == "json":
        print_json(shown)
    else:
        print_table(["SETTING", "VALUE"], [[key, str(value)] for key, value in shown.items()])


@command.command("delete")
@click.argument("name")
@connected
def delete(connection: Connection, name: str) -> None:
    """Delete a function with all that belongs to it."""
    with connection.open() as client:
        client.delete_function(name)
    click.echo(f"deleted {name}")
