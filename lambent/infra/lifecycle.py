"""How every service process lives: start, say that it is ready, serve until told to stop, drain, end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Mapping
from typing import Protocol

import msgspec

_log = logging.getLogger(__name__)


class Service(Protocol):
    """A process's compose root."""

    async def start(self) -> Mapping[str, str]:
        """Come up; answers what is worth telling whoever started the process. Raises StartError."""
        ...

    async def stop(self) -> None:
        """Take nothing new, let what runs end, go."""
        ...


class StartError(Exception):
    """The process cannot come up; the text is one line with a hint."""


async def serve(service: Service, ready: int | None) -> int:
    """Run a service until SIGTERM or SIGINT. Answers the exit code.

    `ready`: descriptor to tell the starter on, one line of JSON: {"ready": {...}} or {"failed": "one line"}.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        facts = await service.start()
    except StartError as error:
        tell_failed(ready, error)
        await service.stop()
        return 1
    _tell(ready, {"ready": dict(facts)})
    await stop.wait()
    _log.info("stopping")
    await service.stop()
    return 0


def tell_failed(ready: int | None, error: StartError) -> None:
    """Say to the starter, and to the log, that the process cannot come up."""
    _tell(ready, {"failed": str(error)})
    _log.error("cannot start: %s", error)


def _tell(ready: int | None, what: Mapping[str, object]) -> None:
    if ready is not None:
        os.write(ready, msgspec.json.encode(what) + b"\n")
        os.close(ready)
