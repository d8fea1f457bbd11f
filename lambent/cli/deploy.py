"""`lambent deploy DIR`: packages a folder, creates or updates the function, waits until it can be invoked.

Where the folder has a manifest of the Serverless Framework's or of SAM's, or is one: all functions that it names.
"""

from __future__ import annotations

from pathlib import Path

import click

from lambent.cli.connection import Connection, connected, fail
from lambent.cli.manifest import deploy_manifest, pairs
from lambent.cli.output import print_json, progress
from lambent.client.deploying import deploy
from lambent.client.manifests.reading import find
from lambent.client.packaging import FunctionFile, PackagingError, package, read_function_file

_STEPS = 5  # of a function that is created


@click.command("deploy")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--name", help="Name of the function, or of a template's stack.  [default: the folder's]")
@click.option("--runtime", help="Runtime.  [default: python3.11]")
@click.option("--handler", help="module.function.  [default: app.handler]")
@click.option("--memory", type=int, help="Memory in MB.")
@click.option("--timeout", type=int, help="Seconds that one invocation may take.")
@click.option("--description", help="Free text.")
@click.option("--env", "environment", multiple=True, metavar="NAME=VALUE", help="Environment variable; repeatable.")
@click.option("--stage", help="Of a serverless.yml: the stage.  [default: its own, else dev]")
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="Of a manifest: a parameter.")
@click.option(
    "--resource",
    "resources",
    multiple=True,
    metavar="NAME=VALUE",
    help="Of a manifest: what a resource is that is not made here, as Table=orders or Queue.Arn=arn:...",
)
@click.option("--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@connected
def command(
    connection: Connection, folder: Path, name: str | None, runtime: str | None, handler: str | None,
    memory: int | None, timeout: int | None, description: str | None, environment: tuple[str, ...], stage: str | None,
    params: tuple[str, ...], resources: tuple[str, ...], output: str,
) -> None:  # fmt: skip
    """Package FOLDER and create or update a function from it.

    Packages of its requirements.txt are installed into the zip. What flags do not say is taken from the
    folder's function.toml. Code that has not changed is not sent again.

    A FOLDER with a serverless.yml or a template of SAM's, or such a file, stands for all functions that it names,
    with their layers, concurrency, destinations, URLs and event source mappings.
    """
    manifest = find(folder)
    if manifest is not None:
        if any(each is not None for each in (runtime, handler, memory, timeout, description)) or environment:
            raise click.UsageError(
                f"what a function is like says {manifest}; --stage, --param and --resource go with it"
            )
        deploy_manifest(
            connection,
            manifest,
            stage or "",
            name or "",
            pairs("--param", params),
            pairs("--resource", resources),
            output,
        )
        return
    if stage is not None or params or resources:
        raise click.UsageError(f"--stage, --param and --resource are for a manifest, and {folder} has none")
    try:
        with progress(quiet=output == "json", steps=_STEPS) as step:
            wanted = read_function_file(folder)
            flags = FunctionFile(
                name, runtime, handler, memory, timeout, description, pairs("--env", environment) or None
            )
            for field in FunctionFile.__struct_fields__:
                if getattr(flags, field) is not None:
                    setattr(wanted, field, getattr(flags, field))
            data = package(folder, step)
            with connection.open() as client:
                action, configuration = deploy(client, folder, wanted, data, step)
    except PackagingError as error:
        fail(str(error), code=2)
    if output == "json":
        print_json(
            {"action": action, "functionArn": configuration.function_arn, "codeSha256": configuration.code_sha256}
        )
    else:
        click.echo(f"{action} {configuration.function_name} ({len(data)} bytes): {configuration.function_arn}")
