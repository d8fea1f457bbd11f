"""The queue's twin for tests: the same answers from plain dictionaries."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from lambent.domain.clock import Clock
from lambent.domain.names import Tenant
from lambent.infra.queue.port import (
    NO_TERMS,
    Batch,
    Dead,
    Delayed,
    Depth,
    Done,
    Entry,
    Item,
    Leased,
    Place,
    QueueKey,
    Settlement,
    Terms,
)


@dataclass(slots=True)
class _Queue:
    fresh: deque[str] = field(default_factory=deque)
    delayed: dict[str, float] = field(default_factory=dict)
    leased: dict[str, tuple[str, float]] = field(default_factory=dict)  # token, end
    dead: dict[str, float] = field(default_factory=dict)
    values: dict[str, bytes] = field(default_factory=dict)
    states: dict[str, bytes] = field(default_factory=dict)
    tokens: dict[str, tuple[str, float]] = field(default_factory=dict)  # id, until when it is kept

    def forget(self, id_: str) -> None:
        self.values.pop(id_, None)
        self.states.pop(id_, None)
        self.dead.pop(id_, None)

    def times(self, place: Place) -> Mapping[str, float]:
        if place is Place.LEASED:
            return {id_: end for id_, (_, end) in self.leased.items()}
        return self.delayed if place is Place.DELAYED else self.dead

    def next_due(self, now: float) -> float | None:
        times = [now] if self.fresh else [*self.delayed.values(), *(end for _, end in self.leased.values())]
        return min(times, default=None)


class MemoryQueue:
    """An `EventQueue` and its `QueueInspector` in this process."""

    def __init__(self, clock: Clock, owner: str, *, dead_seconds: float, dead_items: int) -> None:
        self._clock = clock
        self._owner = owner
        self._dead_seconds = dead_seconds
        self._dead_items = dead_items
        self._queues: dict[QueueKey, _Queue] = {}
        self._index: dict[QueueKey, float] = {}
        self._leases: dict[Tenant, int] = {}
        self._paused: set[QueueKey] = set()
        self._priorities: dict[QueueKey, int] = {}
        self._listeners: list[asyncio.Queue[QueueKey]] = []

    def now(self) -> float:
        return self._clock.epoch()

    async def synchronize(self) -> None:
        pass

    async def append(
        self, tenant: Tenant, items: Sequence[Item], now: float, terms: Mapping[str, Terms] = NO_TERMS
    ) -> list[str]:
        self._leases.setdefault(tenant, 0)
        return [self._append(tenant, item, _cut(now), terms.get(item.id, Terms())) for item in items]

    def _append(self, tenant: Tenant, item: Item, now: float, terms: Terms) -> str:
        key = QueueKey(tenant, item.name)
        queue = self._queues.setdefault(key, _Queue())
        if terms.token is not None:
            first, until = queue.tokens.get(terms.token.text, ("", 0.0))
            if until > now:
                return first
            queue.tokens[terms.token.text] = item.id, _cut(terms.token.until)
        due = max(now, _cut(terms.not_before or 0.0))
        self._index[key] = min(self._index.get(key, due), due)
        if item.id in queue.values:
            return item.id
        queue.values[item.id] = item.value
        if due > now:
            queue.delayed[item.id] = due
            return item.id
        queue.fresh.append(item.id)
        if len(queue.fresh) == 1:
            for listener in self._listeners:
                listener.put_nowait(key)
        return item.id

    async def lease(self, key: QueueKey, count: int, now: float, until: float) -> Batch:
        now = _cut(now)
        queue = self._queues.setdefault(key, _Queue())
        if key in self._paused:
            self._index.pop(key, None)
            return Batch((), None, self._priorities.get(key, 0))
        for id_ in [id_ for id_, (_, end) in queue.leased.items() if end <= now]:
            del queue.leased[id_]
            queue.delayed[id_] = now
        ids = sorted((at, id_) for id_, at in queue.delayed.items() if at <= now)[:count]
        taken = [id_ for _, id_ in ids]
        for id_ in taken:
            del queue.delayed[id_]
        while queue.fresh and len(taken) < count:
            taken.append(queue.fresh.popleft())
        token = ""
        if taken:
            number = self._leases[key.tenant] = self._leases.get(key.tenant, 0) + 1
            token = f"{number} {self._owner}"
        for id_ in taken:
            queue.leased[id_] = token, _cut(until)
        due = queue.next_due(now)
        if due is None:
            self._index.pop(key, None)
        else:
            self._index[key] = due
        leased = (Leased(id_, token, queue.values[id_], queue.states.get(id_, b"")) for id_ in taken)
        return Batch(tuple(leased), due, self._priorities.get(key, 0))

    async def renew(self, key: QueueKey, held: Sequence[tuple[str, str]], until: float) -> frozenset[str]:
        queue = self._queues.setdefault(key, _Queue())
        still = [id_ for id_, token in held if queue.leased.get(id_, ("",))[0] == token]
        for id_ in still:
            queue.leased[id_] = queue.leased[id_][0], _cut(until)
        return frozenset(still)

    async def settle(self, key: QueueKey, settlements: Sequence[Settlement], now: float) -> frozenset[str]:
        now = _cut(now)
        queue = self._queues.setdefault(key, _Queue())
        settled = []
        for each in settlements:
            if queue.leased.get(each.id, ("",))[0] != each.token:
                continue
            settled.append(each.id)
            del queue.leased[each.id]
            match each.verdict:
                case Done():
                    queue.forget(each.id)
                case Delayed(until, state):
                    queue.states[each.id], queue.delayed[each.id] = state, _cut(until)
                    self._index[key] = min(self._index.get(key, until), _cut(until))
                case Dead(state):
                    queue.states[each.id], queue.dead[each.id] = state, now
            await self.append(key.tenant, each.then, now)
        by_age = sorted((at, id_) for id_, at in queue.dead.items())
        over = len(by_age) - self._dead_items
        for position, (at, id_) in enumerate(by_age):
            if position < over or at <= _cut(now - self._dead_seconds):
                queue.forget(id_)
        return frozenset(settled)

    async def due(self, tenant: Tenant, before: float, limit: int) -> list[tuple[str, float]]:
        found = [(at, key.name) for key, at in self._index.items() if key.tenant == tenant and at <= before]
        return [(name, at) for at, name in sorted(found)[:limit]]

    async def tenants(self) -> tuple[Tenant, ...]:
        return tuple(sorted(self._leases))

    async def wakes(self) -> AsyncIterator[QueueKey]:
        listener: asyncio.Queue[QueueKey] = asyncio.Queue()
        self._listeners.append(listener)
        try:
            while True:
                yield await listener.get()
        finally:
            self._listeners.remove(listener)

    async def depths(self, tenant: Tenant) -> list[Depth]:
        found = []
        for key in sorted({*self._queues, *self._paused, *self._priorities}):
            queue = self._queues.get(key, _Queue())
            counts = {
                Place.FRESH: len(queue.fresh), Place.DELAYED: len(queue.delayed), Place.LEASED: len(queue.leased),
                Place.DEAD: len(queue.dead),
            }  # fmt: skip
            paused = key in self._paused
            priority = self._priorities.get(key, 0)
            if key.tenant == tenant and (paused or priority or any(counts.values())):
                first = queue.values[queue.fresh[0]] if queue.fresh else None
                due = min(queue.delayed.values(), default=None)
                found.append(Depth(key.name, counts, paused, first, due, priority))
        return found

    async def entries(self, key: QueueKey, place: Place, limit: int, after: float | None = None) -> list[Entry]:
        queue = self._queues.get(key, _Queue())
        if place is Place.FRESH:
            ids = list(queue.fresh)
        else:
            times = queue.times(place)
            ids = [id_ for at, id_ in sorted((at, id_) for id_, at in times.items()) if after is None or at >= after]
        return [entry for id_ in ids[:limit] if (entry := await self.entry(key, id_)) is not None]

    async def entry(self, key: QueueKey, id_: str) -> Entry | None:
        queue = self._queues.get(key, _Queue())
        if id_ not in queue.values:
            return None
        token = queue.leased.get(id_, ("",))[0]
        for place in (Place.DELAYED, Place.LEASED, Place.DEAD):
            at = queue.times(place).get(id_)
            if at is not None:
                return Entry(id_, place, at, token, queue.values[id_], queue.states.get(id_, b""))
        return Entry(id_, Place.FRESH, None, token, queue.values[id_], queue.states.get(id_, b""))

    async def pause(self, key: QueueKey, now: float) -> None:
        self._paused.add(key)

    async def resume(self, key: QueueKey, now: float) -> bool:
        if key not in self._paused:
            return False
        self._paused.discard(key)
        self._announce(key, now)
        return True

    async def prioritize(self, key: QueueKey, priority: int) -> None:
        self._priorities.pop(key, None)
        if priority:
            self._priorities[key] = priority

    async def purge(self, key: QueueKey, what: Literal["waiting", "dead"]) -> int:
        queue = self._queues.get(key, _Queue())
        ids = list(queue.dead) if what == "dead" else [*queue.fresh, *queue.delayed]
        if what == "waiting":
            queue.fresh.clear()
            queue.delayed.clear()
        for id_ in ids:
            queue.forget(id_)
        return len(ids)

    async def redrive(self, key: QueueKey, ids: Sequence[str], state: bytes, now: float) -> int:
        queue = self._queues.get(key, _Queue())
        dead = [id_ for id_ in dict.fromkeys(ids) if queue.dead.pop(id_, None) is not None]
        for id_ in dead:
            queue.states[id_] = state
            queue.fresh.append(id_)
        if dead:
            self._announce(key, now)
        return len(dead)

    def _announce(self, key: QueueKey, now: float) -> None:
        self._index[key] = min(self._index.get(key, now), _cut(now))
        for listener in self._listeners:
            listener.put_nowait(key)


def _cut(seconds: float) -> float:
    """To the millisecond, as the store keeps it."""
    return int(seconds * 1000) / 1000
