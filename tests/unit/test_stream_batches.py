"""What becomes of a batch of a stream's records, and how far a shard has come; and who may hold how much."""

from __future__ import annotations

import asyncio

import pytest

from lambent.domain.stream_records import StreamRecord
from services.poller.core.stream_batches import Batch, Progress, RetryRules, Step, held_back, ran, too_old
from services.poller.sources.room import Room

FOR_EVER = RetryRules(None, None, bisects=False)
TWICE = RetryRules(2, None, bisects=False)
HALVES = RetryRules(1, None, bisects=True)


def batch(names: str, failures: int = 0, held: int = 0) -> Batch:
    """Records with these sequence numbers; each has arrived a second after the one before."""
    records = tuple(StreamRecord(name, "k", 100.0 + at, {}) for at, name in enumerate(names))
    return Batch(records, failures, held)


def names(step: Step) -> list[str]:
    """The batches that are tried again."""
    return ["".join(record.sequence for record in each.records) for each in step.again]


def test_what_a_function_handles_is_done() -> None:
    assert ran(batch("abc"), frozenset(), TWICE) == Step(3)


@pytest.mark.parametrize(
    ("before", "failed", "rules", "done", "again", "failures", "given_up"),
    [
        (batch("abc"), "abc", FOR_EVER, 0, ["abc"], 1, ""),
        (batch("abc", 99), "abc", FOR_EVER, 0, ["abc"], 100, ""),
        (batch("abc"), "abc", TWICE, 0, ["abc"], 1, ""),
        (batch("abc", 1), "abc", TWICE, 0, ["abc"], 2, ""),
        (batch("abc", 2), "abc", TWICE, 0, [], None, "abc"),
        (batch("abc"), "abc", RetryRules(0, None, bisects=False), 0, [], None, "abc"),
        # What comes behind the first that failed is tried again with it, whether it was handled or not.
        (batch("abcd", 1), "bd", TWICE, 1, ["bcd"], 1, ""),
        (batch("abcd"), "bd", RetryRules(0, None, bisects=False), 1, [], None, "bcd"),
        # Halves are tried as often as the whole was to be.
        (batch("abcde"), "abcde", HALVES, 0, ["abc", "de"], 0, ""),
        (batch("ab", 1), "ab", HALVES, 0, ["a", "b"], 0, ""),
        (batch("a"), "a", HALVES, 0, ["a"], 1, ""),
        (batch("a", 1), "a", HALVES, 0, [], None, "a"),
        (batch("abc"), "c", HALVES, 2, ["c"], 1, ""),
    ],
)
def test_what_a_function_does_not_handle_is_tried_again_or_given_up(
    before: Batch, failed: str, rules: RetryRules, done: int, again: list[str], failures: int | None, given_up: str
) -> None:
    step = ran(before, frozenset(failed), rules)
    assert (step.done, names(step)) == (done, again)
    assert failures is None or {each.failures for each in step.again} == {failures}
    assert "".join(record.sequence for record in step.given_up.records) == given_up if step.given_up else not given_up


def test_waits_double_up_to_a_minute_and_there_is_none_where_something_has_moved() -> None:
    waits = [ran(batch("a", failures), frozenset("a"), FOR_EVER).wait_seconds for failures in (0, 1, 2, 6, 7, 500)]
    assert waits == [0.5, 1.0, 2.0, 32.0, 60.0, 60.0]
    assert ran(batch("ab"), frozenset("b"), FOR_EVER).wait_seconds == 0
    assert ran(batch("ab"), frozenset("ab"), HALVES).wait_seconds == 0


def test_what_does_not_come_to_the_function_is_no_attempt() -> None:
    before = batch("ab", 2)
    waits = []
    for _ in range(8):
        step = held_back(before)
        waits.append(step.wait_seconds)
        [before] = step.again
    assert before.failures == 2
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0]


@pytest.mark.parametrize(("now", "old"), [(109.9, 0), (110.0, 0), (110.5, 1), (111.5, 2), (999.0, 3)])
def test_records_that_are_too_old_are_given_up_before_they_are_tried(now: float, old: int) -> None:
    assert too_old(batch("abc"), now, RetryRules(None, 10, bisects=False)) == old
    assert too_old(batch("abc"), now, FOR_EVER) == 0


def test_a_shard_has_come_to_where_all_before_is_done() -> None:
    progress = Progress()
    progress.read("abcdef")
    assert (progress.reached, progress.newest) == (None, "f")
    assert not progress.done("c")
    assert not progress.done("b")
    assert progress.done("a")
    assert progress.reached == "c"
    progress.read("g")
    assert progress.done("dfe")
    assert (progress.reached, len(progress)) == ("f", 1)
    assert progress.done("g")
    assert (progress.reached, progress.newest, len(progress)) == ("g", "g", 0)


async def test_who_holds_much_keeps_nobody_else_from_reading() -> None:
    room = Room(100)
    room.take("blocked", 150)
    waiting = asyncio.ensure_future(room.wait("blocked"))
    await asyncio.sleep(0)
    await room.wait("other")
    room.take("other", 60)
    another = asyncio.ensure_future(room.wait("other"))
    await asyncio.sleep(0)
    assert not waiting.done()
    assert not another.done()
    room.give("other", 30)
    await another
    assert not waiting.done()
    room.give("blocked", 120)
    await waiting
    assert room.held == 60
