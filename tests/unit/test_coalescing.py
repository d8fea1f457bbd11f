"""Calls that come while one is under way go together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from lambent.infra.coalescing import MOST_ITEMS, MOST_WEIGHT, Coalescer


class Work:
    """Work that ends when the test lets it."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, list[int]]] = []
        self.gate = asyncio.Event()

    async def __call__(self, key: str, items: Sequence[int]) -> Sequence[int]:
        self.batches.append((key, list(items)))
        await self.gate.wait()
        if -1 in items:
            raise ValueError("no")
        return [item * 2 for item in items]


async def test_what_comes_in_one_turn_or_meanwhile_goes_together_by_key() -> None:
    work = Work()
    calls: Coalescer[str, int, int] = Coalescer("test", work)
    first = [calls.submit("a", 1), calls.submit("a", 2), calls.submit("b", 3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    second = [calls.submit("a", 4), calls.submit("a", 5)]
    work.gate.set()
    assert await asyncio.gather(*first, *second) == [2, 4, 6, 8, 10]
    assert work.batches == [("a", [1, 2]), ("b", [3]), ("a", [4, 5])]
    assert await calls.submit("a", 6) == 12
    await calls.close()


async def test_an_error_is_told_to_those_who_went_with_it() -> None:
    work = Work()
    work.gate.set()
    calls: Coalescer[str, int, int] = Coalescer("test", work)
    failing = [calls.submit("a", 1), calls.submit("a", -1)]
    for each in failing:
        with pytest.raises(ValueError, match="no"):
            await each
    assert await calls.submit("a", 3) == 6
    await calls.close()


async def test_a_caller_that_gives_up_disturbs_nobody() -> None:
    work = Work()
    calls: Coalescer[str, int, int] = Coalescer("test", work)
    gone, stays = calls.submit("a", 1), calls.submit("a", 2)
    await asyncio.sleep(0)
    gone.cancel()
    work.gate.set()
    assert await stays == 4
    await calls.close()


async def test_a_command_is_bounded_by_number_and_weight() -> None:
    work = Work()
    work.gate.set()
    calls: Coalescer[str, int, int] = Coalescer("test", work, lambda item: item)
    await asyncio.gather(*(calls.submit("many", 1) for _ in range(MOST_ITEMS + 1)))
    half = MOST_WEIGHT // 2
    await asyncio.gather(*(calls.submit("heavy", item) for item in (half, half, half, 2 * MOST_WEIGHT, 1)))
    assert [len(items) for key, items in work.batches if key == "many"] == [MOST_ITEMS, 1]
    assert [items for key, items in work.batches if key == "heavy"] == [[half, half], [half], [2 * MOST_WEIGHT], [1]]
    await calls.close()
