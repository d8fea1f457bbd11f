"""Whole pollers on virtual time: the real loops over the queue's twin, behind a store that is away, slow, loses answers and
is told things twice; pollers die, and their clocks jump. Everything follows from one seed, and the invariants are checked
after every command that the queue has taken:

Q1  Nothing is lost: what was appended is in one place of the queue, or has ended.
Q2  Nothing ends twice.
Q3  Nothing is forgotten: a queue with anything that has not ended is in the index, by when it is due.
Q4  One holder: what ends, or is put off, is what the newest lease of it says.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from lambent.domain.async_events import Outcome, RetryPolicy
from lambent.domain.errors import AwsError
from lambent.domain.names import FunctionRef, Tenant
from lambent.infra.connections import Connections
from lambent.infra.functions.directory import Known
from lambent.infra.queue.memory_queue import MemoryQueue
from lambent.infra.queue.port import NO_TERMS, Batch, Dead, Delayed, Done, Item, QueueKey, Settlement, Terms
from lambent.infra.queue.records import Event, encode
from lambent.infra.telemetry import Telemetry
from services.poller.attempts import Attempt, Request
from services.poller.outbox import Outbox
from services.poller.poller import Poller
from services.poller.sending import Deliveries, Sender
from tests.records import ONE, record
from tests.simulation.cluster import SeededIds

T = TypeVar("T")
POLICY = RetryPolicy(1, 3600.0, 1.0, 0.2, 5.0)
LEASE_SECONDS = 2.0
_AWAY = AwsError("ServiceUnavailableException", "The store cannot be reached; try again shortly.")


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose time passes where it would wait."""

    def __init__(self) -> None:
        self._virtual = 1000.0
        super().__init__(_Impatient(self))

    def time(self) -> float:
        return self._virtual

    def pass_time(self, seconds: float) -> None:
        self._virtual += seconds


