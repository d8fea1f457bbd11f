"""Which worker starts an environment: plain functions over snapshots, chosen by name in POLICIES."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.scheduler.core.environment import Environment


@dataclass(slots=True, eq=False)
class Worker:
    """One worker and what is promised on it."""

    id: str
    address: str
    memory_mb: int  # that environments may be promised together
    environments: int  # most at once
    pool: str = ""
    isolation: str = ""  # level in force, for those who look in
    used_mb: int = 0
    stopping_mb: int = 0  # part of used_mb that is on its way out
    stopping: int = 0  # environments on their way out
    connected: bool = True
    draining: bool = False
    left_at: float = 0.0  # monotonic seconds; meaningful while not connected
    holds: dict[str, Environment] = field(default_factory=dict)  # every environment there, by id
    by_deployment: dict[str, int] = field(default_factory=dict)  # how many of each; never a zero

    def fits(self, memory_mb: int) -> bool:
        """Whether an environment of this size may be started here now."""
        return (
            self.connected
            and not self.draining
            and len(self.holds) < self.environments
            and self.used_mb + memory_mb <= self.memory_mb
        )

    def will_fit(self, memory_mb: int, *, freed_mb: int, freed_environments: int) -> bool:
        """Whether it would fit once all that is stopping, and so much more, is gone."""
        return (
            self.connected
            and not self.draining
            and len(self.holds) - self.stopping - freed_environments < self.environments
            and self.used_mb - self.stopping_mb - freed_mb + memory_mb <= self.memory_mb
        )


# Workers, memory of the environment in MB, its deployment.
Policy = Callable[[Iterable[Worker], int, str], Worker | None]


def spread(workers: Iterable[Worker], memory_mb: int, deployment_id: str) -> Worker | None:
    """Among workers in use the one with the fewest of this deployment, then the fullest; an empty one only if none has
    room. So workers fill one after the other and can be let go, and no worker's loss takes a whole function with it."""
    best: Worker | None = None
    best_rank = (True, 0, 0)
    for worker in workers:
        if worker.fits(memory_mb):
            rank = (not worker.holds, worker.by_deployment.get(deployment_id, 0), -worker.used_mb)
            if best is None or rank < best_rank:
                best, best_rank = worker, rank
    return best


def pack(workers: Iterable[Worker], memory_mb: int, deployment_id: str) -> Worker | None:
    """The fullest worker that still has room, so that others empty and can be let go."""
    return max((w for w in workers if w.fits(memory_mb)), key=lambda w: (w.used_mb, w.id), default=None)


def balance(workers: Iterable[Worker], memory_mb: int, deployment_id: str) -> Worker | None:
    """The emptiest worker, so that load is even."""
    return min((w for w in workers if w.fits(memory_mb)), key=lambda w: (w.used_mb, w.id), default=None)


POLICIES: Mapping[str, Policy] = {"spread": spread, "pack": pack, "balance": balance}


def evictions(workers: Mapping[str, Worker], idle: Iterable[tuple[str, str, int]], memory_mb: int) -> list[str]:
    """Which idle environments to stop so that `memory_mb` fits somewhere: the longest idle ones of the worker that
    comes free with the fewest. Empty: room is on its way already, or eviction cannot make any.

    `idle`: (environment id, worker id, memory in MB), longest idle first.
    """
    if any(w.will_fit(memory_mb, freed_mb=0, freed_environments=0) for w in workers.values()):
        return []
    gathered: dict[str, tuple[list[str], int]] = {}
    for environment_id, worker_id, size in idle:
        victims, freed = gathered.get(worker_id, ([], 0))
        victims.append(environment_id)
        gathered[worker_id] = (victims, freed + size)
        if workers[worker_id].will_fit(memory_mb, freed_mb=freed + size, freed_environments=len(victims)):
            return victims
    return []
