"""`lambent invoke`: run a function and print what it returned."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from lambent.cli.connection import Connection, connected
from lambent.cli.output import output_option, print_json


@click.command("invoke")
@click.argument("name")
@click.option("--payload", default="{}", show_default=True, help="JSON text, @FILE, or - for standard input.")
@click.option("--qualifier", help="Version or alias.")
@click.option("--log", "log_tail", is_flag=True, help="Print the end of the invocation's log to standard error.")
@click.option("--async", "later", is_flag=True, help="Queue an event and do not wait; prints its request id.")
@output_option
@connected
def command(
    connection: Connection, name: str, payload: str, qualifier: str | None, log_tail: bool, later: bool, output: str
) -> None:
    """Run a function. Its answer goes to standard output; exit code 3 if the function failed."""
    if later and log_tail:
        raise click.UsageError("--log waits for the invocation, --async does not; see `lambent logs --request-id`")
    with connection.open() as client:
        if later:
            request_id = client.invoke_async(name, _payload(payload), qualifier=qualifier)
            if output == "json":
                print_json({"requestId": request_id})
            else:
                click.echo(request_id)
            return
        result = client.invoke(name, _payload(payload), qualifier=qualifier, log_tail=log_tail)
    if output == "json":
        print_json(
            {
                "payload": result.payload.decode(errors="replace"),
                "error": result.error,
                "executedVersion": result.executed_version,
                "requestId": result.request_id,
                "elapsedSeconds": round(result.elapsed, 6),
                "logTail": result.log_tail,
            }
        )
    else:
        click.echo(result.payload)
        if result.log_tail is not None:
            sys.stderr.write(result.log_tail)
    if result.error is not None:
        raise click.exceptions.Exit(3)


def _payload(given: str) -> bytes:
    if given == "-":
        return sys.stdin.buffer.read()
    if given.startswith("@"):
        try:
            return Path(given[1:]).read_bytes()
        except OSError as error:
            raise click.UsageError(f"cannot read {given[1:]}: {error.strerror}") from None
    return given.encode()
