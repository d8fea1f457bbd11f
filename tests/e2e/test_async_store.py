"""The store is full, takes no writes, hangs, or is gone: no event is answered 202 that is not kept, and none waits for
long; what was accepted runs once the store is well again. A real server and the real processes."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError
from redis.asyncio import Redis

from lambent.infra.redis_client import connect
from tests.e2e.effects import effects
from tests.e2e.harness import Cluster, eventually
from tests.e2e.test_async import create, send

# Far beyond what a client of these tests waits: whoever is answered was not answered for that reason.
ACCEPT_SECONDS = 45.0


class Told:
    """Events by what they were answered."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.accepted: set[str] = set()  # `n` of those answered 202
        self.refused: set[str] = set()

    def send(self, number: int, **event: Any) -> None:
        send(self.client, n=number, **event)
        self.accepted.add(str(number))

    def refuse(self, number: int, text: str) -> None:
        """One that must not be accepted."""
        with pytest.raises(ClientError) as caught:
            send(self.client, n=number)
        answer = caught.value.response
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 503
        assert answer["Error"]["Code"] == "ServiceUnavailableException"
        assert text in answer["Error"]["Message"]
        self.refused.add(str(number))


@pytest.fixture
async def cluster(own_cluster: Any) -> Cluster:
    made: Cluster = own_cluster(
        "--no-examples", LAMBENT_QUEUE_ACCEPT_SECONDS=str(ACCEPT_SECONDS), LAMBENT_QUEUE_LEASE_SECONDS="1",
        LAMBENT_LIMITS_ASYNC_BACKOFF_SECONDS="0.2",
    )  # fmt: skip
    return made


@pytest.fixture
async def redis(cluster: Cluster) -> AsyncIterator[Redis]:
    client = connect(f"unix://{cluster.data}/run/redis.sock")
    yield client
    await client.aclose()


async def test_a_store_without_room_or_writes_refuses_events_and_loses_none(cluster: Cluster, redis: Redis) -> None:
    with effects() as there:
        name = create(cluster, there)
        told = Told(cluster.client())
        told.send(0)
        there.wait(1)

        assert cluster.lambent("queue", "pause", name).returncode == 0
        for number in range(1, 20):
            told.send(number, x="x" * 100_000)
        await redis.config_set("maxmemory", 1024 * 1024)
        for number in range(100, 105):
            told.refuse(number, "The store is full")
        queues = json.loads(cluster.lambent("queue", "list", "--output", "json").stdout)
        assert [int(each["Waiting"]) for each in queues] == [19]
        # What is full can empty itself.
        await redis.config_set("maxmemory", int((await redis.info("memory"))["used_memory"]) - 1_000_000)
        told.refuse(105, "The store is full")
        assert cluster.lambent("queue", "resume", name).returncode in (0, 1)
        await redis.config_set("maxmemory", 0)
        assert cluster.lambent("queue", "resume", name).returncode == 0
        there.wait(20)

        await cast(Any, redis).execute_command("REPLICAOF", "127.0.0.1", "1")
        for number in range(200, 205):
            told.refuse(number, "The store takes no writes")
        await cast(Any, redis).execute_command("REPLICAOF", "NO", "ONE")
        told.send(300)
        there.wait(21)
        assert {number for _, number, _, _ in there.told} == told.accepted
        assert not told.accepted & told.refused


async def test_a_store_that_is_gone_or_hangs_refuses_events_and_loses_none(own_cluster: Any) -> None:
    cluster: Cluster = own_cluster("--no-examples", LAMBENT_QUEUE_ACCEPT_SECONDS="0.5", LAMBENT_QUEUE_LEASE_SECONDS="1")
    with effects() as there:
        create(cluster, there)
        told = Told(cluster.client())
        told.send(0)
        there.wait(1)
        server = cluster.pid("redis")
        os.kill(server, signal.SIGSTOP)
        told.refuse(1, "The store did not acknowledge the event in time")
        told.refuse(2, "The store did not acknowledge the event in time")
        os.kill(server, signal.SIGKILL)
        told.refuse(3, "The store")

        def accepted() -> bool:
            with suppress(ClientError):
                told.send(4)
            return "4" in told.accepted

        eventually(accepted)
        there.wait(2)
        eventually(lambda: told.accepted <= {number for _, number, _, _ in there.told})
