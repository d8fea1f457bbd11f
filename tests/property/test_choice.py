"""Priorities under any load: nobody starves, nothing that can run waits for ever, and every count is right."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.test_choice import World

Load = tuple[int, int, float, int]  # priority, items, seconds of one, limit
loads = st.lists(
    st.tuples(
        st.integers(-10, 10), st.integers(1, 60), st.sampled_from([0.0, 0.01, 0.5]), st.sampled_from([1, 4, 10**9])
    ),
    min_size=1, max_size=6,
)  # fmt: skip


@settings(max_examples=40)
@given(loads=loads, slots=st.sampled_from([1, 3, 16, 100]))
def test_everything_ends_whatever_the_priorities(loads: list[Load], slots: int) -> None:
    world = World(slots=slots)
    for number, (priority, count, seconds, limit) in enumerate(loads):
        world.priorities[f"q{number}"] = priority
        world.add(f"q{number}", count, seconds, limit)
        world.run(world.now + 0.1)
    world.run(world.now + 3000)
    assert world.ended == Counter({f"q{number}": count for number, (_, count, _, _) in enumerate(loads)})
    choice = world.choice
    assert (choice.running, choice._wanting, choice._at_work, choice._queues) == (0, Counter(), Counter(), {})


@settings(max_examples=20)
@given(priorities=st.lists(st.integers(-10, 10), min_size=2, max_size=4), slots=st.sampled_from([2, 8, 32]))
def test_a_low_priority_gets_its_part_while_higher_ones_never_end(priorities: list[int], slots: int) -> None:
    world = World(slots=slots)
    for number, priority in enumerate(priorities):
        world.priorities[f"q{number}"] = priority
        world.add(f"q{number}", 10**9, 0.1)
    world.run(20)
    weights = [10 ** (priority / 10) for priority in priorities]
    total = sum(world.ended.values())
    for number, weight in enumerate(weights):
        assert world.ended[f"q{number}"] >= 0.4 * total * weight / sum(weights) - slots
