"""Events are accepted at load while processes of their cluster are killed; what became of each is found outside of it."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
from collections import Counter
from dataclasses import dataclass, field

from tests.bench.load import CONNECTIONS, answer_size, sign
from tests.e2e.effects import Effects
from tests.e2e.harness import KEY, SECRET, Cluster, eventually

_REQUEST_ID = re.compile(rb"(?i)\r\nx-amzn-requestid: *([0-9a-f-]{36})\r\n")
# How long nothing may be told anew before what is missing counts as lost.
QUIET_SECONDS = 30.0


@dataclass
class Accepted:
    """What was answered to events."""

    ids: set[str] = field(default_factory=set)  # request ids of those answered 202
    statuses: Counter[int] = field(default_factory=Counter)
    broken: int = 0  # no answer came: whether it was accepted is not known


@dataclass(frozen=True)
class Report:
    """What came of one run."""

    accepted: int
    missing: int  # accepted, and never ran
    duplicates: int  # runs beyond the first
    refused: int  # answered 503, or not at all
    kills: int


async def feed(address: str, function: str, body: bytes, events: int, into: Accepted) -> None:
    """Send events over 16 connections until so many were accepted."""
    raw = sign(address, function, KEY, SECRET, body, "Event").raw()
    host, _, port = address.rpartition(":")

    async def send() -> None:
        while len(into.ids) < events:
            try:
                reader, writer = await asyncio.open_connection(host, int(port))
            except OSError:
                await asyncio.sleep(0.05)
                continue
            try:
                while len(into.ids) < events and await _one(reader, writer, raw, into):
                    pass
            finally:
                writer.close()

    await asyncio.gather(*(send() for _ in range(CONNECTIONS)))


async def _one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, raw: bytes, into: Accepted) -> bool:
    """One event. False: the connection is of no more use."""
    data = b""
    try:
        writer.write(raw)
        while (size := answer_size(data)) is None or len(data) < size:
            more = await reader.read(65536)
            if not more:
                raise ConnectionResetError
            data += more
    except OSError:
        into.broken += 1
        return False
    status = int(data[9:12])
    into.statuses[status] += 1
    found = _REQUEST_ID.search(data)
    if status == 202:
        assert found is not None
        into.ids.add(found[1].decode())
    return b"connection: close" not in data[: data.find(b"\r\n\r\n")].lower()


async def run(
    cluster: Cluster,
    told: Effects,
    function: str,
    body: bytes,
    victim: str,
    events: int,
    kills: int,
    rng: random.Random,
) -> Report:
    """Accept so many events, kill a process at drawn moments of it, and wait until what was accepted has run."""
    accepted = Accepted()
    moments = sorted(rng.sample(range(events // 5, events * 4 // 5), kills))
    feeding = asyncio.ensure_future(feed(cluster.http, function, body, events, accepted))
    try:
        for moment in moments:
            await asyncio.to_thread(_reached, accepted, moment, feeding)
            # One that was killed before may be on its way up again.
            os.kill(await asyncio.to_thread(eventually, lambda: _pid(cluster, victim)), signal.SIGKILL)
        await feeding
    finally:
        feeding.cancel()
    ids = accepted.ids
    await asyncio.to_thread(told.settle, ids, QUIET_SECONDS)
    assert set(accepted.statuses) <= {202, 503}, accepted.statuses
    missing = ids - {request_id for request_id, _, _, _ in told.told}
    return Report(len(ids), len(missing), told.duplicates, accepted.statuses[503] + accepted.broken, kills)


def _reached(accepted: Accepted, moment: int, feeding: asyncio.Future[None]) -> None:
    eventually(lambda: len(accepted.ids) >= moment or feeding.done(), seconds=600)


def _pid(cluster: Cluster, victim: str) -> int:
    try:
        return cluster.pid(victim)
    except AssertionError:
        return 0
