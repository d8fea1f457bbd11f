"""Reads one queue: lanes that receive messages, invoke the function with them, and delete those that it is done with.

How many lanes there are decides `core.pace`, what makes a batch `core.batches`. What a function fails to handle stays
in the queue, which shows it again after its visibility timeout, and gives it up by its own rules.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lambent.domain import batch_events, queue_messages
from lambent.domain.async_events import Outcome
from lambent.domain.event_sources import EventSourceMapping
from lambent.infra import rpc
from lambent.infra.aws_json import SourceError
from lambent.infra.functions.directory import Known
from lambent.infra.sqs_queue import DELETED_AT_ONCE
from services.poller.attempts import Attempt
from services.poller.core.batches import Send, next_step
from services.poller.core.pace import PATIENCE, Pace, PaceRules
from services.poller.sources.port import SourceQueue
from services.poller.sources.reading import CALL_FAILED, RAN, Means, SourceReader

_log = logging.getLogger(__name__)

# How often it is looked whether there are lanes enough.
LOOK_SECONDS = 1.0
# How long the queue's visibility timeout is believed.
VISIBILITY_SECONDS = 60.0
# Waits between two attempts at a batch that was held back: from the first, doubling, to the longest.
HELD_BACK_SECONDS = (0.1, 5.0)
# Share of the visibility timeout that a batch may be tried again in any case, where the function may take all of it.
TRIED_SHARE = 0.5
# What is said of a mapping whose messages come of such.
IN_LOOP = "PROBLEM: messages come of a recursive loop"
# How often it is tried to delete what is done; what stays comes again.
DELETE_ATTEMPTS = 5


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


class QueueReader(SourceReader):
    """The reader of a mapping of a queue."""

    def __init__(self, mapping: EventSourceMapping, connect: Callable[[], SourceQueue], means: Means) -> None:
        """`connect`: makes a queue for each lane."""
        self._connect = connect
        self._receiving: dict[_Lane, float] = {}  # monotonic seconds since when
        self._waited = False  # whether a lane has had to wait for messages since the last look
        self._visibility: tuple[float, int] | None = None  # when it was asked, and the answer
        super().__init__(mapping, means)
        self._pace = Pace(self._pace_rules(), means.clock.monotonic())

    def _pace_rules(self) -> PaceRules:
        limits = self._means.limits
        most = self._mapping.maximum_concurrency or limits.event_source_concurrency
        start = min(limits.event_source_start_concurrency, most)
        return PaceRules(start, limits.event_source_growth_per_minute, most)

    def change(self, mapping: EventSourceMapping) -> None:
        """Other settings hold, from the next batch on."""
        self._use(mapping)
        self._pace.ruled(self._pace_rules())

    async def _keep_looking(self) -> None:
        """Keep as many lanes as there are to be."""
        while not self._ended.is_set():
            now = self._means.clock.monotonic()
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
                except SourceError as error:
                    found, self._waited = False, True
                    await self._problem(f"the queue: {error}")
                # What a lane still holds begins its next batch.
                if not lane.held and self._leaves(found):
                    return
        finally:
            lane.queue.close()
            self._forget(lane)

    def _forget(self, lane: _Lane) -> None:
        """Leave what a lane still holds to the queue."""
        self._means.room.give(self._mapping.uuid, _size(lane.held))
        lane.held = []

    def _leaves(self, found: bool) -> bool:
        return self._ended.is_set() or not self._pace.goes_on(len(self._lanes), len(self._receiving), found=found)

    async def _turn(self, lane: _Lane) -> bool:
        """Gather a batch and run it. False: there was nothing. Raises SourceError."""
        if not lane.held:
            obstacle = await self._obstacle()
            if obstacle is not None:
                self._waited = True
                await self._problem(obstacle)
                return False
        batch = await self._gather(lane)
        if not batch:
            return False
        try:
            done = await self._run(lane, batch)
        finally:
            self._means.room.give(self._mapping.uuid, _size(batch))
        if self._source.ordered and not done:
            # Messages come after those of their group that were received before them, or not at all.
            self._forget(lane)
        return True

    async def _gather(self, lane: _Lane) -> list[_Message]:
        """The next batch; none if there are no messages, or only such as are filtered out. Raises SourceError."""
        while True:
            sizes = [len(each.record) for each in lane.held]
            ended = self._ended.is_set()
            if ended and not sizes:
                return []
            step = next_step(sizes, lane.since, self._means.clock.monotonic(), self._rules, ending=ended)
            if isinstance(step, Send):
                batch, lane.held = lane.held[: step.count], lane.held[step.count :]
                return batch
            if not sizes:
                await self._means.room.wait(self._mapping.uuid)
            received = await self._receive(lane, step.most, step.wait_seconds)
            if not received and not sizes:
                return []

    async def _receive(self, lane: _Lane, most: int, wait_seconds: int) -> bool:
        """Take messages into a lane; those that no filter wants are deleted. False: there were none."""
        mapping = self._mapping
        began = self._receiving[lane] = self._means.clock.monotonic()
        try:
            # Also when reading ends: a call that is given up may take messages that nobody sees before they are hidden
            # for long enough.
            messages = await lane.queue.receive(most, wait_seconds)
        finally:
            del self._receiving[lane]
        self._waited |= not messages or self._means.clock.monotonic() - began >= PATIENCE
        if not messages:
            return False
        if not lane.held:
            lane.since = self._means.clock.monotonic()
        self._means.counts.add(mapping, "polled", len(messages))
        records = [queue_messages.record(each, self._source, mapping.tenant.region) for each in messages]
        wanted = await self._pass(records, sum(len(each["body"]) for each in records))
        unwanted = []
        for record, passes in zip(records, wanted, strict=True):
            if not passes:
                unwanted.append(record["receiptHandle"])
                continue
            kept = _Message(
                record["messageId"], record["receiptHandle"], batch_events.encoded(record),
                queue_messages.trace_of(record),
            )  # fmt: skip
            lane.held.append(kept)
            self._means.room.take(mapping.uuid, len(kept.record))
        self._means.counts.add(mapping, "filteredout", len(unwanted))
        await self._delete(lane, unwanted)
        return True

    # A batch

    async def _run(self, lane: _Lane, batch: Sequence[_Message]) -> bool:
        """Invoke the function with a batch, and delete what it is done with; answers whether that is all of it. Raises
        SourceError."""
        mapping = self._mapping
        received = len(batch)
        found = await self._means.attempts.find(mapping.ref)
        if isinstance(found, Known):
            batch = self._out_of_loops(found, batch)
        whole = len(batch) == received
        if not batch:
            self.result = IN_LOOP
            return False
        attempt = await self._attempt(lane, batch, found)
        if attempt is None:
            return False
        self._means.counts.add(mapping, "invoked", len(batch))
        ids = [each.id for each in batch]
        if attempt.outcome is Outcome.FUNCTION_ERROR:
            self._means.counts.add(mapping, "failedinvoke", len(batch))
            self._pace.held_back(self._means.clock.monotonic())
            self.result = CALL_FAILED
            return False
        failed = batch_events.failed(attempt.response, ids) if mapping.reports_failures else frozenset()
        self._means.counts.add(mapping, "failedinvoke", len(failed))
        done = "" if whole else IN_LOOP
        self.result = CALL_FAILED if failed else done
        await self._delete(lane, [each.handle for each in batch if each.id not in failed])
        return whole and not failed

    def _out_of_loops(self, known: Known, batch: Sequence[_Message]) -> Sequence[_Message]:
        """A batch without what a recursive loop has led to, which stays in the queue."""
        looped = [self._means.attempts.in_loop(known, each.trace) for each in batch]
        if not any(looped):
            return batch
        _log.warning(
            "messages that a recursive loop has led to are not handled",
            extra={"mapping": self._mapping.uuid, "function": self._mapping.ref.arn, "messages": sum(looped)},
        )
        if self._source.ordered:
            return batch[: looped.index(True)]  # what comes after one of its group does not go before it
        return [each for each, loop in zip(batch, looped, strict=True) if not loop]

    async def _attempt(self, lane: _Lane, batch: Sequence[_Message], found: Known | Attempt) -> Attempt | None:
        """What came of a batch. None: the function could not be invoked for as long as the messages were hidden."""
        mapping, ref = self._mapping, self._mapping.ref
        payload = batch_events.event(each.record for each in batch)
        if len(payload) > self._rules.event_bytes:
            self.result = "PROBLEM: a message is larger than an invocation may be"
            return None
        request = self._request(self._means.ids.uuid(), len(batch), {each.trace for each in batch})
        until = lane.since + await self._may_take(lane, found)
        first, most = HELD_BACK_SECONDS
        for delay in rpc.delays(self._means.rng, first=first, most=most):
            found = await self._means.attempts.find(ref)
            attempt = found if isinstance(found, Attempt) else await self._means.attempts.run(
                ref, found, request, payload, lambda: None
            )  # fmt: skip
            if attempt.outcome in RAN:
                return attempt
            now = self._means.clock.monotonic()
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

    async def _may_take(self, lane: _Lane, found: Known | Attempt) -> float:
        """For how long after it was received a batch may still be begun: until then it can end while its messages are
        hidden. Raises SourceError."""
        now = self._means.clock.monotonic()
        if self._visibility is None or now - self._visibility[0] > VISIBILITY_SECONDS:
            self._visibility = (now, await lane.queue.visibility_seconds())
        visibility = self._visibility[1]
        runs = found.configurations if isinstance(found, Known) else ()
        timeout = max((each.timeout for each in runs), default=0)
        return max(visibility - timeout, visibility * TRIED_SHARE)

    async def _delete(self, lane: _Lane, handles: Sequence[str]) -> None:
        """Take messages out of the queue; what cannot be taken out comes again."""
        left = list(handles)
        for _, delay in zip(range(DELETE_ATTEMPTS), rpc.delays(self._means.rng), strict=False):
            stay: list[str] = []
            for start in range(0, len(left), DELETED_AT_ONCE):
                some = left[start : start + DELETED_AT_ONCE]
                try:
                    stay += await lane.queue.delete(some)
                except SourceError as error:
                    _log.warning("messages cannot be deleted: %s", error, extra={"mapping": self._mapping.uuid})
                    stay += some
            self._means.counts.add(self._mapping, "deleted", len(left) - len(stay))
            if not stay:
                return
            left = stay
            await asyncio.sleep(delay)


def _size(messages: Sequence[_Message]) -> int:
    """Bytes of messages' records."""
    return sum(len(each.record) for each in messages)
