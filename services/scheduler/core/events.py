"""What can happen to the scheduler. Plain values; the shell makes them from messages, streams and timers."""

from __future__ import annotations

from dataclasses import dataclass

from lambent.domain.names import Tenant


@dataclass(frozen=True, slots=True)
class Need:
    """What a request needs an environment of."""

    tenant: Tenant
    function_name: str
    version: str
    deployment_id: str  # code and configuration together; environments are interchangeable within one
    generation: int  # of the function; grows with every change
    memory_mb: int


@dataclass(frozen=True, slots=True)
class Ticket:
    """Names one request for an environment."""

    caller_id: str
    number: int  # unique within the caller


@dataclass(frozen=True, slots=True)
class CallerJoined:
    """A caller's stream is up; `leases` (lease id → environment id) are what it says it holds."""

    caller_id: str
    leases: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class CallerLeft:
    """A caller's stream broke. Its leases hold for a while."""

    caller_id: str


@dataclass(frozen=True, slots=True)
class EnvironmentWanted:
    """A caller wants an environment for one invocation."""

    ticket: Ticket
    request_id: str
    need: Need
    deployment: bytes  # for the worker; opaque here


@dataclass(frozen=True, slots=True)
class WantCancelled:
    """The caller no longer wants it."""

    ticket: Ticket


@dataclass(frozen=True, slots=True)
class LeaseReleased:
    """A caller gives a lease back."""

    caller_id: str
    lease_id: int
    reusable: bool


@dataclass(frozen=True, slots=True)
class IdleReturned:
    """A caller has released every idle lease that the recall asked for."""

    caller_id: str
    round: int


@dataclass(frozen=True, slots=True)
class FunctionChanged:
    """Environments of the function below `generation` are not used again."""

    tenant: Tenant
    function_name: str
    generation: int


@dataclass(frozen=True, slots=True)
class Running:
    """An environment that a worker reports when it joins."""

    environment_id: str
    slot: int
    need: Need
    busy: bool
    ready: bool


@dataclass(frozen=True, slots=True)
class WorkerJoined:
    """A worker's stream is up."""

    worker_id: str
    address: str
    memory_mb: int
    environments: int  # most at once
    running: tuple[Running, ...]


@dataclass(frozen=True, slots=True)
class WorkerLeft:
    """A worker's stream broke. Its environments are kept for a while."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class WorkerDraining:
    """A worker takes nothing new."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class EnvironmentReady:
    """Init has ended, well or not."""

    worker_id: str
    environment_id: str
    slot: int


@dataclass(frozen=True, slots=True)
class EnvironmentGone:
    """An environment is no more."""

    worker_id: str
    environment_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class TimePassed:
    """The instant asked for with WakeAt has come."""


Event = (
    CallerJoined
    | CallerLeft
    | EnvironmentWanted
    | WantCancelled
    | LeaseReleased
    | IdleReturned
    | FunctionChanged
    | WorkerJoined
    | WorkerLeft
    | WorkerDraining
    | EnvironmentReady
    | EnvironmentGone
    | TimePassed
)
