"""Whole histories of a cluster on virtual time. A seed that ever failed is kept in FAILED."""

from __future__ import annotations

import pytest

from services.scheduler.core.break_even import BreakEven
from services.scheduler.core.buckets import Rate
from services.scheduler.core.hybrid_histogram import HybridHistogram
from services.scheduler.core.policies import Ramp
from services.scheduler.core.reasons import Reason
from tests.simulation.cluster import TENANTS, Settings, World

FAILED: tuple[int, ...] = ()
CONFIGURED_FAILED: tuple[int, ...] = ()
CALM = range(40)
TROUBLED = (*FAILED, *range(1000, 1060))


@pytest.mark.parametrize("seed", CALM)
def test_every_invocation_is_answered_and_the_limit_is_exact(seed: int) -> None:
    """1. With no faults, each invocation ends or is throttled, busy environments never exceed the limit, and at the end
    nothing is leased, no slot is taken and every environment has been let go."""
    world = World(seed, Settings(gap=0.004))
    world.run()
    assert sum(world.outcomes.values()) == world.settings.arrivals
    assert set(world.outcomes) <= {"ok", "abandoned", Reason.ACCOUNT_LIMIT}
    assert max(world.busy_most.values()) <= world.settings.limit
    assert world.scheduler.environments == {}
    assert all(account.executions == 0 for account in world.scheduler.ledger.accounts().values())


@pytest.mark.parametrize("seed", TROUBLED)
def test_faults_lose_no_invocation_and_leak_nothing(seed: int) -> None:
    """2. Callers, workers, environments and schedulers die and come back: each invocation still has exactly one
    outcome, and once all is calm nothing is held."""
    world = World(seed, Settings(trouble=0.05, gap=0.01))
    world.run()
    assert sum(world.outcomes.values()) == world.settings.arrivals
    assert world.scheduler.environments == {}
    assert all(account.executions == 0 for account in world.scheduler.ledger.accounts().values())
    assert all(not caller.pool.leases for caller in world.callers.values() if not caller.dead)


@pytest.mark.parametrize("seed", range(10))
def test_little_room_is_shared_by_evicting_what_idles(seed: int) -> None:
    """3. Three environments fit and six functions want one: idle ones make room, nobody waits in vain."""
    world = World(seed, Settings(functions=6, workers=1, worker_mb=384, gap=0.05, duration=0.02, arrivals=150))
    world.run()
    assert world.outcomes["ok"] + world.outcomes["abandoned"] == 150


def settled(world: World) -> None:
    """Once all is calm, what exists is exactly what is provisioned."""
    scheduler = world.scheduler
    wanted = sum(n for c in world.configurations.values() for _, n, _ in c.provisioned.values())
    assert all(account.executions == 0 for account in scheduler.ledger.accounts().values())
    serving = [e for e in scheduler.environments.values() if e.serving and e.counted and not e.outgoing]
    assert len(serving) == wanted
    # The rest replaces what is being recycled at this instant.
    assert len(scheduler.environments) - wanted <= (len(scheduler.provisions) if world.settings.recycle < 1e6 else 0)
    assert not scheduler.short


@pytest.mark.parametrize("seed", range(2000, 2030))
@pytest.mark.parametrize("serve_when_complete", [True, False])
def test_settings_change_under_load_and_no_limit_is_exceeded(seed: int, *, serve_when_complete: bool) -> None:
    """4. Reserved and provisioned concurrency are put, moved and deleted while functions run: the invariants hold after
    every event, each invocation is answered, and at the end what is provisioned is there and nothing else."""
    world = World(seed, Settings(configured=True, gap=0.005, workers=3, serve_when_complete=serve_when_complete))
    world.run()
    assert sum(world.outcomes.values()) == world.settings.arrivals
    settled(world)


@pytest.mark.parametrize("seed", [*CONFIGURED_FAILED, *range(3000, 3050)])
def test_settings_change_amid_faults(seed: int) -> None:
    """5. The same while callers, workers, environments and schedulers die."""
    world = World(seed, Settings(configured=True, trouble=0.05, gap=0.01, workers=3, recycle=1.0))
    world.run()
    assert sum(world.outcomes.values()) == world.settings.arrivals
    settled(world)


@pytest.mark.parametrize("seed", range(4000, 4020))
def test_no_more_requests_are_started_than_the_rate_permits(seed: int) -> None:
    """6. Ten requests a second for each execution, and so many at once: callers together never start more, and when one
    is refused for it, nobody holds a permission that was not used."""
    settings = Settings(functions=2, limit=4, duration=0.004, gap=0.002, arrivals=1500, requests_per_execution=10)
    world = World(seed, settings)
    world.run()
    for tenant in TENANTS:
        times = [time for time, owner in world.started if owner == tenant]
        assert all(number <= 40 + 40 * time for number, time in enumerate(times, start=1))
    assert world.outcomes[Reason.RATE_LIMIT] > 0
    # Three seconds at 40 a second and tenant, and the first burst: next to nothing is lost on the way.
    assert world.outcomes["ok"] > 0.9 * 2 * (40 + 40 * 2.5)


