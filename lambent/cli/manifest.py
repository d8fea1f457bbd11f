"""`lambent deploy` of a manifest: every function that a serverless.yml or a template names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from lambent.cli.connection import Connection, fail
from lambent.cli.output import print_json, print_table, progress
from lambent.client.packaging import PackagingError
from lambent.client.sync import Client
from lambent.v1 import identity_service_pb2 as identity


def pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE, each. Raises UsageError."""
    found = [item.partition("=") for item in given]
    for name, equals, _ in found:
        if not equals or not name:
            raise click.UsageError(f"{option} takes NAME=VALUE, not {name + equals!r}")
    return {name: value for name, _, value in found}


def deploy_manifest(
    connection: Connection, path: Path, stage: str, stack: str, params: dict[str, str], resources: dict[str, str],
    output: str,
) -> None:  # fmt: skip
    """Read, apply, and say what was done. `stage`, `stack`: empty for the manifest's own."""
    from lambent.client.manifests.applying import Deployed, apply
    from lambent.client.manifests.reading import read
    from lambent.client.manifests.variables import Surroundings

    done: list[Deployed] = []
    try:
        with connection.open() as client:
            account = _account(client)
            options = {"stage": stage} if stage else {}
            surroundings = Surroundings(stage, connection.region, account, os.environ, options, params)
            plan = read(path, surroundings, resources, stack)
            for note in plan.notes:
                click.echo(f"note: {note}", err=True)
            with progress(quiet=output == "json", steps=None) as step:
                done += apply(client, plan, account, step)
    except PackagingError as error:
        fail(str(error), code=2)
    if output == "json":
        print_json(
            {"title": plan.title, "notes": plan.notes, "functions": [msgspec.to_builtins(each) for each in done]}
        )
    else:
        click.echo(f"{plan.title}:")
        rows = [(each.arn.rpartition(":")[2], each.action, each.version or "–", each.url or "–") for each in done]
        print_table(("FUNCTION", "ACTION", "VERSION", "URL"), rows)


def _account(client: Client) -> str:
    account: str = client.call(identity.GetCallerIdentityRequest()).account
    return account
