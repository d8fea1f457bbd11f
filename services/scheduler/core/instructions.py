"""What the scheduler asks its shell to do. Plain values; the shell makes messages of them."""

from __future__ import annotations

import msgspec

from lambent.domain.names import Tenant
from services.scheduler.core.events import RateScope, Ticket
from services.scheduler.core.reasons import Reason


class Grant(msgspec.Struct, frozen=True, gc=False):
    """Tell a caller that it has an environment."""

    ticket: Ticket
    lease_id: int
    environment_id: str
    worker_id: str
    address: str
    slot: int
    reason: Reason
    scope: RateScope  # of the request-rate rule, for this lease
    requests: int  # permissions that come with it, at least one
    provisioned: bool = False
    spillover: bool = False  # on demand, since the version's provisioned concurrency was all in use


class Refuse(msgspec.Struct, frozen=True, gc=False):
    """Tell a caller that it gets none."""

    ticket: Ticket
    reason: Reason
    retry_after: float  # seconds


class Recall(msgspec.Struct, frozen=True, gc=False):
    """Ask a caller for its idle leases within a scope."""

    caller_id: str
    round: int
    tenant: Tenant | None  # None: of every tenant
    function_name: str | None  # None: of every function of the tenant
    hold_off: bool  # whether to keep nothing idle for a while: the scope is short of slots


class Revoke(msgspec.Struct, frozen=True, gc=False):
    """Tell a caller that a lease is void."""

    caller_id: str
    lease_id: int
    reason: Reason


class Retire(msgspec.Struct, frozen=True, gc=False):
    """Ask a caller to give back every lease that it holds now within a scope, each when its invocation has ended."""

    caller_id: str
    tenant: Tenant
    function_name: str | None  # None: every function of the tenant


class Applied(msgspec.Struct, frozen=True, gc=False):
    """Tell a caller that its settings, or later ones, are in force."""

    caller_id: str
    tenant: Tenant
    revision: int


class Permit(msgspec.Struct, frozen=True, gc=False):
    """Answer a caller that wants permission for requests."""

    caller_id: str
    scope: RateScope
    requests: int  # 0: none for now
    retry_after: float  # seconds; meaningful with 0, and 0 there: the scope is no more, leases of it are another's


class RecallRequests(msgspec.Struct, frozen=True, gc=False):
    """Ask a caller for the permissions of a scope that it has not used."""

    caller_id: str
    scope: RateScope
    round: int


class Start(msgspec.Struct, frozen=True, gc=False):
    """Order an environment from a worker."""

    worker_id: str
    environment_id: str
    generation: int
    deployment: bytes
    provisioned: bool = False


class Stop(msgspec.Struct, frozen=True, gc=False):
    """End an environment."""

    worker_id: str
    environment_id: str
    reason: Reason


class WakeAt(msgspec.Struct, frozen=True, gc=False):
    """Send TimePassed at this instant (monotonic seconds); replaces what was asked before. Infinity: not needed."""

    at: float


Instruction = Grant | Refuse | Recall | Revoke | Retire | Applied | Permit | RecallRequests | Start | Stop | WakeAt
