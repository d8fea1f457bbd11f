"""Whole histories of a fleet of workers on virtual time: its size follows need, and nothing that runs is killed."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from services.scheduler.core.fleet import PoolPolicy
from services.scheduler.core.reasons import Reason
from tests.simulation.cluster import Settings
from tests.simulation.fleet import LOST_NODE, FleetWorld

SEEDS = range(8000, 8025)


def world(seed: int, *, trouble: float = 0.0, quota: int = 1000, strands: float = 0.0, **policy: Any) -> FleetWorld:
    """Functions of 128 MB; workers of four; need for about a dozen at its height."""
    given = {"max": 6, "memory_mb": 512, "idle_seconds": 1.0, **policy}
    settings = Settings(
        workers=0, worker_mb=512, functions=6, limit=40, gap=0.01, duration=0.06, arrivals=300, keep_alive=0.5,
        trouble=trouble, configured=bool(seed % 2), calm=60.0 if strands else 20.0,
    )  # fmt: skip
    return FleetWorld(seed, settings, policy=PoolPolicy("", **given), quota=quota, strands=strands)


def changes(world: FleetWorld) -> int:
    """How often the fleet went from growing to shrinking or back."""
    steps = [after - before for (_, before), (_, after) in pairwise(world.sizes) if after != before]
    return sum((one > 0) != (two > 0) for one, two in pairwise(steps))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_fleet_follows_need_from_nothing_and_back(seed: int) -> None:
    """1. From no worker at all every invocation is served or throttled for a limit; the fleet never exceeds its most; at
    the end nothing but what is provisioned keeps a worker, and the way there went up once and down once."""
    one = world(seed, scale_to_zero=True)
    one.run()
    assert sum(one.outcomes.values()) == one.settings.arrivals
    assert not one.outcomes[Reason.NO_CAPACITY]
    assert max(size for _, size in one.sizes) <= one.policy.max
    provisioned = sum(n for c in one.configurations.values() for _, n, _ in c.provisioned.values())
    assert one.sizes[-1][1] <= -(-provisioned // 4) + 1
    if not one.settings.configured:
        assert one.sizes[-1][1] == 0
    assert changes(one) <= 3, one.sizes
    assert not set(one.deleted) - {"drained", "not needed any more"}


@pytest.mark.parametrize("seed", SEEDS)
def test_faults_are_made_good(seed: int) -> None:
    """2. Pods fail and are lost, streams break, the scheduler dies: no deletion meets a worker that holds anything
    (checked in `_delete`), every invocation has its outcome, and at the end all that is provisioned is there."""
    one = world(seed, trouble=0.04, min=1)
    one.run()
    assert sum(one.outcomes.values()) == one.settings.arrivals
    assert max(size for _, size in one.sizes) <= one.policy.max
    assert 1 <= one.sizes[-1][1] <= one.policy.max
    assert not one.scheduler.short
    assert all(account.executions == 0 for account in one.scheduler.ledger.accounts().values())


@pytest.mark.parametrize("seed", SEEDS)
def test_headroom_is_kept_and_costs_no_flapping(seed: int) -> None:
    """3. Two environments' room is free whenever all has been calm for a while, and the size settles."""
    one = world(seed, min=1, headroom_mb=256)
    one.run()
    used = sum(e.need.memory_mb for e in one.scheduler.environments.values() if e.provisioned)
    assert 512 * one.sizes[-1][1] - used >= 256
    settled = [size for at, size in one.sizes if at > one.now - 5.0]
    assert len(set(settled)) == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_a_quota_is_told_and_is_not_hammered(seed: int) -> None:
    """4. The cluster makes two pods and no third: what waits for room is told why, and it is tried more and more rarely."""
    one = world(seed, quota=2)
    tries: list[float] = []
    refused = one.fleet.refused

    def count(pool: str, why: str, now: float) -> None:
        tries.append(now)
        refused(pool, why, now)

    one.fleet.refused = count  # type: ignore[method-assign]
    one.run()
    assert max(size for _, size in one.sizes) <= 2
    assert sum(one.outcomes.values()) == one.settings.arrivals
    assert len(set(tries)) <= 6
    if one.scheduler.short:
        assert one.scheduler.troubles == {"": "exceeded quota"}


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_put_on_a_lost_node_is_made_elsewhere(seed: int) -> None:
    """5. The cluster puts pods on a node that is lost wherever it may. They are no room for long, and the next avoid it."""
    one = world(seed, trouble=0.01, min=1, strands=1.0)
    one.run()
    assert sum(one.outcomes.values()) == one.settings.arrivals
    assert "its node did not take it up within 20 s" in one.deleted
    assert max(size for _, size in one.sizes) <= one.policy.max
    assert not one.scheduler.short
    assert all(pod.node != LOST_NODE for pod in one.pods.values())
