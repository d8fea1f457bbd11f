"""`lambent doctor`: looks at a live installation and says what is wrong, with a remedy for each."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

import click

from lambent.cli import diagnosis
from lambent.cli.connection import Connection, connected, settings
from lambent.cli.diagnosis import Finding
from lambent.cli.output import output_option, print_json, print_table
from lambent.client import LambentError
from lambent.infra.authority import AuthorityError, expires
from lambent.infra.clock import SystemClock
from lambent.infra.queue import durability
from lambent.infra.redis_client import StoreUnreachable, connect, primaries, reach
from lambent.infra.settings import Settings

_DAY = 86_400
_STORE_SECONDS = 5.0


@click.command("doctor")
@output_option
@connected
def command(connection: Connection, output: str) -> None:
    """Look at store, clocks, certificates, scheduler, workers, provisioned concurrency and queues.

    The store and the certificates are those of the settings in force here; on Kubernetes, ask in a pod of the control
    plane. Exit code 1 if there is a problem.
    """
    findings = look(settings().settings, connection)
    if output == "json":
        print_json([dataclasses.asdict(each) for each in findings])
    else:
        rows = [[each.level, each.subject, each.what, each.remedy] for each in findings]
        print_table(["", "SUBJECT", "FINDING", "REMEDY"], rows)
    if any(each.level == "problem" for each in findings):
        raise click.exceptions.Exit(1)


def look(here: Settings, connection: Connection) -> list[Finding]:
    """All that is found; `here`: the settings in force."""
    return list(dict.fromkeys([*_store(here), *_certificates(here), *_cluster(connection)]))


def _store(here: Settings) -> list[Finding]:
    url = here.cluster.redis_url
    if not url:
        return [Finding("store", "warning", "it is not looked at", "set redis_url to have it looked at")]
    try:
        return asyncio.run(_look(url))
    except StoreUnreachable as error:
        return [Finding("store", "problem", str(error), "start it, or correct redis_url")]


async def _look(url: str) -> list[Finding]:
    client = connect(url)
    try:
        await reach(client, url, _STORE_SECONDS)
        found = []
        for node, where in primaries(client).items():
            info: dict[str, Any] = await cast(Any, client).info(**where)
            settings_there = await durability.look(client, where)
            wrong = None if settings_there is None else durability.verdict(settings_there)[1]
            clock = SystemClock()
            began = clock.epoch()
            seconds, microseconds = await cast(Any, client).time(**where)
            behind = (began + clock.epoch()) / 2 - seconds - microseconds / 1e6
            found += diagnosis.of_store(info, wrong, behind, node)
        return found
    finally:
        await client.aclose()


def _certificates(here: Settings) -> list[Finding]:
    if not here.internal.tls:
        return []
    path = Path(here.internal.tls) / "tls.crt"
    try:
        until = expires(path.read_bytes())
    except (OSError, AuthorityError) as error:
        return [Finding("certificates", "problem", f"{path} cannot be read: {error}", "see internal.tls")]
    return [diagnosis.of_certificate((until - SystemClock().epoch()) / _DAY)]


def _cluster(connection: Connection) -> Iterable[Finding]:
    """What the API tells; where it does not answer, that is the finding."""
    with connection.open() as client:
        yield from _asked(lambda: diagnosis.of_use(client.concurrency_use()), connection)
        yield from _asked(lambda: diagnosis.of_queues(client.list_queues()), connection)


def _asked(question: Callable[[], list[Finding]], connection: Connection) -> list[Finding]:
    try:
        return question()
    except LambentError as error:
        remedy = "see the logs of frontends and schedulers"
        return [Finding("api", "problem", f"{connection.endpoint}: {error.message or error.name}", remedy)]
