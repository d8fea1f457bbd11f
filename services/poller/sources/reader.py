"""Reads one queue: lanes that receive messages, invoke the function with them, and delete those that it is done with.

How many lanes there are decides `core.pace`, what makes a batch `core.batches`. What a function fails to handle stays
in the queue, which shows it again after its visibility timeout, and gives it up by its own rules.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from lambent.domain import queue_messages
from lambent.domain.async_events import Outcome
from lambent.domain.clock import Clock, Ids
from lambent.domain.event_patterns import Filter, for_queue
from lambent.domain.event_sources import EventSourceMapping, source_of
from lambent.domain.limits import Limits
from lambent.infra import rpc
from lambent.infra.functions.directory import Known
from lambent.infra.sqs_queue import DELETED_AT_ONCE, QueueError
from lambent.infra.tasks import TaskOwner
from services.poller.attempts import Attempt, Attempts, Request
from services.poller.core.batches import BatchRules, Send, next_step
from services.poller.core.pace import PATIENCE, Pace, PaceRules
from services.poller.sources.counts import SourceCounts
from services.poller.sources.port import SourceQueue
from services.poller.sources.room import Room

_log = logging.getLogger(__name__)
T = TypeVar("T")

# How often it is looked whether there are lanes enough.
LOOK_SECONDS = 1.0
# How long a lane leaves a queue alone that cannot be read, or whose function cannot be invoked.
PAUSE_SECONDS = 2.0
# How long the queue's visibility timeout is believed.
VISIBILITY_SECONDS = 60.0
# Waits between two attempts at a batch that was held back: from the first, doubling, to the longest.
HELD_BACK_SECONDS = (0.1, 5.0)
# Share of the visibility timeout that a batch may be tried again in any case, where the function may take all of it.
TRIED_SHARE = 0.5
# Patterns and messages are strangers': from so many characters on, comparing them is a thread's work.
FILTERED_BYTES = 16_384
# How often it is tried to delete what is done; what stays comes again.
DELETE_ATTEMPTS = 5
_RAN = (Outcome.SUCCEEDED, Outcome.FUNCTION_ERROR)


@dataclass(frozen=True, slots=True)
class _Message:
    """A message of a batch to come."""

    id: str
    handle: str
    record: bytes
    trace: str | None  # AWSTraceHeader


@dataclass(slots=True, eq=False)
class _Lane:
    """One lane's part."""

    queue: SourceQueue
    held: list[_Message] = field(default_factory=list)
    since: float = 0.0  # monotonic seconds when the first of them was received


