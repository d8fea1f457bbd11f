"""How commands reach a cluster: --endpoint and credentials, and errors as one line with a hint."""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from lambent.client import AccessDenied, Client, LambentError, Unavailable
from lambent.infra.config import Loaded, load
from lambent.infra.layout import layout
from lambent.infra.settings import ADDRESS_PATTERN


@dataclass(frozen=True, slots=True)
class Connection:
    """What it takes to call a cluster."""

    endpoint: str
    access_key: str
    secret_key: str
    region: str
    data: str = ""  # data folder of the cluster, where it is on this machine

    def open(self) -> Client:
        """A client."""
        return Client(self.endpoint, access_key=self.access_key, secret_key=self.secret_key, region=self.region)


def settings(**flags: object) -> Loaded:
    """The settings in force for this command."""
    file = os.environ.get("LAMBENT_CONFIG")
    return load(Path(file) if file else None, dict(os.environ), flags)


def _address(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    if value is not None and not value.startswith("unix:") and not re.fullmatch(ADDRESS_PATTERN, value):
        raise click.BadParameter(f"{value!r} is not HOST:PORT")
    return value


def connected(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --endpoint, --region and --data, and hands the command a Connection as its first argument."""

    @click.option("--endpoint", callback=_address, help="HOST:PORT of the gRPC door.  [default: the setting grpc]")
    @click.option("--region", help="Region of the functions.  [default: AWS_REGION, else the setting region]")
    @click.option("--data", help="Data folder whose root credentials are used when AWS_ACCESS_KEY_ID is not set.")
    @functools.wraps(command)
    def wrapped(endpoint: str | None, region: str | None, data: str | None, *args: Any, **kwargs: Any) -> Any:
        cluster = settings(data=data).settings.cluster
        key, secret = _credentials(cluster.root_credentials, cluster.data)
        environment = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        connection = Connection(
            endpoint or cluster.grpc, key, secret, region or environment or cluster.region, cluster.data
        )
        with reported(connection):
            return command(connection, *args, **kwargs)

    return wrapped


def _credentials(root: str, data: str) -> tuple[str, str]:
    key, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    if key and secret:
        return key, secret
    if root:
        given_key, _, given_secret = root.partition(":")
        return given_key, given_secret
    here = layout(data)
    if (here.keys / "root.json").exists():
        return here.root_credentials()
    raise click.UsageError(
        "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or --data to the folder of a cluster here"
    )


@contextmanager
def reported(connection: Connection) -> Iterator[None]:
    """Errors of the cluster as one line and a hint, with exit code 1."""
    try:
        yield
    except Unavailable as error:
        fail(
            f"{connection.endpoint}: {error.message or error.name}",
            "is the cluster running? `lambent up` starts one here",
        )
    except AccessDenied as error:
        fail(str(error), "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and this machine's clock")
    except TimeoutError as error:
        fail(str(error), "it may still come to its end: look at it with `lambent functions show`")
    except LambentError as error:
        fail(str(error), f"request id {error.request_id}" if error.request_id else "")


def fail(line: str, hint: str = "", code: int = 1) -> None:
    """End the command with one line and a hint."""
    sys.stderr.write(f"lambent: {line}\n" + (f"  hint: {hint}\n" if hint else ""))
    raise click.exceptions.Exit(code)
