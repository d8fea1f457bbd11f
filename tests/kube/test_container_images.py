"""Functions that are container images, from a registry in the cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import registry_twin
from tests.e2e.harness import eventually
from tests.images import function
from tests.kube.release import ROLE, Release
from tests.registry import Registry

SOURCE = """
import os
def handler(event, context):
    return {"root": sorted(os.listdir("/")), "user": os.getuid(), "processes": [each for each in os.listdir("/proc") if each.isdigit()]}
"""


@pytest.fixture
def shelf(release: Release, tmp_path: Path) -> Iterator[Registry]:
    """A registry beside the release, whose workers are let to it."""
    labels = {"app": "registry"}
    container = {
        "name": "registry",
        "image": f"lambent.local/lambent-control:{release.version}",
        "command": ["python", "/twin/registry_twin.py", "0.0.0.0", "5000"],
        "volumeMounts": [{"name": "twin", "mountPath": "/twin"}],
    }
    items = [
        {
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "registry"},
            "data": {"registry_twin.py": Path(registry_twin.__file__).read_text()},
        },
        {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "registry", "labels": labels},
            "spec": {
                "containers": [container], "terminationGracePeriodSeconds": 0,
                "volumes": [{"name": "twin", "configMap": {"name": "registry"}}],
            },
        },
        {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "registry"},
            "spec": {"selector": labels, "ports": [{"port": 5000}]},
        },
    ]  # fmt: skip
    release.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    host = f"registry.{release.namespace}:5000"
    rows = tmp_path / "connections.toml"
    rows.write_text(f'[[connections]]\nservice = "ecr"\nendpoint = "http://{host}"\n')
    release.kubectl("create", "secret", "generic", "registries", f"--from-file={rows}")
    release.kubectl("wait", "pod/registry", "--for=condition=Ready", "--timeout=120s")
    way = [{"to": [{"podSelector": {"matchLabels": labels}}], "ports": [{"port": 5000, "protocol": "TCP"}]}]
    release.upgrade("connections.existingSecret=registries", workers__networkPolicy__extraEgress=way)
    yield Registry(release.forwarded("registry", 5000), name=host)
    release.upgrade()
    release.kubectl("delete", "pod,service,configmap", "registry")
    release.kubectl("delete", "secret", "registries")


def test_pods_run_images_in_sandboxes_of_their_own(release: Release, shelf: Registry) -> None:
    digest = shelf.push("shop/pods:v1", function(SOURCE))
    client = release.client(retries=3)
    uri = f"{shelf.host}/shop/pods:v1"
    made = client.create_function(
        FunctionName="pods", PackageType="Image", Role=ROLE, Code={"ImageUri": uri}, Timeout=30, MemorySize=256
    )
    assert made["CodeSha256"] == digest
    client.get_waiter("function_active_v2").wait(FunctionName="pods", WaiterConfig={"Delay": 0.2})
    answer = eventually(lambda: client.invoke(FunctionName="pods"), 120)
    told = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, told
    assert {"client", "tmp", "usr", "var"} <= set(told["root"])
    assert not {"app", "home", "run", "opt"} & set(told["root"])
    assert len(told["processes"]) < 5
    client.delete_function(FunctionName="pods")
