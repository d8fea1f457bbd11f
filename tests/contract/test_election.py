"""Who leads: Redis, a Lease of Kubernetes, and their twin in memory; and the loop that stands by and steps down."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

import pytest

from lambent.domain.errors import AwsError
from lambent.infra.clock import SystemClock
from lambent.infra.redis_client import connect
from lambent.infra.tasks import TaskOwner
from services.scheduler.adapters.kubernetes_api import KubernetesApi
from services.scheduler.adapters.kubernetes_election import LEASES, LeaseElection
from services.scheduler.adapters.redis_election import RedisElection
from services.scheduler.leadership import Election, Leadership
from tests.kubernetes_twin import KubernetesTwin, Refusal, namespace, real_cluster

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


KINDS = [
    "memory",
    "redis",
    "lease",
    pytest.param("lease-in-a-cluster", marks=pytest.mark.skipif(bool(real_cluster()), reason=real_cluster())),
]


@pytest.fixture(params=KINDS)
async def candidates(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Callable[[str], Election]]:
    """Makes candidates of one election by name."""
    match request.param:
        case "memory":
            seat = Seat()
            loop = asyncio.get_running_loop()
            yield lambda name: MemoryElection(seat, name, SECONDS, loop.time)
        case "redis":
            client = connect(redis_url)
            yield lambda name: RedisElection(client, name, SECONDS)
            await client.aclose()
        case "lease":
            with KubernetesTwin() as twin:
                api = twin.api()
                yield lambda name: LeaseElection(api, "leader", name, SECONDS, SystemClock())
                api.close()
        case _:
            with namespace() as api:
                yield lambda name: LeaseElection(api, "leader", name, 2.0, SystemClock())


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


async def test_a_defect_in_asking_who_leads_does_not_end_the_standing_by() -> None:
    said, failures = Said(), iter([RuntimeError("a defect")])
    seat, hand = Seat(), Hand()

    class Defective(MemoryElection):
        async def acquire(self) -> int | None:
            for failure in failures:
                raise failure
            return await super().acquire()

    one = Leadership(
        Defective(seat, "one", 0.01, hand.monotonic), hand, 0.01, lambda term: said.add(f"lead {term}"),
        lambda: said.add("step down"),
    )  # fmt: skip
    owner = TaskOwner("test")
    owner.start("one", one.run())
    await said.until("lead 1")
    await owner.close()


@pytest.fixture
def twin() -> Iterator[KubernetesTwin]:
    with KubernetesTwin() as twin:
        yield twin


@pytest.fixture
def api(twin: KubernetesTwin) -> Iterator[KubernetesApi]:
    api = twin.api(0.5)
    yield api
    api.close()


async def test_a_lease_says_who_leads_as_others_read_it(api: KubernetesApi) -> None:
    hand = Hand(1_000_000.25)
    one, two = (LeaseElection(api, "leader", name, 1.5, hand) for name in ("one", "two"))
    term = await one.acquire()
    assert term == 1_000_000_250
    lease = await api.get(f"{LEASES}/leader")
    assert lease["spec"] == {
        "holderIdentity": "one", "leaseDurationSeconds": 2, "leaseTransitions": 0,
        "acquireTime": "1970-01-12T13:46:40.250000Z", "renewTime": "1970-01-12T13:46:40.250000Z",
    }  # fmt: skip
    hand.now += 1.0
    assert await one.renew(term)
    lease = await api.get(f"{LEASES}/leader")
    assert lease["spec"]["renewTime"] == "1970-01-12T13:46:41.250000Z"
    await one.release(term)
    assert (await api.get(f"{LEASES}/leader"))["spec"]["holderIdentity"] == ""
    assert await two.acquire() == 1_000_001_250
    assert (await api.get(f"{LEASES}/leader"))["spec"]["leaseTransitions"] == 1


async def test_a_lease_expires_by_how_long_it_was_seen_unchanged_whatever_its_clock_says(api: KubernetesApi) -> None:
    theirs, mine = Hand(5e9), Hand(1.0)  # a century apart
    one, two = LeaseElection(api, "leader", "one", 1.5, theirs), LeaseElection(api, "leader", "two", 1.5, mine)
    term = await one.acquire()
    assert term is not None
    assert await two.acquire() is None
    mine.now += 1.4
    assert await two.acquire() is None
    theirs.now += 0.01
    assert await one.renew(term)
    mine.now += 1.4
    assert await two.acquire() is None, "it was renewed meanwhile"
    mine.now += 1.4
    assert await two.acquire() is None
    mine.now += 0.2
    assert await two.acquire() == term + 1, "greater than the last although this clock is behind"
    assert not await one.renew(term)


async def test_of_several_that_see_a_lease_expire_one_gets_it(api: KubernetesApi) -> None:
    hand = Hand(1.0)
    many = [LeaseElection(api, "leader", f"n{number}", 1.0, hand) for number in range(6)]
    for _ in range(3):
        terms = await asyncio.gather(*(each.acquire() for each in many))
        assert len([term for term in terms if term is not None]) <= 1
        hand.now += 1.1
        terms = await asyncio.gather(*(each.acquire() for each in many))
        assert len([term for term in terms if term is not None]) <= 1


@dataclass
class Port:
    """An address where somebody listens until `close`."""

    server: asyncio.Server

    @property
    def address(self) -> str:
        host, port = self.server.sockets[0].getsockname()
        return f"{host}:{port}"

    async def close(self) -> None:
        """Listen no more."""
        self.server.close()
        await self.server.wait_closed()


@pytest.fixture
async def port() -> AsyncIterator[Port]:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = Port(server)
    yield port
    await port.close()


async def test_nobody_waits_for_a_leader_whose_process_has_ended(api: KubernetesApi, port: Port) -> None:
    hand = Hand(1.0)
    one = LeaseElection(api, "leader", "one", 2.0, hand, address=port.address)
    two = LeaseElection(api, "leader", "two", 2.0, hand, address="127.0.0.1:1")
    late = LeaseElection(api, "leader", "late", 2.0, hand)
    term = await one.acquire()
    assert term is not None
    assert await two.acquire() is None
    await port.close()
    assert await late.acquire() is None, "that it is refused may be the network's doing: it was never answered"
    second = await two.acquire()
    assert second is not None
    assert second > term
    assert not await one.renew(term)
    assert await late.acquire() is None


async def test_a_leader_that_cannot_be_reached_may_lead_still(api: KubernetesApi, port: Port) -> None:
    hand = Hand(1.0)
    one = LeaseElection(api, "leader", "one", 2.0, hand, address=port.address)
    two = LeaseElection(api, "leader", "two", 0.4, hand)
    assert await one.acquire() is not None
    assert await two.acquire() is None
    host, number = port.address.split(":")
    await port.close()
    # Connections to it get no answer: its queue is full, and nobody takes from it.
    with socket.socket() as deaf, socket.socket() as first, socket.socket() as second:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        deaf.bind((host, int(number)))
        deaf.listen(0)
        for each in (first, second):
            each.setblocking(False)
            each.connect_ex((host, int(number)))
        assert await two.acquire() is None
        hand.now += 2.1
        assert await two.acquire() is not None


async def test_a_process_in_the_place_of_the_leaders_need_not_wait(api: KubernetesApi) -> None:
    one, two = (LeaseElection(api, "leader", name, 2.0, Hand(1.0), address="10.0.0.1:9") for name in ("one", "two"))
    term = await one.acquire()
    assert term is not None
    assert await two.acquire() == term + 1
    assert not await one.renew(term)


async def test_terms_grow_although_the_lease_was_deleted(twin: KubernetesTwin, api: KubernetesApi) -> None:
    ahead, behind = Hand(2e9), Hand(1.0)
    one, two = LeaseElection(api, "leader", "one", 1.0, ahead), LeaseElection(api, "leader", "two", 1.0, behind)
    first = await one.acquire()
    assert first is not None
    assert await two.acquire() is None
    twin.remove("leases", "leader")
    assert not await one.renew(first), "nobody leads by a Lease that is no more"
    second = await two.acquire()
    assert second is not None
    assert second > first


async def test_a_lease_that_somebody_else_has_labelled_is_renewed_still(
    twin: KubernetesTwin, api: KubernetesApi
) -> None:
    one = LeaseElection(api, "leader", "one", 1.0, Hand(1.0))
    term = await one.acquire()
    assert term is not None
    lease = await api.get(f"{LEASES}/leader")
    twin.update("leases", "leader", metadata={**lease["metadata"], "labels": {"kept": "yes"}})
    assert await one.renew(term)
    assert (await api.get(f"{LEASES}/leader"))["metadata"]["labels"] == {"kept": "yes"}


@pytest.mark.parametrize("fault", ["away", "hanging", "forbidden"])
async def test_an_api_that_does_not_answer_is_said_in_time(
    twin: KubernetesTwin, api: KubernetesApi, fault: str
) -> None:
    one = LeaseElection(api, "leader", "one", 0.3, SystemClock())
    if fault == "hanging":
        twin.hanging.clear()
    twin.away = fault == "away"
    if fault == "forbidden":
        twin.refuse = Refusal(403, "Forbidden", "leases is forbidden")
    with pytest.raises(AwsError, match="ServiceUnavailableException"):
        async with asyncio.timeout(5):
            await one.acquire()
    twin.hanging.set()
    twin.away, twin.refuse = False, None
    assert await LeaseElection(api, "leader", "one", 2.0, SystemClock()).acquire() is not None
