"""`lambent logs`: what a function wrote."""

from __future__ import annotations

from datetime import datetime

import click
import msgspec

from lambent.cli.connection import Connection, connected
from lambent.cli.minutes import Minutes


@click.command("logs")
@click.argument("name")
@click.option("--follow", "-f", is_flag=True, help="Go on with new lines until interrupted.")
@click.option("--request-id", help="Only the lines of one invocation.")
@click.option("--since", type=Minutes(), help="Only the last so many minutes.")
@click.option("--limit", type=click.IntRange(1, 10_000), help="At most so many lines, the newest.  [default: 1000]")
@click.option("--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@connected
def command(
    connection: Connection, name: str, follow: bool, request_id: str | None, since: datetime | None, limit: int | None,
    output: str,
) -> None:  # fmt: skip
    """Show what a function wrote, oldest lines first."""
    with connection.open() as client:
        for record in client.logs(name, request_id=request_id, since=since, limit=limit, follow=follow):
            if output == "json":
                line = {
                    "time": record.time.isoformat(timespec="milliseconds"),
                    "requestId": record.request_id,
                    "logStream": record.log_stream,
                    "message": record.message,
                }
                click.echo(msgspec.json.encode(line))
            else:
                stamp = click.style(record.time.strftime("%H:%M:%S.%f")[:-3], dim=True)
                click.echo(f"{stamp} {record.message}")
