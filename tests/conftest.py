"""What tests of every kind share."""

from __future__ import annotations

import os
import random
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from hypothesis import settings

from lambent.local.redis_server import start_server

# How long an example takes says nothing on a machine that has other work.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """A folder whose path is short enough for Unix sockets below it."""
    with tempfile.TemporaryDirectory(prefix="lt-", dir="/tmp") as folder:
        yield Path(folder)


@asynccontextmanager
async def own_server(folder: Path) -> AsyncIterator[str]:
    """A real Redis-compatible server in a folder; answers its URL."""
    path = folder / "redis.sock"
    child = await start_server(folder, path)
    yield f"unix://{path}"
    await child.stop(5.0)


@pytest.fixture
async def redis_url(short_tmp: Path) -> AsyncIterator[str]:
    """A server of a test's own."""
    async with own_server(short_tmp) as url:
        yield url


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """AWS's services as moto's server plays them; answers the URL."""
    from moto.server import ThreadedMotoServer

    port = free_port()
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop()


def service(moto: str, name: str) -> Any:
    """A client of one of the services that moto plays."""
    keys = {"aws_access_key_id": "k", "aws_secret_access_key": "s"}
    return boto3.client(name, endpoint_url=moto, region_name="us-east-1", **keys)


# Kafka itself, beside the mock that there always is: tests/kafka.py says what it takes.
_KAFKA = pytest.mark.skipif(not os.environ.get("TEST_KAFKA") or shutil.which("java") is None, reason="no TEST_KAFKA")


@pytest.fixture(scope="module", params=["mock", pytest.param("kafka", marks=_KAFKA)])
def brokers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """`tests.kafka.Brokers`."""
    from tests.kafka import brokers_of

    with brokers_of(request.param, tmp_path_factory.mktemp("kafka")) as made:
        yield made


@pytest.fixture(scope="module")
def s3(moto: str) -> Any:
    """A client of moto's S3, which has a bucket `packages` that keeps versions."""
    client = service(moto, "s3")
    client.create_bucket(Bucket="packages")
    client.put_bucket_versioning(Bucket="packages", VersioningConfiguration={"Status": "Enabled"})
    return client


_given: set[int] = set()


def free_port(count: int = 1) -> int:
    """The first of `count` ports that nobody listens on, below those that outgoing connections take by themselves.

    Of the part that belongs to this process of the suite: another one listens some seconds after it has asked. And none
    twice, as whoever was given one may listen later.
    """
    part = 18_000 // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    start = 12_000 + part * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    while True:
        first = random.SystemRandom().randrange(start, start + part - count + 1)
        ports = range(first, first + count)
        if not _given.isdisjoint(ports):
            continue
        try:
            for port in ports:
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        _given.update(ports)
        return first
