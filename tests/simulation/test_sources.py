"""Whole histories of pollers that read queues, on virtual time; the invariants are in `sources`. A seed that ever failed
is kept in FAILED."""

from __future__ import annotations

import pytest

from tests.simulation.pollers import to_its_end
from tests.simulation.sources import Story, World

FAILED: tuple[int, ...] = ()


def history(seed: int, story: Story) -> World:
    return to_its_end(lambda loop: World(seed, story, loop))


@pytest.mark.parametrize("seed", range(5))
def test_every_message_is_handled_and_deleted(seed: int) -> None:
    history(seed, Story())


@pytest.mark.parametrize("seed", [*FAILED, *range(40)])
def test_nothing_is_lost_and_no_bound_broken_while_pollers_die_and_queues_refuse(seed: int) -> None:
    history(seed, Story(trouble=0.1))


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_lost_and_no_group_out_of_order_while_pollers_lose_the_store(seed: int) -> None:
    history(seed, Story(trouble=0.15, cut_off=True))
