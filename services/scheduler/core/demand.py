"""What is asked of each pool of workers and how its workers stand: the snapshot that the fleet is sized by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from services.scheduler.core.environment import Environment, State
from services.scheduler.core.machine import Scheduler
from services.scheduler.core.placement import Worker

# What is on its way out takes no room for long, and what idles on demand is evicted for whoever needs the room.
_UNCOMMITTED = frozenset({State.STOPPING, State.IDLE})
_RUNS = frozenset({State.STARTING, State.LEASED, State.UNCLAIMED})


@dataclass(slots=True)
class Standing:
    """How one worker stands."""

    worker: Worker
    committed_mb: int = 0  # of environments that stay whoever else comes
    committed: int = 0
    running: int = 0  # environments that run something, or may at any moment
    provisioned: Counter[int] = field(default_factory=Counter)  # size in MB → how many that another must take over

    def count(self, environment: Environment) -> None:
        """One of its environments."""
        state, size = environment.state, environment.need.memory_mb
        provisioned = environment.provisioned and state is not State.STOPPING
        if provisioned or state not in _UNCOMMITTED:
            self.committed_mb += size
            self.committed += 1
        self.running += state in _RUNS and not (provisioned and state is State.STARTING)
        if provisioned and not environment.outgoing:
            self.provisioned[size] += 1


@dataclass(slots=True)
class Demand:
    """Of one pool."""

    standings: dict[str, Standing] = field(default_factory=dict)  # by worker
    waiting: Counter[int] = field(default_factory=Counter)  # size in MB → requests that no worker has room for
    # Size in MB → provisioned environments that are wanted and not started: all of them, also those that the ramp limit
    # holds back for now, so that the room is there by then.
    provisioned: Counter[int] = field(default_factory=Counter)


def demands(core: Scheduler) -> Mapping[str, Demand]:
    """By pool; a pool of which nothing is known is left out."""
    found: dict[str, Demand] = {}
    for worker in core.workers.values():
        standing = Standing(worker)
        for environment in worker.holds.values():
            standing.count(environment)
        found.setdefault(worker.pool, Demand()).standings[worker.id] = standing
    for request in core.unplaced.values():
        if request.need.pool is not None:
            found.setdefault(request.need.pool, Demand()).waiting[request.need.memory_mb] += 1
    for provision in core.short:
        for pool in provision.pools:
            part = pool.part
            if part is not None and part.need.pool is not None and pool.census.staying < part.wanted:
                missing = part.wanted - pool.census.staying
                found.setdefault(part.need.pool, Demand()).provisioned[part.need.memory_mb] += missing
    return found
