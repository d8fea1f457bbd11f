"""The store is a Redis Cluster: everything is kept there, and goes on when one of its nodes is lost."""

from __future__ import annotations

import json
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from lambent.domain.names import Tenant
from tests.e2e.effects import PACKAGE, Effects, effects
from tests.e2e.harness import Cluster, eventually, run
from tests.e2e.test_async import create, send
from tests.redis_cluster import redis_cluster


def test_a_node_of_the_store_is_lost_and_nothing_with_it(own_cluster: Any) -> None:
    tenant = Tenant("000000000000", "us-east-1")
    with (
        tempfile.TemporaryDirectory(prefix="lc-", dir="/tmp") as folder,
        redis_cluster(Path(folder), replicas=True) as store,
        effects() as there,
    ):
        cluster: Cluster = own_cluster(
            "--no-examples", "--redis-url", store.url, LAMBENT_STORAGE_CODE="redis", LAMBENT_QUEUE_LEASE_SECONDS="1"
        )
        there_too = cluster.environment | {"LAMBENT_REDIS_URL": store.url}
        looked = run("lambent", "doctor", "--data", str(cluster.data), env=there_too).stdout
        assert all(f"store 127.0.0.1:{port}" in looked for port in store.ports[:3]), looked
        client, accepted = cluster.client(), set[str]()

        def event() -> bool:
            with suppress(ClientError):
                send(client, n=len(accepted))
                accepted.add(str(len(accepted)))
                return True
            return False

        create(cluster, there)
        for _ in range(10):
            assert event()
        there.wait(10)
        store.kill_primary(f"lambent:{tenant.tag}:functions")
        # Who invokes needs no store; who is taken in does, and is told so until a replica has taken over.
        assert json.load(client.invoke(FunctionName="tells", Payload=b'{"n": 1000}')["Payload"]) == {"n": 1000}
        eventually(event)
        for _ in range(10):
            eventually(event)
        there.wait(22)
        assert {number for _, number, _, _ in there.told} == accepted | {"1000"}
        patient = cluster.client(retries=8)
        assert [each["FunctionName"] for each in patient.list_functions()["Functions"]] == ["tells"]
        patient.put_function_concurrency(FunctionName="tells", ReservedConcurrentExecutions=3)
        eventually(lambda: _made(cluster, there))
        assert json.load(patient.invoke(FunctionName="after", Payload=b'{"n": 1001}')["Payload"]) == {"n": 1001}
        file = str(Path(folder) / "backup")
        for verb in (["backup", file, "--keys"], ["restore", file, "--replace"]):
            done = run("lambent", *verb, "--data", str(cluster.data), env=there_too)
            assert done.returncode == 0, done.stderr
        names = [each["FunctionName"] for each in patient.list_functions()["Functions"]]
        assert names == ["after", "tells"]


def _made(cluster: Cluster, there: Effects) -> bool:
    with suppress(ClientError):
        cluster.create("after", PACKAGE, Environment={"Variables": {"PORT": str(there.port)}})
        return True
    return False
