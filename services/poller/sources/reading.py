"""What the readers of queues and streams have in common: they begin, change, say what stands against them, and end."""

from __future__ import annotations

import asyncio
import logging
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from lambent.domain.async_events import Outcome
from lambent.domain.clock import Clock, Ids
from lambent.domain.event_patterns import Filter, for_dynamodb, for_kafka, for_kinesis, for_queue
from lambent.domain.event_sources import DYNAMODB, KINESIS, QUEUE, EventSourceMapping, source_of
from lambent.domain.kafka_records import KAFKA
from lambent.domain.limits import Limits
from lambent.domain.stream_windows import EVENT_BYTES, STATE_BYTES
from lambent.infra.aws_json import SourceError
from lambent.infra.invocation_telemetry import Cause
from lambent.infra.tasks import TaskOwner
from services.poller.attempts import Attempt, Attempts, Request
from services.poller.core.batches import BatchRules
from services.poller.sources.counts import SourceCounts
from services.poller.sources.room import Room

_log = logging.getLogger(__name__)
T = TypeVar("T")

# How long a source is left alone that cannot be read, or whose function cannot be invoked.
PAUSE_SECONDS = 2.0
CALL_FAILED = "PROBLEM: Function call failed"
# Patterns and records are strangers': from so many characters on, comparing them is a thread's work, which can take
# seconds for a pattern of hundreds of operators and a record of as many thousands of values.
FILTERED_CHARACTERS = 16_384
_FILTERS: Mapping[str, Callable[[Sequence[str]], Filter]] = {
    QUEUE: for_queue, KINESIS: for_kinesis, DYNAMODB: for_dynamodb, KAFKA: for_kafka,
}  # fmt: skip
# How traces call what is read.
_SYSTEMS: Mapping[str, str] = {QUEUE: "aws_sqs", KAFKA: "kafka"}
# How long records of a topic wait for others where nothing is set.
TOPIC_WINDOW_SECONDS = 0.5
# What an event of a topic has around its records, at most.
_TOPIC_FRAME_BYTES = 16 * 1024
# Outcomes of attempts that came to the function.
RAN = (Outcome.SUCCEEDED, Outcome.FUNCTION_ERROR)


@dataclass(frozen=True, slots=True)
class Means:
    """What every reader of a poller works with."""

    attempts: Attempts
    room: Room  # shared by all readers
    counts: SourceCounts
    limits: Limits
    clock: Clock
    ids: Ids
    rng: random.Random
    # How many threads compare at once: each takes the interpreter from everybody else of the poller for a while.
    filtering: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))


class SourceReader(ABC):
    """The reader of one mapping, from `start` until it is `idle` after `end`."""

    def __init__(self, mapping: EventSourceMapping, means: Means) -> None:
        self._means = means
        self._source = source_of(mapping.source_arn)
        self._ended = asyncio.Event()
        self._none_reserved = False  # whether an invocation was refused for that
        self._troubled = False  # whether something has stood against reading
        self._tasks = TaskOwner(f"source {mapping.uuid}", expected=(SourceError,))
        self._lanes = TaskOwner(f"lanes {mapping.uuid}")
        self.result = mapping.result  # LastProcessingResult
        self._use(mapping)

    def _use(self, mapping: EventSourceMapping) -> None:
        """Go by these settings from now on."""
        self._mapping = mapping
        state = STATE_BYTES + EVENT_BYTES if mapping.tumbling_seconds else 0
        topic = self._source.service == KAFKA
        most = self._means.limits.sync_request_bytes - state - (_TOPIC_FRAME_BYTES if topic else 0)
        window = mapping.window_seconds or (TOPIC_WINDOW_SECONDS if topic else 0)
        self._rules = BatchRules(mapping.batch_size, window, most)
        patterns = _FILTERS[self._source.service]
        self._filter: Filter | None = patterns(mapping.filters) if mapping.filters else None

    def start(self) -> None:
        """Begin to read."""
        self._tasks.start("look", self._keep_looking())

    @abstractmethod
    async def _keep_looking(self) -> None:
        """Read, until reading ends."""

    def change(self, mapping: EventSourceMapping) -> None:
        """Other settings hold, from the next batch on."""
        self._use(mapping)

    def end(self) -> None:
        """Read nothing more; what runs goes on."""
        self._ended.set()

    @property
    def ready(self) -> bool:
        """Whether whatever comes to the source from now on is read."""
        return True

    @property
    def ended(self) -> bool:
        """Whether it reads nothing more."""
        return self._ended.is_set()

    @property
    def idle(self) -> bool:
        """Whether it has ended and nothing of it runs any more."""
        return self._ended.is_set() and not self._lanes

    async def close(self, seconds: float) -> None:
        """End, wait at most so long for what runs, and leave the rest to the source."""
        self.end()
        await self._lanes.drain(seconds)
        await self._tasks.close()
        await self._lanes.close()

    async def _obstacle(self) -> str | None:
        """Why nothing is to be read now: of a queue, what is received and not run counts as tried."""
        ref = self._mapping.ref
        found = await self._means.attempts.find(ref)
        if isinstance(found, Attempt):
            return "Function not found" if found.outcome is Outcome.NOT_FOUND else found.detail
        if self._none_reserved:
            self._none_reserved = await self._means.attempts.none_reserved(ref.tenant, ref.name)
        return "the function's reserved concurrency is 0" if self._none_reserved else None

    def _request(self, request_id: str, records: int, traces: Collection[str | None] = ()) -> Request:
        """An invocation with so many records. `traces`: those that they belong to: where it is one, the invocation goes
        on with it, else it is linked to each."""
        attributes: dict[str, str | int] = {
            "messaging.operation.type": "process",
            "messaging.destination.name": self._mapping.topic or self._source.resource,
            "messaging.batch.message_count": records,
        }
        if self._source.service in _SYSTEMS:
            attributes["messaging.system"] = _SYSTEMS[self._source.service]
        headers = sorted(each for each in traces if each is not None)
        one = headers[0] if len(traces) == 1 and headers else None
        return Request(request_id, one, cause=Cause(attributes, () if one else tuple(headers)))

    async def _pass(self, records: Sequence[Mapping[str, Any]], characters: int) -> Sequence[bool]:
        """Which records the filters let pass. `characters`: how long their data is together."""
        passes = self._filter
        if passes is None:
            return [True] * len(records)
        if characters < FILTERED_CHARACTERS:
            return [passes(each) for each in records]
        async with self._means.filtering:
            return await asyncio.to_thread(lambda: [passes(each) for each in records])

    async def _problem(self, detail: str) -> None:
        """Say what stands against reading, once, and leave the source alone for a while."""
        result, self._troubled = f"PROBLEM: {detail}", True
        if result != self.result:
            self.result = result
            extra = {"mapping": self._mapping.uuid, "reason": detail}
            _log.warning("an event source cannot be read", extra=extra)
        await self._pause(PAUSE_SECONDS)

    async def _pause(self, seconds: float) -> None:
        """Wait, unless reading ends before."""
        try:
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        except TimeoutError:
            pass

    async def _unless_ended(self, work: Coroutine[Any, Any, T]) -> T | None:
        """What `work` brings; None where reading ends before."""
        task = self._tasks.start("work", work)
        ended = self._tasks.start("ended", self._ended.wait())
        try:
            await asyncio.wait({task, ended}, return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            ended.cancel()
            if not task.done():
                task.cancel()
