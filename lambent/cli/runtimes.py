"""`lambent runtimes`: which runtimes this machine has interpreters for, and the SDKs that functions find."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import click

from lambent.cli.connection import settings
from lambent.cli.output import output_option, print_json, print_table
from lambent.domain.runtimes import ACCEPTED, SERVED, family
from lambent.infra.interpreters import INSTALLED_RUNTIMES, UnusableInterpreter, interpreters, runtime_dir

# What AWS's managed runtimes bring, at the versions that are tried with this release. AWS has every client of its
# SDK for JavaScript; these are the ones that functions use most, and a package or a layer brings any other.
PYTHON_SDK = ("boto3==1.43.11", "botocore==1.43.11")
NODE_VERSION = "3.1000.0"
NODE_SDK = (
    "client-dynamodb", "client-eventbridge", "client-lambda", "client-s3", "client-secrets-manager", "client-sns",
    "client-sqs", "client-ssm", "client-sts", "lib-dynamodb",
)  # fmt: skip


@click.group("runtimes")
def command() -> None:
    """Runtimes of functions on this machine."""


@command.command("list")
@output_option
def listed(output: str) -> None:
    """Show which runtimes this machine has interpreters for."""
    worker = settings().settings.worker
    try:
        found, warnings = interpreters(worker.interpreters)
        sdks = runtime_dir(worker.runtime_dir)
    except UnusableInterpreter as error:
        raise click.ClickException(str(error)) from None
    rows = []
    for name in (name for name in ACCEPTED if name in SERVED):
        if family(name) == "provided":
            rows.append([name, "the function's own bootstrap"])
        else:
            rows.append([name, str(found[name]) if name in found else "none"])
    if output == "json":
        print_json({"runtimes": dict(rows), "warnings": warnings, "sdks": None if sdks is None else str(sdks)})
        return
    print_table(["RUNTIME", "RUNS ON"], rows)
    for warning in warnings:
        click.echo(f"note: {warning}", err=True)
    where = str(sdks) if sdks is not None else "none; `lambent runtimes install` installs them"
    click.echo(f"SDKs that functions find: {where}", err=True)


@command.command("install")
@click.option("--node", is_flag=True, help="Also the AWS SDK for JavaScript, with npm.")
@click.option(
    "--folder", type=click.Path(path_type=Path), default=INSTALLED_RUNTIMES, help="Where to, if not beside Lambent."
)
def install(node: bool, folder: Path) -> None:
    """Install the SDKs that functions find, as on AWS: boto3, and with --node those of @aws-sdk."""
    folder.mkdir(parents=True, exist_ok=True)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-compile",
        "--upgrade",
    ]
    _run("boto3", [*pip, "--target", str(folder), *PYTHON_SDK])
    if node:
        npm = shutil.which("npm")
        if npm is None:
            raise click.ClickException("there is no npm on this machine; install Node.js first")
        names = [f"@aws-sdk/{name}@{NODE_VERSION}" for name in NODE_SDK]
        _run("@aws-sdk", [npm, "install", "--silent", "--no-fund", "--no-audit", "--prefix", str(folder), *names])
    click.echo(f"installed in {folder}; workers find it at their next start")


def _run(what: str, command_line: list[str]) -> None:
    click.echo(f"installing {what}", err=True)
    made = subprocess.run(command_line, capture_output=True, text=True, check=False)
    if made.returncode:
        last = (made.stderr or made.stdout).strip().splitlines() or ["it said nothing"]
        raise click.ClickException(f"{what} could not be installed: {last[-1]}")
