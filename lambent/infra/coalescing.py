"""Calls that become ready while another is under way go together: one command to the store for all of them.

A command costs its round trip and some 100 µs of the client's time however little it carries. The first call of a quiet
moment waits for nothing but the end of this turn of the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

from lambent.infra.tasks import TaskOwner

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")
Answer = TypeVar("Answer")

MOST_ITEMS = 256
MOST_WEIGHT = 4 * 1024 * 1024


class Coalescer(Generic[Key, Item, Answer]):
    """Collects items by key and hands them on, one command at a time for each key."""

    def __init__(
        self,
        name: str,
        work: Callable[[Key, Sequence[Item]], Awaitable[Sequence[Answer]]],
        weigh: Callable[[Item], int] = lambda item: 0,
        linger: float = 0.0,
    ) -> None:
        """`work`: answers each item, in order, or raises for all. `weigh`: an item's bytes. `linger`: seconds for which
        each command waits for others to go with it, where nobody waits for the answer."""
        self._work = work
        self._weigh = weigh
        self._linger = linger
        self._waiting: dict[Key, list[tuple[Item, asyncio.Future[Answer]]]] = {}
        self._tasks = TaskOwner(name)

    def submit(self, key: Key, item: Item) -> asyncio.Future[Answer]:
        """What `work` answers to this item. An item is handed on though its caller gives up."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.get(key)
        if waiting is None:
            self._waiting[key] = [(item, future)]
            self._tasks.start("work", self._run(key))
        else:
            waiting.append((item, future))
        return future

    async def _run(self, key: Key) -> None:
        waiting = self._waiting[key]
        while waiting:
            if self._linger and len(waiting) < MOST_ITEMS:
                await asyncio.sleep(self._linger)
            count = self._share(waiting)
            batch = waiting[:count]
            del waiting[:count]
            try:
                answers = await self._work(key, [item for item, _ in batch])
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
        del self._waiting[key]

    def _share(self, waiting: Sequence[tuple[Item, asyncio.Future[Answer]]]) -> int:
        """How many go with the next command."""
        weight = 0
        for number, (item, _) in enumerate(waiting[:MOST_ITEMS]):
            weight += self._weigh(item)
            if weight > MOST_WEIGHT and number:
                return number
        return min(len(waiting), MOST_ITEMS)

    async def close(self) -> None:
        """Give up what is under way."""
        await self._tasks.close()
