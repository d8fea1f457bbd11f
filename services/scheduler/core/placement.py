"""Which worker starts an environment: plain functions over snapshots, chosen by name in POLICIES."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass


@dataclass(slots=True)
class Worker:
    """One worker and what is promised on it."""

    id: str
    address: str
    memory_mb: int  # that environments may be promised together
    environments: int  # most at once
    used_mb: int = 0
    used_environments: int = 0
    stopping_mb: int = 0  # part of used_mb that is on its way out
    stopping_environments: int = 0
    connected: bool = True
    draining: bool = False
    left_at: float = 0.0  # monotonic seconds; meaningful while not connected

    def fits(self, memory_mb: int) -> bool:
        """Whether an environment of this size may be started here now."""
        return (
            self.connected
            and not self.draining
            and self.used_environments < self.environments
            and self.used_mb + memory_mb <= self.memory_mb
        )

    def will_fit(self, memory_mb: int, *, freed_mb: int, freed_environments: int) -> bool:
        """Whether it would fit once all that is stopping, and so much more, is gone."""
        return (
            self.connected
            and not self.draining
            and self.used_environments - self.stopping_environments - freed_environments < self.environments
            and self.used_mb - self.stopping_mb - freed_mb + memory_mb <= self.memory_mb
        )


Policy = Callable[[Iterable[Worker], int], Worker | None]


def pack(workers: Iterable[Worker], memory_mb: int) -> Worker | None:
    """The fullest worker that still has room, so that others empty and can be let go."""
    return max((w for w in workers if w.fits(memory_mb)), key=lambda w: (w.used_mb, w.id), default=None)


def balance(workers: Iterable[Worker], memory_mb: int) -> Worker | None:
    """The emptiest worker, so that load is even."""
    return min((w for w in workers if w.fits(memory_mb)), key=lambda w: (w.used_mb, w.id), default=None)


POLICIES: Mapping[str, Policy] = {"pack": pack, "balance": balance}


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