class _Impatient(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everything waits for something that never comes"
        if timeout > 0:
            self._loop.pass_time(timeout)
        return super().select(0)


@dataclass
class LoopClock:
    """Time as the loop has it, and as a clock shows it that is off."""

    loop: VirtualLoop
    offset: float = 0.0

    def monotonic(self) -> float:
        return self.loop.time()

    def epoch(self) -> float:
        return self.loop.time() + self.offset


@dataclass
class Story:
    """What a history is like."""

    pollers: int = 3
    events: int = 70
    functions: int = 3
    trouble: float = 0.0  # share of commands that fail, lose their answer, or arrive twice; and of faults beside events
    priorities: bool = False


class World:
    """One queue and its pollers."""

    def __init__(self, seed: int, story: Story, loop: VirtualLoop) -> None:
        self.rng = random.Random(seed)
        self.story = story
        self.loop = loop
        self.queue = MemoryQueue(LoopClock(loop), "p", dead_seconds=1e9, dead_items=10**9)
        self.appended: set[str] = set()
        self.ended: Counter[str] = Counter()
        self.newest: dict[str, str] = {}  # id → token of its newest lease
        self.ran: Counter[str] = Counter()
        self.commands = 0
        self.broken: list[str] = []  # what did not hold; a task that fails is not the end of a poller
        self.calm = False  # no more faults
        self.pollers: list[tuple[Poller, Faulty]] = []
        self._made = 0

    async def run(self) -> None:
        """Append everything amid faults, then wait in calm until all has ended."""
        for number in range(self.story.functions if self.story.priorities else 0):
            await self.queue.prioritize(QueueKey(ONE, f"f{number}"), self.rng.randint(-10, 10))
        for _ in range(self.story.pollers):
            await self.add_poller()
        for number in range(self.story.events):
            await asyncio.sleep(self.rng.expovariate(20.0))
            self.append(f"e{number}")
            if self.rng.random() < self.story.trouble:
                await self.rng.choice((self.kill, self.jump, self.silence))()
        self.calm = True
        for _, store in self.pollers:
            store.clock.offset = 0.0
        # The longest that anything may take: a lease, then every wait between attempts, and the visits of ten seconds.
        for _ in range(600):
            if sum(self.ended.values()) == len(self.appended):
                break
            await asyncio.sleep(1.0)
        for poller, _ in self.pollers:
            await poller.stop(100.0)

    def append(self, id_: str) -> None:
        name = f"f{self.rng.randrange(self.story.functions)}"
        now = self.loop.time()
        self.appended.add(id_)
        value = encode(Event(now, None, ""), b"{}")
        done(self.queue.append(ONE, [Item(name, id_, value)], now))
        self.check()

    async def add_poller(self) -> None:
        self._made += 1
        clock = LoopClock(self.loop, 0.0)
        store = Faulty(self, clock, f"p{self._made}")
        telemetry = Telemetry("test", otlp_endpoint="", prometheus=False, instance="t")
        sender = Sender(Connections(()), None, clock)  # type: ignore[arg-type]
        poller = Poller(
            store, _Attempts(self), Deliveries(sender, POLICY, 10.0, telemetry),  # type: ignore[arg-type]
            Outbox(Connections(()), SeededIds(self.rng)), POLICY, telemetry, random.Random(self.rng.random()),
            running=8, lease_seconds=LEASE_SECONDS,
        )  # fmt: skip
        await poller.start()
        self.pollers.append((poller, store))

    async def kill(self) -> None:
        """One dies in the middle of whatever it does; another comes."""
        poller, store = self.pollers.pop(self.rng.randrange(len(self.pollers)))
        store.dead = True
        await poller.stop(0.0)
        await self.add_poller()

    async def jump(self) -> None:
        """A clock is set wrong, until it is set by the store's again."""
        _, store = self.rng.choice(self.pollers)
        store.clock.offset = self.rng.choice((-30.0, -1.0, 1.0, 30.0))

    async def silence(self) -> None:
        """A poller does not reach the store for longer than its leases hold."""
        _, store = self.rng.choice(self.pollers)
        store.away_until = self.loop.time() + self.rng.choice((0.5, 2 * LEASE_SECONDS))

    def check(self) -> None:
        """Q1 to Q3."""
        self.commands += 1
        living: list[str] = []
        dead: list[str] = []
        known = {name for name, _ in done(self.queue.due(ONE, 1e12, 99))}
        for key, queue in self.queue._queues.items():
            waits = [*queue.fresh, *queue.delayed, *queue.leased]
            living += waits
            dead += queue.dead
            self.require(not waits or key.name in known, f"Q3: {key.name} has {len(waits)} and is in no index")
        self.require(len({*living, *dead}) == len(living) + len(dead), "Q1: in two places")
        self.require(self.appended - self.ended.keys() == set(living), "Q1: lost, or alive after its end")
        self.require(all(count == 1 for count in self.ended.values()), "Q2: ended twice")

    def require(self, holds: bool, what: str) -> None:
        if not holds:
            self.broken.append(what)


class Faulty:
    """The queue as one poller meets it."""

    def __init__(self, world: World, clock: LoopClock, name: str) -> None:
        self.world, self.clock, self.name = world, clock, name
        self.dead = False
        self.away_until = 0.0

    def now(self) -> float:
        return self.clock.epoch()

    async def synchronize(self) -> None:
        await asyncio.sleep(0)
        self.clock.offset = 0.0

    async def _command(self, work: Callable[[], Awaitable[T]]) -> T:
        """One command: late, perhaps not at all, twice, or without an answer."""
        world = self.world
        await asyncio.sleep(world.rng.expovariate(1000.0))
        if self.dead:
            await asyncio.sleep(1e6)
        trouble = 0.0 if world.calm else world.story.trouble
        drawn = world.rng.random()
        if world.loop.time() < self.away_until or drawn < trouble / 3:
            raise _AWAY
        answer: T = done(work())
        world.check()
        if drawn < trouble * 2 / 3:
            done(work())
            world.check()
        await asyncio.sleep(world.rng.expovariate(1000.0))
        if self.dead:
            await asyncio.sleep(1e6)
        if trouble * 2 / 3 < drawn < trouble:
            raise _AWAY
        return answer

    async def lease(self, key: QueueKey, count: int, now: float, until: float) -> Batch:
        async def work() -> Batch:
            batch = await self.world.queue.lease(key, count, now, until)
            for item in batch.items:
                self.world.require(item.id not in self.world.ended, "Q2: leased after its end")
                self.world.newest[item.id] = item.token
            return batch

        return await self._command(work)

    async def settle(self, key: QueueKey, settlements: Sequence[Settlement], now: float) -> frozenset[str]:
        async def work() -> frozenset[str]:
            settled = await self.world.queue.settle(key, settlements, now)
            for each in settlements:
                if each.id in settled:
                    self.world.require(self.world.newest[each.id] == each.token, "Q4: settled by a former holder")
                    if isinstance(each.verdict, Done | Dead):
                        self.world.ended[each.id] += 1
                    else:
                        assert isinstance(each.verdict, Delayed)
            return settled

        return await self._command(work)

    async def renew(self, key: QueueKey, held: Sequence[tuple[str, str]], until: float) -> frozenset[str]:
        async def work() -> frozenset[str]:
            still = await self.world.queue.renew(key, held, until)
            assert all(self.world.newest[id_] == token for id_, token in held if id_ in still), (
                "Q4: renewed by a former"
            )
            return still

        return await self._command(work)

    async def append(
        self, tenant: Tenant, items: Sequence[Item], now: float, terms: Mapping[str, Terms] = NO_TERMS
    ) -> list[str]:
        return await self._command(lambda: self.world.queue.append(tenant, items, now, terms))

    async def due(self, tenant: Tenant, before: float, limit: int) -> list[tuple[str, float]]:
        return await self._command(lambda: self.world.queue.due(tenant, before, limit))

    async def tenants(self) -> tuple[Tenant, ...]:
        return await self._command(self.world.queue.tenants)

    async def wakes(self) -> AsyncIterator[QueueKey]:
        async for key in self.world.queue.wakes():
            # Some are missed.
            if self.world.rng.random() >= self.world.story.trouble:
                yield key


@dataclass
class _Attempts:
    """What comes of running an event is drawn."""

    world: World
    known: Known = field(default_factory=lambda: Known(record(), None))

    async def find(self, ref: FunctionRef) -> Known:
        return self.known

    async def run(
        self, ref: FunctionRef, known: Known, request: Request, payload: bytes, begins: Callable[[], None],
        tenant_id: str | None,
    ) -> Attempt:  # fmt: skip
        rng = self.world.rng
        begins()
        # Now and then for longer than a lease holds that nobody renews.
        await asyncio.sleep(rng.choice((0.01, 0.1, 3 * LEASE_SECONDS if rng.random() < 0.1 else 0.2)))
        outcomes = (
            Outcome.SUCCEEDED,
            Outcome.SUCCEEDED,
            Outcome.FUNCTION_ERROR,
            Outcome.THROTTLED,
            Outcome.SYSTEM_ERROR,
        )
        outcome = rng.choice(outcomes)
        if outcome in (Outcome.THROTTLED, Outcome.SYSTEM_ERROR):
            return Attempt(outcome, "drawn")
        self.world.ran[request.request_id] += 1
        return Attempt(outcome, "", "1", None if outcome is Outcome.SUCCEEDED else "Unhandled", b"null")


def done(work: Any) -> Any:
    """The answer of a coroutine that waits for nothing: a command is one step."""
    try:
        work.send(None)
    except StopIteration as answer:
        return answer.value
    raise AssertionError("it waits")


class Lived(Protocol):
    """A world that has a history."""

    async def run(self) -> None: ...


W = TypeVar("W", bound=Lived)


def to_its_end(make: Callable[[VirtualLoop], W]) -> W:
    """The world that `make` makes on virtual time, after its history."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        world = make(loop)
        runner.run(world.run())
    return world


def play(seed: int, story: Story) -> World:
    """A history to its end."""
    world = to_its_end(lambda loop: World(seed, story, loop))
    assert not world.broken, world.broken[:3]
    return world
