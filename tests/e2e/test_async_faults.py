"""Each process is killed in turn while events are accepted at load: the effect of every accepted one is found.

With as many events as LAMBENT_FAULT_EVENTS says, else 400; `make bench ARGS=--faults` prints what came of 20,000.
"""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from lambent.infra.redis_client import connect
from tests.e2e import faults
from tests.e2e.effects import effects
from tests.e2e.harness import Cluster
from tests.e2e.test_async import create

EVENTS = int(os.environ.get("LAMBENT_FAULT_EVENTS", "400"))


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
        name = create(cluster, told)
        kills = max(1, EVENTS // 5000)
        report = await faults.run(cluster, told, name, b'{"s": 0.01}', victim, EVENTS, kills, rng)
        record_property("report", str(report))
        assert report.accepted >= EVENTS
        assert report.missing == 0, report
