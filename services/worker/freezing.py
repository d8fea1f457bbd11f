"""Gives idle environments no processor time: one timer for a worker, and none while all are frozen."""

from __future__ import annotations

import asyncio
from typing import Protocol

from lambent.domain.clock import Clock
from services.worker.core.environment import State
from services.worker.sandbox.port import Sandbox


class Freezable(Protocol):
    """What is known of an environment here."""

    idle_since: float  # monotonic seconds; while it is READY
    frozen: bool

    @property
    def state(self) -> State: ...

    @property
    def sandbox(self) -> Sandbox | None: ...


class Freezer:
    """Freezes what has been idle for long enough, and thaws it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, idle_seconds: float) -> None:
        self._loop = loop
        self._clock = clock
        self._idle = idle_seconds
        self._awake: set[Freezable] = set()  # those that may have to be frozen, sooner or later
        self._timer: asyncio.TimerHandle | None = None

    @property
    def at_rest(self) -> bool:
        """Whether nothing has to be looked at."""
        return self._timer is None

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

    def _look(self) -> None:
        since = self._clock.monotonic() - self._idle
        self._awake = {environment for environment in self._awake if not self._held(environment, since)}
        self._timer = self._loop.call_later(self._idle / 2, self._look) if self._awake else None

    def _held(self, environment: Freezable, since: float) -> bool:
        """Whether it needs no more looks: it is frozen now, or nothing runs in it."""
        if environment.state is State.READY and environment.idle_since <= since and environment.sandbox is not None:
            environment.sandbox.freeze()
            environment.frozen = True
        return environment.frozen or environment.state in (State.COLD, State.STOPPED)
