"""The life of an execution environment as the scheduler sees it: a table that denies whatever it does not list.

    STARTING ──ready──► IDLE ◄──release── LEASED
        │                │ ──lease──►       │
        └──────stop──────┴───────stop───────┴──► STOPPING ──gone──► (forgotten)

UNCLAIMED is where an environment waits that cannot be granted yet: its worker reported it after a scheduler restart
and its caller may still come back for it, or its worker's stream is broken. The exhaustive test reads this table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from services.scheduler.core.events import Need

if TYPE_CHECKING:
    from services.scheduler.core.keep_alive import Windows
    from services.scheduler.core.placement import Worker
    from services.scheduler.core.pools import Caller, Pool


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
_AFTER = {
    state: {change: after for (before, change), after in TRANSITIONS.items() if before is state} for state in State
}


class InvalidTransition(Exception):
    """A change that the table does not list."""

    def __init__(self, environment_id: str, state: State, change: Change) -> None:
        super().__init__(f"environment {environment_id}: {change} while {state}")


@dataclass(slots=True, eq=False)
class Environment:
    """One execution environment."""

    id: str
    worker: Worker
    pool: Pool
    need: Need
    state: State
    slot: int = 0  # number on its worker; known once it is ready
    lease_id: int = 0  # not 0 exactly while LEASED
    caller: Caller | None = None  # set exactly while LEASED
    slot_held: bool = False  # counts as on demand: LEASED, and STOPPING while perhaps busy
    background: bool = False  # the slot is a poller's; meaningful while it is held
    idle_until: float = 0.0  # monotonic seconds; meaningful while IDLE
    timed_at: float = math.inf  # the entry in the book's timers that counts; infinity: it has none
    windows: Windows | None = None  # what keeps it idle, where the keep-alive policy looks at how its function is used
    used: bool = False  # somebody has leased it
    ahead: bool = False  # started before anyone wanted it, and not used yet
    deployment: bytes = b""  # for its worker; opaque here; empty: a worker reported it after a scheduler restart
    reported_busy: bool = False  # meaningful while UNCLAIMED
    # Of provisioned concurrency
    provisioned: bool = False
    counted: bool = False  # it holds an allocation of the ledger
    serving: bool = False  # it may be granted; meaningful once it is initialised
    outgoing: bool = False  # to be let go: at once while idle, else when its lease ends
    ready_at: float = 0.0  # monotonic seconds at which it was initialised

    @property
    def stays(self) -> bool:
        """It exists, or is about to, and is not on its way out."""
        return not self.outgoing and self.state is not State.STOPPING

    @property
    def spare(self) -> bool:
        """It waits for the slot of one that it replaces, or for one of its own."""
        return self.provisioned and self.stays and not self.counted

    def change(self, change: Change) -> None:
        """Apply one change. Raises InvalidTransition where the table has none."""
        after = _AFTER[self.state].get(change)
        if after is None:
            raise InvalidTransition(self.id, self.state, change)
        self.state = after
        if self.provisioned:
            self.pool.census.note(self)

    def send_out(self) -> None:
        """It is to be let go."""
        self.outgoing = True
        self.pool.census.note(self)

    def count(self, counted: bool) -> None:
        """It gets an allocation of the ledger, or holds none any more."""
        self.counted = counted
        self.pool.census.note(self)
