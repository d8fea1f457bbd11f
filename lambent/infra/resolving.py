"""Host names to addresses, for those who must go on while nobody answers for names: then what was found last counts."""

from __future__ import annotations

import asyncio
import socket

from lambent.infra.tasks import TaskOwner

# How long a lookup is waited for where an answer from before is there: seconds. It goes on, and the next asker gets it.
PATIENCE_SECONDS = 1.0


class Resolver:
    """Addresses of our own processes: unix:/path stays as it is, and host:port becomes one for each host behind the
    name."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}
        self._lookups: dict[str, asyncio.Task[None]] = {}
        self._tasks = TaskOwner("resolver", expected=(OSError,))

    async def hosts(self, address: str) -> list[str]:
        """What an address stands for, at least one; itself where that was never known."""
        if address.startswith("unix:"):
            return [address]
        lookup = self._lookups.get(address)
        if lookup is None or lookup.done():
            # One at a time: a lookup occupies a thread for as long as its servers are silent.
            lookup = self._lookups[address] = self._tasks.start(f"look up {address}", self._look_up(address))
        await asyncio.wait([lookup], timeout=PATIENCE_SECONDS if address in self._found else None)
        return self._found.get(address, [address])

    async def close(self) -> None:
        """Wait for no answer any more."""
        await self._tasks.close()

    async def _look_up(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        found = await asyncio.get_running_loop().getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        hosts = sorted({str(info[4][0]) for info in found})
        self._found[address] = [f"[{each}]:{port}" if ":" in each else f"{each}:{port}" for each in hosts]
