"""Several pools: functions in a subnet, weaker and stronger walls, pods that are there only while they are needed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from lambent.client import Client
from tests.e2e.harness import error_of, eventually, zipped
from tests.kube.release import Release

TARGET = """
apiVersion: v1
kind: Pod
metadata: {name: target, labels: {app: target}}
spec:
  containers:
    - name: target
      image: lambent.local/lambent-control:VERSION
      command: [python, -m, http.server, "8000", --directory, /usr/share]
"""
REACH = zipped(
    {
        "app.py": "import socket\n"
        "def handler(event, context):\n"
        "    try:\n"
        "        socket.create_connection((event['host'], 8000), 3).close()\n"
        "        return 'open'\n"
        "    except OSError as error:\n"
        "        return 'closed'\n"
    }
)
INSIDE = {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
POOLS: list[dict[str, Any]] = [
    {"name": "default"},
    {"name": "inside", "min": 0, "scaleToZero": True, "rule": {"subnets": ["subnet-1"], "securityGroups": ["sg-1"]}},
    {"name": "plain", "min": 0, "scaleToZero": True, "isolation": "restricted", "rule": {"functions": ["plain-*"]}},
    {"name": "strong", "min": 0, "scaleToZero": True, "isolation": "privileged", "rule": {"functions": ["strong-*"]}},
]
EGRESS = [{"to": [{"podSelector": {"matchLabels": {"app": "target"}}}], "ports": [{"port": 8000, "protocol": "TCP"}]}]
VPC = {
    "subnets": [{"id": "subnet-1", "vpc": "vpc-1"}],
    "securityGroups": [{"id": "sg-1", "vpc": "vpc-1", "egress": EGRESS}, {"id": "sg-2", "vpc": "vpc-1"}],
}


@pytest.fixture(scope="module")
def pools(release: Release) -> Iterator[Release]:
    """The release with further pools, none of which has a pod yet."""
    before = set(release.ready("worker"))
    release.upgrade(workers__pools=POOLS, vpc=VPC)
    assert before <= set(release.ready("worker")), "pods of a pool that stays as it is are kept"
    yield release
    release.upgrade()


def pods_of(release: Release, pool: str) -> list[str]:
    return [pod["metadata"]["name"] for pod in release.get("pods", "-l", f"lambent.dev/pool={pool}")]


def answer_of(release: Release, name: str, **event: Any) -> Any:
    answer = release.client(retries=6).invoke(FunctionName=name, Payload=json.dumps(event))
    assert "FunctionError" not in answer
    return json.load(answer["Payload"])


def test_a_function_in_a_subnet_has_its_pool_which_is_there_while_it_is_needed(pools: Release) -> None:
    pools.kubectl("apply", "-f", "-", stdin=TARGET.replace("VERSION", pools.version))
    host = eventually(lambda: pools.kubectl("get", "pod", "target", "-o", "jsonpath={.status.podIP}"), 60)
    pools.create("outside", REACH)
    pools.create("inside", REACH, VpcConfig=INSIDE)
    assert pods_of(pools, "inside") == []
    assert eventually(lambda: answer_of(pools, "inside", host=host) == "open" or None, 60), "its group allows it"
    assert len(pods_of(pools, "inside")) == 1
    assert answer_of(pools, "outside", host=host) == "closed", "pods are in a private network"
    assert pods_of(pools, "default") != []

    pools.create("nowhere", REACH, VpcConfig=INSIDE | {"SecurityGroupIds": ["sg-2"]})
    status, name, message = error_of(pools.client().invoke, FunctionName="nowhere", Payload=b"{}")
    assert (status, name) == (503, "ServiceUnavailableException")
    assert "is in no pool's rule" in message
    pools.client(retries=3).delete_function(FunctionName="inside")
    eventually(lambda: pods_of(pools, "inside") == [], 180)
    pools.kubectl("delete", "pod", "target", "--wait=false", "--grace-period=0", "--force")


@pytest.mark.parametrize(
    ("name", "pool", "level"), [("plain-1", "plain", "landlock"), ("strong-1", "strong", "namespaces")]
)
def test_profiles_have_their_levels_and_run_functions(pools: Release, name: str, pool: str, level: str) -> None:
    pools.create(name, zipped({"app.py": "def handler(event, context):\n    return event['n']\n"}))
    assert answer_of(pools, name, n=5) == 5
    key, secret = pools.credentials()
    with Client(pools.endpoint(9002), access_key=key, secret_key=secret, region="us-east-1") as client:
        crews = {each.pool: each.isolation for each in client.concurrency_use().worker_pools}
    assert crews[pool] == level
    assert crews["default"] == "namespaces"
    pools.client(retries=3).delete_function(FunctionName=name)
    eventually(lambda: pods_of(pools, pool) == [], 180)
