"""Child processes that end with their parent, say when they are ready, and are told to stop before they are made to."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from lambent.local import tether as tether_program

_log = logging.getLogger(__name__)

# A child that does not say that it is ready within this time has failed to start.
READY_SECONDS = 60.0


class _Said(msgspec.Struct):
    """What a service says of its start; lambent.infra.lifecycle writes it."""

    ready: dict[str, str] = {}
    failed: str | None = None


class ChildFailed(Exception):
    """A child did not come up; the text is its own one line."""


class Child:
    """One running process."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, facts: Mapping[str, str]) -> None:
        self.name = name
        self.facts = facts
        self._process = process

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    async def ended(self) -> int:
        """Wait for its end; answers the exit code, negative for a signal."""
        return await self._process.wait()

    async def stop(self, patience: float) -> None:
        """SIGTERM, and SIGKILL should that not have ended it within `patience` seconds."""
        if self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), patience)
        except TimeoutError:
            _log.warning("%s did not stop in time", self.name)
            self._process.kill()
            await self._process.wait()


async def start_service(name: str, config: Path, log: Path | None) -> Child:
    """Start `python -m lambent.entry NAME` and wait until it is ready. Raises ChildFailed.

    `log`: file for its own log lines; None: the starter's standard error.
    """
    reading, writing = os.pipe()
    output = None if log is None else log.open("ab")
    try:
        command = [sys.executable, "-m", "lambent.entry", name, "--config", str(config), "--ready-fd", str(writing)]
        process = await _start(command, output, pass_fds=[writing], env=_environment())
    finally:
        os.close(writing)
        if output is not None:
            output.close()
    try:
        said = await asyncio.wait_for(_first_line(reading), READY_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise ChildFailed(
            f"{name} did not become ready within {READY_SECONDS:.0f} s; see {log or 'its log above'}"
        ) from None
    answer = (
        msgspec.json.decode(said, type=_Said)
        if said
        else _Said(failed=f"{name} ended while starting; see {log or 'its log above'}")
    )
    if answer.failed is not None:
        await process.wait()
        raise ChildFailed(answer.failed)
    return Child(name, process, answer.ready)


async def start_program(name: str, command: Sequence[str], log: Path) -> Child:
    """Start a program of somebody else's."""
    with log.open("ab") as output:
        process = await _start(command, output)
    return Child(name, process, {})


async def _start(command: Sequence[str], output: IO[bytes] | None, **options: Any) -> asyncio.subprocess.Process:
    """A process that ends with this one."""
    tether = [sys.executable, "-I", "-S", tether_program.__file__, str(os.getpid())]
    return await asyncio.create_subprocess_exec(
        *tether, *command, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, **options
    )


async def _first_line(descriptor: int) -> bytes:
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb")
    )
    try:
        return await reader.readline()
    finally:
        transport.close()


def _environment() -> dict[str, str]:
    """Ours, without the settings: those are in the file that the child is given."""
    return {name: value for name, value in os.environ.items() if not name.startswith("LAMBENT_")}
