"""The poller over the queue's twin: what it leases it runs, settles, and gives up by the rules; stopping loses nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from lambent.domain.async_events import Outcome, RetryPolicy
from lambent.domain.names import FunctionRef
from lambent.infra.clock import SystemClock, SystemIds
from lambent.infra.connections import Connections
from lambent.infra.frames import Result
from lambent.infra.functions.directory import Known
from lambent.infra.invoker.invoker import Outcome as Ran
from lambent.infra.queue.memory_queue import MemoryQueue
from lambent.infra.queue.port import Item, Place, QueueKey
from lambent.infra.queue.records import Event, decode_state, encode
from lambent.infra.telemetry import Telemetry
from services.poller import poller as poller_module
from services.poller.attempts import Attempt, Attempts, Request, took_long
from services.poller.outbox import Outbox
from services.poller.poller import Poller
from services.poller.sending import BuiltIn, Deliveries, Sender
from tests.records import ONE, record

KEY = QueueKey(ONE, "f")
POLICY = RetryPolicy(1, 3600.0, 0.01, 0.01, 0.02)


@dataclass
class Scripted:
    """Attempts whose outcomes (or defects) are given: by id, one after the other, the last for ever."""

    outcomes: dict[str, list[Any]] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def find(self, ref: FunctionRef) -> Known | Attempt:
        return Known(record(), None)

    async def run(
        self, ref: FunctionRef, known: Known, request: Request, payload: bytes, begins: Callable[[], None],
        tenant_id: str | None,
    ) -> Attempt:  # fmt: skip
        begins()
        await self.gate.wait()
        self.ran.append(request.request_id)
        script = self.outcomes.get(request.request_id, [SUCCESS])
        outcome = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(outcome, Exception):
            raise outcome
        assert isinstance(outcome, Attempt)
        return outcome


SUCCESS = Attempt(Outcome.SUCCEEDED, "", "1", None, b"null")
FAILURE = Attempt(Outcome.FUNCTION_ERROR, "ValueError", "1", "Unhandled", b'{"errorMessage":"no"}')
THROTTLE = Attempt(Outcome.THROTTLED, "ConcurrentInvocationLimitExceeded")


class World:
    """A queue, a poller, and attempts as the test says."""

    def __init__(self, built_in: BuiltIn | None = None, running: int = 10) -> None:
        clock = SystemClock()
        self.queue = MemoryQueue(clock, "p", dead_seconds=1e9, dead_items=100)
        self.attempts = Scripted()
        telemetry = Telemetry("test", otlp_endpoint="", prometheus=False, instance="t")
        sender = Sender(Connections(()), built_in, clock)  # type: ignore[arg-type]
        self.poller = Poller(
            self.queue, self.attempts, Deliveries(sender, POLICY, 10.0, telemetry),  # type: ignore[arg-type]
            Outbox(Connections(()), SystemIds()), POLICY, telemetry, random.Random(1), running=running,
            lease_seconds=5.0,
        )  # fmt: skip

    async def append(self, *ids: str) -> None:
        now = self.queue.now()
        await self.queue.append(ONE, [Item("f", id_, encode(Event(now, None, ""), b"{}")) for id_ in ids], now)

    async def until(self, **counts: int) -> None:
        """So many are in these places, at one instant."""
        for _ in range(1000):
            depths = await self.queue.depths(ONE)
            if depths and all(depths[0].counts[Place(name)] == count for name, count in counts.items()):
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"{counts}: {depths}")


@pytest.fixture
def world() -> World:
    return World()


async def test_events_run_are_tried_again_and_end(world: World) -> None:
    world.attempts.gate.set()
    world.attempts.outcomes = {
        "fails": [FAILURE], "recovers": [FAILURE, SUCCESS], "throttled": [THROTTLE, THROTTLE, THROTTLE, SUCCESS],
    }  # fmt: skip
    await world.poller.start()
    await world.append("fine", "fails", "recovers", "throttled")
    await world.until(dead=1, fresh=0, leased=0, delayed=0)
    await world.poller.stop(5)
    [dead] = await world.queue.entries(KEY, Place.DEAD, 9)
    state, response = decode_state(dead.state)
    assert (dead.id, state.reason, state.detail, state.attempts) == ("fails", "RetriesExhausted", "ValueError", 2)
    assert response == FAILURE.response
    assert sorted(world.attempts.ran) == sorted(["fine", *["fails"] * 2, *["recovers"] * 2, *["throttled"] * 4])


async def test_stopping_lets_what_runs_end_and_leaves_the_rest(world: World) -> None:
    await world.append(*(f"e{number}" for number in range(30)))
    await world.poller.start()
    await world.until(leased=8)  # of ten slots one queue leaves two free
    stopping = asyncio.ensure_future(world.poller.stop(5))
    await asyncio.sleep(0)
    world.attempts.gate.set()
    await stopping
    [depth] = await world.queue.depths(ONE)
    assert depth.counts[Place.LEASED] == 0, "what was leased was not settled"
    assert depth.counts[Place.FRESH] == 30 - len(world.attempts.ran)


async def test_events_that_go_on_running_are_soon_half_of_the_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poller_module, "LASTING_SECONDS", 0.05)
    world = World(running=200)
    await world.append(*(f"e{number}" for number in range(300)))
    await world.poller.start()
    await world.until(leased=100)
    assert not world.attempts.ran
    world.attempts.gate.set()
    await world.poller.stop(5)


async def test_a_defect_that_ends_a_loop_does_not_end_the_reading(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller_module, "AWAY_SECONDS", 0.01)
    world.attempts.gate.set()
    failures = iter([ValueError("a defect"), KeyError("another")])
    choose = Poller._choose

    async def defective(poller: Poller) -> None:
        for failure in failures:
            raise failure
        await choose(poller)

    monkeypatch.setattr(Poller, "_choose", defective)
    world.attempts.outcomes = {"fails": [FAILURE]}
    await world.poller.start()
    await world.append("fails")
    await world.until(dead=1)
    await world.poller.stop(5)
    assert next(failures, None) is None


async def test_a_defect_that_stands_against_an_event_does_not_have_it_run_for_ever(world: World) -> None:
    world.attempts.gate.set()
    world.attempts.outcomes = {"odd": [RuntimeError("a defect"), RuntimeError("again"), SUCCESS]}
    await world.append("odd")
    await world.queue.append(ONE, [Item("f", "unread", b"no event")], world.queue.now())
    await world.poller.start()
    await world.until(fresh=0, leased=0, delayed=0, dead=1)
    await world.poller.stop(5)
    assert world.attempts.ran == ["odd"] * 3
    assert [each.id for each in await world.queue.entries(KEY, Place.DEAD, 9)] == ["unread"]


async def test_a_defect_in_a_visit_does_not_end_the_visits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poller_module, "AWAY_SECONDS", 0.01)
    failures, lease = iter([RuntimeError("a defect")]), world.queue.lease

    async def defective(*arguments: Any) -> Any:
        for failure in failures:
            raise failure
        return await lease(*arguments)

    monkeypatch.setattr(world.queue, "lease", defective)
    world.attempts.gate.set()
    world.attempts.outcomes = {"fails": [FAILURE]}
    await world.poller.start()
    await world.append("fails")
    await world.until(dead=1)
    await world.poller.stop(5)


@pytest.mark.parametrize(
    ("elapsed", "duration_ms", "init_ms", "waited", "long"),
    [
        (0.011, 1.0, None, 0.0, False),
        (0.031, 1.0, None, 0.0, True),
        (0.031, 1.0, None, 0.029, True),  # it waited for others to end: too many run at once
        (0.311, 1.0, 250.0, 0.3, False),  # it was the first of its environment
        (0.341, 1.0, 250.0, 0.3, True),
        (0.311, 1.0, 300.0, 0.0, False),  # whose init phase came within the invocation
        (1.2, 1000.0, None, 0.0, False),  # with so long a handler more at once are worth while still
        (1.3, 1000.0, None, 0.0, True),
    ],
)
def test_an_attempt_took_long_if_neither_handler_nor_a_new_environment_did(
    elapsed: float, duration_ms: float, init_ms: float | None, waited: float, long: bool
) -> None:
    result = Result(None, None, duration_ms, init_ms, 1, 64, 0.0, None, True)
    ran = Ran(result, b"", "Held", waited, provisioned=False, spillover=False)
    assert took_long(elapsed, ran) is long


def test_what_runs_events_is_what_the_poller_takes() -> None:
    """The scripted attempts have the methods of the real ones."""
    assert {name for name in vars(Scripted) if name in ("find", "run")} <= set(vars(Attempts))
