"""`lambent token`: a bearer token for grpcurl and other gRPC clients."""

from __future__ import annotations

import click

from lambent.cli.connection import Connection, connected
from lambent.infra.clock import SystemClock
from lambent.infra.tokens import MAX_SECONDS, issue


@click.command("token")
@click.option(
    "--seconds", type=click.IntRange(1, MAX_SECONDS), default=3600, show_default=True, help="How long it is valid."
)
@connected
def command(connection: Connection, seconds: int) -> None:
    """Make a token from the access key: grpcurl -H "authorization: Bearer $(lambent token)" ..."""
    click.echo(issue(connection.access_key, connection.secret_key, connection.region, SystemClock().epoch(), seconds))
