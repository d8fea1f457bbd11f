"""Whole pollers that read queues, on virtual time: the real keepers and readers over the twins of store and queues.
Pollers die, the store is away, queues refuse, users change their minds. Everything follows from one seed.

S1  Nothing is lost: a message leaves its queue only after a batch with it has succeeded, or a filter refused it.
S2  In a FIFO queue no message of a group begins before those ahead of it are done.
S3  No more batches of a mapping run at once than it may have, and no batch of one that is Disabled: as long as nobody
    was cut off from the store, since who is lets what runs end.
S4  In the end every queue is empty.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lambent.domain.async_events import Outcome
from lambent.domain.errors import AwsError
from lambent.domain.event_sources import EventSourceMapping, MappingState, Wanted, update
from lambent.domain.limits import Limits
from lambent.domain.names import FunctionRef
from lambent.infra.aws_json import SourceError
from lambent.infra.event_sources.memory_store import MemoryCheckpoints, MemoryEventSourceStore, MemoryReaderIndex
from lambent.infra.functions.directory import Known
from lambent.infra.telemetry import Telemetry
from services.poller.attempts import Attempt, Request
from services.poller.sources.counts import SourceCounts
from services.poller.sources.keeper import SourceKeeper
from services.poller.sources.memory_queue import MemoryQueue
from services.poller.sources.queue_reader import QueueReader
from services.poller.sources.reading import Means
from services.poller.sources.room import Room
from tests.records import ONE, record
from tests.simulation.cluster import SeededIds
from tests.simulation.pollers import LoopClock, VirtualLoop

CLAIM_SECONDS = 5.0
VISIBILITY_SECONDS = 30
_AWAY = AwsError("ServiceUnavailableException", "The store cannot be reached; try again shortly.")


@dataclass
class Story:
    """What a history is like."""

    pollers: int = 3
    messages: int = 200
    trouble: float = 0.0  # share of messages beside which something goes wrong
    cut_off: bool = False  # whether pollers lose the store


@dataclass
class Reading:
    """One poller."""

    keeper: SourceKeeper
    store: Reachable
    room: Room
    saves: Reachable | None = None  # of checkpoints

    def away(self, away: bool) -> None:
        """Lose the store, or find it again."""
        self.store.away = away
        if self.saves is not None:
            self.saves.away = away


class Reachable:
    """The store and the index, as one poller reaches them."""

    def __init__(self, *behind: Any) -> None:
        self._behind = behind
        self.away = False
        self.error = _AWAY

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = next(getattr(each, name) for each in self._behind if hasattr(each, name))

        async def call(*args: Any) -> Any:
            if self.away:
                raise self.error
            return await method(*args)

        return call


class World:
    """Queues, their mappings, and the pollers."""

    def __init__(self, seed: int, story: Story, loop: VirtualLoop) -> None:
        self.rng = random.Random(seed)
        self.story = story
        self.loop = loop
        self.clock = LoopClock(loop)
        self.store = MemoryEventSourceStore()
        self.index = MemoryReaderIndex(self.clock)
        self.limits = Limits()
        self.queues: dict[str, MemoryQueue] = {}
        self.order: defaultdict[tuple[str, str], list[str]] = defaultdict(list)  # ids by queue and group
        self.done: set[str] = set()  # of messages that a batch has succeeded with, or that are filtered out
        self.sent: set[str] = set()
        self.running: Counter[str] = Counter()  # batches by mapping
        self.pollers: list[Reading] = []
        self.broken: list[str] = []
        self.calm = False
        self._made = 0
        self._telemetry = Telemetry("test", otlp_endpoint="", prometheus=False, instance="t")

    async def run(self) -> None:
        """Send everything amid faults, then wait in calm until the queues are empty."""
        await self._map("plain")
        await self._map("window", batch_size=40, window_seconds=5, reports_failures=True, maximum_concurrency=2)
        await self._map("narrow", batch_size=2, maximum_concurrency=2)
        await self._map("picky", filters=('{"body": {"wanted": [true]}}',))
        await self._map("groups.fifo", batch_size=4, reports_failures=True)
        for _ in range(self.story.pollers):
            self.add_poller()
        faults = [self.kill, self.leave, self.refuse, self.rethink] + [self.cut_off] * self.story.cut_off
        for _ in range(self.story.messages):
            await asyncio.sleep(self.rng.expovariate(10.0))
            self.send()
            if self.rng.random() < self.story.trouble:
                await self.rng.choice(faults)()
        self.calm = True
        for queue in self.queues.values():
            queue.error = None
        for poller in self.pollers:
            poller.away(False)
        for mapping in await self.store.all():
            await self._want(mapping.uuid, enabled=True)
        for _ in range(600):
            if not any(queue.messages for queue in self.queues.values()):
                break
            await asyncio.sleep(1.0)
        states = {mapping.state for mapping in await self.store.all()}
        assert states == {MappingState.ENABLED}, states
        await asyncio.gather(*(poller.keeper.stop(100.0) for poller in self.pollers))
        self.check()
        left = {name: len(queue.messages) for name, queue in self.queues.items() if queue.messages}
        assert not left, f"S4: {left}"
        assert self.done == self.sent
        assert not self.running.total()
        assert not any(poller.room.held for poller in self.pollers)

    def check(self) -> None:
        """S1, and whatever was found broken meanwhile."""
        kept = {each.id for queue in self.queues.values() for each in queue.messages}
        lost = self.sent - kept - self.done
        assert not lost, f"S1: {lost}"
        assert not self.broken, self.broken[0]

    async def _map(self, name: str, **settings: Any) -> None:
        self.queues[name] = MemoryQueue(self.loop.time, VISIBILITY_SECONDS, ordered=name.endswith(".fifo"))
        arn = f"arn:aws:sqs:us-east-1:123456789012:{name}"
        mapping = EventSourceMapping(ONE, name, arn, "f", None, MappingState.CREATING, True, 0.0, **settings)
        assert await self.store.create(mapping) is None

    def send(self) -> None:
        """One more message."""
        name = self.rng.choice(list(self.queues))
        queue = self.queues[name]
        wanted = self.rng.random() < 0.5
        number = len(self.sent)
        group = f"g{self.rng.randrange(3)}" if queue.ordered else None
        sent = f"{name}/{number}"
        id_ = queue.send(json.dumps({"wanted": wanted, "id": sent}), group)
        queue.messages[-1].id = sent
        assert id_
        self.sent.add(sent)
        if group is not None:
            self.order[name, group].append(sent)
        if name == "picky" and not wanted:
            self.done.add(sent)
        self.check()

    def add_poller(self) -> None:
        """Another poller."""
        self._made += 1
        reach = Reachable(self.store, self.index)
        ids, rng = SeededIds(self.rng), random.Random(self.rng.random())
        room, counts = Room(10_000), SourceCounts(self._telemetry)

        def reader(mapping: EventSourceMapping) -> QueueReader:
            queue = self.queues[mapping.uuid]
            means = Means(Playing(self, mapping.uuid), room, counts, self.limits, self.clock, ids, rng)  # type: ignore[arg-type]
            return QueueReader(mapping, queue.connect, means)

        keeper = SourceKeeper(
            reach, reach, MemoryCheckpoints(self.index), reader, f"p{self._made}", self.clock, CLAIM_SECONDS
        )
        keeper.start()
        self.pollers.append(Reading(keeper, reach, room))

    # What goes wrong

    async def kill(self) -> None:
        """A poller ends without a word; another begins."""
        poller = self.pollers.pop(self.rng.randrange(len(self.pollers)))
        poller.away(True)
        await poller.keeper.stop(0.0)
        self.add_poller()

    async def leave(self) -> None:
        """A poller is stopped as a deployment stops it; another begins at once."""
        poller = self.pollers.pop(self.rng.randrange(len(self.pollers)))
        self.add_poller()
        await poller.keeper.stop(100.0)

    async def refuse(self) -> None:
        """A queue answers nothing but errors, or does again."""
        queue = self.rng.choice(list(self.queues.values()))
        queue.error = None if queue.error else SourceError("InternalError", "no")

    async def rethink(self) -> None:
        """A user switches a mapping off or on, or changes it."""
        name = self.rng.choice(list(self.queues))
        await self._want(name, enabled=self.rng.choice([True, False, None]), batch_size=self.rng.randint(1, 10))

    async def cut_off(self) -> None:
        """A poller loses the store, or finds it again."""
        poller = self.rng.choice(self.pollers)
        poller.away(not poller.store.away)

    async def _want(self, uuid: str, **wanted: Any) -> None:
        while True:
            before = await self.store.get(ONE, uuid)
            assert before is not None
            try:
                after = update(before, Wanted(**wanted), self.loop.time(), self.limits)
            except AwsError:  # it is in use
                if not self.calm:
                    return
                await asyncio.sleep(1.0)
                continue
            if await self.store.change(before, after) is True:
                return


@dataclass
class Playing:
    """Attempts at a mapping's batches, as drawn."""

    world: World
    uuid: str

    async def find(self, ref: FunctionRef) -> Known | Attempt:
        if not self.world.calm and self.world.rng.random() < 0.02:
            return Attempt(Outcome.SYSTEM_ERROR, "The function is in the state Pending")
        return Known(record(), None)

    async def none_reserved(self, tenant: Any, name: str) -> bool:
        return False

    def in_loop(self, known: Known, header: str | None) -> bool:
        return False

    async def run(
        self, ref: FunctionRef, known: Known, request: Request, payload: bytes, begins: Callable[[], None]
    ) -> Attempt:
        world, rng = self.world, self.world.rng
        ids = [each["messageId"] for each in json.loads(payload)["Records"]]
        if not world.calm and rng.random() < 0.1:
            return Attempt(Outcome.THROTTLED, "ConcurrentInvocationLimitExceeded")
        await self._begins(ids)
        world.running[self.uuid] += 1
        try:
            await asyncio.sleep(rng.expovariate(0.3 if self.uuid == "narrow" else 2.0))
            if not world.calm and rng.random() < 0.1:
                return Attempt(Outcome.FUNCTION_ERROR, "ValueError", "1", "Unhandled", b"{}")
            mapping = await world.store.get(ONE, self.uuid)
            assert mapping is not None
            good = ids
            if mapping.reports_failures and not world.calm:
                # A handler of a FIFO queue stops at the first that fails.
                good = ids[: rng.randint(0, len(ids))]
            world.done |= set(good)
            failures = [{"itemIdentifier": each} for each in ids if each not in good]
            return Attempt(
                Outcome.SUCCEEDED, "", "1", None, json.dumps({"batchItemFailures": failures}).encode()
            )  # fmt: skip
        finally:
            world.running[self.uuid] -= 1

    async def _begins(self, ids: Sequence[str]) -> None:
        world = self.world
        for (name, group), order in world.order.items():
            batch = [each for each in ids if each in order]
            if not batch or name != self.uuid:
                continue
            ahead = order[: order.index(batch[-1])]
            skipped = [each for each in ahead if each not in world.done and each not in batch]
            if skipped or batch != sorted(batch, key=order.index):
                world.broken.append(f"S2: {batch} of {group} before {skipped}")
        mapping = await world.store.get(ONE, self.uuid)
        assert mapping is not None
        if world.story.cut_off:
            return
        if mapping.state is MappingState.DISABLED:
            world.broken.append(f"S3: a batch of {self.uuid}, which is Disabled")
        if world.running[self.uuid] >= (mapping.maximum_concurrency or 1250):
            world.broken.append(f"S3: one more batch than {self.uuid} may have")