@pytest.mark.parametrize("seed", range(5000, 5010))
def test_starts_are_no_faster_than_the_ramp(seed: int) -> None:
    """7. What the scaling rate does not let start is refused, unless an environment comes free for it first."""
    ramp = Ramp("test", Rate(20.0, 3), Rate(20.0, 1), shared=False)
    world = World(seed, Settings(functions=1, limit=100, gap=0.002, duration=0.05, ramp=ramp, workers=4))
    world.run()
    starts = sorted(world.start_times)
    assert all(number <= 3 + 20 * (time - starts[0]) + 1 for number, time in enumerate(starts, start=1))
    assert world.outcomes[Reason.SCALING_LIMIT] > 0
    assert sum(world.outcomes.values()) == world.settings.arrivals


@pytest.mark.parametrize("seed", range(6000, 6030))
@pytest.mark.parametrize("trouble", [0.0, 0.04])
def test_environments_are_let_go_and_started_ahead(seed: int, trouble: float) -> None:
    """8. Keep-alive after each function's idle times (bins of 20 ms here, eight arrivals each quarter of a
    second), with and without faults, with settings that change: nothing is leaked, some are started ahead and used."""
    histogram = HybridHistogram(head=0.2, samples=3, bin_seconds=0.02)
    world = World(
        seed,
        Settings(
            keep_alive_policy=histogram, trouble=trouble, configured=bool(seed % 2), functions=3, workers=3, gap=0.001,
            beat=0.25, duration=0.01, arrivals=300,
        ),
    )  # fmt: skip
    world.run()
    assert sum(world.outcomes.values()) == world.settings.arrivals
    assert world.started_ahead > 0
    settled(world)


@pytest.mark.parametrize("seed", range(6100, 6130))
@pytest.mark.parametrize("trouble", [0.0, 0.04])
def test_environments_are_kept_while_they_are_worth_it(seed: int, trouble: float) -> None:
    """8b. Keep-alive by break-even, eight arrivals every two seconds, at a price at which some environments are kept
    for that long, some are not kept at all and some go in between: nothing is leaked."""
    world = World(
        seed,
        Settings(
            keep_alive_policy=BreakEven(price=0.6), trouble=trouble, configured=bool(seed % 2), functions=3, workers=3,
            gap=0.001, beat=2.0, duration=0.01, arrivals=300,
        ),
    )  # fmt: skip
    world.run()
    assert sum(world.outcomes.values()) == world.settings.arrivals
    settled(world)


@pytest.mark.parametrize("seed", range(7000, 7030))
@pytest.mark.parametrize("trouble", [0.0, 0.04])
def test_pools_of_workers_keep_to_themselves(seed: int, trouble: float) -> None:
    """9. Three pools, one of which no worker is of: no environment is on a worker of another pool (I6), functions of the
    other two are served as if the third were not there, and its own are refused for lack of workers."""
    world = World(
        seed,
        Settings(
            pools=("a", "b", "c"), functions=6, workers=2, worker_mb=384, trouble=trouble, configured=bool(seed % 2),
            gap=0.02, duration=0.02, arrivals=200, limit=30,
        ),
    )  # fmt: skip
    world.run()
    assert sum(world.outcomes.values()) == 200
    assert world.outcomes["ok"] > 50
    # Tried for as long as a request may wait for room, and not longer.
    assert world.outcomes[Reason.NO_WORKERS] + world.outcomes[Reason.NO_CAPACITY] > 0


@pytest.mark.parametrize("seed", range(8000, 8006))
@pytest.mark.parametrize("trouble", [0.0, 0.05])
def test_pollers_keep_to_their_share(seed: int, trouble: float) -> None:
    """10. Pollers may use half of what is unreserved (I8), whatever dies and whatever is configured; the other half is
    used, and whoever waits for one of its slots does so only while there is none (I7)."""
    settings = Settings(
        callers=2, pollers=2, share=0.5, trouble=trouble, configured=bool(seed % 2), gap=0.002, workers=3, recycle=1.0
    )
    world = World(seed, settings)
    world.run()
    assert sum(world.outcomes.values()) == world.settings.arrivals
    settled(world)
    if not trouble:
        assert world.outcomes[Reason.ASYNC_SHARE] > 0


@pytest.mark.parametrize(
    ("seed", "trouble"), [(s, 0.0) for s in range(12_000, 12_012)] + [(s, 0.05) for s in range(12_100, 12_112)]
)
def test_tenants_of_a_functions_callers_share_its_limits_and_no_environment(seed: int, trouble: float) -> None:
    """11. Environments of each function are for one of five tenants of its callers' each (the callers see to it that
    none serves another): together they keep within the function's limits, and what idles makes room."""
    world = World(seed, Settings(functions=2, isolated=5, workers=1, worker_mb=768, gap=0.01, trouble=trouble))
    world.run()
    assert sum(world.outcomes.values()) == world.settings.arrivals
    assert world.scheduler.environments == {}
    assert all(account.executions == 0 for account in world.scheduler.ledger.accounts().values())
    if not trouble:
        assert max(world.busy_most.values()) <= world.settings.limit
        assert set(world.outcomes) <= {"ok", "abandoned", Reason.ACCOUNT_LIMIT}
