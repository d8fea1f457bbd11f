"""Requests that wait and environments that idle, kept by deployment; and the callers with what they hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from services.scheduler.core.census import Census
from services.scheduler.core.environment import Environment
from services.scheduler.core.events import Need, Ticket
from services.scheduler.core.ledger import Function, Slots

if TYPE_CHECKING:
    from services.scheduler.core.keep_alive import Habit
    from services.scheduler.core.meters import Meter
    from services.scheduler.core.provision import Part


@dataclass(slots=True, eq=False)
class Request:
    """One request for an environment that has not been answered."""

    ticket: Ticket
    request_id: str
    need: Need
    deployment: bytes
    since: float  # monotonic seconds
    caller: Caller
    pool: Pool
    on_demand: bool  # not from provisioned concurrency
    paid: Meter | None = None  # whose request rate it has a permission of
    unpaid: Meter | None = None  # whose permission it waits for, while other callers are asked for unused ones
    admitted: bool = False  # it holds a slot of its tenant's concurrency
    starved: bool = False  # admitted, and the scaling rate lets nothing be started for it
    contends: Slots | None = None  # whose slots it waits for, while not admitted
    round: int = 0  # the recall round after whose end it is refused

    @property
    def background(self) -> bool:
        """Nobody waits for what it is to run."""
        return self.caller.background


@dataclass(slots=True, eq=False)
class Pool:
    """The environments of one deployment and the requests that wait for one."""

    deployment_id: str
    function: Function
    version: str
    generation: int = 0  # of the function when the deployment was made
    outdated: bool = False  # the version has changed since, or the function is gone
    idle: dict[str, Environment] = field(default_factory=dict)  # by id, most recently used last: taken from the end
    starting: dict[str, Environment] = field(default_factory=dict)  # on demand
    leased: int = 0
    members: int = 0  # environments of whatever state, and unanswered requests
    waiting: dict[Ticket, Request] = field(default_factory=dict)  # admitted, oldest first
    contended: dict[Ticket, Request] = field(default_factory=dict)  # not admitted yet, oldest first
    failures: int = 0  # starts that failed in a row
    habit: Habit | None = None  # of the version; None: the keep-alive policy looks at none
    # Provisioned concurrency
    part: Part | None = None  # what is wanted of this deployment; None: nothing
    provisioned: dict[str, Environment] = field(default_factory=dict)  # all of them, on their way in and out included
    census: Census = field(default_factory=Census)  # of these
    ready: dict[str, Environment] = field(default_factory=dict)  # those that are idle and may be granted
    meter: Meter | None = None  # requests of provisioned concurrency

    @property
    def empty(self) -> bool:
        """Nothing keeps the record alive."""
        return self.members == 0 and self.part is None


@dataclass(slots=True, eq=False)
class Caller:
    """A frontend or poller."""

    id: str
    background: bool = False  # a poller: nobody waits for its invocations
    connected: bool = True
    left_at: float = 0.0  # monotonic seconds; meaningful while not connected
    leases: dict[int, Environment] = field(default_factory=dict)  # by lease id
    requests: dict[Ticket, Request] = field(default_factory=dict)  # unanswered, in order of arrival
