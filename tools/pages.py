"""Makes the pages of docs/reference that follow from tables in the code. Run by `make docs`; a test compares.

Each page is a function without arguments; PAGES names them.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from lambent.cli.main import COMMANDS, cli
from lambent.domain.errors import ERRORS
from lambent.domain.limits import PROFILES, Limits
from lambent.infra.config import Row, table
from lambent.infra.telemetry import METRICS
from services.frontend.operations.unserved import UNSERVED, UNSERVED_OF_EVENT_SOURCES
from services.worker.sandbox.promises import LEVELS, PROMISES
from tools import api_page, chart

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
_MADE = "<!-- Made by tools/pages.py. Not edited by hand. -->\n"


def configuration() -> str:
    """Every setting."""
    lines = [
        "# Settings\n",
        _MADE,
        "Defaults, then one TOML file (`--config FILE` or `LAMBENT_CONFIG`), then `LAMBENT_*` variables, then flags of",
        "`lambent up`; the last one wins. `lambent config` shows the values in force and where each came from. What is",
        "not in this table is refused with a suggestion.\n",
        "```toml",
        'http = "0.0.0.0:9001"          # a setting without a group stands at the top',
        "\n[limits]\nconcurrent_executions = 200",
        "```\n",
    ]
    group = ""
    for row in table():
        if row.group == "limits":
            continue
        if row.group != group:
            group = row.group
            lines += [f"\n## {group}\n", "| setting | default | unit | meaning |", "| --- | --- | --- | --- |"]
        lines.append(f"| `{row.key}` <br> `{row.variable}` | {_value(row)} | {row.unit} | {row.doc} |")
    lines += [
        "\nThe limits that AWS fixes are settings too: [limits](limits.md).\n",
        "## Access keys\n",
        "`access_keys` names a TOML file. Each key belongs to one account; an account in a region is a tenant, and no",
        "tenant sees anything of another.\n",
        '```toml\n[[access_keys]]\nid = "TEAMBLUE"\nsecret = "at-least-eight-characters"\naccount = "111111111111"',
        'principal = "arn:aws:iam::111111111111:user/blue"   # optional\n```',
    ]
    return "\n".join(lines) + "\n"


def limits() -> str:
    """Every limit."""
    lines = [
        "# Limits\n",
        _MADE,
        "What AWS fixes as a number is a setting here, with AWS's value as its default. Exceptions are in the table of",
        "[errors](errors.md); a function error is in the function's error document. A function's own timeout, memory",
        "and size of its `/tmp` are limits with the same consequence as their defaults below.\n",
        "| setting | default | unit | meaning | beyond it |",
        "| --- | --- | --- | --- | --- |",
    ]
    beyond = {field.name: field.metadata["beyond"] for field in dataclasses.fields(Limits)}
    lines += [
        f"| `{row.key}` | {_value(row)} | {row.unit} | {row.doc} | {beyond[row.name]} |"
        for row in table()
        if row.group == "limits"
    ]
    lines += [
        "\n## Profiles\n",
        "AWS's limits of another time are chosen by name, `limit_profile`; a limit that is set by itself holds all the",
        "same.\n",
        "| profile | limit | value |",
        "| --- | --- | --- |",
    ]
    lines += [
        f"| `{profile}` | `limits.{name}` | {int(value)} |"
        for profile, others in PROFILES.items()
        for name, value in others.items()
    ]
    return "\n".join(lines) + "\n"


def errors() -> str:
    """Every error, and what is refused because it is not served yet."""
    lines = [
        "# Errors\n",
        _MADE,
        "The REST API answers AWS's name in `x-amzn-ErrorType` with the status below; gRPC answers the code below with",
        "`google.rpc.ErrorInfo` (reason: the name; domain: `lambent`).\n",
        "| name | HTTP | gRPC | whose fault |",
        "| --- | --- | --- | --- |",
    ]
    lines += [f"| `{name}` | {row.status} | `{row.grpc}` | {row.fault or ''} |" for name, row in ERRORS.items()]
    lines += [
        "\n## Members that are refused because they are not served yet\n",
        "Each gives `InvalidParameterValueException` (400) rather than being dropped silently.\n",
        "| member | what its sender is told |",
        "| --- | --- |",
    ]
    lines += [f"| `{member}` | {reason} |" for member, reason in UNSERVED.items()]
    lines += ["\nOf event source mappings:\n", "| member | what its sender is told |", "| --- | --- |"]
    lines += [f"| `{member}` | {reason} |" for member, reason in UNSERVED_OF_EVENT_SOURCES.items()]
    return "\n".join(lines) + "\n"


def isolation() -> str:
    """What each isolation level withstands."""
    lines = [
        "# What each isolation level withstands\n",
        _MADE,
        "What a function may try, and the levels at which it gets nowhere. The escape suite",
        "(`tests/integration/test_escapes.py`) tries each at every level that claims it. How levels come about:",
        "[isolation](../explanation/isolation.md).\n",
        "| a function tries to | " + " | ".join(f"`{level}`" for level in LEVELS) + " | what stands against it |",
        "| --- " * (len(LEVELS) + 2) + "|",
    ]
    for promise in PROMISES.values():
        held = " | ".join("held" if level in promise.held_by else "open" for level in LEVELS)
        lines.append(f"| {promise.attack} | {held} | {promise.means} |")
    return "\n".join(lines) + "\n"


def metrics() -> str:
    """Every metric."""
    lines = [
        "# Metrics\n",
        _MADE,
        "Sent over OTLP when `telemetry.otlp_endpoint` is set, served for Prometheus when `telemetry.prometheus` is.",
        "Nothing is sent by default. OpenTelemetry folds names to lower case; Prometheus writes dots as underscores.\n",
        "| metric | kind | unit | meaning |",
        "| --- | --- | --- | --- |",
    ]
    lines += [f"| `{m.name}` | {m.kind} | {m.unit} | {m.doc} |" for m in METRICS.values()]
    return "\n".join(lines) + "\n"


def command_line() -> str:
    """Every command's help."""
    lines = [
        "# Command line\n",
        _MADE,
        "Exit codes: 0 done; 1 the cluster refused or could not be reached; 2 wrong use; 3 the function failed.",
    ]
    context = click.Context(cli, info_name="lambent")
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        lines += _help(command, click.Context(command, info_name=f"lambent {name}", terminal_width=100))
    return "\n".join(lines) + "\n"


def _help(command: click.Command, context: click.Context) -> list[str]:
    lines = [f"\n## {context.info_name}\n", "```text", command.get_help(context), "```"]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            lines += _help(inner, click.Context(inner, info_name=f"{context.info_name} {name}", terminal_width=100))
    return lines


def _value(row: Row) -> str:
    return "" if row.default == "" else f"`{row.default}`"


PAGES: Mapping[str, Callable[[], str]] = {
    "configuration.md": configuration,
    "limits.md": limits,
    "errors.md": errors,
    "isolation.md": isolation,
    "metrics.md": metrics,
    "cli.md": command_line,
    "api.md": api_page.page,
}


def main() -> int:
    """Write every page, and what of the chart is generated."""
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page())
    chart.main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
