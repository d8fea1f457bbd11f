"""Which queue a poller reads next: fair, slow where it is held back, and never more than its slots."""

from __future__ import annotations

import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import pytest

from services.poller.core.choice import LASTING_SECONDS, PAUSE_MAX_SECONDS, Choice, Effect, Visit


@dataclass
class World:
    """Queues of items that each run for a while, on virtual time, with a limit of what runs of each queue at once."""

    slots: int = 100
    cores: int = 10**9  # more at once are slow
    most: int = 0  # that ever ran at once
    now: float = 0.0
    waiting: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)  # that one item runs
    limits: dict[str, int] = field(default_factory=dict)
    together: int = 10**9  # most of all queues' items at once
    priorities: dict[str, int] = field(default_factory=dict)
    rng: random.Random | None = None  # None: every item of a queue runs as long as any other, and nothing lags
    spread: float = 0.5  # by how much of its time one runs longer or shorter
    lag: float = 0.0  # seconds at the most that a visit, an attempt to run, and the news of an item's end take
    running: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    ended_at: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    begun: list[tuple[float, Visit[str]]] = field(default_factory=list)  # of what runs
    # When, for how many items, and what comes then.
    steps: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.choice: Choice[str] = Choice(self.slots)
        self.steps.append((LASTING_SECONDS, 0, self.tell_of_lasting))

    def add(self, key: str, count: int, seconds: float = 0.1, limit: int = 10**9) -> None:
        self.waiting[key] += count
        self.seconds[key], self.limits[key] = seconds, limit
        self.choice.wake(key, self.now, self.now)

    def run(self, until: float) -> None:
        """Carry out visits and end items until a time."""
        while True:
            for visit in self.choice.pick(self.now):
                self.then(self.visit, visit, self.random(0, self.lag), visit.count)
            assert 0 <= self.choice.running <= self.slots
            assert self.choice.running == sum(count for _, count, _ in self.steps)
            times = [self.choice.next_at(), min((at for at, _, _ in self.steps), default=None)]
            at = min((each for each in times if each is not None), default=until)
            if at >= until:
                self.now = until
                return
            self.now = max(self.now, at)
            for step in [step for step in self.steps if step[0] <= self.now]:
                self.steps.remove(step)
                step[2]()

    def then(self, step: Callable[[Visit[str]], None], visit: Visit[str], seconds: float, count: int = 1) -> None:
        self.steps.append((self.now + seconds, count, partial(step, visit)))

    def random(self, low: float, high: float) -> float:
        return (low + high) / 2 if self.rng is None else self.rng.uniform(low, high)

    def visit(self, visit: Visit[str]) -> None:
        key = visit.key
        got = min(visit.count, self.waiting[key])
        self.waiting[key] -= got
        for _ in range(got):
            self.then(self.attempt, visit, self.random(0, self.lag))
        self.choice.visited(visit, got, self.now if self.waiting[key] else None, self.now, self.priorities.get(key))

    def attempt(self, visit: Visit[str]) -> None:
        key = visit.key
        if self.running[key] >= self.limits[key] or sum(self.running.values()) >= self.together:
            self.then(self.held_back, visit, self.random(0, self.lag))
            return
        self.running[key] += 1
        self.most = max(self.most, sum(self.running.values()))
        began = self.now, visit
        self.begun.append(began)
        self.then(partial(self.end, began), visit, self.seconds[key] * self.random(1 - self.spread, 1 + self.spread))

    def held_back(self, visit: Visit[str]) -> None:
        key = visit.key
        self.refused[key] += 1
        self.waiting[key] += 1
        self.choice.wake(key, self.now + 1, self.now)
        self.tell(Effect.HELD_BACK, visit)

    def end(self, began: tuple[float, Visit[str]], visit: Visit[str]) -> None:
        key = visit.key
        self.begun.remove(began)
        self.running[key] -= 1
        self.ended[key] += 1
        self.ended_at[key].append(self.now)
        slow = sum(self.running.values()) >= self.cores
        self.then(partial(self.tell, Effect.SLOW if slow else Effect.THROUGH), visit, self.random(0, self.lag))

    def tell_of_lasting(self) -> None:
        before = self.now - LASTING_SECONDS
        self.choice.lasting([visit for began, visit in self.begun if began <= before], self.now)
        self.steps.append((self.now + LASTING_SECONDS, 0, self.tell_of_lasting))

    def tell(self, effect: Effect, visit: Visit[str]) -> None:
        self.choice.ended(visit, effect, self.now)


