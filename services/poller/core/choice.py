"""Which queues a poller reads, and how much of each: fair between them, slow where a function is held back.

Queues take turns. Each has a window, the most of its items that run here at once: it grows as they end and is halved
when they are held back (throttled, no worker), as TCP does with a connection. It stops growing, and goes back a little,
when items take long beyond their handler's time: more of them at once would wait for the same processors. It grows too
by items that go on running, each second, but only while half of the slots are free; so those of minutes are many soon,
and leave room for others. No queue may run more than four times of what it leaves free, for those that come
later. A queue of which nothing gets through is left alone for a while that doubles; so it costs next to nothing,
however much waits in it. After that it has its turn as an item of another queue ends, and before that queue has it
again: what is freed then is what it may have been refused for, and at any other moment others have it.

Where queues compete, one whose priority is ten higher gets ten times as many items: its turns come again sooner, it may
have more of the slots, and its window grows faster. None waits for ever, and none is held down while no other waits.

Pure: `now` is a parameter; who calls carries out the visits and says what came of them.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

FIRST_WINDOW = 16
# Most items of one turn, and into how many turns at least the free slots are cut.
TURN, TURNS = 64, 8
# How many of the slots one queue may have for each that is left free then.
SHARE = 4
# How long an item runs until it counts as one that ended, each time; and what share of the slots stays free then.
LASTING_SECONDS, LASTING_FREE = 1.0, 0.5
PAUSE_SECONDS, PAUSE_MAX_SECONDS = 0.1, 10.0
# So much more priority is ten times the weight.
TENFOLD = 10
# Least growth of a window beside that of the highest priority: it has to find again what it may use.
LEAST_GROWTH = 0.05
# How much of its window a queue loses when it is held back, and least share of that beside lower priorities.
LARGEST_CUT, LEAST_CUT = 0.5, 0.2


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
    streak: int = 0  # pauses since something last got through
    paused_until: float = 0.0
    pause: float = 0.0  # seconds of this pause; 0: there is none. For as long it then waits for another's item to end
    listed: bool = False  # it has an entry in the heap of those that pause
    planned: float | None = None  # the soonest entry of it in the heap
    priority: int = 0
    served: float = 0.0  # items it had, each divided by its weight; who has the least has the next turn
    ready: bool = False  # it is in the row


@dataclass(slots=True)
class Choice(Generic[Key]):
    """All queues that one poller knows to have something."""

    slots: int  # most items that run at once
    running: int = 0
    _queues: dict[Key, _Queue] = field(default_factory=dict)
    _row: list[tuple[float, int, Key]] = field(default_factory=list)  # a heap: whose turn it is next
    _served: float = 0.0  # the least of those that wait: who comes now has missed nothing, and is owed nothing
    _visiting: dict[Key, _Queue] = field(default_factory=dict)
    _wanting: Counter[int] = field(default_factory=Counter)  # priorities of the queues in the row, or being visited
    _at_work: Counter[int] = field(default_factory=Counter)  # of those that run something
    _known: dict[Key, int] = field(default_factory=dict)  # priorities that are not 0, of queues that are empty now
    _later: list[tuple[float, int, Key]] = field(default_factory=list)  # a heap; entries may be outdated
    # A heap of those that pause, by when that ends; one entry for each queue, which may be outdated.
    _paused: list[tuple[float, int, Key]] = field(default_factory=list)
    _entries: int = 0

    def wake(self, key: Key, at: float, now: float) -> None:
        """Something in a queue can be leased from `at` on."""
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = _Queue(priority=self._known.pop(key, 0))
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
        visits, passed = [], []
        # What those had that wait or are being visited: who has had much more than the least of it waits for them.
        least = ahead = math.inf
        if len(self._wanting) > 1:
            least = min((queue.served for queue in self._visiting.values()), default=math.inf)
            ahead = TURN / _weight(max(self._wanting))
        while self._row and self.running < self.slots:
            entry = heapq.heappop(self._row)
            key = entry[2]
            queue = self._queues[key]
            count = min(int(queue.window) - queue.running, TURN, max((self.slots - self.running) // TURNS, 1))
            share = self._share(queue)
            if count > 0 and (share <= 0 or entry[0] > least + ahead):
                passed.append(entry)  # it keeps its place until others have ended, or had theirs
                least = min(least, entry[0])
                continue
            queue.ready = False
            self._served = max(self._served, min(entry[0], least))
            if count <= 0:
                # Its window was cut while it waited for its turn; it comes back when an item ends.
                _count(self._wanting, queue.priority, -1)
                continue
            count = min(count, share)
            queue.visiting = True
            self._visiting[key] = queue
            queue.turn += 1
            queue.served = entry[0] + count / _weight(queue.priority)
            least = min(least, queue.served)
            self._run(queue, count)
            visits.append(Visit(key, count, queue.turn))
        for entry in passed:
            heapq.heappush(self._row, entry)
        return visits

    def visited(
        self, visit: Visit[Key], got: int, next_due: float | None, now: float, priority: int | None = None
    ) -> None:
        """A visit has brought `got` items. `priority`: of the queue, as it was told; None: nothing new."""
        queue = self._queues[visit.key]
        queue.visiting = False
        del self._visiting[visit.key]
        _count(self._wanting, queue.priority, -1)
        queue.served -= (visit.count - got) / _weight(queue.priority)
        if priority is not None and priority != queue.priority:
            if queue.running:
                _count(self._at_work, queue.priority, -1)
                _count(self._at_work, priority, 1)
            queue.priority = priority
        self._run(queue, got - visit.count)
        queue.due = next_due
        if queue.woken is not None:
            queue.due = queue.woken if next_due is None else min(next_due, queue.woken)
            queue.woken = None
        self._arrange(visit.key, queue, now)

    def ended(self, visit: Visit[Key], effect: Effect, now: float) -> None:
        """One item of a visit has ended."""
        queue = self._queues[visit.key]
        self._run(queue, -1)
        if effect is Effect.HELD_BACK:
            self._hold_back(visit, queue, now)
        else:
            if effect is Effect.THROUGH:
                queue.window = min(queue.window + self._growth(queue), float(self.slots))
            else:
                queue.slow_start = False
                queue.window = max(queue.window - 1.0, min(queue.window, float(FIRST_WINDOW)))
            queue.pause, queue.streak = 0.0, 0
            self._end_a_pause(now)
        self._arrange(visit.key, queue, now)

    def lasting(self, visits: Iterable[Visit[Key]], now: float) -> None:
        """What has run for LASTING_SECONDS or longer, told every LASTING_SECONDS: a visit for each item.

        It says what the end of as many would say, but not when there will be room for others: that has to be there.
        """
        counts = Counter(visit.key for visit in visits)
        spare = self.slots * (1 - LASTING_FREE) - self.running
        # Those with few first: what they do not need of their part is for the others.
        for left, (key, count) in zip(range(len(counts), 0, -1), reversed(counts.most_common()), strict=True):
            queue = self._queues[key]
            # More than twice of those that do run would wait for room that there may not be.
            most = min(2 * count - queue.window, max(spare, 0.0) / left)
            if queue.running >= int(queue.window) and most > 0:
                growth = min(count * self._growth(queue), most)
                queue.window += growth
                spare -= growth
                self._arrange(key, queue, now)

    def next_at(self) -> float | None:
        """When `pick` has something new to say, if nothing happens before."""
        return self._later[0][0] if self._later else None

    def _share(self, queue: _Queue) -> int:
        """How many more items of a queue may run; one at least of a queue that has none."""
        free = self.slots - self.running
        share = SHARE * _weight(queue.priority - max(self._wanting))
        return max(int((share * free - queue.running) / (share + 1)), 1 if queue.running == 0 else 0)

    def _growth(self, queue: _Queue) -> float:
        """What one item that got through adds to its window: less beside queues of a higher priority that run."""
        if queue.slow_start:
            return 1.0
        weight = _weight(queue.priority - max(self._at_work, default=queue.priority))
        return max(weight, LEAST_GROWTH) / queue.window

    def _cut(self, queue: _Queue) -> float:
        """How much of its window goes when it is held back: less while lower ones run, whose place it is to take."""
        lowest = min(self._at_work, default=queue.priority)
        return LARGEST_CUT * max(_weight(min(lowest - queue.priority, 0)), LEAST_CUT)

    def _run(self, queue: _Queue, more: int) -> None:
        """So many more, or fewer, of its items run."""
        before = queue.running
        queue.running += more
        self.running += more
        if bool(before) != bool(queue.running):
            _count(self._at_work, queue.priority, 1 if queue.running else -1)

    def _hold_back(self, visit: Visit[Key], queue: _Queue, now: float) -> None:
        """Run fewer of a queue at once; while it runs none, leave it alone."""
        if visit.turn >= queue.cut_turn:
            queue.cut_turn = queue.turn + 1
            queue.slow_start = False
            queue.window = max(1.0, queue.window * (1 - self._cut(queue)))
        if queue.running == 0:
            queue.pause = min(PAUSE_SECONDS * 2.0 ** min(queue.streak, 16), PAUSE_MAX_SECONDS)
            queue.streak += 1
            queue.paused_until = now + queue.pause
            self._list(visit.key, queue)

    def _end_a_pause(self, now: float) -> None:
        """What another's item leaves free is for the queue whose pause has been over for longest."""
        while self._paused and self._paused[0][0] <= now:
            _, _, key = heapq.heappop(self._paused)
            queue = self._queues.get(key)
            if queue is None:
                continue
            queue.listed = False
            if not queue.pause or queue.visiting:
                continue
            if queue.paused_until <= now:
                queue.pause = 0.0
                self._arrange(key, queue, now)
                return
            self._list(key, queue)

    def _list(self, key: Key, queue: _Queue) -> None:
        """See that its pause is found when it is over."""
        if not queue.listed:
            queue.listed = True
            heapq.heappush(self._paused, (queue.paused_until, self._number(), key))

    def _number(self) -> int:
        """What tells entries of one instant apart."""
        self._entries += 1
        return self._entries

    def _arrange(self, key: Key, queue: _Queue, now: float) -> None:
        """Give a queue its place: in the row, later, or nowhere."""
        if queue.visiting or queue.ready:
            return
        if queue.due is None:
            if not queue.running:
                del self._queues[key]
                if queue.priority:
                    self._known[key] = queue.priority
            return
        if queue.running >= int(queue.window):
            return
        at = max(queue.due, queue.paused_until)
        if self.running > queue.running == 0:
            at = max(at, queue.paused_until + queue.pause)
        if at <= now:
            queue.ready = True
            _count(self._wanting, queue.priority, 1)
            heapq.heappush(self._row, (max(queue.served, self._served), self._number(), key))
        elif queue.planned is None or at < queue.planned:
            queue.planned = at
            heapq.heappush(self._later, (at, self._number(), key))


def _weight(priority: int) -> float:
    return math.pow(10.0, priority / TENFOLD)


def _count(priorities: Counter[int], priority: int, change: int) -> None:
    priorities[priority] += change
    if not priorities[priority]:
        del priorities[priority]
