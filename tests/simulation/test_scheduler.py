"""Whole histories of a cluster on virtual time. A seed that ever failed is kept in FAILED."""

from __future__ import annotations

import pytest

from services.scheduler.core.reasons import Reason
from tests.simulation.cluster import Settings, World

FAILED: tuple[int, ...] = ()
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
