"""Where stores are tried: a server of their own, or a cluster where the parameter of a suite says so."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from lambent.infra.redis_client import connect
from tests.conftest import own_server
from tests.redis_cluster import redis_cluster


@pytest.fixture(scope="session")
def one_cluster() -> Iterator[str]:
    """A Redis Cluster for all tests of this process, one after the other."""
    with tempfile.TemporaryDirectory(prefix="lc-", dir="/tmp") as folder, redis_cluster(Path(folder)) as made:
        yield made.url


@pytest.fixture
async def redis_url(request: pytest.FixtureRequest, short_tmp: Path) -> AsyncIterator[str]:
    """A server of a test's own; or the cluster, emptied."""
    callspec = getattr(request.node, "callspec", None)
    if callspec is not None and "cluster" in callspec.params.values():
        url = request.getfixturevalue("one_cluster")
        client = connect(url)
        await client.flushall()
        await client.aclose()
        yield url
        return
    async with own_server(short_tmp) as url:
        yield url
