"""What functions can see and reach in pods, asked from inside functions."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.harness import zipped
from tests.kube.release import Release

LOOK = zipped(
    {
        "app.py": """
import os, socket

def reach(place):
    host, port = place
    try:
        socket.create_connection((host, port), 3).close()
        return "open"
    except OSError as error:
        return type(error).__name__

def seen(path):
    try:
        return sorted(os.listdir(path))
    except OSError as error:
        return type(error).__name__

def handler(event, context):
    return {
        "user": os.getuid(),
        "places": {name: reach(place) for name, place in event["places"].items()},
        "folders": {path: seen(path) for path in event["folders"]},
        "variables": sorted(name for name in os.environ if name.startswith(("KUBERNETES", "LAMBENT", "REDIS"))),
    }
"""
    }
)
SECRETS = ["/var/run/secrets", "/var/lib/lambent", "/etc/lambent", "/etc/lambent-tls", "/proc/1/root/var/lib/lambent"]


def look(release: Release, places: dict[str, tuple[str, int]]) -> dict[str, Any]:
    event = json.dumps({"places": places, "folders": SECRETS})
    answer = release.client(retries=2).invoke(FunctionName="look", Payload=event)
    found: dict[str, Any] = json.load(answer["Payload"])
    assert "FunctionError" not in answer, found
    return found


def test_functions_reach_the_api_and_nothing_else_of_the_cluster(release: Release) -> None:
    release.create("look", LOOK)
    name, space = release.fullname, release.namespace
    places: dict[str, tuple[str, int]] = {
        "api": (f"{name}-frontend.{space}", 9001),
        "redis": (f"{name}-redis.{space}", 6379),
        "scheduler": (f"{name}-scheduler.{space}", 9010),
        "store door": (f"{name}-frontend-internal.{space}", 9003),
        "kubernetes": ("kubernetes.default.svc", 443),
        "metadata": ("169.254.169.254", 80),
        "own worker": ("127.0.0.1", 9020),
        "own metrics": ("127.0.0.1", 9092),
    }
    for component, port in (
        ("redis", 6379),
        ("scheduler", 9010),
        ("frontend", 9003),
        ("worker", 9020),
        ("poller", 9093),
    ):
        for number, pod in enumerate(release.pods(component)):
            places[f"{component} {number}"] = (pod["status"]["podIP"], port)
    for pod in release.pods("worker"):
        places[f"kubelet of {pod['spec']['nodeName']}"] = (pod["status"]["hostIP"], 10250)
    found = look(release, places)
    assert {place for place, answer in found["places"].items() if answer == "open"} == {"api"}
    assert found["variables"] == []
    assert found["user"] >= 1000
    assert set(found["folders"].values()) <= {"FileNotFoundError", "PermissionError"}


def test_the_level_in_force_is_told(release: Release) -> None:
    for name in release.ready("worker"):
        line = next(line for line in release.kubectl("logs", name).splitlines() if "sandboxes are up" in line)
        assert json.loads(line)["isolation"] == "namespaces"
