"""What can happen to the scheduler. Plain values; the shell makes them from messages, streams and timers.

They are structs rather than dataclasses because one is made for every decision: a frozen dataclass costs eight times as
much to make and hashes in Python.
"""

from __future__ import annotations

import msgspec

from lambent.domain.names import Tenant


class Need(msgspec.Struct, frozen=True, gc=False):
    """What a request needs an environment of."""

    tenant: Tenant
    function_name: str
    version: str
    deployment_id: str  # code and configuration together; environments are interchangeable within one
    generation: int  # of the function; grows with every change
    memory_mb: int
    pool: str | None = ""  # of workers; None: no pool's rule takes the function


class Ticket(msgspec.Struct, frozen=True, gc=False):
    """Names one request for an environment."""

    caller_id: str
    number: int  # unique within the caller


class CallerJoined(msgspec.Struct, frozen=True, gc=False):
    """A caller's stream is up; `leases` (lease id → environment id) are what it says it holds."""

    caller_id: str
    leases: tuple[tuple[int, str], ...]
    background: bool = False  # nobody waits for its invocations: a poller


class CallerLeft(msgspec.Struct, frozen=True, gc=False):
    """A caller's stream broke. Its leases hold for a while."""

    caller_id: str


class EnvironmentWanted(msgspec.Struct, frozen=True, gc=False):
    """A caller wants an environment for one invocation."""

    ticket: Ticket
    request_id: str
    need: Need
    deployment: bytes  # for the worker; opaque here
    on_demand: bool = False  # not from provisioned concurrency: its request rate is used up


class WantCancelled(msgspec.Struct, frozen=True, gc=False):
    """The caller no longer wants it."""

    ticket: Ticket


class LeaseReleased(msgspec.Struct, frozen=True, gc=False):
    """A caller gives a lease back."""

    caller_id: str
    lease_id: int
    reusable: bool


class IdleReturned(msgspec.Struct, frozen=True, gc=False):
    """A caller has released every idle lease that the recall asked for."""

    caller_id: str
    round: int


class FunctionChanged(msgspec.Struct, frozen=True, gc=False):
    """Environments of the function below `generation` are not used again."""

    tenant: Tenant
    function_name: str
    generation: int
    version: str = ""  # whose environments; empty: of every version


class ProvisionedVersion(msgspec.Struct, frozen=True, gc=False):
    """What one version gets of a provisioned concurrency configuration."""

    need: Need
    deployment: bytes  # for the worker; opaque here
    executions: int


class ProvisionedConcurrency(msgspec.Struct, frozen=True, gc=False):
    """One provisioned concurrency configuration."""

    function_name: str
    qualifier: str  # the alias or version that it was put on
    requested: int
    put_revision: int  # of the settings; a failed allocation is tried again when it changes
    versions: tuple[ProvisionedVersion, ...]


class SettingsTold(msgspec.Struct, frozen=True, gc=False):
    """All that is configured about one tenant's concurrency; older revisions than the one in force change nothing."""

    caller_id: str
    tenant: Tenant
    revision: int
    reserved: tuple[tuple[str, int], ...]  # function name, executions
    provisioned: tuple[ProvisionedConcurrency, ...]


class RateScope(msgspec.Struct, frozen=True, gc=False):
    """Whose request rate."""

    tenant: Tenant
    function_name: str = ""  # empty: the unreserved pool
    version: str = ""  # not empty: the version's provisioned concurrency


class RequestsWanted(msgspec.Struct, frozen=True, gc=False):
    """A caller wants permission for more requests."""

    caller_id: str
    scope: RateScope
    requests: int


class RequestsReturned(msgspec.Struct, frozen=True, gc=False):
    """A caller gives back what it had and did not use."""

    caller_id: str
    scope: RateScope
    requests: int
    round: int


class Running(msgspec.Struct, frozen=True, gc=False):
    """An environment that a worker reports when it joins."""

    environment_id: str
    slot: int
    need: Need
    busy: bool
    ready: bool
    provisioned: bool = False  # it was started for provisioned concurrency


class WorkerJoined(msgspec.Struct, frozen=True, gc=False):
    """A worker's stream is up."""

    worker_id: str
    address: str
    memory_mb: int
    environments: int  # most at once
    running: tuple[Running, ...]
    pool: str = ""
    isolation: str = ""  # level in force; nothing is decided by it


class WorkerLeft(msgspec.Struct, frozen=True, gc=False):
    """A worker's stream broke. Its environments are kept for a while."""

    worker_id: str


class WorkerLost(msgspec.Struct, frozen=True, gc=False):
    """A worker is no more, and does not come back: whatever ran there has ended."""

    worker_id: str


class PoolTold(msgspec.Struct, frozen=True, gc=False):
    """What keeps a pool of workers from having room; empty: nothing does any more."""

    pool: str
    trouble: str


class WorkerDraining(msgspec.Struct, frozen=True, gc=False):
    """A worker takes nothing new."""

    worker_id: str


class EnvironmentReady(msgspec.Struct, frozen=True, gc=False):
    """Init has ended, well or not."""

    worker_id: str
    environment_id: str
    slot: int
    init_failed: bool = False  # told of provisioned ones: the function's own init failed


class EnvironmentGone(msgspec.Struct, frozen=True, gc=False):
    """An environment is no more."""

    worker_id: str
    environment_id: str
    reason: str


class TimePassed(msgspec.Struct, frozen=True, gc=False):
    """The instant asked for with WakeAt has come."""


Event = (
    CallerJoined
    | CallerLeft
    | EnvironmentWanted
    | WantCancelled
    | LeaseReleased
    | IdleReturned
    | FunctionChanged
    | SettingsTold
    | RequestsWanted
    | RequestsReturned
    | WorkerJoined
    | WorkerLeft
    | WorkerLost
    | PoolTold
    | WorkerDraining
    | EnvironmentReady
    | EnvironmentGone
    | TimePassed
)
