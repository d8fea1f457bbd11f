"""Processes of the version that was released last and of this one in one cluster, as while an upgrade goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import ROOT, Cluster, eventually, zipped

# The commit that made this file what it is made the release.
RELEASED = "tests/contract/released.binpb.gz"
COUNTS = zipped({"app.py": "def handler(event, context):\n    print('ran', event['n'])\n    return event['n']\n"})


@pytest.fixture(scope="module")
def released() -> Iterator[Path]:
    """The repository as it was released."""
    found = _git("log", "-1", "--format=%H", "--", RELEASED) if (ROOT / ".git").exists() and shutil.which("git") else ""
    if not found:
        pytest.skip("there is no history here to take the released version from")
    with tempfile.TemporaryDirectory(prefix="lv-", dir="/tmp") as folder:
        archive = subprocess.run(["git", "archive", found], cwd=ROOT, capture_output=True, check=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        yield Path(folder)


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def unknown(cluster: Cluster, root: Path) -> dict[str, str]:
    """Lines of a cluster's settings that another version does not know, each with nothing in its place."""
    said = subprocess.run(
        [sys.executable, "-m", "lambent.cli.main", "config", "--output", "json"], cwd=root, capture_output=True,
        check=True, env={k: v for k, v in os.environ.items() if not k.startswith("LAMBENT_")},
    ).stdout  # fmt: skip
    known = {row["name"] for row in json.loads(said)}
    lines, group = {}, ""
    for line in (cluster.data / "run" / "settings.toml").read_text().splitlines(keepends=True):
        name, is_setting, _ = line.partition(" = ")
        if line.startswith("["):
            group = line.strip().strip("[]") + "."
        elif is_setting and group + name not in known:
            lines[line] = ""
    return lines


@pytest.mark.parametrize("cluster_is", ["new", "old"])
def test_either_version_serves_with_what_the_other_has(released: Path, cluster_is: str) -> None:
    own, other = (ROOT, released) if cluster_is == "new" else (released, ROOT)
    with tempfile.TemporaryDirectory(prefix="lv-", dir="/tmp") as folder:
        cluster = Cluster(Path(folder) / "data", "--no-examples")
        cluster.root = own
        cluster.start()
        try:
            _exercise(cluster, other)
        except Exception as error:
            raise AssertionError(cluster.logs()) from error
        finally:
            cluster.stop()


def _exercise(cluster: Cluster, other: Path) -> None:
    without = unknown(cluster, other)
    doors = [cluster.url, cluster.another_frontend(without, root=other)]
    clients = [cluster.client(url=url) for url in doors]
    clients[0].create_function(**_function("old-door"))
    clients[1].create_function(**_function("new-door"))
    for client in clients:
        for name in ("old-door", "new-door"):
            client.get_waiter("function_active_v2").wait(
                FunctionName=name, WaiterConfig={"Delay": 0.1, "MaxAttempts": 200}
            )  # fmt: skip
            assert invoked(client, name, 1) == 1
    # Worker and poller of the one version go, and those of the other do their work for frontends of both.
    cluster.another_worker(without, root=other)
    cluster.another("poller", without, root=other)
    eventually(lambda: json.loads(cluster.lambent("top", "--once", "--output", "json").stdout)["Workers"] == 2)
    with ThreadPoolExecutor(4) as threads:
        loads = [
            threads.submit(lambda c=client, n=name: [invoked(c, n, number) for number in range(60)])  # type: ignore[misc]
            for client in clients
            for name in ("old-door", "new-door")
        ]
        for service in ("worker", "poller"):
            os.kill(cluster.pid(service), signal.SIGTERM)
        for load in loads:
            assert load.result() == list(range(60))
    for number, client in enumerate(clients):
        client.invoke(FunctionName="old-door", InvocationType="Event", Payload=json.dumps({"n": 100 + number}))

    def ran() -> bool:
        said = cluster.lambent("logs", "old-door").stdout
        return all(f"ran {100 + number}" in said for number in range(2))

    eventually(ran)


def _function(name: str) -> dict[str, Any]:
    return {
        "FunctionName": name, "Runtime": "python3.11", "Role": "arn:aws:iam::000000000000:role/any",
        "Handler": "app.handler", "Code": {"ZipFile": COUNTS},
    }  # fmt: skip


def invoked(client: Any, name: str, number: int) -> Any:
    answer = client.invoke(FunctionName=name, Payload=json.dumps({"n": number}))
    assert "FunctionError" not in answer
    return json.load(answer["Payload"])
