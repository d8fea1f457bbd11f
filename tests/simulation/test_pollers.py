"""Whole histories of pollers on virtual time; the invariants are in `pollers`. A seed that ever failed is kept in FAILED."""

from __future__ import annotations

import pytest

from tests.simulation.pollers import Story, play

FAILED: tuple[int, ...] = ()


@pytest.mark.parametrize("seed", range(3))
def test_in_calm_everything_ends_and_nothing_runs_more_often_than_it_is_tried(seed: int) -> None:
    world = play(seed, Story())
    assert world.ended.keys() == world.appended
    # Two attempts are allowed, and leases are renewed for as long as an event runs: nobody takes one over.
    assert max(world.ran.values()) <= 2


@pytest.mark.parametrize("seed", [*FAILED, *range(100, 107)])
def test_crashes_lost_answers_repeated_commands_and_wrong_clocks_lose_nothing(seed: int) -> None:
    world = play(seed, Story(trouble=0.1, priorities=bool(seed % 2)))
    assert world.ended.keys() == world.appended
    assert world.commands > len(world.appended)


def test_a_history_repeats_with_its_seed() -> None:
    one, other = (play(7, Story(trouble=0.1, events=30)) for _ in range(2))
    assert (one.commands, one.ran) == (other.commands, other.ran)
