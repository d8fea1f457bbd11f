"""What becomes of a batch of a stream's records: pure rules over what came of it, its age and what is set.

A stream is in order, so nothing passes a batch that fails: it is tried again until it succeeds, has been tried often
enough, or is too old. Source: https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html and
services-kinesis-batchfailurereporting.html
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from lambent.domain.stream_records import StreamRecord

# Waits before another attempt, in seconds, each twice as long as the one before: the first, the longest where the
# function fails, and the longest where it cannot be invoked.
FIRST_WAIT_SECONDS, FAILED_WAIT_SECONDS, HELD_BACK_WAIT_SECONDS = 0.5, 60.0, 10.0


@dataclass(frozen=True, slots=True)
class RetryRules:
    """What is set for the batches of a mapping."""

    retries: int | None  # attempts after the first; None: until it succeeds
    age_seconds: int | None  # how old a record may be when an attempt begins; None: as old as the stream keeps it
    bisects: bool  # a batch that fails is tried again in halves


@dataclass(frozen=True, slots=True)
class Batch:
    """Records that an invocation gets together."""

    records: tuple[StreamRecord, ...]
    failures: int = 0  # attempts that its first record has failed in
    held_back: int = 0  # attempts in a row that did not come to the function

    def split(self, at: int) -> tuple[Batch, Batch]:
        """The first records, and those behind them."""
        return replace(self, records=self.records[:at]), replace(self, records=self.records[at:])


@dataclass(frozen=True, slots=True)
class Step:
    """What follows from an attempt."""

    done: int = 0  # so many of the first records are done
    again: tuple[Batch, ...] = ()  # what is tried again, in order
    wait_seconds: float = 0.0  # before that
    given_up: Batch | None = None


def too_old(batch: Batch, now: float, rules: RetryRules) -> int:
    """How many of the first records are given up since they are too old. `now`: epoch seconds."""
    if rules.age_seconds is None:
        return 0
    oldest = now - rules.age_seconds
    return next((at for at, record in enumerate(batch.records) if record.arrived >= oldest), len(batch.records))


def held_back(batch: Batch) -> Step:
    """The function could not be invoked: a limit stood against it, or the platform failed. That is no attempt."""
    after = replace(batch, held_back=batch.held_back + 1)
    return Step(again=(after,), wait_seconds=_wait(batch.held_back, HELD_BACK_WAIT_SECONDS))


def ran(batch: Batch, failed: Collection[str], rules: RetryRules) -> Step:
    """The function ran. `failed`: the sequence numbers of records that it did not handle; all of them where it failed.
    What comes behind the first of them is tried again with it."""
    records = batch.records
    done = next((at for at, record in enumerate(records) if record.sequence in failed), len(records))
    if done == len(records):
        return Step(done)
    rest = Batch(records[done:], 1 if done else batch.failures + 1)
    if rules.bisects and not done and len(records) > 1:
        # Halving is no attempt: it ends with a record that fails alone.
        return Step(again=Batch(records).split((len(records) + 1) // 2))
    if rules.retries is not None and rest.failures > rules.retries:
        return Step(done, given_up=rest)
    return Step(done, (rest,), 0.0 if done else _wait(rest.failures - 1, FAILED_WAIT_SECONDS))


def last_failed(failures: int, rules: RetryRules) -> float | None:
    """How long a window's last invocation waits for another attempt, in seconds, after so many failures. None: it is
    given up."""
    if rules.retries is not None and failures > rules.retries:
        return None
    return _wait(failures - 1, FAILED_WAIT_SECONDS)


def _wait(times: int, longest: float) -> float:
    return min(FIRST_WAIT_SECONDS * float(2 ** min(times, 30)), longest)


class Progress:
    """How far a shard has been read, where batches of several keys run at once: all before it is done."""

    def __init__(self) -> None:
        self._order: deque[str] = deque()  # sequence numbers, in order
        self._done: set[str] = set()
        self.reached: str | None = None  # the last that is done, with all before it; None: none is
        self.newest: str | None = None  # the last that has been read; None: none has

    def __len__(self) -> int:
        return len(self._order)

    def read(self, sequences: Iterable[str]) -> None:
        """Records have been read."""
        self._order.extend(sequences)
        if self._order:
            self.newest = self._order[-1]

    def done(self, sequences: Sequence[str]) -> bool:
        """Records are done. Answers whether that has moved on what is reached."""
        self._done.update(sequences)
        before = self.reached
        while self._order and self._order[0] in self._done:
            self.reached = self._order.popleft()
            self._done.discard(self.reached)
        return self.reached != before
