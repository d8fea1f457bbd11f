"""The one place that makes Redis clients.

The library's defaults are not safe here: it would send a command again whose answer was lost (an append would be
applied twice), and give up blocking reads after its own time-out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from lambent.domain.errors import AwsError


def connect(url: str, *, blocking: bool = False) -> redis.Redis:
    """A client for `url` (redis://, rediss:// or unix://). `blocking`: for reads that wait on the server."""
    client: redis.Redis = redis.Redis.from_url(
        url,
        socket_timeout=60.0 if blocking else 5.0,
        socket_connect_timeout=2.0,
        retry=Retry(NoBackoff(), 0),
        decode_responses=False,
        health_check_interval=0,
    )
    return client


@asynccontextmanager
async def store_errors() -> AsyncIterator[None]:
    """Turns the library's errors into the answer that a client gets: 503, to be tried again."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise AwsError(
            "ServiceUnavailableException", "The store cannot be reached; try again shortly.", reason="StoreUnavailable"
        ) from error
