"""`lambent explain`: why a request was throttled or started cold."""

from __future__ import annotations

import re

import click

from lambent.cli.connection import Connection, connected
from lambent.cli.output import document, output_option, print_json, print_table

_REQUEST_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@click.command("explain")
@click.argument("what", metavar="REQUEST_ID|FUNCTION")
@output_option
@connected
def command(connection: Connection, what: str, output: str) -> None:
    """Say why a request was throttled or started cold, or show the last such decisions about a function."""
    one = _REQUEST_ID.fullmatch(what) is not None
    with connection.open() as client:
        decisions = client.explain(request_id=what) if one else client.explain(function_name=what)
    if output == "json":
        print_json([document(decision) for decision in decisions])
    elif one:
        [decision] = decisions
        stamp = decision.time.ToDatetime().isoformat(sep=" ", timespec="milliseconds")
        click.echo(f"{stamp}  {decision.function_name}:{decision.version}  {decision.outcome}: {decision.reason}")
        if decision.because:
            lead = "What would have admitted it: " if decision.outcome == "Refused" else ""
            click.echo(f"{lead}{decision.because}")
        print_table(
            ["AT THAT INSTANT", ""],
            [[number.name, "none" if number.value < 0 else str(number.value)] for number in decision.numbers],
        )
    else:
        print_table(
            ["TIME", "REQUEST", "VERSION", "OUTCOME", "REASON"],
            [
                [d.time.ToDatetime().strftime("%H:%M:%S.%f")[:-3], d.request_id, d.version, d.outcome, d.reason]
                for d in decisions
            ],
        )
