"""`lambent bundle`: one archive of what somebody who helps needs to see; no secrets, payloads and functions' logs."""

from __future__ import annotations

import dataclasses
import io
import json
import platform
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import click
from google.protobuf.json_format import MessageToDict

from lambent import __version__
from lambent.cli.connection import Connection, connected, settings
from lambent.cli.doctor import look
from lambent.infra.clock import SystemClock
from lambent.infra.layout import layout
from lambent.infra.redaction import redacted, shown, without_values

# How much is taken of the end of each log.
_LOG_BYTES = 1024 * 1024
_LOG_LINES = 5000
_ANSWER_SECONDS = 20

Part = tuple[str, Callable[[], str]]  # name in the archive, and what makes its text


@click.command("bundle")
@click.option(
    "-o", "--output", "file", type=click.Path(dir_okay=False), help="The archive.  [default: made from the time]"
)
@click.option("--namespace", help="Of an installation on Kubernetes, whose pods and their logs are collected too.")
@click.option("--release", default="lambent", show_default=True, help="Its release.")
@connected
def command(connection: Connection, file: str | None, namespace: str | None, release: str) -> None:
    """Collect versions, settings, findings, use, queues and logs of the processes into an archive.

    Secrets are masked; Kubernetes' Secrets, functions' packages, variables, payloads and logs are not collected. What
    cannot be had is named in the archive, with the reason. Look through it before you give it away.
    """
    began = SystemClock().epoch()
    name = f"lambent-bundle-{int(began)}"
    target = Path(file or f"{name}.tar.gz")
    secrets = [connection.secret_key, settings().settings.cluster.root_credentials.partition(":")[2]]
    missing = 0
    try:
        with tarfile.open(target, "w:gz") as archive:
            for part, text, failed in collected(_parts(connection, namespace, release)):
                missing += failed
                click.echo(f"{'missing ' if failed else ''}{part}", err=True)
                content = redacted(text, secrets).encode()
                entry = tarfile.TarInfo(f"{name}/{part}")
                entry.size, entry.mtime, entry.mode = len(content), int(began), 0o600
                archive.addfile(entry, io.BytesIO(content))
        target.chmod(0o600)
    except OSError as error:
        raise click.ClickException(f"cannot write {target}: {error.strerror}") from None
    click.echo(str(target))
    if missing:
        click.echo(f"{missing} parts could not be had; the archive says why", err=True)


def collected(parts: Iterator[Part]) -> Iterator[tuple[str, str, bool]]:
    """Each part's name, its text, and whether it could not be had: its text says why then."""
    name = "kubernetes"  # all that can fail in the making of the list itself
    while True:
        # Whatever is wrong with one part is a finding, and no reason to go without the others.
        try:
            name, make = next(parts)
            yield name, make(), False
        except StopIteration:
            return
        except Exception as error:
            yield f"{name}.missing.txt", f"{type(error).__name__}: {error}\n", True


def _parts(connection: Connection, namespace: str | None, release: str) -> Iterator[Part]:
    here = settings(data=connection.data or None)
    yield "about.json", _about
    yield "settings.json", lambda: _json({row.key: [shown(row.key, each), source] for row, each, source in here.rows()})
    yield "doctor.json", lambda: _json([dataclasses.asdict(each) for each in look(here.settings, connection)])
    yield "use.json", lambda: _asked(connection, lambda client: MessageToDict(client.concurrency_use()))
    yield "queues.json", lambda: _asked(connection, lambda client: list(map(MessageToDict, client.list_queues())))
    if namespace is not None:
        yield from _cluster(namespace, release)
    else:
        for log in sorted(layout(here.settings.cluster.data).run.glob("*.log")):
            yield f"processes/{log.name}", partial(_end_of, log)


def _about() -> str:
    packages = {each.metadata["Name"]: each.version for each in distributions()}
    return _json(
        {
            "lambent": __version__, "python": platform.python_version(), "platform": platform.platform(),
            "packages": dict(sorted(packages.items())),
        }
    )  # fmt: skip


def _asked(connection: Connection, question: Callable[[Any], Any]) -> str:
    with connection.open() as client:
        return _json(question(client))


def _end_of(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LOG_BYTES))
        return file.read().decode(errors="replace")


def _cluster(namespace: str, release: str) -> Iterator[Part]:
    """What there is of a release, and what its pods wrote."""
    from kubernetes import client

    from lambent.infra.kubernetes_access import api_client

    made, _ = api_client()
    core, apps, leases = client.CoreV1Api(made), client.AppsV1Api(made), client.CoordinationV1Api(made)
    of_release = f"app.kubernetes.io/instance={release}"

    def objects(call: Any, labels: str = of_release) -> Any:
        answer = call(namespace, label_selector=labels, _preload_content=False, _request_timeout=_ANSWER_SECONDS)
        return without_values(json.loads(answer.data))

    def listed(call: Any, labels: str = of_release) -> str:
        return _json(objects(call, labels))

    calls = {
        "pods": core.list_namespaced_pod, "services": core.list_namespaced_service,
        "configmaps": core.list_namespaced_config_map, "deployments": apps.list_namespaced_deployment,
        "statefulsets": apps.list_namespaced_stateful_set,
    }  # fmt: skip
    for kind, call in calls.items():
        yield f"kubernetes/{kind}.json", partial(listed, call)
    yield "kubernetes/leases.json", partial(listed, leases.list_namespaced_lease, "")
    yield "kubernetes/events.json", partial(listed, core.list_namespaced_event, "")

    def written(pod: str, container: str, previous: bool) -> str:
        answer = core.read_namespaced_pod_log(
            pod, namespace, container=container, previous=previous, tail_lines=_LOG_LINES, _preload_content=False,
            _request_timeout=_ANSWER_SECONDS,
        )  # fmt: skip
        return str(answer.data.decode(errors="replace"))

    for pod in objects(core.list_namespaced_pod)["items"]:
        name = pod["metadata"]["name"]
        for container in pod.get("status", {}).get("containerStatuses", ()):
            where = f"kubernetes/logs/{name}.{container['name']}"
            yield f"{where}.log", partial(written, name, container["name"], False)
            if container.get("restartCount"):
                yield f"{where}.previous.log", partial(written, name, container["name"], True)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True, default=str) + "\n"
