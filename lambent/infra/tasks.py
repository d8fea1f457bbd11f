"""Every asyncio task has a name, an owner and an error path. The one place that calls `asyncio.create_task`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from lambent.domain.errors import AwsError

_log = logging.getLogger(__name__)
_AGAIN_SECONDS = 5.0


async def every(seconds: float, work: Callable[[], Awaitable[object]], put_off: str) -> None:
    """Do `work` every so many seconds, for ever. Where the store is away the next time will do; `put_off` says so."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except AwsError as error:
            _log.debug(put_off, extra={"reason": error.message})


class TaskOwner:
    """Owns the tasks of one component: starts them, reports what fails, ends them all at `close`."""

    def __init__(
        self,
        name: str,
        on_failure: Callable[[str, BaseException], None] | None = None,
        expected: tuple[type[BaseException], ...] = (),
    ) -> None:
        """`on_failure(task name, error)` is called for a task that raised. A log line is written in any case but for
        errors that are `expected`: whoever awaits the task says what there is to say."""
        self._name = name
        self._expected = expected
        self._tasks: set[asyncio.Task[Any]] = set()
        self._on_failure = on_failure

    def start(self, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run `work` as a task called `owner.name`."""
        task = asyncio.create_task(work, name=f"{self._name}.{name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            if not isinstance(error, self._expected):
                _log.error("task failed", extra={"task": task.get_name()}, exc_info=error)
            if self._on_failure is not None:
                self._on_failure(task.get_name(), error)

    def named(self, *names: str) -> list[asyncio.Task[Any]]:
        """Its tasks of these names."""
        wanted = {f"{self._name}.{name}" for name in names}
        return [task for task in self._tasks if task.get_name() in wanted]

    def __len__(self) -> int:
        return len(self._tasks)

    async def drain(self, seconds: float) -> bool:
        """Wait until every task has ended by itself, at most `seconds`; True if all have."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=seconds)
        return not self._tasks

    async def close(self) -> None:
        """Cancel what still runs and wait for it.

        A cancellation can get lost in what a task awaits (a library that takes it for its own time-out, say), and the
        task would go on for ever: whatever has not ended after a while is cancelled again.
        """
        while tasks := set(self._tasks):
            for task in tasks:
                task.cancel()
            _, pending = await asyncio.wait(tasks, timeout=_AGAIN_SECONDS)
            if pending:
                names = ", ".join(sorted(task.get_name() for task in pending))
                _log.warning("tasks did not end when cancelled, and are cancelled again: %s", names)
            await asyncio.sleep(0)  # lets their owner, this one, hear of their end
