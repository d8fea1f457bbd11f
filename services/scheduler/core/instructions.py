"""What the scheduler asks its shell to do. Plain values; the shell makes messages of them."""

from __future__ import annotations

from dataclasses import dataclass

from lambent.domain.names import Tenant
from services.scheduler.core.events import Ticket
from services.scheduler.core.reasons import Reason


@dataclass(frozen=True, slots=True)
class Grant:
    """Tell a caller that it has an environment."""

    ticket: Ticket
    lease_id: int
    environment_id: str
    worker_id: str
    address: str
    slot: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class Refuse:
    """Tell a caller that it gets none."""

    ticket: Ticket
    reason: Reason
    retry_after: float  # seconds


@dataclass(frozen=True, slots=True)
class Recall:
    """Ask a caller for its idle leases within a scope."""

    caller_id: str
    round: int
    tenant: Tenant | None  # None: of every tenant
    function_name: str | None  # None: of every function of the tenant


@dataclass(frozen=True, slots=True)
class Revoke:
    """Tell a caller that a lease is void."""

    caller_id: str
    lease_id: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class Start:
    """Order an environment from a worker."""

    worker_id: str
    environment_id: str
    generation: int
    deployment: bytes


@dataclass(frozen=True, slots=True)
class Stop:
    """End an environment."""

    worker_id: str
    environment_id: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Send TimePassed at this instant (monotonic seconds); replaces what was asked before. Infinity: not needed."""

    at: float


Instruction = Grant | Refuse | Recall | Revoke | Start | Stop | WakeAt
