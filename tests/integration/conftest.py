"""A worker at the strongest level that this machine has, for whoever wants no other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.test_worker_cluster import Cluster, cluster_of


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster_of(tmp_path) as made:
        yield made


@pytest.fixture(params=["channel", "api", "program"])
async def every_way(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    """The same for a function on our own channel, for one that asks the Runtime API, and for one that is a program."""
    way = request.param
    async with cluster_of(tmp_path, through_api=way == "api", as_programs=way == "program") as made:
        yield made
