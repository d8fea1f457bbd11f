"""When environments are ended for the age of their credentials, on a clock of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from lambent.infra.session_credentials import SessionKeys
from lambent.internal.v1.deployment_pb2 import Deployment
from services.worker.core.environment import State
from services.worker.core.reasons import Reason
from services.worker.credentials import Credentials

KEYS = SessionKeys(b"key")
EPOCH = 1_700_000_000.0
SECONDS = 100.0


class Handle:
    """A timer."""

    def __init__(self, when: float, call: Callable[[], None]) -> None:
        self.when, self.call, self.cancelled = when, call, False

    def cancel(self) -> None:
        self.cancelled = True


class World:
    """Clock, ids and the loop's timers."""

    def __init__(self) -> None:
        self.now = 0.0
        self.count = 0
        self.timers: list[Handle] = []
        self.credentials = Credentials(cast(Any, self), self, self, KEYS, SECONDS)

    def monotonic(self) -> float:
        return self.now

    def epoch(self) -> float:
        return EPOCH + self.now

    def uuid(self) -> str:
        raise NotImplementedError

    def token(self, size: int) -> str:
        self.count += 1
        return f"{self.count:0{2 * size}x}"

    def call_later(self, delay: float, call: Callable[[], None]) -> Handle:
        self.timers.append(Handle(self.now + delay, call))
        return self.timers[-1]

    @property
    def armed(self) -> list[Handle]:
        return [timer for timer in self.timers if not timer.cancelled]

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while due := [timer for timer in self.armed if timer.when <= end]:
            first = min(due, key=lambda timer: timer.when)
            self.timers.remove(first)
            self.now = max(self.now, first.when)
            first.call()
        self.now = end


class Holder:
    """An environment."""

    def __init__(self, world: World, state: State = State.READY) -> None:
        self.deployment = Deployment(account="1", region="r", role="a/role", function_name="fn", timeout_seconds=30)
        self.fresh_until = 0.0
        self.state = state
        self.stopped: list[Reason] = []
        self.world = world
        self.variables = world.credentials.variables(self)

    def stop(self, reason: Reason) -> None:
        self.state = State.STOPPED
        self.stopped.append(reason)
        self.world.credentials.gone(self)


def test_every_process_has_its_own_for_as_long_as_it_may_be_used() -> None:
    world = World()
    one, other = Holder(world), Holder(world)
    assert one.variables["AWS_ACCESS_KEY_ID"] != other.variables["AWS_ACCESS_KEY_ID"]
    session = KEYS.open(one.variables["AWS_SESSION_TOKEN"])
    assert session is not None
    assert one.fresh_until == SECONDS
    # An invocation that begins at the last moment may wait for another's rest, and then run to its own timeout.
    assert session.expires >= EPOCH + one.fresh_until + 2 * 30


def test_idle_ones_are_ended_when_it_is_time_and_others_when_they_are_idle() -> None:
    world = World()
    idle, busy, settling = Holder(world), Holder(world, State.INVOKING), Holder(world, State.SETTLING)
    world.advance(50)
    late = Holder(world)
    world.advance(SECONDS - 50)
    assert idle.stopped == [Reason.WORN]
    assert not busy.stopped + settling.stopped + late.stopped
    busy.state = settling.state = State.READY
    world.advance(5)
    assert busy.stopped == settling.stopped == [Reason.WORN]
    assert not late.stopped
    world.advance(45)
    assert late.stopped == [Reason.WORN]
    assert not world.armed


def test_a_new_process_in_an_environment_begins_anew() -> None:
    world = World()
    holder = Holder(world)
    world.advance(60)
    first, second = holder.variables, world.credentials.variables(holder)
    assert first["AWS_SESSION_TOKEN"] != second["AWS_SESSION_TOKEN"]
    world.advance(SECONDS - 1)
    assert not holder.stopped
    world.advance(1)
    assert holder.stopped == [Reason.WORN]


def test_one_without_a_process_is_left_and_one_that_is_gone_forgotten() -> None:
    world = World()
    cold, gone = Holder(world, State.COLD), Holder(world, State.INVOKING)
    world.advance(SECONDS)
    assert not cold.stopped
    world.credentials.gone(gone)
    assert not world.armed