class QueueReader:
    """The reader of one mapping, from `start` until it is `idle` after `end`."""

    def __init__(
        self,
        mapping: EventSourceMapping,
        connect: Callable[[], SourceQueue],
        attempts: Attempts,
        room: Room,
        counts: SourceCounts,
        limits: Limits,
        clock: Clock,
        ids: Ids,
        rng: random.Random,
    ) -> None:
        """`connect`: makes a queue for each lane. `room`: shared by all readers."""
        self._connect = connect
        self._attempts = attempts
        self._room = room
        self._counts = counts
        self._limits = limits
        self._clock = clock
        self._ids = ids
        self._rng = rng
        self._source = source_of(mapping.source_arn)
        self._ended = asyncio.Event()
        self._receiving: dict[_Lane, float] = {}  # monotonic seconds since when
        self._waited = False  # whether a lane has had to wait for messages since the last look
        self._visibility: tuple[float, int] | None = None  # when it was asked, and the answer
        self._none_reserved = False  # whether an invocation was refused for that
        self._tasks = TaskOwner(f"source {mapping.uuid}", expected=(QueueError,))
        self._lanes = TaskOwner(f"lanes {mapping.uuid}")
        self.result = mapping.result  # LastProcessingResult
        self._use(mapping)
        self._pace = Pace(self._pace_rules(), clock.monotonic())

    def _use(self, mapping: EventSourceMapping) -> None:
        self._mapping = mapping
        self._rules = BatchRules(mapping.batch_size, mapping.window_seconds, self._limits.sync_request_bytes)
        self._filter: Filter | None = for_queue(mapping.filters) if mapping.filters else None

    def _pace_rules(self) -> PaceRules:
        limits = self._limits
        most = self._mapping.maximum_concurrency or limits.event_source_concurrency
        start = min(limits.event_source_start_concurrency, most)
        return PaceRules(start, limits.event_source_growth_per_minute, most)

    def start(self) -> None:
        """Begin to read."""
        self._tasks.start("look", self._keep_looking())

    def change(self, mapping: EventSourceMapping) -> None:
        """Other settings hold, from the next batch on."""
        self._use(mapping)
        self._pace.ruled(self._pace_rules())

    def end(self) -> None:
        """Receive nothing more; what has been received is run."""
        self._ended.set()

    @property
    def ended(self) -> bool:
        """Whether it receives nothing more."""
        return self._ended.is_set()

    @property
    def idle(self) -> bool:
        """Whether it has ended and nothing of it runs any more."""
        return self._ended.is_set() and not self._lanes

    async def close(self, seconds: float) -> None:
        """End, wait at most so long for what runs, and leave the rest to the queue."""
        self.end()
        await self._lanes.drain(seconds)
        await self._tasks.close()
        await self._lanes.close()

    async def _keep_looking(self) -> None:
        """Keep as many lanes as there are to be."""
        while not self._ended.is_set():
            now = self._clock.monotonic()
            waiting = any(now - since >= PATIENCE for since in self._receiving.values())
            self._pace.looked(len(self._lanes), now, idle=waiting or self._waited or not self._lanes)
            self._waited = False
            for _ in range(self._pace.wanted - len(self._lanes)):
                self._lanes.start("lane", self._lane())
            await asyncio.sleep(LOOK_SECONDS)

    # A lane

    async def _lane(self) -> None:
        lane = _Lane(self._connect())
        try:
            while True:
                try:
                    found = await self._turn(lane)
                except QueueError as error:
                    found = False
                    await self._problem(f"the queue: {error}")
                # What a lane still holds begins its next batch.
                if not lane.held and self._leaves(found):
                    return
        finally:
            lane.queue.close()
            self._forget(lane)

    def _forget(self, lane: _Lane) -> None:
        """Leave what a lane still holds to the queue."""
        self._room.give(_size(lane.held))
        lane.held = []

    def _leaves(self, found: bool) -> bool:
        return self._ended.is_set() or not self._pace.goes_on(len(self._lanes), len(self._receiving), found=found)

    async def _turn(self, lane: _Lane) -> bool:
        """Gather a batch and run it. False: there was nothing. Raises QueueError."""
        if not lane.held:
            obstacle = await self._obstacle()
            if obstacle is not None:
                await self._problem(obstacle)
                return False
        batch = await self._gather(lane)
        if not batch:
            return False
        try:
            done = await self._run(lane, batch)
        finally:
            self._room.give(_size(batch))
        if self._source.ordered and not done:
            # Messages come after those of their group that were received before them, or not at all.
            self._forget(lane)
        return True

    async def _obstacle(self) -> str | None:
        """Why nothing is to be received now: a message that is received and not run counts as tried."""
        ref = self._mapping.ref
        found = await self._attempts.find(ref)
        if isinstance(found, Attempt):
            return "Function not found" if found.outcome is Outcome.NOT_FOUND else found.detail
        if self._none_reserved:
            self._none_reserved = await self._attempts.none_reserved(ref.tenant, ref.name)
        return "the function's reserved concurrency is 0" if self._none_reserved else None

    async def _gather(self, lane: _Lane) -> list[_Message]:
        """The next batch; none if there are no messages, or only such as are filtered out. Raises QueueError."""
        while True:
            sizes = [len(each.record) for each in lane.held]
            ended = self._ended.is_set()
            if ended and not sizes:
                return []
            step = next_step(sizes, lane.since, self._clock.monotonic(), self._rules, ending=ended)
            if isinstance(step, Send):
                batch, lane.held = lane.held[: step.count], lane.held[step.count :]
                return batch
            if not sizes:
                await self._room.wait()
            received = await self._receive(lane, step.most, step.wait_seconds)
            if not received and not sizes:
                return []

    async def _receive(self, lane: _Lane, most: int, wait_seconds: int) -> bool:
        """Take messages into a lane; those that no filter wants are deleted. False: there were none."""
        mapping = self._mapping
        began = self._receiving[lane] = self._clock.monotonic()
        try:
            messages = await self._unless_ended(lane.queue.receive(most, wait_seconds))
        finally:
            del self._receiving[lane]
        self._waited |= not messages or self._clock.monotonic() - began >= PATIENCE
        if not messages:
            return False
        if not lane.held:
            lane.since = self._clock.monotonic()
        self._counts.add(mapping, "polled", len(messages))
        records = [queue_messages.record(each, self._source, mapping.tenant.region) for each in messages]
        wanted = await self._wanted(records)
        unwanted = []
        for record, passes in zip(records, wanted, strict=True):
            if not passes:
                unwanted.append(record["receiptHandle"])
                continue
            kept = _Message(
                record["messageId"], record["receiptHandle"], queue_messages.encoded(record),
                queue_messages.trace_of(record),
            )  # fmt: skip
            lane.held.append(kept)
            self._room.take(len(kept.record))
        self._counts.add(mapping, "filteredout", len(unwanted))
        await self._delete(lane, unwanted)
        return True

    async def _wanted(self, records: Sequence[Mapping[str, Any]]) -> Sequence[bool]:
        """Which of a call's records the filters let pass."""
        passes = self._filter
        if passes is None:
            return [True] * len(records)
        if sum(len(each["body"]) for each in records) < FILTERED_BYTES:
            return [passes(each) for each in records]
        return await asyncio.to_thread(lambda: [passes(each) for each in records])

    async def _unless_ended(self, work: Coroutine[Any, Any, list[T]]) -> list[T]:
        """What `work` brings; nothing where reading ends before."""
        task = self._tasks.start("receive", work)
        ended = self._tasks.start("ended", self._ended.wait())
        try:
            await asyncio.wait({task, ended}, return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else []
        finally:
            ended.cancel()
            if not task.done():
                task.cancel()

    # A batch

    async def _run(self, lane: _Lane, batch: Sequence[_Message]) -> bool:
        """Invoke the function with a batch, and delete what it is done with; answers whether that is all of it. Raises
        QueueError."""
        mapping = self._mapping
        attempt = await self._attempt(lane, batch)
        if attempt is None:
            return False
        self._counts.add(mapping, "invoked", len(batch))
        ids = [each.id for each in batch]
        if attempt.outcome is Outcome.FUNCTION_ERROR:
            self._counts.add(mapping, "failedinvoke", len(batch))
            self._pace.held_back(self._clock.monotonic())
            self.result = "PROBLEM: Function call failed"
            return False
        failed = queue_messages.failed(attempt.response, ids) if mapping.reports_failures else frozenset()
        self._counts.add(mapping, "failedinvoke", len(failed))
        self.result = "PROBLEM: Function call failed" if failed else ""
        await self._delete(lane, [each.handle for each in batch if each.id not in failed])
        return not failed

    async def _attempt(self, lane: _Lane, batch: Sequence[_Message]) -> Attempt | None:
        """What came of a batch. None: the function could not be invoked for as long as the messages were hidden."""
        mapping, ref = self._mapping, self._mapping.ref
        payload = queue_messages.event(each.record for each in batch)
        if len(payload) > self._rules.event_bytes:
            self.result = "PROBLEM: a message is larger than an invocation may be"
            return None
        traces = {each.trace for each in batch}
        request = Request(self._ids.uuid(), traces.pop() if len(traces) == 1 else None)
        until = lane.since + await self._may_take(lane)
        first, most = HELD_BACK_SECONDS
        for delay in rpc.delays(self._rng, first=first, most=most):
            found = await self._attempts.find(ref)
            attempt = found if isinstance(found, Attempt) else await self._attempts.run(
                ref, found, request, payload, lambda: None
            )  # fmt: skip
            if attempt.outcome in _RAN:
                return attempt
            now = self._clock.monotonic()
            self._pace.held_back(now)
            self._none_reserved = attempt.outcome is Outcome.ZERO_RESERVED
            if self._none_reserved or now + delay > until or self._ended.is_set():
                break
            await asyncio.sleep(delay)
        self.result = f"PROBLEM: {attempt.detail}"
        _log.info(
            "a batch goes back to its queue",
            extra={"mapping": mapping.uuid, "function": ref.arn, "messages": len(batch), "reason": attempt.detail},
        )
        return None

    async def _may_take(self, lane: _Lane) -> float:
        """For how long after it was received a batch may still be begun: until then it can end while its messages are
        hidden. Raises QueueError."""
        now = self._clock.monotonic()
        if self._visibility is None or now - self._visibility[0] > VISIBILITY_SECONDS:
            self._visibility = (now, await lane.queue.visibility_seconds())
        visibility = self._visibility[1]
        found = await self._attempts.find(self._mapping.ref)
        timeout = _timeout(found) if isinstance(found, Known) else 0
        return max(visibility - timeout, visibility * TRIED_SHARE)

    async def _delete(self, lane: _Lane, handles: Sequence[str]) -> None:
        """Take messages out of the queue; what cannot be taken out comes again."""
        left = list(handles)
        for _, delay in zip(range(DELETE_ATTEMPTS), rpc.delays(self._rng), strict=False):
            stay: list[str] = []
            for start in range(0, len(left), DELETED_AT_ONCE):
                some = left[start : start + DELETED_AT_ONCE]
                try:
                    stay += await lane.queue.delete(some)
                except QueueError as error:
                    _log.warning("messages cannot be deleted: %s", error, extra={"mapping": self._mapping.uuid})
                    stay += some
            self._counts.add(self._mapping, "deleted", len(left) - len(stay))
            if not stay:
                return
            left = stay
            await asyncio.sleep(delay)

    async def _problem(self, detail: str) -> None:
        """Say what stands against reading, once, and leave the queue alone for a while."""
        result = f"PROBLEM: {detail}"
        if result != self.result:
            self.result = result
            extra: Mapping[str, object] = {"mapping": self._mapping.uuid, "reason": detail}
            _log.warning("an event source cannot be read", extra=extra)
        self._waited = True
        try:
            async with asyncio.timeout(PAUSE_SECONDS):
                await self._ended.wait()
        except TimeoutError:
            pass


def _size(messages: Sequence[_Message]) -> int:
    """Bytes of messages' records."""
    return sum(len(each.record) for each in messages)


def _timeout(known: Known) -> int:
    """Seconds that one invocation may take."""
    deployed = known.record.serving
    return 0 if deployed is None else deployed.configuration.timeout
