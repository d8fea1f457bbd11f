"""Functions that mount a claim of the cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.harness import eventually, zipped
from tests.kube.release import Release

ARN = "arn:aws:elasticfilesystem:us-east-1:000000000000:access-point/fsap-0123456789abcdef0"
SOURCE = """
import os
def handler(event, context):
    with open("/mnt/models/written", "a") as file:
        file.write("x")
    return [open("/mnt/models/weights").read(), open("/mnt/models/written").read(), os.listdir("/mnt"), os.getuid()]
"""


@pytest.fixture
def claimed(release: Release) -> Iterator[None]:
    """The release, whose workers have a claim that somebody has written to; on the node where that is."""
    node = release.pods("worker")[0]["spec"]["nodeName"]
    volume: dict[str, Any] = {
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "lambent-test-models"},
        "spec": {
            "accessModes": ["ReadWriteMany"], "capacity": {"storage": "1Gi"}, "storageClassName": "",
            "hostPath": {"path": "/var/lib/lambent-test-models", "type": "DirectoryOrCreate"},
            "claimRef": {"name": "models", "namespace": release.namespace},
        },
    }  # fmt: skip
    claim = {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "models"},
        "spec": {
            "accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "",
            "volumeName": "lambent-test-models",
        },
    }  # fmt: skip
    writer = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "writer"},
        "spec": {
            "nodeName": node, "restartPolicy": "Never",
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "models"}}],
            "containers": [{
                "name": "writer", "image": f"lambent.local/lambent-control:{release.version}",
                "securityContext": {"runAsUser": 0},
                "command": ["sh", "-c", "rm -rf /data/*; mkdir -p /data/v2 && echo some > /data/v2/weights && chmod 777 /data/v2"],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }],
        },
    }  # fmt: skip
    items = {"apiVersion": "v1", "kind": "List", "items": [volume, claim, writer]}
    release.kubectl("apply", "-f", "-", stdin=json.dumps(items))
    release.kubectl("wait", "pod/writer", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=120s")
    release.upgrade(
        f"workers.nodeSelector.kubernetes\\.io/hostname={node}",
        fileSystems=[{"arn": ARN, "claim": "models", "subPath": "v2"}],
    )
    yield
    release.upgrade()
    release.kubectl("delete", "pod", "writer", "--wait=false")
    release.kubectl("delete", "pvc", "models", "--wait=false")
    release.kubectl("delete", "pv", "lambent-test-models", "--wait=false")


@pytest.mark.usefixtures("claimed")
def test_functions_mount_a_claim(release: Release) -> None:
    mount = [{"Arn": ARN, "LocalMountPath": "/mnt/models"}]
    release.create("mounts", zipped({"app.py": SOURCE}), FileSystemConfigs=mount)
    client = release.client(retries=3)
    told = eventually(lambda: json.loads(client.invoke(FunctionName="mounts")["Payload"].read()), 120)
    assert told[0] == "some\n", told
    assert (told[1], told[2]) == ("x", ["models"])
    assert told[3] >= 1000
    assert json.loads(client.invoke(FunctionName="mounts")["Payload"].read())[1] == "xx"
    client.delete_function(FunctionName="mounts")
