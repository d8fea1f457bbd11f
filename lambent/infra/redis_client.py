"""The one place that makes Redis clients.

The library's defaults are not safe here: it would send a command again whose answer was lost (an append would be
applied twice), and give up blocking reads after its own time-out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import redis.asyncio as redis
from redis import Redis as SynchronousRedis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry as SynchronousRetry

from lambent.domain.errors import AwsError

_CONNECT_SECONDS = 2.0
_ANSWER_SECONDS = 5.0


def connect(url: str, *, blocking: bool = False) -> redis.Redis:
    """A client for `url` (redis://, rediss:// or unix://). `blocking`: for reads that wait on the server."""
    client: redis.Redis = redis.Redis.from_url(
        url,
        socket_timeout=60.0 if blocking else _ANSWER_SECONDS,
        socket_connect_timeout=_CONNECT_SECONDS,
        retry=Retry(NoBackoff(), 0),
        decode_responses=False,
        health_check_interval=0,
    )
    return client


def connect_for_threads(url: str) -> SynchronousRedis:
    """A client for what is done in threads: packages and logs."""
    client: SynchronousRedis = SynchronousRedis.from_url(
        url,
        socket_timeout=_ANSWER_SECONDS,
        socket_connect_timeout=_CONNECT_SECONDS,
        retry=SynchronousRetry(NoBackoff(), 0),
        decode_responses=False,
        health_check_interval=0,
    )
    return client


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
    except (RedisError, OSError) as error:
        raise AwsError(
            "ServiceUnavailableException", "The store cannot be reached; try again shortly.", reason="StoreUnavailable"
        ) from error
