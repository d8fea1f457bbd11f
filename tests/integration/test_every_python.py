"""Functions of every Python that this machine has beside its own: what runs in sandboxes is written for all of them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.test_worker_cluster import cluster_of

_MINORS = range(8, 15)
_MANAGED = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
SOURCE = """
import decimal, gc, json, sys

print("init")
held = []

def handler(event, context):
    if event == "fail":
        raise ValueError("no")
    held.append(gc.get_objects())
    del held[:-2]
    gc.collect()
    print("event", event)
    return {"version": "%d.%d" % sys.version_info[:2], "event": event, "left": context.get_remaining_time_in_millis() > 0}
"""


def _found() -> dict[str, Path]:
    """Runtime name → its interpreter, a program; those of PATH before those of a version manager."""
    found: dict[str, Path] = {}
    for name in (f"python3.{minor}" for minor in _MINORS if minor != sys.version_info.minor):
        places = [Path(shutil.which(name) or ""), *sorted(_MANAGED.glob(f"{name.removeprefix('python')}.*/bin/{name}"))]
        for place in (each.resolve() for each in places if each.is_file()):
            with place.open("rb") as file:
                program = file.read(4) == b"\x7fELF"
            if program and _runs(place, name):
                found.setdefault(name, place)
    return found


def _runs(place: Path, name: str) -> bool:
    done = subprocess.run([str(place), "--version"], capture_output=True, text=True, timeout=30, check=False)
    return done.returncode == 0 and bool(
        re.match(rf"Python {re.escape(name.removeprefix('python'))}\.\d+$", done.stdout)
    )


FOUND = _found()


@pytest.mark.parametrize("through_api", [False, True], ids=["our channel", "runtime api"])
@pytest.mark.parametrize("name", [f"python3.{minor}" for minor in _MINORS if minor != sys.version_info.minor])
async def test_a_function_runs_fails_rests_and_runs_again(name: str, through_api: bool, tmp_path: Path) -> None:
    if name not in FOUND:
        pytest.skip(f"there is no {name} on this machine")
    async with cluster_of(tmp_path, interpreters={name: FOUND[name]}, through_api=through_api) as cluster:
        identity = await cluster.deploy(SOURCE, runtime=name)
        environment = cluster.worker.environments.by_id[identity]
        for event in (1, {"a": [None, 2.5, "é"]}, 3):
            answer = await cluster.invoke(identity, event)
            assert answer.json == {"version": name.removeprefix("python"), "event": event, "left": True}
            failed = await cluster.invoke(identity, "fail")
            assert (failed.json["errorType"], failed.json["errorMessage"]) == ("ValueError", "no")
            await cluster.rested(environment)
