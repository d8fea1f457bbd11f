"""The one place that makes Redis clients.

The library's defaults are not safe here: it would send a command again whose answer was lost (an append would be
applied twice), and give up blocking reads after its own time-out.

URLs are as `redis_urls` says. The client of a cluster has the commands of the others, and finds the node of a key.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import redis.asyncio as redis
from redis import Redis as SynchronousRedis
from redis import RedisCluster as SynchronousCluster
from redis import Sentinel as SynchronousSentinel
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode as SynchronousClusterNode
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisClusterException, RedisError
from redis.retry import Retry as SynchronousRetry

from lambent.domain.errors import AwsError
from lambent.infra.redaction import without_password
from lambent.infra.redis_urls import several
from lambent.infra.silence import KEEP_ALIVE

_CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 5.0
# How long a process waits for the store at its start, and how often it looks.
START_SECONDS = 20.0
_LOOK_SECONDS = 0.2
# A slot that has moved is followed by itself; else, after five, the library closes every connection in use.
_MOVES: Mapping[str, Any] = {"reinitialize_steps": 0}


# What the library raises where a store cannot be reached or does not do what it was told. What it says of a cluster as
# a whole, that no node is there, say, is no RedisError.
STORE_FAILURES = (RedisError, RedisClusterException, OSError)

# What a server that answers may have against a write: text and reason.
_REFUSALS: Mapping[type[Exception], tuple[str, str]] = {
    OutOfMemoryError: ("The store is full; try again when it has room.", "StoreFull"),
    ReadOnlyError: ("The store takes no writes at the moment; try again shortly.", "StoreReadOnly"),
}


class StoreUnreachable(Exception):
    """The store does not answer; the text is one line and has no password."""


def connect(url: str, *, blocking: bool = False) -> redis.Redis:
    """A client for `url`. `blocking`: for reads that wait on the server."""
    options = _options(url, 60.0 if blocking else ANSWER_SECONDS) | {"retry": Retry(NoBackoff(), 0)}
    behind = several(url)
    if behind is None:
        client: redis.Redis = redis.Redis.from_url(url, **options)
        return client
    options |= behind.options
    if not behind.master:
        nodes = [ClusterNode(*address) for address in behind.addresses]
        return cast(redis.Redis, RedisCluster(startup_nodes=nodes, **_MOVES, **options))
    asked = Sentinel(behind.addresses, sentinel_kwargs=_options(url, ANSWER_SECONDS))  # type: ignore[no-untyped-call]
    found: redis.Redis = asked.master_for(behind.master, **options)
    return found


def connect_for_threads(url: str, seconds: float = ANSWER_SECONDS) -> SynchronousRedis:
    """A client for what is done in threads: packages and logs. `seconds`: that an answer may take."""
    options = _options(url, seconds) | {"retry": SynchronousRetry(NoBackoff(), 0)}
    behind = several(url)
    if behind is None:
        client: SynchronousRedis = SynchronousRedis.from_url(url, **options)
        return client
    options |= behind.options
    if not behind.master:
        nodes = [SynchronousClusterNode(*address) for address in behind.addresses]  # type: ignore[no-untyped-call]
        return cast(SynchronousRedis, SynchronousCluster(startup_nodes=nodes, **_MOVES, **options))
    kwargs = _options(url, ANSWER_SECONDS)
    asked = SynchronousSentinel(behind.addresses, sentinel_kwargs=kwargs)  # type: ignore[no-untyped-call]
    found: SynchronousRedis = asked.master_for(behind.master, **options)  # type: ignore[no-untyped-call]
    return found


def _options(url: str, seconds: float) -> dict[str, Any]:
    options = {
        "socket_timeout": seconds,
        "socket_connect_timeout": _CONNECT_SECONDS,
        "decode_responses": False,
        "health_check_interval": 0,
    }
    # Who waits for news would else hear only after most of a minute that there is nobody any more to tell any.
    return options if url.startswith("unix:") else options | {"socket_keepalive_options": KEEP_ALIVE}


async def reach(client: redis.Redis, url: str, seconds: float) -> None:
    """Wait until the store answers, for at most so long. `url`: for the text. Raises StoreUnreachable."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while True:
        try:
            await client.ping()
            return
        except STORE_FAILURES as error:
            if loop.time() >= until:
                raise StoreUnreachable(
                    f"Redis at {without_password(url)} cannot be reached ({error}); check redis_url"
                ) from error
        await asyncio.sleep(_LOOK_SECONDS)


def primaries(client: redis.Redis) -> Mapping[str, Mapping[str, Any]]:
    """The servers that keep something: HOST:PORT of each, empty where there is but one, and what a command takes to go
    there. Of a cluster's client that has been used."""
    if isinstance(client, RedisCluster):
        return {node.name: {"target_nodes": node} for node in client.get_primaries()}
    return {"": {}}


@asynccontextmanager
async def store_errors() -> AsyncIterator[None]:
    """Turns the library's errors into the answer that a client gets: 503, to be tried again."""
    with thread_store_errors():
        yield


@contextmanager
def thread_store_errors() -> Iterator[None]:
    """The same for what is done in threads."""
    try:
        yield
    except STORE_FAILURES as error:
        text, reason = next(
            (told for kind, told in _REFUSALS.items() if isinstance(error, kind)),
            ("The store cannot be reached; try again shortly.", "StoreUnavailable"),
        )
        raise AwsError("ServiceUnavailableException", text, reason=reason) from error
