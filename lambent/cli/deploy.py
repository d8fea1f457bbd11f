"""`lambent deploy DIR`: packages a folder, creates or updates the function, waits until it can be invoked."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from lambent.cli.connection import Connection, connected, fail
from lambent.cli.output import print_json
from lambent.client.deploying import deploy
from lambent.client.packaging import FunctionFile, PackagingError, Step, package, read_function_file

STEPS = 5


@click.command("deploy")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--name", help="Name of the function.  [default: the folder's]")
@click.option("--runtime", help="Runtime.  [default: python3.11]")
@click.option("--handler", help="module.function.  [default: app.handler]")
@click.option("--memory", type=int, help="Memory in MB.")
@click.option("--timeout", type=int, help="Seconds that one invocation may take.")
@click.option("--description", help="Free text.")
@click.option("--env", "environment", multiple=True, metavar="NAME=VALUE", help="Environment variable; repeatable.")
@click.option("--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@connected
def command(
    connection: Connection, folder: Path, name: str | None, runtime: str | None, handler: str | None,
    memory: int | None, timeout: int | None, description: str | None, environment: tuple[str, ...], output: str,
) -> None:  # fmt: skip
    """Package FOLDER and create or update a function from it.

    Packages of its requirements.txt are installed into the zip. What flags do not say is taken from the
    folder's function.toml. Code that has not changed is not sent again.
    """
    try:
        with progress(quiet=output == "json") as step:
            wanted = read_function_file(folder)
            flags = FunctionFile(name, runtime, handler, memory, timeout, description, _variables(environment))
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


def _variables(given: tuple[str, ...]) -> dict[str, str] | None:
    if not given:
        return None
    pairs = [item.partition("=") for item in given]
    for name, equals, _ in pairs:
        if not equals:
            raise click.UsageError(f"--env takes NAME=VALUE, not {name!r}")
    return {name: value for name, _, value in pairs}


@contextmanager
def progress(*, quiet: bool) -> Iterator[Step]:
    """A bar on a terminal, a line a step elsewhere; nothing if quiet."""
    if quiet:
        yield lambda text: None
        return
    if not sys.stderr.isatty():
        yield lambda text: click.echo(text, err=True)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(
        BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=Console(stderr=True), transient=True
    ) as bar:
        task = bar.add_task("starting", total=STEPS)
        yield lambda text: bar.update(task, advance=1, description=text)
