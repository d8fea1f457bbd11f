"""Whole histories of pollers that read streams, on virtual time; the invariants are in `streams`. A seed that ever failed
is kept in FAILED."""

from __future__ import annotations

import pytest

from tests.simulation.pollers import to_its_end
from tests.simulation.sources import Story
from tests.simulation.streams import World

FAILED: tuple[int, ...] = (1970,)  # where a window that is still open must not be forgotten with its shard


def history(seed: int, story: Story) -> World:
    return to_its_end(lambda loop: World(seed, story, loop))


@pytest.mark.parametrize("seed", range(5))
def test_every_record_is_handled_in_order_or_given_up(seed: int) -> None:
    history(seed, Story())


@pytest.mark.parametrize("seed", [*FAILED, *range(40)])
def test_nothing_is_lost_while_shards_split_pollers_die_and_streams_refuse(seed: int) -> None:
    history(seed, Story(trouble=0.2))


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_lost_while_pollers_lose_the_store(seed: int) -> None:
    history(seed, Story(trouble=0.15, cut_off=True))
