"""`lambent top`: live concurrency, pools, ramps and queues."""

from __future__ import annotations

import sys
import time

import click

from lambent.cli.connection import Connection, connected
from lambent.cli.output import document, output_option, print_json, print_table
from lambent.v1 import insight_service_pb2 as pb


@click.command("top")
@click.option("--once", is_flag=True, help="Show it once and end.  [default where the output is not a terminal]")
@click.option("--every", type=click.FloatRange(min=0.2), default=1.0, show_default=True, help="Seconds between looks.")
@output_option
@connected
def command(connection: Connection, once: bool, every: float, output: str) -> None:
    """Show what is in use: executions, environments, provisioned concurrency and what waits. Ctrl-C ends it."""
    live = not once and output == "table" and sys.stdout.isatty()
    with connection.open() as client:
        while True:
            use = client.concurrency_use()
            if output == "json":
                print_json(document(use, zeros=True))
            else:
                if live:
                    click.clear()
                _show(use)
            if not live:
                return
            time.sleep(every)


def _show(use: pb.GetConcurrencyUseResponse) -> None:
    click.echo(
        f"executions {use.on_demand} on demand, {use.provisioned} provisioned, of {use.limit} "
        f"({use.unreserved} unreserved)   workers {use.workers}, {use.free_memory_mb:,} MB free\n"
    )
    print_table(
        ["FUNCTION", "RESERVED", "ON DEMAND", "LEASED", "IDLE", "STARTING", "WAITING", "FOR A SLOT"],
        [
            [
                f.function_name, str(f.reserved) if f.HasField("reserved") else "-", str(f.on_demand), str(f.leased),
                str(f.idle), str(f.starting), str(f.waiting), str(f.contending),
            ]
            for f in sorted(use.functions, key=lambda f: (-f.on_demand, f.function_name))
        ],
    )  # fmt: skip
    if len(use.worker_pools) > 1 or any(each.pool for each in use.worker_pools):
        click.echo()
        print_table(
            ["POOL", "WORKERS", "ISOLATION", "MB FREE"],
            [[w.pool, str(w.workers), w.isolation, f"{w.free_memory_mb:,}"] for w in use.worker_pools],
        )
    if use.provisioned_configs:
        click.echo()
        print_table(
            ["PROVISIONED", "REQUESTED", "ALLOCATED", "AVAILABLE", "STATUS"],
            [
                [
                    f"{p.function_name}:{p.qualifier}", str(p.requested), str(p.allocated), str(p.available),
                    f"{p.status} {p.status_reason}".strip(),
                ]
                for p in use.provisioned_configs
            ],
        )  # fmt: skip
