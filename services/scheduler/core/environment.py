"""The life of an execution environment as the scheduler sees it: a table that denies whatever it does not list.

    STARTING ──ready──► IDLE ◄──release── LEASED
        │                │ ──lease──►       │
        └──────stop──────┴───────stop───────┴──► STOPPING ──gone──► (forgotten)

UNCLAIMED is where an environment waits that cannot be granted yet: its worker reported it after a scheduler restart
and its caller may still come back for it, or its worker's stream is broken. The exhaustive test reads this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from services.scheduler.core.events import Need


class State(StrEnum):
    """Where an environment is in its life."""

    STARTING = "starting"  # ordered from a worker
    UNCLAIMED = "unclaimed"  # perhaps a caller holds it, or its worker is away
    IDLE = "idle"  # nobody holds it
    LEASED = "leased"  # a caller holds it, and may be running an invocation on it
    STOPPING = "stopping"  # told to stop; its worker has not said that it is gone


class Change(StrEnum):
    """What happens to an environment."""

    READY = "ready"
    LEASE = "lease"
    RELEASE = "release"
    STOP = "stop"
    UNCLAIM = "unclaim"  # nobody came back for it
    LOSE = "lose"  # its worker's stream broke


TRANSITIONS: Mapping[tuple[State, Change], State] = {
    (State.STARTING, Change.READY): State.IDLE,
    (State.STARTING, Change.LEASE): State.LEASED,  # claimed by a caller that came back before its worker said ready
    (State.STARTING, Change.STOP): State.STOPPING,
    (State.UNCLAIMED, Change.LEASE): State.LEASED,
    (State.UNCLAIMED, Change.UNCLAIM): State.IDLE,
    (State.UNCLAIMED, Change.STOP): State.STOPPING,
    (State.IDLE, Change.LEASE): State.LEASED,
    (State.IDLE, Change.STOP): State.STOPPING,
    (State.IDLE, Change.LOSE): State.UNCLAIMED,
    (State.LEASED, Change.RELEASE): State.IDLE,
    (State.LEASED, Change.STOP): State.STOPPING,
}


class InvalidTransition(Exception):
    """A change that the table does not list."""

    def __init__(self, environment_id: str, state: State, change: Change) -> None:
        super().__init__(f"environment {environment_id}: {change} while {state}")


@dataclass(slots=True)
class Environment:
    """One execution environment."""

    id: str
    worker_id: str
    need: Need
    state: State
    slot: int = 0  # number on its worker; known once it is ready
    lease_id: int | None = None  # set exactly while LEASED
    caller_id: str | None = None  # set exactly while LEASED
    slot_held: bool = (
        False  # whether it counts against its tenant's concurrency: LEASED, and STOPPING while perhaps busy
    )
    idle_since: float = 0.0  # monotonic seconds; meaningful while IDLE
    reported_busy: bool = False  # meaningful while UNCLAIMED

    def change(self, change: Change) -> None:
        """Apply one change. Raises InvalidTransition where the table has none."""
        after = TRANSITIONS.get((self.state, change))
        if after is None:
            raise InvalidTransition(self.id, self.state, change)
        self.state = after