def test_no_more_run_at_once_than_the_processors_take_without_delay() -> None:
    world = World(slots=1000, cores=40)
    world.add("f", 100_000, seconds=0.01)
    world.run(10)
    assert 30 <= world.most <= 80
    assert world.ended["f"] > 0.7 * 10 / 0.01 * 40


def test_everything_is_run_once_and_nothing_is_kept_of_it() -> None:
    world = World()
    for number in range(50):
        world.add(f"q{number}", number)
    world.run(100)
    assert world.ended == Counter({f"q{number}": number for number in range(1, 50)})
    assert world.choice.next_at() is None
    assert not world.choice._queues


@pytest.mark.parametrize("depth", [100, 1_000_000])
@pytest.mark.parametrize("limit", [0, 2, 10**9])
def test_a_queue_behind_a_deep_one_waits_no_longer_however_deep_it_is(depth: int, limit: int) -> None:
    """Whether what is deep runs, is throttled, or does not run at all."""
    world = World()
    world.add("deep", depth, seconds=1.0, limit=limit)
    world.run(20)
    world.add("late", 3, seconds=0.01)
    world.run(20.5)
    assert world.ended["late"] == 3
    assert world.ended_at["late"][0] == pytest.approx(20.01)


@pytest.mark.parametrize(("slots", "hogs"), [(64, 4), (1000, 30)])
@pytest.mark.parametrize("together", [False, True])
def test_items_that_run_for_ever_leave_room_for_others(slots: int, hogs: int, together: bool) -> None:
    world = World(slots=slots)
    for number in range(hogs):
        world.add(f"hog{number}", 2000, seconds=1e9)
        world.run(world.now + (0 if together else 10))
    world.run(world.now + 30)
    world.add("late", 3, seconds=0.01)
    world.run(world.now + 1)
    assert world.ended["late"] == 3


def test_items_of_minutes_are_many_within_seconds() -> None:
    world = World(slots=1000)
    world.add("f", 2000, seconds=300)
    world.run(10)
    assert world.running["f"] == 500
    world.run(299)
    assert world.running["f"] == 500, "the others are left until some have ended"
    world.run(900)
    assert world.ended["f"] + world.running["f"] == 2000


def test_two_queues_with_items_of_minutes_have_as_many() -> None:
    world = World(slots=1000)
    world.add("f", 2000, seconds=300)
    world.add("g", 2000, seconds=300)
    world.run(20)
    assert world.running == {"f": 250, "g": 250}


def test_items_of_minutes_press_against_a_limit_once_in_five_seconds_at_the_most() -> None:
    world = World(slots=1000)
    world.add("f", 2000, seconds=60, limit=20)
    world.run(600)
    assert world.running["f"] >= 15
    assert world.refused["f"] < 600 / 5


def test_a_function_that_lets_nothing_through_costs_next_to_nothing() -> None:
    world = World()
    world.add("shut", 100_000, limit=0)
    world.run(600)
    assert world.refused["shut"] < 16 + 600 / PAUSE_MAX_SECONDS + 20


def test_a_function_that_opens_again_is_read_again_soon() -> None:
    world = World()
    world.add("shut", 2000, limit=0)
    world.run(300)
    world.limits["shut"] = 50
    world.run(300 + PAUSE_MAX_SECONDS + 20)
    assert world.ended["shut"] == 2000


def test_a_limit_is_used_nearly_whole_without_pressing_against_it() -> None:
    world = World(slots=1000)
    world.add("f", 100_000, seconds=0.1, limit=20)
    world.run(60)
    assert world.ended["f"] > 0.75 * 60 / 0.1 * 20
    assert world.refused["f"] < 0.25 * world.ended["f"]


def test_queues_share_what_there_is() -> None:
    world = World(slots=64)
    for key in "abcd":
        world.add(key, 100_000, seconds=0.1)
    world.run(30)
    assert min(world.ended.values()) > 0.8 * max(world.ended.values())
    assert sum(world.ended.values()) > 0.9 * 64 * 30 / 0.1


def test_what_is_heard_while_a_visit_is_under_way_is_not_forgotten() -> None:
    choice: Choice[str] = Choice(10)
    choice.wake("f", 0.0, 0.0)
    [visit] = choice.pick(0.0)
    choice.wake("f", 0.0, 0.0)
    choice.visited(visit, 0, None, 0.0)
    assert [each.key for each in choice.pick(0.0)] == ["f"]


