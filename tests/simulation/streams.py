"""Whole pollers that read streams, on virtual time: the real keepers and readers over the twins of store and streams.
Shards split, pollers die, the store is away, streams refuse. Everything follows from one seed.

T1  Nothing is lost: in the end every record has been handled, or its destination was told that it was given up; and only
    such are given up as never succeed, those before and behind them in their batch, and such as are too old.
T2  A record begins only after those of its key that came before it are handled or given up.
T3  No more batches of a shard run at once than are set, as long as nobody was cut off from the store.
T4  What is saved is true: a reader that begins anew finds nothing left.
T5  A window's state has every record of it that is handled, each once, however often it was handled; windows end in their
    order.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lambent.domain.async_events import Outcome
from lambent.domain.event_sources import OLDEST, EventSourceMapping, MappingState
from lambent.domain.limits import Limits
from lambent.domain.names import FunctionRef
from lambent.infra.aws_json import SourceError
from lambent.infra.event_sources.memory_store import MemoryCheckpoints, MemoryEventSourceStore, MemoryReaderIndex
from lambent.infra.functions.directory import Known
from lambent.infra.queue.port import Item
from lambent.infra.queue.records import decode_delivery
from lambent.infra.telemetry import Telemetry
from services.poller.attempts import Attempt, Request
from services.poller.sources.counts import SourceCounts
from services.poller.sources.failures import Failures
from services.poller.sources.keeper import SourceKeeper
from services.poller.sources.memory_stream import MemoryStream
from services.poller.sources.reading import Means
from services.poller.sources.room import Room
from services.poller.sources.stream_reader import StreamReader
from tests.records import ONE, record
from tests.simulation.cluster import SeededIds
from tests.simulation.pollers import LoopClock, VirtualLoop
from tests.simulation.sources import CLAIM_SECONDS, Reachable, Reading, Story

MAPPINGS: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "lanes": {"parallel": 3, "batch_size": 5, "window_seconds": 2, "reports_failures": True},
    "picky": {"filters": ('{"data": {"wanted": [true]}}',)},
    "halves": {"bisects": True, "retries": 2, "on_failure": "arn:aws:sqs:us-east-1:000000000000:told"},
    "aged": {"age_seconds": 60, "bisects": True, "on_failure": "arn:aws:sqs:us-east-1:000000000000:old"},
    "windows": {"tumbling_seconds": 4, "batch_size": 5, "reports_failures": True},
    "whole": {"retries": 1, "batch_size": 3, "on_failure": "arn:aws:s3:::told"},
}
# Of those that give up: records that no attempt handles.
POISONED = ("halves", "aged", "whole")


class World:
    """Streams, their mappings, and the pollers."""

    def __init__(self, seed: int, story: Story, loop: VirtualLoop) -> None:
        self.rng = random.Random(seed)
        self.story = story
        self.loop = loop
        self.clock = LoopClock(loop)
        self.store = MemoryEventSourceStore()
        self.index = MemoryReaderIndex(self.clock)
        self.checkpoints = MemoryCheckpoints(self.index)
        self.streams: dict[str, MemoryStream] = {}
        self.order: defaultdict[tuple[str, str], list[int]] = defaultdict(list)  # numbers by mapping and key
        self.poison: set[int] = set()
        self.put: set[int] = set()
        self.unwanted: set[int] = set()
        self.done: set[int] = set()
        self.given_up: set[int] = set()
        self.arrived: dict[int, float] = {}
        self.windowed: defaultdict[int, list[list[int]]] = defaultdict(list)  # by number: states that ended with it
        self.ended: dict[str, str] = {}  # by shard: the start of the last window that ended
        self.running: Counter[tuple[str, str]] = Counter()  # batches by mapping and shard
        self.begun = 0
        self.pollers: list[Reading] = []
        self.broken: list[str] = []
        self.calm = False
        self._made = 0
        self._telemetry = Telemetry("test", otlp_endpoint="", prometheus=False, instance="t")

    async def run(self) -> None:
        """Put everything amid faults, then wait in calm until it has been handled or given up."""
        for name, settings in MAPPINGS.items():
            self.streams[name] = MemoryStream(self.loop.time, 2)
            arn = f"arn:aws:kinesis:us-east-1:123456789012:stream/{name}"
            mapping = EventSourceMapping(
                ONE, name, arn, "f", None, MappingState.CREATING, True, 0.0, position=OLDEST, **settings
            )
            assert await self.store.create(mapping) is None
        for _ in range(self.story.pollers):
            self.add_poller()
        faults = [self.kill, self.leave, self.refuse, self.split, self.expire] + [self.cut_off] * self.story.cut_off
        for _ in range(self.story.messages):
            await asyncio.sleep(self.rng.expovariate(10.0))
            self.send()
            if self.rng.random() < self.story.trouble:
                await self.rng.choice(faults)()
        self.calm = True
        for stream in self.streams.values():
            stream.error = None
        for poller in self.pollers:
            poller.away(False)
        for _ in range(900):
            if self.put == self.done | self.given_up | self.unwanted:
                break
            await asyncio.sleep(1.0)
        lost = self.put - self.done - self.given_up - self.unwanted
        assert not lost, f"T1: {sorted(lost)}"
        await asyncio.sleep(60.0)  # until the last windows are over
        assert self.given_up == self.poison, f"T1: given up: {sorted(self.given_up ^ self.poison)}"
        await asyncio.sleep(30.0)  # until a poller that lost the store has found it
        await asyncio.gather(*(poller.keeper.stop(100.0) for poller in self.pollers))
        self._check()
        assert not self.running.total()
        assert not any(poller.room.held for poller in self.pollers)
        begun = self.begun
        self.add_poller()
        await asyncio.sleep(60.0)
        await self.pollers[-1].keeper.stop(100.0)
        assert self.begun == begun, "T4"

    def _check(self) -> None:
        assert not self.broken, self.broken[0]
        for (name, _), numbers in self.order.items():
            for number in numbers if name == "windows" else ():
                states = self.windowed[number]
                assert states, f"T5: {number} is in no window's state"
                assert all(each == states[0] for each in states), f"T5: {number} is in several windows: {states}"

    def sequences(self, name: str, shard: str) -> list[tuple[int, int]]:
        """The records of a shard: number and sequence number."""
        return [
            (json.loads(base64.b64decode(each.document["kinesis"]["data"]))["n"], int(each.sequence))
            for each in self.streams[name].records(shard)
        ]

    def send(self) -> None:
        """One more record."""
        name = self.rng.choice(list(self.streams))
        number = len(self.put)
        wanted = name != "picky" or self.rng.random() < 0.5
        key = f"k{self.rng.randrange(6)}"
        self.streams[name].put(json.dumps({"n": number, "wanted": wanted}), key)
        self.put.add(number)
        self.arrived[number] = self.loop.time()
        if not wanted:
            self.unwanted.add(number)
            return
        self.order[name, key].append(number)
        if name in POISONED and self.rng.random() < 0.1:
            self.poison.add(number)

    def add_poller(self) -> None:
        """Another poller."""
        self._made += 1
        name = f"p{self._made}"
        reach = Reachable(self.store, self.index)
        saves = Reachable(self.checkpoints)
        room = Room(20_000)
        failures = Failures(Told(self, reach), self.clock, SeededIds(self.rng))  # type: ignore[arg-type]

        def reader(mapping: EventSourceMapping) -> StreamReader:
            means = Means(
                Playing(self, mapping.uuid), room, SourceCounts(self._telemetry), Limits(), self.clock,  # type: ignore[arg-type]
                SeededIds(self.rng), random.Random(self.rng.random()),
            )  # fmt: skip
            stream = self.streams[mapping.uuid]
            return StreamReader(mapping, lambda role: stream.connect(), saves, name, failures, means)

        keeper = SourceKeeper(reach, reach, saves, reader, name, self.clock, CLAIM_SECONDS)
        keeper.start()
        self.pollers.append(Reading(keeper, reach, room, saves))

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
        poller.away(False)
        await poller.keeper.stop(100.0)

    async def refuse(self) -> None:
        """A stream answers nothing but errors, or does again."""
        stream = self.rng.choice(list(self.streams.values()))
        stream.error = None if stream.error else SourceError("InternalFailure", "no")

    async def split(self) -> None:
        """A shard is closed, and two go on with it."""
        stream = self.rng.choice(list(self.streams.values()))
        error, stream.error = stream.error, None
        closed = {parent for shard in stream.shards() for parent in shard.parents}
        stream.split(self.rng.choice([shard.id for shard in stream.shards() if shard.id not in closed]))
        stream.error = error

    async def expire(self) -> None:
        """Iterators are too old."""
        self.rng.choice(list(self.streams.values())).expire()

    async def cut_off(self) -> None:
        """A poller loses the store, or finds it again."""
        poller = self.rng.choice(self.pollers)
        poller.away(not poller.store.away)


@dataclass
class Told:
    """The queue of deliveries, as far as readers know it."""

    world: World
    reach: Reachable

    async def append(self, tenant: Any, items: Sequence[Item], now: float) -> list[str]:
        if self.reach.away:
            raise self.reach.error
        for item in items:
            delivery, body = decode_delivery(item.value)
            told = json.loads(body)
            info = told["KinesisBatchInfo"]
            name = info["streamArn"].rpartition("/")[2]
            assert item.name == f"@{MAPPINGS[name]['on_failure']}"
            condition = "RecordAgeExceeded" if name == "aged" else "RetryAttemptsExhausted"
            assert (delivery.kind, delivery.condition) == ("OnFailure", condition)
            numbers = [
                number for number, sequence in self.world.sequences(name, info["shardId"])
                if int(info["startSequenceNumber"]) <= sequence <= int(info["endSequenceNumber"])
            ]  # fmt: skip
            assert len(numbers) == info["batchSize"]
            if name == "halves":
                assert len(numbers) == 1
            if name == "aged":
                # Throttles and a stream that cannot be read make others old, too.
                assert max(self.world.arrived[number] for number in numbers) < now - 60
            self.world.given_up |= self.world.poison & set(numbers)
            # What was given up with a record that never succeeds is no loss of ours.
            self.world.done |= set(numbers) - self.world.poison
        return []


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

    async def run(
        self, ref: FunctionRef, known: Known, request: Request, payload: bytes, begins: Callable[[], None]
    ) -> Attempt:
        world, rng = self.world, self.world.rng
        event = json.loads(payload)
        records = event["Records"]
        shard = event["shardId"] if "window" in event else records[0]["eventID"].partition(":")[0]
        numbers = [json.loads(base64.b64decode(each["kinesis"]["data"]))["n"] for each in records]
        if not world.calm and rng.random() < 0.1:
            return Attempt(Outcome.THROTTLED, "ConcurrentInvocationLimitExceeded")
        self._begins(shard, records, numbers)
        world.running[self.uuid, shard] += 1
        try:
            await asyncio.sleep(rng.expovariate(3.0))
            if self.uuid in POISONED:
                # Only poison fails for good, so that nothing else may be given up alone.
                if world.poison & set(numbers):
                    return Attempt(Outcome.FUNCTION_ERROR, "ValueError", "1", "Unhandled", b"{}")
            elif not world.calm and rng.random() < (0.1 if numbers else 0.5):
                return Attempt(Outcome.FUNCTION_ERROR, "ValueError", "1", "Unhandled", b"{}")
            good = len(numbers)
            if self.uuid in ("lanes", "windows") and not world.calm:
                good = rng.randint(0, len(numbers))
            answer: dict[str, Any] = {
                "batchItemFailures": [{"itemIdentifier": each["kinesis"]["sequenceNumber"]} for each in records[good:]]
            }
            if "window" in event:
                answer["state"] = self._window(event, numbers[:good])
            world.done |= set(numbers[:good])
            return Attempt(Outcome.SUCCEEDED, "", "1", None, json.dumps(answer).encode())
        finally:
            world.running[self.uuid, shard] -= 1

    def _window(self, event: Any, numbers: Sequence[int]) -> Any:
        """The state after these records, which are checked to be of the window; where it is over, the state is kept."""
        world, window = self.world, event["window"]
        had = [*event["state"].get("had", ()), *numbers]
        if len(set(had)) < len(had):
            world.broken.append(f"T5: {had} has a record twice")
        begin = datetime.fromisoformat(window["start"]).timestamp()
        if any(not begin <= world.arrived[number] < begin + 4 for number in numbers):
            world.broken.append(f"T5: {numbers} are not all of {window}")
        if event["isFinalInvokeForWindow"]:
            if window["start"] < world.ended.get(event["shardId"], ""):
                world.broken.append(f"T5: {window} ended out of order")
            world.ended[event["shardId"]] = window["start"]
            for number in had:
                world.windowed[number].append(had)
        return {"had": had}

    def _begins(self, shard: str, records: Sequence[Any], numbers: Sequence[int]) -> None:
        world = self.world
        world.begun += 1
        handled = world.done | world.given_up
        for at, each in enumerate(records):
            order = world.order[self.uuid, each["kinesis"]["partitionKey"]]
            ahead = order[: order.index(numbers[at])]
            skipped = [number for number in ahead if number not in handled and number not in numbers[:at]]
            if skipped:
                world.broken.append(f"T2: {self.uuid} {numbers[at]} before {skipped}")
        if not world.story.cut_off and world.running[self.uuid, shard] >= MAPPINGS[self.uuid].get("parallel", 1):
            world.broken.append(f"T3: one more batch of {self.uuid} {shard} than it may have")
