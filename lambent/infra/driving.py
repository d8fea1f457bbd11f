"""Runs a coroutine without a task for as long as it needs none: the warm invocation.

A task costs a turn of the loop before its first step and one before each further step, and objects for both. A
coroutine whose one wait is for an `Answer` is driven by hand instead: to that wait at once, and from it at once when
the answer comes, within the call that brings it.

The rule: what waits for anything but an `Answer` goes on in a task, from that wait on. Code that asks for the running
task *before* it waits (asyncio.timeout does, and so do most client libraries) must come after `await in_task()`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

_log = logging.getLogger(__name__)

Result = TypeVar("Result")
# Starts a task that goes on with a coroutine, on behalf of whoever owns it.
Spawn = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]


class Driven:
    """One coroutine, which tells its result itself and raises nothing that an owner would have to know."""

    __slots__ = ("_coroutine", "_rest", "_spawn", "_task")

    def __init__(self, coroutine: Coroutine[Any, Any, None], spawn: Spawn) -> None:
        self._coroutine: Coroutine[Any, Any, None] | None = coroutine  # None: it has ended, or a task has it
        self._spawn = spawn
        self._task: asyncio.Task[None] | None = None
        self._rest: _Rest | None = None  # what the task goes on with

    def start(self) -> None:
        """Run it now, as far as it goes without a task."""
        self._step(None)

    def start_as_task(self) -> None:
        """Run it as a task."""
        coroutine, self._coroutine = self._coroutine, None
        if coroutine is not None:
            self._task = self._spawn(coroutine)

    def resume(self) -> None:
        """What it waited for is there."""
        self._step(None)

    def cancel(self) -> asyncio.Task[None] | None:
        """Raise CancelledError where it waits; answers the task to wait for, if it has become one."""
        if self._coroutine is not None:
            self._step(asyncio.CancelledError())
        elif self._rest is not None and not self._rest.began:
            self._rest.cancelled = True  # a task that is cancelled before its first step runs nothing at all
        elif self._task is not None:
            self._task.cancel()
        return self._task

    def _step(self, error: BaseException | None) -> None:
        global _driven
        coroutine = self._coroutine
        if coroutine is None:
            return
        before, _driven = _driven, self
        try:
            waits_for = coroutine.send(None) if error is None else coroutine.throw(error)
        except (StopIteration, asyncio.CancelledError):
            self._coroutine = None
            return
        except Exception as failure:
            self._coroutine = None
            _log.error("a coroutine that was driven by hand failed", exc_info=failure)
            return
        finally:
            _driven = before
        if not isinstance(waits_for, Answer):
            self._coroutine = None
            self._rest = _Rest(coroutine, waits_for)
            self._task = self._spawn(self._rest.run())


_driven: Driven | None = None  # the one whose step runs


class Answer(Generic[Result]):
    """A result to come that one coroutine waits for, in a task or driven by hand."""

    __slots__ = ("_done", "_error", "_future", "_loop", "_result", "_waiter")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._done = False
        self._result: Result | None = None
        self._error: BaseException | None = None
        self._waiter: Driven | None = None
        self._future: asyncio.Future[None] | None = None

    def done(self) -> bool:
        """Whether it has come, or nobody wants it any more."""
        return self._done

    def set_result(self, result: Result) -> None:
        """It has come. A coroutine that is driven by hand goes on within this call."""
        self._done, self._result = True, result
        if self._waiter is not None:
            self._waiter.resume()
        else:
            self._wake()

    def set_exception(self, error: BaseException) -> None:
        """It will not come. Whoever waits goes on in the loop's next turn."""
        self._done, self._error = True, error
        if self._waiter is not None:
            self._loop.call_soon(self._waiter.resume)
        else:
            self._wake()

    def _wake(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    def __await__(self) -> Generator[Any, None, Result]:
        if not self._done:
            try:
                if _driven is not None:
                    self._waiter = _driven
                    yield self
                else:
                    self._future = self._loop.create_future()
                    yield from self._future
            finally:
                self._done, self._waiter = True, None  # where it was cancelled, nobody waits any more
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]


class _Turn:
    """Waits for nothing."""

    def __await__(self) -> Generator[None, None, None]:
        yield None


async def in_task() -> None:
    """After this, the caller runs in a task."""
    if _driven is not None:
        await _Turn()


class _Rest:
    """A coroutine that has begun, as something to await: `first` is what it waits for."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], first: Any) -> None:
        self._coroutine = coroutine
        self._first = first
        self.began = False
        self.cancelled = False  # before it began

    async def run(self) -> None:
        """As a coroutine, which is what a task takes."""
        await self

    def __await__(self) -> Generator[Any, Any, None]:
        coroutine, waits_for = self._coroutine, self._first
        self.began = True
        try:
            if self.cancelled:
                waits_for = coroutine.throw(asyncio.CancelledError())
            while True:
                try:
                    sent = yield waits_for
                except GeneratorExit:
                    coroutine.close()
                    raise
                except BaseException as error:
                    waits_for = coroutine.throw(error)
                else:
                    waits_for = coroutine.send(sent)
        except StopIteration:
            return
