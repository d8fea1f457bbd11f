"""The queue under crashed holders, late and repeated commands and clocks that jump: no item is lost, none is finished
twice, none is forgotten in a state, no lease is held by two. The one in Redis does all that its twin does."""

from __future__ import annotations

import random
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lambent.infra.clock import SystemClock
from lambent.infra.queue.memory_queue import MemoryQueue
from lambent.infra.queue.port import (
    Batch,
    Dead,
    Delayed,
    Done,
    EventQueue,
    Item,
    QueueKey,
    Settlement,
    Terms,
    Token,
    Verdict,
)
from lambent.infra.queue.redis_queue import RedisQueue
from lambent.infra.redis_client import connect
from tests.records import ONE

T = TypeVar("T")
KEY = QueueKey(ONE, "f")
LEASE = 5.0
verdicts = st.one_of(st.just(Done()), st.just(Dead(b"d")), st.floats(0, 20).map(lambda wait: Delayed(100 + wait, b"s")))


def cut(seconds: float) -> float:
    """To the millisecond, as queues keep it."""
    return int(seconds * 1000) / 1000


def done(work: Coroutine[Any, Any, T]) -> T:
    """The answer of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as answer:
        return answer.value  # type: ignore[no-any-return]
    raise AssertionError("it waits")


class QueueMachine(RuleBasedStateMachine):
    """Several holders that lease, renew, settle late or again, and forget what they hold."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = MemoryQueue(SystemClock(), "p", dead_seconds=1e9, dead_items=10**9)
        self.now = 100.0
        self.appended: set[str] = set()
        self.ended: dict[str, Verdict] = {}
        self.said: list[tuple[str, str]] = []  # every (id, token) that was ever given
        self.tokens: dict[str, tuple[str, float]] = {}  # token → the id it stands for, until when
        self.not_before: dict[str, float] = {}
        self.holding: dict[str, tuple[str, float]] = {}  # id → token and end of the lease that counts

    @rule(count=st.integers(1, 4))
    def append(self, count: int) -> None:
        ids = [f"e{len(self.appended) + number}" for number in range(count)]
        self.appended.update(ids)
        done(self.queue.append(ONE, [Item("f", id_, b"v") for id_ in ids], self.now))

    @rule(token=st.sampled_from("tu"), wait=st.one_of(st.none(), st.floats(0, 20)))
    def append_on_terms(self, token: str, wait: float | None) -> None:
        """Later, and only if the token stands for nothing."""
        id_ = f"e{len(self.appended)}"
        first, until = self.tokens.get(token, ("", 0.0))
        kept = cut(until) > cut(self.now)
        terms = {id_: Terms(None if wait is None else self.now + wait, Token(token, self.now + LEASE))}
        [answer] = done(self.queue.append(ONE, [Item("f", id_, b"v")], self.now, terms))
        assert answer == (first if kept else id_)
        if not kept:
            self.appended.add(id_)
            self.tokens[token] = id_, self.now + LEASE
            # What is due when it comes stays due, whatever the clock does.
            later = wait is not None and cut(self.now + wait) > cut(self.now)
            self.not_before[id_] = self.now + (wait or 0.0) if later else 0.0

    @rule()
    def append_again(self) -> None:
        """A command that arrives twice."""
        waiting = [Item("f", id_, b"other") for id_ in sorted(self.appended - self.ended.keys())]
        done(self.queue.append(ONE, waiting, self.now))

    @rule(count=st.integers(1, 4))
    def lease(self, count: int) -> None:
        batch = done(self.queue.lease(KEY, count, self.now, self.now + LEASE))
        # Whatever has run out is taken back, leased again or not.
        self.holding = {id_: held for id_, held in self.holding.items() if cut(held[1]) > cut(self.now)}
        for each in batch.items:
            assert each.value == b"v"
            assert each.id not in self.ended, "it was finished"
            assert each.id not in self.holding, "another holds it"
            assert cut(self.not_before.get(each.id, 0.0)) <= cut(self.now), "it is not due"
            self.holding[each.id] = each.token, self.now + LEASE
            self.said.append((each.id, each.token))

    @rule(data=st.data(), verdict=verdicts)
    def settle(self, data: st.DataObject, verdict: Verdict) -> None:
        if not self.said:
            return
        id_, token = data.draw(st.sampled_from(self.said))
        accepted = done(self.queue.settle(KEY, [Settlement(id_, token, verdict)], self.now))
        counts = self.holding.get(id_, ("", 0.0))[0] == token
        assert (id_ in accepted) == counts
        if counts:
            del self.holding[id_]
            if not isinstance(verdict, Delayed):
                assert id_ not in self.ended, "it was finished twice"
                self.ended[id_] = verdict

    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        if not self.said:
            return
        id_, token = data.draw(st.sampled_from(self.said))
        held = done(self.queue.renew(KEY, [(id_, token)], self.now + LEASE))
        assert (id_ in held) == (self.holding.get(id_, ("", 0.0))[0] == token)
        if id_ in held:
            self.holding[id_] = token, self.now + LEASE

    @rule(seconds=st.floats(-3, 30))
    def time_passes_or_jumps(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def nothing_is_forgotten_by_the_index(self) -> None:
        """While anything is not finished, its queue comes due."""
        if self.appended - self.ended.keys():
            assert [name for name, _ in done(self.queue.due(ONE, 1e9, 9))] == ["f"]

    def teardown(self) -> None:
        """Holders are gone; whoever comes after finds all that was not finished."""
        found: set[str] = set()
        self.now += 1000
        while True:
            batch = done(self.queue.lease(KEY, 100, self.now, self.now + LEASE))
            if not batch.items:
                break
            found |= {each.id for each in batch.items}
        assert found == self.appended - self.ended.keys()


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(max_examples=150, stateful_step_count=40)


def some_terms(rng: random.Random, now: float) -> Terms:
    """Mostly none."""
    token = Token(rng.choice("tu"), now + rng.choice([5.0, 60.0])) if rng.random() < 0.2 else None
    return Terms(now + rng.choice([-1.0, 0.5, 20.0]) if rng.random() < 0.3 else None, token)


async def test_redis_and_its_twin_answer_a_random_history_alike(redis_url: str) -> None:
    client = connect(redis_url)
    pair: list[EventQueue] = [
        MemoryQueue(SystemClock(), "p", dead_seconds=40.0, dead_items=5),
        RedisQueue(client, SystemClock(), "p", dead_seconds=40.0, dead_items=5),
    ]
    rng = random.Random(8)
    now, number = 100.0, 0
    given: list[tuple[str, str]] = []
    for _ in range(1500):
        now += rng.choice([0, 0, 0.1, 1, 7])
        match rng.choice(["append", "lease", "lease", "settle", "settle", "renew", "due"]):
            case "append":
                batch = [Item("f", f"e{number + each}", b"v") for each in range(rng.randrange(1, 4))]
                number += len(batch)
                terms = {each.id: some_terms(rng, now) for each in batch}
                answers: list[Any] = [await queue.append(ONE, batch, now, terms) for queue in pair]
            case "lease":
                count = rng.randrange(1, 5)
                answers = [await queue.lease(KEY, count, now, now + LEASE) for queue in pair]
                assert isinstance(answers[0], Batch)
                given += [(each.id, each.token) for each in answers[0].items]
            case "settle":
                ends: list[Verdict] = [Done(), Dead(b"d"), Delayed(now + rng.randrange(9), b"s")]
                some = [Settlement(*each, rng.choice(ends)) for each in given[-8:] if rng.random() < 0.5]
                answers = [await queue.settle(KEY, some, now) for queue in pair]
            case "renew":
                answers = [await queue.renew(KEY, given[-6:], now + LEASE) for queue in pair]
            case _:
                answers = [await queue.due(ONE, now + 3, 9) for queue in pair]
        assert answers[0] == answers[1]
    await client.aclose()
