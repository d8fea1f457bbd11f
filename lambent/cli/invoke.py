"""`lambent invoke`: run a function and print what it returned."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from lambent.cli.connection import Connection, connected
from lambent.cli.output import output_option, print_json
from lambent.client import Client


@click.command("invoke")
@click.argument("name")
@click.option("--payload", default="{}", show_default=True, help="JSON text, @FILE, or - for standard input.")
@click.option("--qualifier", help="Version or alias.")
@click.option("--log", "log_tail", is_flag=True, help="Print the end of the invocation's log to standard error.")
@click.option("--async", "later", is_flag=True, help="Queue an event and do not wait; prints its request id.")
@click.option(
    "--dedup-token", help="With --async: queue nothing if an event with this token was queued a short while ago."
)
@click.option("--not-before", help="With --async: when to run at the soonest, epoch seconds or 2030-01-31T08:00:00Z.")
@click.option("--wait", is_flag=True, help="With --async: wait until the event has ended; exit code 3 if given up.")
@output_option
@connected
def command(
    connection: Connection, name: str, payload: str, qualifier: str | None, log_tail: bool, later: bool,
    dedup_token: str | None, not_before: str | None, wait: bool, output: str,
) -> None:  # fmt: skip
    """Run a function. Its answer goes to standard output; exit code 3 if the function failed."""
    if later and log_tail:
        raise click.UsageError("--log waits for the invocation, --async does not; see `lambent logs --request-id`")
    if wait and not later:
        raise click.UsageError("--wait is for --async; without it `lambent invoke` waits anyway")
    if not later and (dedup_token is not None or not_before is not None):
        raise click.UsageError("--dedup-token and --not-before are for --async")
    with connection.open() as client:
        if later:
            request_id = client.invoke_async(
                name, _payload(payload), qualifier=qualifier, dedup_token=dedup_token, not_before=not_before
            )
            _tell_event(client, name, request_id, wait, output)
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


def _tell_event(client: Client, name: str, request_id: str, wait: bool, output: str) -> None:
    if output == "table":
        click.echo(request_id)
    ended = client.wait_for_event(name, request_id) if wait else None
    if output == "json":
        given_up = None if ended is None else {"reason": ended.event.reason, "detail": ended.event.detail}
        print_json({"requestId": request_id} | ({"givenUp": given_up} if wait else {}))
    if ended is not None:
        sys.stderr.write(f"given up after {ended.event.attempts} attempts: {ended.event.reason} {ended.event.detail}\n")
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
