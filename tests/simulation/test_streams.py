"""Whole histories of pollers that read streams, on virtual time; the invariants are in `streams`. A seed that ever failed
is kept in FAILED."""

from __future__ import annotations

import asyncio

import pytest

from tests.simulation.pollers import VirtualLoop
from tests.simulation.sources import Story
from tests.simulation.streams import World

FAILED: tuple[int, ...] = ()


def history(seed: int, story: Story) -> World:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        world = World(seed, story, loop)
        runner.run(world.run())
    return world


@pytest.mark.parametrize("seed", range(5))
def test_every_record_is_handled_in_order_or_given_up(seed: int) -> None:
    history(seed, Story())


@pytest.mark.parametrize("seed", [*FAILED, *range(40)])
def test_nothing_is_lost_while_shards_split_pollers_die_and_streams_refuse(seed: int) -> None:
    history(seed, Story(trouble=0.1))


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_lost_while_pollers_lose_the_store(seed: int) -> None:
    history(seed, Story(trouble=0.15, cut_off=True))
