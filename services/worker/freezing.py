"""Gives idle environments no processor time, and has those that stay idle give back memory first: a timer for each of
the two, and none while there is nothing to look at."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from lambent.domain.clock import Clock
from services.worker.core.environment import State
from services.worker.sandbox.port import Sandbox

# How many are told to rest at once, and seconds until the next ones are: some milliseconds of processor time each.
_AT_ONCE, _PACE = 2, 0.05


class Freezable(Protocol):
    """What is known of an environment here."""

    idle_since: float  # monotonic seconds; while it is READY
    frozen: bool
    told_to_rest: float  # monotonic seconds

    @property
    def state(self) -> State: ...

    @property
    def sandbox(self) -> Sandbox | None: ...

    def rest(self) -> None:
        """Tell what runs in it that there will be nothing to do for a while."""
        ...


class Freezer:
    """Freezes what has been idle for long enough, and thaws it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, idle_seconds: float, rest_seconds: float) -> None:
        """Seconds that an environment is idle before it is frozen, and before it is told to rest."""
        self._loop = loop
        self._clock = clock
        self._idle = idle_seconds
        self._rest = rest_seconds
        self._awake: set[Freezable] = set()  # those that may have to be frozen, sooner or later
        self._timer: asyncio.TimerHandle | None = None
        self._restless: deque[tuple[Freezable, float]] = deque()  # frozen ones, with when they have been idle since
        self._rest_timer: asyncio.TimerHandle | None = None

    @property
    def at_rest(self) -> bool:
        """Whether nothing has to be looked at."""
        return self._timer is None and self._rest_timer is None

    def started(self, environment: Freezable) -> None:
        """It has a fresh sandbox."""
        environment.frozen = False
        self._awake.add(environment)
        if self._timer is None:
            self._timer = self._loop.call_later(self._idle, self._look)

    def thaw(self, environment: Freezable) -> None:
        """It goes on. Only where it is frozen."""
        if environment.sandbox is not None:
            environment.sandbox.thaw()
        self.started(environment)

    def gone(self, environment: Freezable) -> None:
        """It has stopped."""
        self._awake.discard(environment)
        if not self._awake and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """Look at nothing any more."""
        for timer in (self._timer, self._rest_timer):
            if timer is not None:
                timer.cancel()

    def _look(self) -> None:
        since = self._clock.monotonic() - self._idle
        self._awake = {environment for environment in self._awake if not self._held(environment, since)}
        self._timer = self._loop.call_later(self._idle / 2, self._look) if self._awake else None

    def _held(self, environment: Freezable, since: float) -> bool:
        """Whether it needs no more looks: it is frozen now, or nothing runs in it."""
        idle = environment.idle_since
        if (
            environment.state is State.READY
            and environment.sandbox is not None
            and idle <= since
            and environment.told_to_rest <= since
        ):
            environment.sandbox.freeze()
            environment.frozen = True
            if environment.told_to_rest < idle:
                self._restless.append((environment, idle))
                if self._rest_timer is None:
                    self._rest_timer = self._loop.call_later(self._rest, self._look_for_rest)
        return environment.frozen or environment.state in (State.COLD, State.STOPPED)

    def _look_for_rest(self) -> None:
        """Those that have stayed as they were frozen are thawed, told, and frozen again."""
        now, restless, told = self._clock.monotonic(), self._restless, 0
        starting = any(environment.state is State.STARTING for environment in self._awake)  # somebody may wait for it
        while restless and not starting and told < _AT_ONCE and restless[0][1] + self._rest <= now:
            environment, idle = restless.popleft()
            if environment.frozen and environment.state is State.READY and environment.idle_since == idle:
                environment.told_to_rest = now
                self.thaw(environment)
                environment.rest()
                told += 1
        delay = max(_PACE, restless[0][1] + self._rest - now) if restless else 0.0
        self._rest_timer = self._loop.call_later(delay, self._look_for_rest) if restless else None
