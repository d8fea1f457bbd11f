"""Each process is killed in turn while events are accepted at load: the effect of every accepted one is found."""

from __future__ import annotations

import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from lambent.infra.redis_client import connect
from tests.e2e.effects import effects
from tests.e2e.harness import Cluster, eventually
from tests.e2e.test_async import create, send

SENDERS, EVENTS = 4, 100  # events of each sender


@pytest.mark.parametrize(
    ("victim", "fsync"),
    [
        ("poller", "everysec"), ("worker", "everysec"), ("scheduler", "everysec"), ("frontend", "everysec"),
        ("redis", "everysec"), ("redis", "always"),
    ],
)  # fmt: skip
async def test_nothing_accepted_is_lost(own_cluster: Any, victim: str, fsync: str, record_property: Any) -> None:
    """A crash of the store's process loses nothing with either setting: what it wrote, the operating system has."""
    rng = random.Random(f"{victim} {fsync}")
    cluster: Cluster = own_cluster("--no-examples", LAMBENT_QUEUE_LEASE_SECONDS="1")
    client = connect(f"unix://{cluster.data}/run/redis.sock")
    await client.config_set("appendfsync", fsync)
    await client.aclose()
    with effects() as told:
        create(cluster, told)
        kill_at = rng.randrange(SENDERS * EVENTS // 4, SENDERS * EVENTS // 2)
        accepted: set[str] = set()

        def feed(sender: int) -> None:
            mine = cluster.client()
            for number in range(EVENTS):
                try:
                    accepted.add(send(mine, n=sender * EVENTS + number, s=0.01))
                except (ClientError, BotoCoreError):
                    time.sleep(0.02)  # not accepted, or not known to be

        with ThreadPoolExecutor(SENDERS) as threads:
            feeds = [threads.submit(feed, sender) for sender in range(SENDERS)]
            eventually(lambda: len(accepted) >= kill_at)
            os.kill(cluster.pid(victim), signal.SIGKILL)
            for each in feeds:
                each.result(timeout=100)
        eventually(lambda: accepted <= {request_id for request_id, _, _, _ in told.told}, seconds=60)
        record_property("accepted", len(accepted))
        record_property("ran again", told.duplicates)
