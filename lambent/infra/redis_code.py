"""Packages in Redis, for clusters without a folder that all processes share. For small installs: they are kept in the
server's memory.

lambent:{code}:DIGEST   string: the package
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from redis import Redis

from lambent.infra.redis_client import thread_store_errors


class RedisCodeStore:
    """A `CodeStore` in a Redis-compatible server. Every method raises ServiceUnavailableException without it."""

    def __init__(self, client: Redis) -> None:
        """`client`: used from several threads."""
        self._client = client

    def put(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        with thread_store_errors():
            self._client.set(_key(digest), data, nx=True)
        return digest

    def get(self, digest: str) -> bytes:
        with thread_store_errors():
            found = self._client.get(_key(digest))
        if not isinstance(found, bytes):
            raise KeyError(digest)
        return found

    def __contains__(self, digest: str) -> bool:
        with thread_store_errors():
            return bool(self._client.exists(_key(digest)))

    def digests(self) -> Iterator[str]:
        with thread_store_errors():
            for key in self._client.scan_iter(_key("*"), count=1000):
                yield key.decode().rpartition(":")[2]


def _key(digest: str) -> str:
    return f"lambent:{{code}}:{digest}"
