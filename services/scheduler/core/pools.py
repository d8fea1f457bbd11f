"""Requests that wait and environments that idle, kept by deployment; and the callers with what they hold."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from services.scheduler.core.events import Need, Ticket


@dataclass(slots=True)
class Request:
    """One request for an environment that has not been answered."""

    ticket: Ticket
    request_id: str
    need: Need
    deployment: bytes
    since: float  # monotonic seconds
    admitted: bool = False  # it holds a slot of its tenant's concurrency
    round: int = 0  # the recall round it waits for while not admitted


@dataclass(slots=True)
class Pool:
    """The environments of one deployment and the requests that wait for one."""

    idle: dict[str, None] = field(default_factory=dict)  # environment ids, most recently used last: taken from the end
    starting: set[str] = field(default_factory=set)
    leased: int = 0
    waiting: OrderedDict[Ticket, Request] = field(default_factory=OrderedDict)  # admitted, oldest first
    failures: int = 0  # starts that failed in a row

    @property
    def empty(self) -> bool:
        """Nothing keeps the record alive."""
        return not (self.idle or self.starting or self.leased or self.waiting)


@dataclass(slots=True)
class Caller:
    """A frontend or poller."""

    id: str
    connected: bool = True
    left_at: float = 0.0  # monotonic seconds; meaningful while not connected
    leases: dict[int, str] = field(default_factory=dict)  # lease id → environment id
    requests: dict[Ticket, Request] = field(default_factory=dict)  # unanswered, in order of arrival
    recalls: set[int] = field(default_factory=set)  # rounds it has not answered
