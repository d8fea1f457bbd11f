"""Who leads: Redis and its in-memory twin, and the loop that stands by and steps down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest

from lambent.domain.errors import AwsError
from lambent.infra.redis_client import connect
from lambent.infra.tasks import TaskOwner
from services.scheduler.adapters.redis_election import RedisElection
from services.scheduler.leadership import Election, Leadership

SECONDS = 0.4


@dataclass
class Seat:
    """What the in-memory twin's candidates share."""

    leader: tuple[str, int] | None = None
    until: float = 0.0
    term: int = 0
    away: bool = False


class MemoryElection:
    """An `Election` within one process."""

    def __init__(self, seat: Seat, name: str, seconds: float, now: Callable[[], float]) -> None:
        self._seat, self._name, self._seconds, self._now = seat, name, seconds, now

    def _look(self) -> Seat:
        if self._seat.away:
            raise AwsError("ServiceUnavailableException", "The store cannot be reached; try again shortly.")
        if self._seat.leader is not None and self._now() >= self._seat.until:
            self._seat.leader = None
        return self._seat

    async def acquire(self) -> int | None:
        seat = self._look()
        if seat.leader is not None:
            return None
        seat.term += 1
        seat.leader, seat.until = (self._name, seat.term), self._now() + self._seconds
        return seat.term

    async def renew(self, term: int) -> bool:
        seat = self._look()
        if seat.leader != (self._name, term):
            return False
        seat.until = self._now() + self._seconds
        return True

    async def release(self, term: int) -> None:
        if self._look().leader == (self._name, term):
            self._seat.leader = None


@pytest.fixture(params=["memory", "redis"])
async def candidates(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Callable[[str], Election]]:
    """Makes candidates of one election by name."""
    if request.param == "memory":
        seat = Seat()
        loop = asyncio.get_running_loop()
        yield lambda name: MemoryElection(seat, name, SECONDS, loop.time)
        return
    client = connect(redis_url)
    yield lambda name: RedisElection(client, name, SECONDS)
    await client.aclose()


async def until_leads(election: Election) -> int:
    """The term, once there is one."""
    for _ in range(1000):
        term = await election.acquire()
        if term is not None:
            return term
        await asyncio.sleep(0.01)
    raise AssertionError("nobody leads, and this one cannot either")


async def test_one_leads_and_terms_only_grow(candidates: Callable[[str], Election]) -> None:
    one, two = candidates("one"), candidates("two")
    first = await until_leads(one)
    assert await two.acquire() is None
    assert await one.renew(first)
    assert not await two.renew(first)
    await two.release(first)
    assert await one.renew(first), "another's release ended it"
    await one.release(first)
    second = await until_leads(two)
    assert second > first
    assert not await one.renew(first)


async def test_who_does_not_renew_loses_it(candidates: Callable[[str], Election]) -> None:
    one, two = candidates("one"), candidates("two")
    first = await until_leads(one)
    second = await until_leads(two)
    assert second > first
    assert not await one.renew(first)
    # Nor does the same one lead on under a term that is over.
    await two.release(second)
    assert not await one.renew(first)


@dataclass
class Hand:
    """A clock that the test moves."""

    now: float = 0.0

    def monotonic(self) -> float:
        return self.now

    def epoch(self) -> float:
        return self.now


class Said:
    """What a leadership called for, in order."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[str] = asyncio.Queue()

    def add(self, text: str) -> None:
        self._queue.put_nowait(text)

    async def until(self, text: str) -> None:
        """The next is this."""
        async with asyncio.timeout(10):
            assert await self._queue.get() == text


async def test_a_leader_that_the_store_cannot_confirm_stops_before_another_can_begin() -> None:
    hand, seat, said = Hand(), Seat(), Said()
    one = Leadership(
        MemoryElection(seat, "one", SECONDS, hand.monotonic), hand, SECONDS, lambda term: said.add(f"lead {term}"),
        lambda: said.add("step down"),
    )  # fmt: skip
    owner = TaskOwner("test")
    owner.start("one", one.run())
    await said.until("lead 1")
    assert one.leads
    seat.away = True
    hand.now = SECONDS * 0.79
    assert one.leads
    hand.now = SECONDS * 0.81
    assert not one.leads, "it leads although nobody confirmed it"
    assert hand.now < seat.until, "and another could have begun"
    await said.until("step down")
    seat.away = False
    hand.now = SECONDS * 2
    await said.until("lead 2")
    await one.resign()
    assert not one.leads
    assert seat.leader is None
    await owner.close()
