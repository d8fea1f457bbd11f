"""The records of provisioned concurrency: configurations, what each version gets of one, how they stand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from services.scheduler.core import events as ev
from services.scheduler.core.environment import Environment, State
from services.scheduler.core.ledger import Function
from services.scheduler.core.pools import Pool
from services.scheduler.core.reasons import Reason


@dataclass(frozen=True, slots=True)
class ProvisionStatus:
    """How a provision stands. Source: API_GetProvisionedConcurrencyConfig."""

    function_name: str
    qualifier: str
    requested: int
    allocated: int  # initialised
    available: int  # initialised, idle, and allowed to serve
    status: str  # IN_PROGRESS, READY or FAILED
    reason: str  # of FAILED, or why it does not get on; empty while all is well


@dataclass(slots=True, eq=False)
class Part:
    """What one version gets of a provision."""

    provision: Provision
    need: ev.Need
    deployment: bytes
    wanted: int


@dataclass(slots=True, eq=False)
class Provision:
    """One configuration."""

    function: Function
    qualifier: str
    requested: int
    put_revision: int
    pools: list[Pool] = field(default_factory=list)  # of the parts
    complete: bool = False  # all that was requested has been there at once, since it was put or moved
    failed: Reason | None = None  # why its allocation was given up
    waits: Reason | None = None  # why it does not get on at this instant
    failures: int = 0  # starts that failed in a row
    retry_at: float = 0.0  # monotonic seconds before which nothing is started, after failures

    @property
    def environments(self) -> Iterable[Environment]:
        """Those of its parts; what it has moved away from is not among them."""
        return (e for pool in self.pools for e in pool.provisioned.values() if not e.outgoing)

    def status(self, troubles: Mapping[str, str]) -> ProvisionStatus:
        """How it stands. `troubles`: what keeps pools of workers from having room, by pool."""
        mine = list(self.environments)
        allocated = sum(e.state in (State.IDLE, State.LEASED, State.UNCLAIMED) for e in mine)
        available = sum(e.state is State.IDLE and e.serving for e in mine)
        if self.failed is not None:
            status, reason = "FAILED", str(self.failed)
        elif self.complete and allocated >= self.requested:
            status, reason = "READY", ""
        else:
            status, reason = "IN_PROGRESS", str(self.waits or "")
            if self.waits is Reason.WAITS_FOR_ROOM:
                # AWS's member is text for people; what is known of the cause follows the word for it.
                pools = {pool.part.need.pool or "" for pool in self.pools if pool.part is not None}
                known = [troubles[pool] for pool in sorted(pools) if pool in troubles]
                reason = ": ".join([reason, *known])
        return ProvisionStatus(
            self.function.name, self.qualifier, self.requested,
            min(allocated, self.requested), min(available, self.requested), status, reason,
        )  # fmt: skip
