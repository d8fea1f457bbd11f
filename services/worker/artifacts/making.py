"""Folders that are made once on this worker, however many environments ask for them at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from lambent.infra.tasks import TaskOwner

T = TypeVar("T")


class PackageUnavailable(Exception):
    """What a function is made of cannot be had, or is refused; the text is one line."""


class Making(Generic[T]):
    """What there is by name, and what is coming."""

    def __init__(self, owner: str) -> None:
        self.known: dict[str, T] = {}
        self._coming: dict[str, asyncio.Future[T]] = {}
        self._tasks = TaskOwner(owner)
        # Two: an unpacking holds a core, and the loop needs one.
        self._threads = ThreadPoolExecutor(2, owner)

    @property
    def idle(self) -> bool:
        """Whether nothing is coming."""
        return not self._coming

    async def obtain(self, name: str, make: Callable[[], T]) -> T:
        """What has this name: it is there, or it is coming, or it is made now, by a thread."""
        found = self.known.get(name)
        if found is not None:
            return found
        coming = self._coming.get(name)
        if coming is None:
            coming = self._coming[name] = asyncio.get_running_loop().create_future()
            self._tasks.start(name[:24], self._make(name, make, coming))
        # Whoever gives up waiting does not take it from the others.
        return await asyncio.shield(coming)

    async def _make(self, name: str, make: Callable[[], T], coming: asyncio.Future[T]) -> None:
        try:
            made = await asyncio.get_running_loop().run_in_executor(self._threads, make)
        except Exception as error:
            coming.set_exception(error)
            coming.exception()  # nobody need be left that waits for it
            if not isinstance(error, PackageUnavailable):
                raise
        else:
            self.known[name] = made
            coming.set_result(made)
        finally:
            self._coming.pop(name, None)
            coming.cancel()  # where it was given up

    async def close(self) -> None:
        """Give up what is under way."""
        await self._tasks.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
