"""`lambent up`: the whole cluster on this machine, in the foreground."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import click

from lambent.cli.connection import settings
from lambent.infra import logs
from lambent.infra.config import Loaded


@click.command("up")
@click.option("--http", help="HOST:PORT of the AWS REST API.")
@click.option("--grpc", help="HOST:PORT of the gRPC API.")
@click.option("--data", help="Folder for everything that is kept.")
@click.option("--account", help="Account of the root credentials, twelve digits.")
@click.option("--region", help="Region that is shown where none is named.")
@click.option("--regions", help="Regions that are served, separated by commas.  [default: any]")
@click.option(
    "--root-credentials", metavar="KEY:SECRET", help="The first access key.  [default: made at the first start]"
)
@click.option("--access-keys", metavar="FILE", help="TOML file with further access keys.")
@click.option("--schedulers", type=int, help="Schedulers; all but one are hot standbys.  [default: 1]")
@click.option("--redis-url", metavar="URL", help="Redis-compatible server.  [default: an embedded one]")
@click.option(
    "--config", "file", type=click.Path(path_type=Path), help="TOML file with settings.  [env: LAMBENT_CONFIG]"
)
@click.option("--examples/--no-examples", default=None, help="Deploy and invoke `hello` when the data folder is empty.")
@click.option(
    "--logs-to-files/--logs-here", "own_logs", default=True, show_default=True, help="Where the processes' own logs go."
)
def command(file: Path | None, own_logs: bool, **flags: str | int | bool | None) -> None:
    """Start a whole cluster on this machine, in the foreground. Ctrl-C stops it once running invocations have ended.

    Every flag is also a setting in a TOML file and a LAMBENT_ variable: see `lambent config`.
    """
    if file is not None:
        os.environ["LAMBENT_CONFIG"] = str(file)
    loaded = settings(**flags)
    logs.configure("up", level="warning", form="text")
    raise click.exceptions.Exit(asyncio.run(_run(loaded, own_logs)))


async def _run(loaded: Loaded, own_logs: bool) -> int:
    from lambent.local import welcome
    from lambent.local.cluster import ClusterError, LocalCluster

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    say = welcome.teller()
    cluster = LocalCluster(loaded, own_logs=own_logs, say=say)
    starting = asyncio.ensure_future(cluster.start())
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await cluster.stop()
        return 130
    try:
        starting.result()
    except ClusterError as error:
        sys.stderr.write(f"lambent: {error}\n")
        return 1
    try:
        await asyncio.to_thread(
            welcome.greet, loaded.settings, cluster.credentials(), cluster.child("worker").facts, cluster.fresh
        )
        await stop.wait()
        say("stopping; running invocations may end")
    finally:
        await cluster.stop()
    return 0
