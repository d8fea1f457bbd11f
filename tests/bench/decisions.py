"""P8: the scheduler's core alone, with every policy on: how many decisions a second, and whether that depends on size."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

from lambent.domain.names import Tenant
from services.scheduler.core import events as ev
from services.scheduler.core import instructions as ins
from services.scheduler.core.break_even import BreakEven
from services.scheduler.core.hybrid_histogram import HybridHistogram
from services.scheduler.core.machine import Scheduler
from services.scheduler.core.policies import Policies, keep_alive_policies, ramps
from services.scheduler.simulator.cluster import Numbered
from tests.bench.local_worker import timer
from tests.bench.table import Row, Say, figure, median, ratio

WORKERS, FUNCTIONS, CALLERS = 100, 2_000, 10
SIZES = (100, 10_000, 100_000)
_NEEDED = 250_000
_NOW = 100.0
# Seconds that pass between two admissions: about as many as they take.
_STEP = 1e-5


class World:
    """A scheduler whose functions have one idle environment each."""

    def __init__(self, functions: int, *, step: float = _STEP, policy: str = "break-even") -> None:
        """`step`: seconds that pass between two admissions. `policy`: of keep-alive, by its name."""
        self._now, self._step = _NOW, step
        named = ramps(
            burst=10**9, per_second=1e9, provisioned_per_minute=6000, regional_burst=3000, regional_per_minute=500
        )
        policies = Policies(
            concurrent_executions=10**7, keep_alive=1e6, lease=15.0, worker_grace=10.0, rebuild=0.0, capacity_wait=10.0,
            retry_after=1.0, ramp=named["aws-today"], requests_per_execution=1000.0,
            keep_alive_policy=keep_alive_policies(HybridHistogram(), BreakEven(price=1e9))[policy],
        )  # fmt: skip
        self.core = Scheduler(policies, Numbered(), first_lease_id=1, now=0.0)
        self._tickets = itertools.count(1)
        self._callers = [f"caller{number}" for number in range(CALLERS)]
        tenant = Tenant("000000000001", "us-east-1")
        self.needs = [ev.Need(tenant, f"f{n}", "$LATEST", f"d{n}", 1, 128) for n in range(functions)]
        each = functions * 128 // WORKERS + 128
        for number in range(WORKERS):
            self.core.handle(ev.WorkerJoined(f"w{number}", "unix:w", each * 2, functions, ()), now=_NOW)
        for caller in self._callers:
            self.core.handle(ev.CallerJoined(caller, ()), now=_NOW)
        for need in self.needs:
            started = self.core.handle(self.wanted(need, 0), now=_NOW)
            [start] = [item for item in started if isinstance(item, ins.Start)]
            ready = self.core.handle(ev.EnvironmentReady(start.worker_id, start.environment_id, 0), now=_NOW)
            [grant] = [item for item in ready if isinstance(item, ins.Grant)]
            self.core.handle(ev.LeaseReleased(self._callers[0], grant.lease_id, reusable=True), now=_NOW)

    def wanted(self, need: ev.Need, caller: int) -> ev.EnvironmentWanted:
        return ev.EnvironmentWanted(ev.Ticket(self._callers[caller], next(self._tickets)), "r", need, b"")

    def rate(self, pairs: int, rng: random.Random) -> float:
        """Decisions a second: admissions and returns, one after the other, of functions and callers drawn."""
        drawn = [(self.wanted(rng.choice(self.needs), n % CALLERS), n % CALLERS) for n in range(pairs)]
        began = timer()
        self.serve(drawn)
        return 2 * pairs / (timer() - began)

    def serve(self, wanted: Sequence[tuple[ev.EnvironmentWanted, int]]) -> None:
        """Each is admitted, of the caller with that number, and gives its lease back."""
        handle, callers, now, step = self.core.handle, self._callers, self._now, self._step
        for event, caller in wanted:
            now += step
            grant = handle(event, now=now)[0]
            handle(ev.LeaseReleased(callers[caller], grant.lease_id, reusable=True), now=now)  # type: ignore[union-attr]
        self._now = now


def _bare(pairs: int) -> float:
    """Beside it: as many calls of a method that puts a key into a dictionary and takes it out again."""

    class Nothing:
        def __init__(self) -> None:
            self.kept: dict[int, int] = {}

        def handle(self, event: int, *, now: float) -> list[int]:
            self.kept[event] = event
            del self.kept[event]
            return [event]

    handle = Nothing().handle
    began = timer()
    for number in range(2 * pairs):
        handle(number, now=_NOW)
    return 2 * pairs / (timer() - began)


async def measure(rounds: int, quick: bool, say: Say) -> list[Row]:
    """The core and the bare loop in turns; then the core at other sizes."""
    rng = random.Random(1)
    pairs = 5_000 if quick else 25_000
    world = World(FUNCTIONS)
    world.rate(pairs, rng)
    ours: list[float] = []
    bare: list[float] = []
    for number in range(rounds):
        say(f"P8 round {number + 1}")
        ours.append(world.rate(pairs, rng))
        bare.append(_bare(pairs))
    del world
    sizes: list[str] = []
    for size in SIZES if not quick else SIZES[:2]:
        say(f"P8 with {size:,} functions")
        other = World(size)
        sizes.append(f"{figure(median([other.rate(pairs, rng) for _ in range(3)]))} with {size:,}")
    value, beside = median(ours), median(bare)
    return [
        Row(
            "P8",
            "decisions of the scheduler's core a second on one core; beside it calls that change a dictionary twice",
            value, "/s", beside, ratio(value, beside), f"≥ {_NEEDED:,}/s", value >= _NEEDED,
            f"{WORKERS} workers, {FUNCTIONS:,} functions, {CALLERS} callers, every policy on; "
            f"a second: {', '.join(sizes)} functions",
        )
    ]  # fmt: skip
