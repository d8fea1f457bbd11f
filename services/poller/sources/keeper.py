"""Keeps readers for the event sources that are this poller's, and settles what users ask of them.

A mapping has one reader, which holds a claim to it for a few seconds at a time; who it is decides `core.sharing` over
the pollers there are.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from lambent.domain.clock import Clock
from lambent.domain.errors import AwsError
from lambent.domain.event_sources import SETTLED, EventSourceMapping, MappingState
from lambent.domain.names import Tenant
from lambent.infra.event_sources.port import Checkpoints, EventSourceStore, ReaderIndex
from lambent.infra.tasks import TaskOwner, every
from services.poller.core.sharing import reader_of
from services.poller.sources.reading import SourceReader

_log = logging.getLogger(__name__)

# How often mappings and pollers are looked at.
LOOK_SECONDS = 1.0
# Share of a claim after which it is renewed, and after which nothing more is received by it: this clock may run slower
# than the store's.
RENEW_SHARE, SAFE_SHARE = 1 / 3, 0.8
NO_CONNECTION = "PROBLEM: no connection of this cluster leads to the event source"


@dataclass(slots=True)
class _Held:
    """A mapping that this poller reads."""

    mapping: EventSourceMapping
    claimed: float  # monotonic seconds of the last claim
    reader: SourceReader | None = None  # None: there is nothing to read


class SourceKeeper:
    """The readers of one poller."""

    def __init__(
        self,
        store: EventSourceStore,
        index: ReaderIndex,
        checkpoints: Checkpoints,
        reader: Callable[[EventSourceMapping], SourceReader | None],
        name: str,
        clock: Clock,
        claim_seconds: float,
    ) -> None:
        """`reader`: makes one; None: no connection leads to its source. `name`: this poller's. `claim_seconds`: after
        which another may read what a lost poller read."""
        self._store = store
        self._index = index
        self._checkpoints = checkpoints
        self._make = reader
        self._name = name
        self._clock = clock
        self._seconds = claim_seconds
        self._held: dict[tuple[Tenant, str], _Held] = {}
        self._tasks = TaskOwner("event-sources")

    def start(self) -> None:
        """Begin to look."""
        self._tasks.start("look", self._keep_looking())

    async def stop(self, seconds: float) -> None:
        """Read nothing more, let running batches end, at most `seconds`, and leave the sources to others."""
        await self._tasks.close()
        self._tasks.start("renew", every(self._seconds * RENEW_SHARE, self._renew, "claims cannot be renewed"))
        readers = [held.reader for held in self._held.values() if held.reader is not None]
        await asyncio.gather(*(reader.close(seconds) for reader in readers))
        await self._tasks.close()
        try:
            for tenant, uuid in self._held:
                await self._index.release(tenant, uuid, self._name)
            await self._index.leave(self._name)
        except AwsError as error:
            _log.debug("others find that this poller has gone", extra={"reason": error.message})

    async def _keep_looking(self) -> None:
        while True:
            try:
                await self._look()
            except AwsError as error:
                _log.warning("event sources cannot be looked at: %s", error.message)
            except Exception:
                # A defect must not end the reading of queues.
                _log.exception("looking at event sources failed")
            self._let_go()
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self) -> None:
        readers = await self._index.announce(self._name, self._seconds)
        mine = {
            (each.tenant, each.uuid): each
            for each in await self._store.all()
            if (each.enabled or each.state not in SETTLED) and reader_of(each.uuid, readers) == self._name
        }
        for key in sorted(self._held.keys() - mine.keys()):
            await self._leave(key)
        await self._renew()
        for key, mapping in mine.items():
            now = self._clock.monotonic()
            if key not in self._held and await self._index.claim(*key, self._name, self._seconds):
                self._held[key] = _Held(mapping, now)
            if key in self._held:
                await self._tend(key, mapping)

    async def _renew(self) -> None:
        """Go on being the reader of what is held, for as long as anything of it runs: that counts against the mapping's
        bounds, so nobody else is to begin before."""
        for key, held in list(self._held.items()):
            now = self._clock.monotonic()
            if now - held.claimed < self._seconds * RENEW_SHARE:
                continue
            if await self._index.claim(*key, self._name, self._seconds):
                held.claimed = now
            elif held.reader is not None:
                held.reader.end()
            else:
                del self._held[key]

    async def _tend(self, key: tuple[Tenant, str], mapping: EventSourceMapping) -> None:
        """Do what a mapping's state asks for, and say so."""
        held = self._held[key]
        reader = held.reader
        if not mapping.enabled:
            if reader is not None and not await self._gone(held, reader):
                return
            settled = mapping.settled()
            if await self._store.change(mapping, settled) is True:
                if settled is None:
                    await self._checkpoints.drop(*key)
                await self._leave(key)
            return
        if reader is not None and reader.ended:
            # It was somebody else's meanwhile.
            await self._gone(held, reader)
            return
        if reader is None:
            reader = held.reader = self._make(mapping)
            if reader is not None:
                reader.start()
        elif mapping.revision != held.mapping.revision:
            reader.change(mapping)
        held.mapping = mapping
        result = NO_CONNECTION if reader is None else reader.result
        after: EventSourceMapping | None = mapping
        if mapping.state is not MappingState.ENABLED and (reader is None or reader.ready):
            after = mapping.settled()
        elif result != mapping.result:
            after = mapping.next(result=result)
        if after is not None and after is not mapping and await self._store.change(mapping, after) is True:
            held.mapping = after

    async def _leave(self, key: tuple[Tenant, str]) -> None:
        """Read a mapping no more; its claim is given back once nothing of it runs."""
        held = self._held[key]
        if held.reader is None or await self._gone(held, held.reader):
            del self._held[key]
            await self._index.release(*key, self._name)

    async def _gone(self, held: _Held, reader: SourceReader) -> bool:
        """End a reader; answers whether nothing of it runs any more."""
        reader.end()
        if not reader.idle:
            return False
        await reader.close(0)
        held.reader = None
        return True

    def _let_go(self) -> None:
        """Receive nothing by claims that could not be renewed."""
        now = self._clock.monotonic()
        for held in self._held.values():
            if held.reader is not None and now - held.claimed > self._seconds * SAFE_SHARE:
                held.reader.end()
