"""Reads one stream: its shards, each in order, parents before their children, from where the last reader came to.

Within a shard records go to lanes by their key, one or as many as are set, so that those of one key stay in order. A
lane runs a batch until it succeeds or is given up (`core.stream_batches`), and nothing behind it in the meantime. What
all lanes of a shard are done with is its checkpoint.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from math import inf

from lambent.domain import batch_events
from lambent.domain.async_events import Outcome
from lambent.domain.batch_events import RECORDS, Frame
from lambent.domain.errors import AwsError
from lambent.domain.event_sources import DYNAMODB, KINESIS, NEWEST, EventSourceMapping
from lambent.domain.kafka_records import KAFKA
from lambent.domain.stream_records import RETRIES_EXHAUSTED, TOO_OLD, Fetched, Shard, StreamRecord
from lambent.domain.stream_windows import Windows
from lambent.infra.aws_json import ExpiredPlace, SourceError
from lambent.infra.event_sources.port import Checkpoint, Checkpoints
from lambent.infra.functions.directory import Known
from services.poller.attempts import Attempt
from services.poller.core.batches import Send, next_step
from services.poller.core.stream_batches import (
    Batch,
    RetryRules,
    Step,
    held_back,
    last_failed,
    ran,
    too_old,
)
from services.poller.sources.failures import Dropped, Failures
from services.poller.sources.port import SourceStream
from services.poller.sources.read_shards import Lane, ReadShard
from services.poller.sources.reading import CALL_FAILED, PAUSE_SECONDS, RAN, Means, SourceReader

_log = logging.getLogger(__name__)

# How often it is looked for new shards; one that ends is a reason to look at once.
SHARDS_SECONDS = 10.0
# How often a shard is read that has nothing new, and one that has: services allow five calls a second. A call to Kafka
# waits by itself.
POLL_SECONDS: Mapping[str, float] = {KINESIS: 1.0, DYNAMODB: 0.25, KAFKA: 0.0}
BEHIND_SECONDS = 0.2
# Most records of one call: as many as a shard of Kinesis takes in a second, and few enough to read in one go.
FETCHED_AT_ONCE = 1000
# How many batches of each lane are read ahead of those that run.
AHEAD = 2


class StreamReader(SourceReader):
    """The reader of a mapping of a stream."""

    def __init__(
        self,
        mapping: EventSourceMapping,
        connect: Callable[[str], SourceStream],
        checkpoints: Checkpoints,
        name: str,
        failures: Failures,
        means: Means,
        frame: Callable[[str], Frame] = lambda _: RECORDS,
        hang_up: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`connect`: makes a stream for each shard, for a function with such a role. `name`: this poller's. `frame`:
        what stands around the records of a shard in an event. `hang_up`: what is to be done once it has ended."""
        self._connect = connect
        self._checkpoints = checkpoints
        self._name = name
        self._failures = failures
        self._frame = frame
        self._hang_up = hang_up
        self._marks: dict[str, Checkpoint] | None = None  # by shard; None: not loaded yet
        self._reading: dict[str, ReadShard] = {}
        self._opening: set[str] | None = None  # shards of the first look that are not opened yet; None: before it
        self._again = asyncio.Event()  # set where it is to be looked for shards at once
        super().__init__(mapping, means)

    def _use(self, mapping: EventSourceMapping) -> None:
        super()._use(mapping)
        self._retries = RetryRules(mapping.retries, mapping.age_seconds, mapping.bisects)

    def change(self, mapping: EventSourceMapping) -> None:
        """Other settings hold, from the next batch on. With another number of lanes, or other windows, reading begins
        anew."""
        before = self._mapping
        if (mapping.parallel, mapping.tumbling_seconds) != (before.parallel, before.tumbling_seconds):
            self.end()
        self._use(mapping)

    async def close(self, seconds: float) -> None:
        await super().close(seconds)
        if self._hang_up is not None:
            await self._hang_up()

    @property
    def ready(self) -> bool:
        """Whether every shard has been opened: what is at the end of a stream has been seen from then on. Who is told
        what stands against it need not wait for that."""
        return self._troubled or (self._opening is not None and not self._opening)

    # Shards

    async def _keep_looking(self) -> None:
        while not self._ended.is_set():
            self._again.clear()
            obstacle = await self._obstacle()
            if obstacle is not None:
                await self._problem(obstacle)
                continue
            try:
                await self._look()
            except SourceError as error:
                await self._problem(f"the stream: {error}")
                continue
            except AwsError as error:
                await self._problem(error.message)
                continue
            except Exception:
                # A defect must not end the reading of a stream.
                _log.exception("looking for a stream's shards failed")
                await self._pause(PAUSE_SECONDS)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(SHARDS_SECONDS):
                    await self._unless_ended(self._again.wait())

    async def _look(self) -> None:
        """Read every shard that can be read by now. Raises SourceError, ServiceUnavailableException."""
        stream = self._connect(await self._role())
        try:
            shards = await stream.shards()
        finally:
            stream.close()
        marks = await self._known_marks(shards)
        listed = {shard.id for shard in shards}
        begun = set()
        for shard in shards:
            mark = marks.setdefault(shard.id, Checkpoint())  # a shard that came later: all of it
            ahead = [parent for parent in shard.parents if parent in listed and not marks[parent].closed]
            if mark.closed or ahead or shard.id in self._reading:
                continue
            begun.add(shard.id)
            lanes = [Lane() for _ in range(self._mapping.parallel)]
            windows = (mark.windows or Windows()) if self._mapping.tumbling_seconds else None
            self._reading[shard.id] = ReadShard(shard.id, mark, mark, lanes, windows)
        if self._opening is None:
            self._opening = set(begun)
        for id_ in begun:
            self._lanes.start("shard", self._read(self._reading[id_]))

    async def _known_marks(self, shards: Sequence[Shard]) -> dict[str, Checkpoint]:
        """Where every shard has come to; those that the stream has no more are forgotten."""
        marks, mapping = self._marks, self._mapping
        if marks is None:
            marks = dict(await self._checkpoints.load(mapping.tenant, mapping.uuid))
        listed = {shard.id for shard in shards}
        changes: dict[str, Checkpoint | None] = {}
        if not marks:
            changes = {shard.id: self._first() for shard in shards}
        else:
            changes = {id_: None for id_ in marks if id_ not in listed and id_ not in self._reading}
        if changes and not await self._checkpoints.save(mapping.tenant, mapping.uuid, self._name, changes):
            self.end()
        for id_, mark in changes.items():
            marks.pop(id_, None)
            if mark is not None:
                marks[id_] = mark
        self._marks = marks
        return marks

    def _first(self) -> Checkpoint:
        """Where the mapping begins in a shard that was there before it."""
        mapping = self._mapping
        if mapping.position == NEWEST:
            # Where a stream can be read from a time on, nothing is missed that comes before the first record is done.
            timed = self._source.service != DYNAMODB
            return Checkpoint(since=mapping.modified) if timed else Checkpoint(newest=True)
        return Checkpoint(since=mapping.position_time)

    async def _role(self) -> str:
        """Of the function, which records name."""
        found = await self._means.attempts.find(self._mapping.ref)
        runs = found.configurations if isinstance(found, Known) else ()
        return runs[0].role if runs else ""  # the versions of an alias agree in it

    async def _read(self, shard: ReadShard) -> None:
        """Read a shard to its end, or until reading ends."""
        stream = self._connect(await self._role())
        lanes = [self._tasks.start("lane", self._run(shard, lane)) for lane in shard.lanes]
        fetching = self._tasks.start("fetch", self._fetch_all(shard, stream))
        try:
            await asyncio.wait({fetching, *lanes}, return_when=asyncio.FIRST_COMPLETED)
            if fetching.done() and fetching.exception() is None and fetching.result():
                for lane in shard.lanes:
                    lane.closed = True
                    lane.news.set()
                await asyncio.wait(lanes)
                if not shard.progress and not (shard.windows is not None and shard.windows.open):
                    await self._save(shard, replace(shard.mark, closed=True))
            elif self._ended.is_set():
                await asyncio.wait(lanes)
            else:
                # A defect has ended one of them, which its owner has told of; what it held begins anew.
                await self._pause(PAUSE_SECONDS)
        finally:
            for task in (fetching, *lanes):
                task.cancel()
            await asyncio.wait((fetching, *lanes))
            left = sum(len(text) for lane in shard.lanes for _, text in lane.waiting)
            self._means.room.give(self._mapping.uuid, left)
            stream.close()
            self._reading.pop(shard.id, None)
            self._again.set()

    async def _fetch_all(self, shard: ReadShard, stream: SourceStream) -> bool:
        """Put a shard's records into its lanes. False: reading ended before the shard did."""
        iterator: str | None = None
        while not self._ended.is_set():
            began = self._means.clock.epoch()
            try:
                if iterator is None:
                    iterator = await self._unless_ended(stream.iterator(shard.id, shard.place))
                    self._opened(shard)
                if iterator is None:
                    break
                fetched = await self._unless_ended(self._fetch(shard, stream, iterator))
            except ExpiredPlace:
                iterator = None
                continue
            except SourceError as error:
                await self._problem(f"the stream: {error}")
                continue
            if fetched is None:
                break
            await self._take(shard, fetched.records)
            if not fetched.behind:
                self._read_all(shard, began)
            if fetched.next is None:
                return True
            iterator = fetched.next
            poll = POLL_SECONDS[self._source.service]
            await self._pause(min(BEHIND_SECONDS, poll) if fetched.behind else poll)
        return False

    def _opened(self, shard: ReadShard) -> None:
        if self._opening:
            self._opening.discard(shard.id)

    def _read_all(self, shard: ReadShard, when: float) -> None:
        """All that had come by `when`, epoch seconds, has been read: a window may be over by that."""
        shard.complete = when
        if shard.windows is not None and shard.windows.open:
            for lane in shard.lanes:
                lane.news.set()

    async def _fetch(self, shard: ReadShard, stream: SourceStream, iterator: str) -> Fetched:
        """The next records, once there is room for them."""
        lanes = len(shard.lanes)
        while sum(len(lane.waiting) for lane in shard.lanes) >= AHEAD * lanes * self._rules.size:
            shard.room.clear()
            await shard.room.wait()
        await self._means.room.wait(self._mapping.uuid)
        return await stream.fetch(shard.id, iterator, min(lanes * self._rules.size, FETCHED_AT_ONCE))

    async def _take(self, shard: ReadShard, records: Sequence[StreamRecord]) -> None:
        """Put records into the lanes of their keys; those that no filter wants are done."""
        if not records:
            return
        mapping, now = self._mapping, self._means.clock.monotonic()
        encoded = [batch_events.encoded(record.document) for record in records]
        shard.progress.read(record.sequence for record in records)
        self._means.counts.add(mapping, "polled", len(records))
        passing = await self._pass([record.document for record in records], sum(map(len, encoded)))
        unwanted = []
        for record, text, passes in zip(records, encoded, passing, strict=True):
            if not passes:
                unwanted.append(record.sequence)
                continue
            lane = shard.lanes[zlib.crc32(record.key.encode(errors="surrogatepass")) % len(shard.lanes)]
            if not lane.waiting:
                lane.since = now
            lane.waiting.append((record, text))
            self._means.room.take(self._mapping.uuid, len(text))
            lane.news.set()
        self._means.counts.add(mapping, "filteredout", len(unwanted))
        await self._done(shard, unwanted)

    # Lanes

    async def _run(self, shard: ReadShard, lane: Lane) -> None:
        """Run the batches of one lane, one after the other."""
        held = 0  # bytes of the batch that runs
        try:
            while not self._ended.is_set():
                lane.news.clear()
                if self._window_over(shard, lane):
                    await self._end_window(shard)
                    continue
                now = self._means.clock.monotonic()
                sizes = [len(text) for _, text in lane.waiting]
                fitting = self._of_window(shard, lane)
                step = next_step(
                    sizes[:fitting], lane.since, now, self._rules, ending=lane.closed or fitting < len(sizes)
                )
                if isinstance(step, Send):
                    batch = [lane.waiting.popleft() for _ in range(step.count)]
                    lane.since = now
                    held = sum(len(text) for _, text in batch)
                    shard.room.set()
                    await self._run_batch(shard, Batch(tuple(record for record, _ in batch)))
                    self._means.room.give(self._mapping.uuid, held)
                    held = 0
                elif lane.closed:
                    return
                else:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(step.wait_seconds if sizes else None):
                            await self._unless_ended(lane.news.wait())
        finally:
            self._means.room.give(self._mapping.uuid, held)

    async def _run_batch(self, shard: ReadShard, batch: Batch) -> None:
        """Try a batch until every record of it is done or given up."""
        left = deque([batch])
        while left and not self._ended.is_set():
            if shard.windows is not None and shard.windows.early:
                await self._end_window(shard)
                continue
            batch = left.popleft()
            request_id = self._means.ids.uuid()
            old = too_old(batch, self._means.clock.epoch(), self._retries)
            if old:
                gone, rest = batch.split(old)
                await self._give_up(shard, Dropped(shard.id, gone, TOO_OLD, request_id, None, self._event(shard, gone)))
                if rest.records:
                    left.appendleft(rest)
                continue
            windows, beside = shard.windows, b""
            if windows is not None:
                windows = windows.opened(batch.records[0].arrived, self._mapping.tumbling_seconds)
                beside = windows.members(shard.id, self._source.arn, last=False)
            event = self._event(shard, batch, beside)
            attempt = await self._attempt(request_id, batch, event)
            after = None if windows is None else windows.after(attempt.response)
            step = self._judged(batch, attempt, understood=windows is None or after is not None)
            if step.done:
                shard.windows = after
            await self._done(shard, [record.sequence for record in batch.records[: step.done]])
            if step.given_up is not None:
                dropped = Dropped(shard.id, step.given_up, RETRIES_EXHAUSTED, request_id, attempt, event)
                await self._give_up(shard, dropped)
            left.extendleft(reversed(step.again))
            if step.wait_seconds:
                await self._pause(step.wait_seconds)

    def _event(self, shard: ReadShard, batch: Batch, beside: bytes = b"") -> bytes:
        records = (batch_events.encoded(record.document) for record in batch.records)
        return batch_events.event(records, beside, self._frame(shard.id))

    async def _attempt(self, request_id: str, batch: Batch, event: bytes) -> Attempt:
        means, ref = self._means, self._mapping.ref
        found = await means.attempts.find(ref)
        if isinstance(found, Attempt):
            return found
        if batch.records:
            means.counts.aged(self._mapping, max(means.clock.epoch() - batch.records[-1].arrived, 0.0))
        request = self._request(request_id, len(batch.records))
        return await means.attempts.run(ref, found, request, event, lambda: None)

    def _judged(self, batch: Batch, attempt: Attempt, *, understood: bool) -> Step:
        """What follows from an attempt, counted and told. `understood`: whether the function's answer says what becomes
        of its state, where it has one."""
        counts, mapping = self._means.counts, self._mapping
        if attempt.outcome not in RAN:
            self.result = f"PROBLEM: {attempt.detail}"
            return held_back(batch)
        ids = [record.sequence for record in batch.records]
        failed = frozenset(ids)
        if attempt.outcome is Outcome.SUCCEEDED and understood:
            of_topic = self._source.service == KAFKA
            failed = (
                batch_events.failed(attempt.response, ids, offsets=of_topic)
                if mapping.reports_failures
                else frozenset()
            )
        step = ran(batch, failed, self._retries)
        counts.add(mapping, "invoked", len(ids))
        counts.add(mapping, "failedinvoke", len(ids) - step.done)
        self.result = CALL_FAILED if failed else "OK"
        return step

    # Windows

    def _window_over(self, shard: ReadShard, lane: Lane) -> bool:
        """Whether the open window's last invocation is due."""
        if shard.windows is None:
            return False
        following = lane.waiting[0][0].arrived if lane.waiting else None
        return shard.windows.over(following, inf if lane.closed else shard.complete)

    def _of_window(self, shard: ReadShard, lane: Lane) -> int:
        """How many of the records that wait are of one window."""
        if shard.windows is None or not lane.waiting:
            return len(lane.waiting)
        arrivals = [record.arrived for record, _ in lane.waiting]
        return shard.windows.opened(arrivals[0], self._mapping.tumbling_seconds).holds(arrivals)

    async def _end_window(self, shard: ReadShard) -> None:
        """Invoke the function with what it has made of a window, which is over then, also where that fails for good."""
        windows, nothing, failures = shard.windows, Batch(()), 0
        assert windows is not None
        event = self._event(shard, nothing, windows.members(shard.id, self._source.arn, last=True))
        while not self._ended.is_set():
            attempt = await self._attempt(self._means.ids.uuid(), nothing, event)
            if attempt.outcome is Outcome.SUCCEEDED:
                self.result = "OK"
                break
            if attempt.outcome in RAN:
                failures += 1
                self.result = CALL_FAILED
                wait = last_failed(failures, self._retries)
                if wait is None:
                    _log.warning(
                        "the last invocation of a window is given up",
                        extra={"mapping": self._mapping.uuid, "shard": shard.id, "window": windows.start},
                    )
                    break
            else:
                self.result = f"PROBLEM: {attempt.detail}"
                step = held_back(nothing)
                [nothing], wait = step.again, step.wait_seconds
            await self._pause(wait)
        else:
            return
        shard.windows = windows.closed()
        await self._save(shard, replace(shard.mark, windows=shard.windows))

    async def _give_up(self, shard: ReadShard, dropped: Dropped) -> None:
        """Tell who is to be told, then go on behind these records."""
        while not self._ended.is_set():
            try:
                await self._failures.tell(self._mapping, dropped)
            except AwsError:
                await self._pause(PAUSE_SECONDS)
                continue
            sequences = [record.sequence for record in dropped.batch.records]
            self._means.counts.add(self._mapping, "dropped", len(sequences))
            await self._done(shard, sequences)
            return

    async def _done(self, shard: ReadShard, sequences: Sequence[str]) -> None:
        """Records are done."""
        if sequences and shard.progress.done(sequences):
            await self._save(shard, Checkpoint(shard.progress.reached, windows=shard.windows))

    async def _save(self, shard: ReadShard, mark: Checkpoint) -> None:
        """Keep how far a shard has come. Of several that would, only the last does."""
        shard.mark = mark
        mapping = self._mapping
        async with shard.saving:
            while shard.saved != shard.mark:
                mark = shard.mark
                try:
                    kept = await self._checkpoints.save(mapping.tenant, mapping.uuid, self._name, {shard.id: mark})
                except AwsError:
                    if self._ended.is_set():
                        return
                    await self._pause(PAUSE_SECONDS)
                    continue
                if not kept:
                    self.end()
                    return
                shard.saved = mark
        if self._marks is not None:
            self._marks[shard.id] = shard.saved
