"""All that is ours in a Redis-compatible server, out and in again.

What belongs to one tenant is in one slot and comes out as of one instant: its functions agree with the count of their
packages' bytes, its queues with their states. Tenants follow each other. Packages and the leader's seat are not part of
it; logs only if they are wanted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

from redis import Redis
from redis.exceptions import ResponseError

from lambent.infra.backup_file import BackupError, Value

_OURS = "lambent:*"
_SLOT = re.compile(rb"lambent:\{([^}]*)\}:")
# Slots that are somebody else's to keep (packages), or nobody's (who leads).
_NO_TENANTS = frozenset({b"code", b"scheduler"})
_LOGS = ("^lambent:{[^}]*}:log:", "^lambent:{[^}]*}:log%-sizes:", "^lambent:{[^}]*}:log%-groups$")
_BATCH = 200


def values(client: Redis, *, logs: bool) -> Iterator[Value]:
    """Every key with its value."""
    script = client.register_script((Path(__file__).parent / "dump_keys.lua").read_text())
    slots: dict[bytes, bytes] = {}
    for key in client.scan_iter(_OURS, count=1000):
        found = _SLOT.match(key)
        if found is None:
            yield from _dumped(script(keys=[key], args=[_literal(key)]))
        elif found[1] not in _NO_TENANTS:
            slots.setdefault(found[1], key)
    for tag, key in sorted(slots.items()):
        pattern = _literal(b"lambent:{" + tag + b"}:") + b"*"
        yield from _dumped(script(keys=[key], args=[pattern, *(() if logs else _LOGS)]))


def _literal(text: bytes) -> bytes:
    """A pattern that stands for a text alone."""
    return re.sub(rb"([*?\[\]\\])", rb"\\\1", text)


def _dumped(answer: Any) -> Iterator[Value]:
    for at in range(0, len(answer), 3):
        yield Value(answer[at], int(answer[at + 1]), answer[at + 2])


def occupied(client: Redis) -> bool:
    """Whether there is anything of ours that a backup would have."""
    found = (_SLOT.match(key) for key in client.scan_iter(_OURS, count=1000))
    return any(each is not None and each[1] not in _NO_TENANTS for each in found)


def clear(client: Redis) -> None:
    """Delete all that is ours but packages and who leads."""
    for key in client.scan_iter(_OURS, count=1000):
        found = _SLOT.match(key)
        if found is None or found[1] not in _NO_TENANTS:
            client.delete(key)


def restore(client: Redis, found: Iterable[Value]) -> int:
    """Put values where nothing is; answers how many. Raises BackupError."""
    count, batch = 0, list[Value]()
    for value in found:
        batch.append(value)
        if len(batch) == _BATCH:
            count += _put(client, batch)
            batch = []
    return count + _put(client, batch)


def _put(client: Redis, batch: list[Value]) -> int:
    pipeline = client.pipeline(transaction=False)
    for value in batch:
        cast(Any, pipeline).restore(value.key, value.expires, value.dump, absttl=bool(value.expires))
    try:
        pipeline.execute()
    except ResponseError as error:
        raise BackupError(f"the store does not take the backup: {error}") from error
    return len(batch)