@pytest.mark.parametrize("seed", range(20))
def test_any_history_ends_with_everything_run(seed: int) -> None:
    rng = random.Random(seed)
    world = World(slots=rng.choice([1, 2, 7, 100]))
    total: Counter[str] = Counter()
    for _ in range(30):
        key = f"q{rng.randrange(6)}"
        count = rng.randrange(1, 50)
        total[key] += count
        world.add(key, count, seconds=rng.choice([0.0, 0.01, 1.0]), limit=rng.choice([0, 1, 5, 10**9]))
        world.run(world.now + rng.choice([0, 0.1, 5]))
    for key in total:
        world.limits[key] = 10**9
    world.run(world.now + 2000)
    assert world.ended == total


def shares(world: World, seconds: float, **priorities: int) -> dict[str, float]:
    """Of all that ended in a time, how much of each queue, which have more than enough each."""
    world.priorities = priorities
    for key in priorities:
        world.add(key, 1_000_000)
    world.run(seconds)
    total = sum(world.ended.values())
    return {key: world.ended[key] / total for key in priorities}


def test_ten_more_priority_is_ten_times_the_slots() -> None:
    world = World(slots=100)
    found = shares(world, 60, high=10, low=0, lowest=-10)
    assert found["high"] / found["low"] == pytest.approx(10, rel=0.3)
    assert 0 < found["lowest"] < 0.03
    assert sum(world.ended.values()) > 0.7 * 100 * 60 / 0.1


def test_where_functions_press_against_one_limit_a_higher_priority_has_more_of_it() -> None:
    world = World(slots=1000, together=20, rng=random.Random(1))
    found = shares(world, 60, high=5, low=-5)
    assert found["high"] > 5 * found["low"]
    assert found["low"] > 0.05
    assert sum(world.ended.values()) > 0.8 * 20 * 60 / 0.1
    assert sum(world.refused.values()) < 0.1 * sum(world.ended.values())
    alike = World(slots=1000, together=20, rng=random.Random(1))
    assert min(shares(alike, 60, a=5, b=5).values()) > 0.4


@pytest.mark.parametrize("slots", [50, 1000])
@pytest.mark.parametrize("seed", range(12))
def test_where_higher_ones_take_each_slot_at_once_a_lower_one_has_its_turn_again_soon(slots: int, seed: int) -> None:
    # All of the higher ones end at about one time, and there is hardly a moment at which one slot is free.
    world = World(slots, together=8, rng=random.Random(seed), spread=0.02, lag=0.004)
    assert shares(world, 30, high=5, low=-5)["low"] > 0.07
    turns = [0.0, *world.ended_at["low"], 30.0]
    assert max(after - before for before, after in itertools.pairwise(turns)) < 0.8


def test_who_was_held_back_tries_again_when_another_leaves_something_free_and_else_after_twice_the_time() -> None:
    def held_back() -> tuple[Choice[str], Visit[str]]:
        choice: Choice[str] = Choice(8)
        visits = {}
        for key in ("patient", "busy"):
            choice.wake(key, 0.0, 0.0)
            [visits[key]] = choice.pick(0.0)
            choice.visited(visits[key], 1, None, 0.0)
        choice.wake("patient", 0.05, 0.0)
        choice.ended(visits["patient"], Effect.HELD_BACK, 0.0)
        assert not choice.pick(0.05)
        assert not choice.pick(0.15), "at a moment that says nothing of what is free"
        return choice, visits["busy"]

    choice, busy = held_back()
    choice.wake("busy", 0.0, 0.0)
    choice.ended(busy, Effect.THROUGH, 0.16)
    assert {visit.key for visit in choice.pick(0.16)} == {"patient", "busy"}
    choice, _ = held_back()
    assert [visit.key for visit in choice.pick(0.2)] == ["patient"]


def test_a_low_priority_has_everything_while_nobody_else_waits() -> None:
    alone, low = World(slots=64), World(slots=64)
    shares(alone, 30, f=0)
    shares(low, 30, f=-10)
    assert low.ended["f"] == pytest.approx(alone.ended["f"], rel=0.02)
    beside = World(slots=64)
    beside.priorities = {"high": 10, "low": -10}
    beside.add("high", 1_000_000, limit=0)
    beside.add("low", 1_000_000)
    beside.run(30)
    assert beside.ended["low"] > 0.9 * alone.ended["f"], "what is throttled holds nobody down"


def test_a_priority_is_remembered_while_its_queue_is_empty() -> None:
    world = World(slots=100)
    world.priorities = {"f": 5}
    world.add("f", 3)
    world.run(10)
    assert not world.choice._queues
    world.add("f", 1)
    assert world.choice._queues["f"].priority == 5
