"""Which queues a poller reads, and how much of each: fair between them, slow where a function is held back.

Queues take turns. Each has a window, the most of its items that run here at once: it grows while they run and is halved
when they are held back (throttled, no worker), as TCP does with a connection. It stops growing, and goes back a little,
when items take long beyond their handler's time: more of them at once would wait for the same processors. No queue may
run more than four times of what it leaves free, so that those whose items run for long leave room for those that come
later. A queue of which nothing gets through is left alone for a while that doubles; so it costs next to nothing,
however much waits in it.

Pure: `now` is a parameter; who calls carries out the visits and says what came of them.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

FIRST_WINDOW = 16
# Most items of one turn, and into how many turns at least the free slots are cut.
TURN, TURNS = 64, 8
# How many of the slots one queue may have for each that is left free then.
SHARE = 4
PAUSE_SECONDS, PAUSE_MAX_SECONDS = 0.1, 10.0


class Effect(Enum):
    """What the end of an item says about its queue."""

    THROUGH = auto()  # it ran, or needed nothing to run on
    SLOW = auto()  # it ran, but took long beyond its handler's time
    HELD_BACK = auto()  # it did not run, for want of concurrency or of a worker


@dataclass(frozen=True, slots=True)
class Visit(Generic[Key]):
    """Lease at most `count` items of a queue, and run them."""

    key: Key
    count: int
    turn: int  # to be given back with each of its items


@dataclass(slots=True)
class _Queue:
    due: float | None = None  # when something can be leased, as far as is known; None: nothing
    running: int = 0  # items that run, and those that a visit under way may bring
    visiting: bool = False
    woken: float | None = None  # as `due`, heard while a visit was under way
    window: float = FIRST_WINDOW
    slow_start: bool = True  # the window doubles until its first cut
    turn: int = 0
    cut_turn: int = 0  # items of earlier turns say nothing new about the window
    streak: int = 0  # cuts since something last got through
    paused_until: float = 0.0
    planned: float | None = None  # the soonest entry of it in the heap


@dataclass(slots=True)
class Choice(Generic[Key]):
    """All queues that one poller knows to have something."""

    slots: int  # most items that run at once
    running: int = 0
    _queues: dict[Key, _Queue] = field(default_factory=dict)
    _ready: OrderedDict[Key, None] = field(default_factory=OrderedDict)  # in the order of their turns
    _later: list[tuple[float, int, Key]] = field(default_factory=list)  # a heap; entries may be outdated
    _entries: int = 0

    def wake(self, key: Key, at: float, now: float) -> None:
        """Something in a queue can be leased from `at` on."""
        queue = self._queues.setdefault(key, _Queue())
        if queue.visiting:
            queue.woken = at if queue.woken is None else min(queue.woken, at)
        elif queue.due is None or at < queue.due:
            queue.due = at
            self._arrange(key, queue, now)

    def pick(self, now: float) -> list[Visit[Key]]:
        """The visits to make now."""
        while self._later and self._later[0][0] <= now:
            at, _, key = heapq.heappop(self._later)
            queue = self._queues.get(key)
            if queue is not None and queue.planned == at:
                queue.planned = None
                self._arrange(key, queue, now)
        visits = []
        for key in list(self._ready):
            if self.running >= self.slots:
                break
            queue = self._queues[key]
            count = min(int(queue.window) - queue.running, TURN, max((self.slots - self.running) // TURNS, 1))
            share = self._share(queue)
            if count > 0 and share <= 0:
                continue  # it keeps its place until others have ended
            del self._ready[key]
            if count <= 0:
                continue  # its window was cut while it waited for its turn; it comes back when an item ends
            count = min(count, share)
            queue.visiting = True
            queue.turn += 1
            queue.running += count
            self.running += count
            visits.append(Visit(key, count, queue.turn))
        return visits

    def visited(self, visit: Visit[Key], got: int, next_due: float | None, now: float) -> None:
        """A visit has brought `got` items."""
        queue = self._queues[visit.key]
        queue.visiting = False
        queue.running -= visit.count - got
        self.running -= visit.count - got
        queue.due = next_due
        if queue.woken is not None:
            queue.due = queue.woken if next_due is None else min(next_due, queue.woken)
            queue.woken = None
        self._arrange(visit.key, queue, now)

    def ended(self, visit: Visit[Key], effect: Effect, now: float) -> None:
        """One item of a visit has ended."""
        queue = self._queues[visit.key]
        queue.running -= 1
        self.running -= 1
        if effect is not Effect.HELD_BACK:
            queue.streak = 0
        if effect is Effect.THROUGH:
            queue.window = min(queue.window + (1.0 if queue.slow_start else 1.0 / queue.window), float(self.slots))
        elif effect is Effect.SLOW:
            queue.slow_start = False
            queue.window = max(queue.window - 1.0, min(queue.window, float(FIRST_WINDOW)))
        elif visit.turn >= queue.cut_turn:
            queue.cut_turn = queue.turn + 1
            queue.slow_start = False
            queue.window = max(1.0, queue.window / 2)
            queue.streak += 1
        if effect is Effect.HELD_BACK and queue.running == 0:
            queue.paused_until = now + min(PAUSE_SECONDS * 2.0 ** min(queue.streak - 1, 16), PAUSE_MAX_SECONDS)
        self._arrange(visit.key, queue, now)

    def next_at(self) -> float | None:
        """When `pick` has something new to say, if nothing happens before."""
        return self._later[0][0] if self._later else None

    def _share(self, queue: _Queue) -> int:
        """How many more items of a queue may run; one at least of a queue that has none."""
        free = self.slots - self.running
        return max((SHARE * free - queue.running) // (SHARE + 1), 1 if queue.running == 0 else 0)

    def _arrange(self, key: Key, queue: _Queue, now: float) -> None:
        """Give a queue its place: in the row, later, or nowhere."""
        if queue.visiting or key in self._ready:
            return
        if queue.due is None:
            if not queue.running:
                del self._queues[key]
            return
        if queue.running >= int(queue.window):
            return
        at = max(queue.due, queue.paused_until)
        if at <= now:
            self._ready[key] = None
        elif queue.planned is None or at < queue.planned:
            queue.planned = at
            self._entries += 1
            heapq.heappush(self._later, (at, self._entries, key))
