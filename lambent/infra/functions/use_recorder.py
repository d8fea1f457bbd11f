"""Tells the store now and then which functions were used: no invocation waits for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from lambent.domain.clock import Clock
from lambent.domain.names import Tenant
from lambent.infra.functions.attached import AttachedFunctions
from lambent.infra.tasks import every


def telling_seconds(idle_seconds: float) -> float:
    """How often uses are told, and looked at, so that idleness is known to a twentieth and costs next to nothing."""
    return min(60.0, idle_seconds / 20)


class Counts(Protocol):
    """What is counted of one function."""

    invocations: int
    running: int


class UseRecorder:
    """Compares what was counted with what was counted before."""

    def __init__(self, counts: Mapping[tuple[Tenant, str], Counts], attached: AttachedFunctions, clock: Clock) -> None:
        self._counts = counts
        self._attached = attached
        self._clock = clock
        self._told: dict[tuple[Tenant, str], int] = {}

    async def keep_telling(self, seconds: float) -> None:
        """`tell`, every so many seconds, for ever."""
        await every(seconds, self.tell, "uses are told later")

    async def tell(self) -> None:
        """Functions that run now, or were invoked since this was told last, are in use now. Raises
        ServiceUnavailableException; then the next time tells of them."""
        found = {key: each.invocations for key, each in self._counts.items()}
        used = [key for key, each in self._counts.items() if each.running or found[key] != self._told.get(key, 0)]
        now = self._clock.epoch()
        await self._attached.used(dict.fromkeys(used, now))
        self._told = found
