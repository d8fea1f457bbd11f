"""How durable the store is, said plainly at the start: an accepted event is as durable as its settings make it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, cast

from redis.asyncio import Redis

from lambent.infra.redis_client import STORE_FAILURES, primaries

_log = logging.getLogger(__name__)

_FSYNC = {
    "always": "nothing accepted is lost in a crash",
    "everysec": "a crash of the machine loses at most about the last second, a crash of the server's process nothing",
    "no": "a crash of the machine loses what the operating system had not written, often the last half minute",
}


def verdict(settings: Mapping[str, str]) -> tuple[str, list[str]]:
    """What the user has, and what is wrong with it. `settings`: as CONFIG GET answers them."""
    wrong = []
    if settings.get("appendonly") == "yes":
        fsync = settings.get("appendfsync", "everysec")
        line = f"events are kept with appendfsync {fsync}: {_FSYNC.get(fsync, 'see the documentation of the server')}"
    elif settings.get("save"):
        line = "events are kept in snapshots only: a crash loses all since the last one"
        wrong.append("appendonly is off; set appendonly yes, or accepted events are lost in a crash")
    else:
        line = "events are kept in memory only: a restart of the store loses all of them"
        wrong.append("appendonly is off and no snapshots are made; set appendonly yes")
    policy = settings.get("maxmemory-policy", "noeviction")
    if policy != "noeviction":
        wrong.append(f"maxmemory-policy is {policy}: a full store may drop accepted events; set it to noeviction")
    return line, wrong


async def look(client: Redis, where: Mapping[str, Any]) -> Mapping[str, str] | None:
    """A server's settings that `verdict` judges. None: it does not say, as managed services forbid CONFIG. `where`: of
    `primaries`."""
    try:
        raw: Any = await cast(Any, client).config_get(
            "appendonly", "appendfsync", "save", "maxmemory-policy", **where
        )  # fmt: skip
    except STORE_FAILURES as error:
        _log.warning("how durable events are is not known, since the store does not say: %s", error)
        return None
    return {_text(key): _text(value) for key, value in raw.items()}


async def report(client: Redis) -> None:
    """Log it, of each server."""
    for node, where in primaries(client).items():
        found = await look(client, where)
        if found is None:
            continue
        line, wrong = verdict(found)
        _log.info(line, extra={"node": node} if node else None)
        for each in wrong:
            _log.warning("the store %s is not safe for asynchronous events: %s", node, each)


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode()
