"""The poller's compose root."""

from __future__ import annotations

from collections.abc import Mapping

from redis.exceptions import RedisError

from lambent.infra.config import Settings
from lambent.infra.lifecycle import Service, StartError
from lambent.infra.redis_client import connect


def make(settings: Settings) -> Service:
    """The service."""
    return PollerService(settings)


class PollerService:
    """One poller, with nothing to drain."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.cluster.redis_url
        self._redis = connect(self._url)

    async def start(self) -> Mapping[str, str]:
        """Find the store."""
        try:
            await self._redis.ping()
        except (RedisError, OSError) as error:
            raise StartError(f"Redis at {self._url} cannot be reached ({error}); check redis_url") from error
        return {}

    async def stop(self) -> None:
        """Hang up."""
        await self._redis.aclose()
