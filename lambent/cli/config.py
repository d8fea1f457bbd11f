"""`lambent config`: the settings in force."""

from __future__ import annotations

import click

from lambent.cli.connection import settings
from lambent.cli.output import output_option, print_json, print_table
from lambent.infra.redaction import shown


@click.command("config")
@output_option
@click.option("--changed", is_flag=True, help="Only what differs from the defaults.")
def command(output: str, changed: bool) -> None:
    """Show every setting, its value, its unit, and where the value came from."""
    rows = [(row, shown(row.key, value), source) for row, value, source in settings().rows()]
    rows = [row for row in rows if not changed or row[2] != "default"]
    if output == "json":
        print_json(
            [
                {
                    "name": row.key, "value": value, "unit": row.unit, "source": source, "default": row.default,
                    "variable": row.variable, "description": row.doc,
                }
                for row, value, source in rows
            ]
        )  # fmt: skip
        return
    print_table(
        ["SETTING", "VALUE", "UNIT", "FROM", "MEANING"],
        [[row.key, str(value), row.unit, source, row.doc] for row, value, source in rows],
    )
