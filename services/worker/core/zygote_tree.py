"""What an environment is forked from, and which function zygotes stay: decided from plain values. Pure.

The tree has two levels. A zygote for each interpreter has imported nothing of anybody's. A function zygote, or
snapshot, is a sandbox of one function version whose init phase has ended; only that version's environments come of it.

A function zygote uses memory that no environment has been promised, and goes when it is promised to one. One that has
environments stays: they share its memory, so that hardly any would come free.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum


class Source(StrEnum):
    """What an environment comes of."""

    RUNTIME = "runtime"  # its interpreter's zygote; the init phase is its own
    FUNCTION = "function"  # its version's zygote
    COMING = "coming"  # the same, once that has been made
    MAKE = "make"  # the same, which is to be made now


class Reason(StrEnum):
    """Why. The value reaches the log, the metric and the test."""

    # For the interpreter's zygote
    NOT_ASKED = "SnapStartOff"  # nobody wants anything else
    PROVISIONED = "ProvisionedConcurrency"  # its init phase comes before any request anyway
    ISOLATION = "IsolationLevel"  # sandboxes of this level cannot be restored
    RUNTIME_API = "RuntimeApi"  # the runtime is not our own, or extensions run beside it
    SWITCHED_OFF = "SnapshotsOff"  # this worker keeps none
    NO_ROOM = "NoMemory"  # what is not promised to environments is too little for another one
    NO_SANDBOX = "SandboxUnavailable"  # the machine could not make one
    INIT_FAILED = "InitFailed"
    LOST = "SnapshotLost"  # it has ended by itself
    THREADS = "Threads"  # what the init phase has left behind cannot be copied
    CHILD_PROCESSES = "ChildProcesses"
    OPEN_SOCKETS = "OpenSockets"
    OPEN_FILES = "OpenFiles"
    SHARED_MEMORY = "SharedMemory"
    # For the version's zygote
    FIRST = "FirstOnWorker"
    BEING_MADE = "SnapshotInProgress"
    READY = "SnapshotReady"
    # For the end of one
    IDLE = "Idle"
    PRESSURE = "MemoryPressure"
    WORN = "CredentialsExpire"


class State(StrEnum):
    """Where a function zygote is in its life."""

    MAKING = "making"  # its init phase runs
    READY = "ready"
    LEAVING = "leaving"  # forks no more, and goes with its last environment
    UNFIT = "unfit"  # there is none: it cannot be copied, or could not be made


# What one is taken to use until it has been measured, and the least that is worth beginning with.
ASSUMED_MB = 64
# Share of the machine's memory that is to stay available.
SPARE_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class FunctionZygote:
    """What is known of one."""

    key: str  # deployment id: a version as it was published
    state: State
    reason: Reason  # of its state
    memory_mb: int = 0
    environments: int = 0  # that have come of it and live
    idle_since: float = 0.0  # monotonic seconds at which the last one went, or it was made

    @property
    def lives(self) -> bool:
        """Whether it uses memory."""
        return self.state is not State.UNFIT

    @property
    def evictable(self) -> bool:
        """Whether its end would disturb nobody."""
        return self.state in (State.READY, State.LEAVING) and not self.environments


@dataclass(frozen=True, slots=True)
class Need:
    """What is to be known of an order for an environment."""

    key: str
    snap_start: bool
    provisioned: bool = False
    native: bool = True  # the Python runtime of our own, without extensions


@dataclass(frozen=True, slots=True)
class Room:
    """What this worker has."""

    most_mb: int  # function zygotes may use together; 0: there are to be none
    worker_mb: int  # that environments may be promised
    promised_mb: int  # to those that there are
    idle_seconds: float  # after which a function zygote without environments goes
    restores: bool = True  # whether the isolation level can
    machine_mb: int = 0  # of memory; 0: not known
    available_mb: int = 0  # of it

    @property
    def budget_mb(self) -> int:
        """What function zygotes may use together now."""
        return max(0, min(self.most_mb, self.worker_mb - self.promised_mb))

    @property
    def pressed(self) -> bool:
        """Whether the machine itself is short of memory."""
        return bool(self.machine_mb) and self.available_mb < SPARE_SHARE * self.machine_mb


@dataclass(frozen=True, slots=True)
class Choice:
    """What an environment comes of, and which function zygotes make room for that."""

    source: Source
    reason: Reason
    evicted: tuple[str, ...] = ()


def choose(zygotes: Collection[FunctionZygote], need: Need, room: Room) -> Choice:
    """What an environment is to come of."""
    if (reason := _impossible(need, room)) is not None:
        return Choice(Source.RUNTIME, reason)
    found = next((zygote for zygote in zygotes if zygote.key == need.key), None)
    if found is not None and found.state is not State.LEAVING:
        if found.state is State.UNFIT:
            return Choice(Source.RUNTIME, found.reason)
        ready = found.state is State.READY
        return Choice(Source.FUNCTION, Reason.READY) if ready else Choice(Source.COMING, Reason.BEING_MADE)
    if found is not None and not found.evictable:
        return Choice(Source.RUNTIME, found.reason)  # its place is taken until its environments have ended
    evicted: tuple[str, ...] = () if found is None else (found.key,)
    excess = _used(zygotes) - sum(zygote.memory_mb for zygote in zygotes if zygote.key in evicted)
    excess += ASSUMED_MB - room.budget_mb
    for zygote in _oldest_first(zygotes):
        if excess <= 0:
            break
        if zygote.key not in evicted:
            evicted += (zygote.key,)
            excess -= zygote.memory_mb
    if excess > 0 or room.pressed:
        return Choice(Source.RUNTIME, Reason.NO_ROOM)
    return Choice(Source.MAKE, Reason.FIRST, evicted)


def _impossible(need: Need, room: Room) -> Reason | None:
    rules = (
        (not need.snap_start, Reason.NOT_ASKED),
        (need.provisioned, Reason.PROVISIONED),
        (room.most_mb == 0, Reason.SWITCHED_OFF),
        (not need.native, Reason.RUNTIME_API),
        (not room.restores, Reason.ISOLATION),
    )
    return next((reason for applies, reason in rules if applies), None)


def evictions(zygotes: Collection[FunctionZygote], room: Room, now: float) -> Iterator[tuple[str, Reason]]:
    """Function zygotes that are to go now: those idle for too long, those that have left, and as many of the longest
    idle as memory asks for."""
    excess = _used(zygotes) - room.budget_mb
    pressed = room.pressed
    for zygote in _oldest_first(zygotes):
        if zygote.state is State.LEAVING:
            reason = zygote.reason
        elif excess > 0 or pressed:
            reason = Reason.PRESSURE
            pressed = False  # one at a time: what it frees is seen at the next look
        elif now - zygote.idle_since >= room.idle_seconds:
            reason = Reason.IDLE
        else:
            continue
        excess -= zygote.memory_mb
        yield zygote.key, reason


def _used(zygotes: Collection[FunctionZygote]) -> int:
    return sum(zygote.memory_mb for zygote in zygotes if zygote.lives)


def _oldest_first(zygotes: Collection[FunctionZygote]) -> list[FunctionZygote]:
    return sorted((zygote for zygote in zygotes if zygote.evictable), key=lambda zygote: zygote.idle_since)
