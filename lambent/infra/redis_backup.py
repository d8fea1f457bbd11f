"""All that is ours in a Redis-compatible server, out and in again.

What belongs to one tenant is in one slot and comes out as of one instant: its functions agree with the count of their
packages' bytes, its queues with their states. Tenants follow each other. Packages and the leader's seat are not part of
it; logs only if they are wanted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from redis import Redis
from redis.exceptions import ResponseError

from lambent.infra.backup_file import BackupError, Value
from lambent.infra.redaction import without_password
from lambent.infra.redis_client import STORE_FAILURES, connect_for_threads

_OURS = "lambent:*"
_SLOT = re.compile(rb"lambent:\{([^}]*)\}:")
# Slots that are somebody else's to keep (packages), or nobody's (who leads).
_NO_TENANTS = frozenset({b"code", b"scheduler"})
_LOGS = ("^lambent:{[^}]*}:log:", "^lambent:{[^}]*}:log%-sizes:", "^lambent:{[^}]*}:log%-groups$")
_BATCH = 200
# A tenant's keys come in one answer.
_ANSWER_SECONDS = 600.0


@contextmanager
def kept_in(url: str) -> Iterator[Kept]:
    """What a server has. Raises BackupError where it does not answer."""
    try:
        with connect_for_threads(url, _ANSWER_SECONDS) as client:
            client.ping()
            yield Kept(client)
    except STORE_FAILURES as error:
        raise BackupError(f"Redis at {without_password(url)} does not answer ({error}); check redis_url") from error


class Kept:
    """Our keys in one server."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    def values(self, *, logs: bool) -> Iterator[Value]:
        """Every key with its value."""
        script = self._client.register_script((Path(__file__).parent / "dump_keys.lua").read_text())
        slots: dict[bytes, bytes] = {}
        for key, slot in self._keys():
            if slot is None:
                yield from _dumped(script(keys=[key], args=[_literal(key)]))
            else:
                slots.setdefault(slot, key)
        for slot, key in sorted(slots.items()):
            pattern = _literal(b"lambent:{" + slot + b"}:") + b"*"
            yield from _dumped(script(keys=[key], args=[pattern, *(() if logs else _LOGS)]))

    def has_nothing(self) -> bool:
        """Whether there is nothing that a backup would have. Asks the server."""
        return next(self._keys(), None) is None

    def clear(self) -> None:
        """Delete all that a backup would have."""
        for key, _ in self._keys():
            self._client.delete(key)

    def restore(self, found: Iterable[Value]) -> int:
        """Put values; answers how many. What a cluster that runs has written meanwhile, such as who its pollers are,
        makes room. Raises BackupError."""
        count, batch = 0, list[Value]()
        for value in found:
            batch.append(value)
            if len(batch) == _BATCH:
                count += self._put(batch)
                batch = []
        return count + self._put(batch)

    def _keys(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Keys, and their slots; None: of no slot that others share."""
        for key in self._client.scan_iter(_OURS, count=1000):
            found = _SLOT.match(key)
            if found is None or found[1] not in _NO_TENANTS:
                yield key, None if found is None else found[1]

    def _put(self, batch: Sequence[Value]) -> int:
        pipeline = self._client.pipeline(transaction=False)
        for value in batch:
            cast(Any, pipeline).restore(value.key, value.expires, value.dump, absttl=bool(value.expires), replace=True)
        try:
            pipeline.execute()
        except ResponseError as error:
            raise BackupError(f"the store does not take the backup: {error}") from error
        return len(batch)


def _literal(text: bytes) -> bytes:
    """A pattern that stands for a text alone."""
    return re.sub(rb"([*?\[\]\\])", rb"\\\1", text)


def _dumped(answer: Any) -> Iterator[Value]:
    for at in range(0, len(answer), 3):
        yield Value(answer[at], int(answer[at + 1]), answer[at + 2])
