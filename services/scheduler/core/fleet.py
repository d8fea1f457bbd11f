"""How many workers a pool has: pure decisions over a snapshot of it.

    CreateWorker   need does not fit into what is there and what is on its way
    DrainWorker    the emptiest, once the others have had room for everything for a while
    DeleteWorker   what is drained, failed, stranded or lost; nothing that may run something is ever deleted

What happens to be idle on demand counts as room: it is evicted for whoever needs it. What is provisioned does not; its
worker is drained only while the others have room for it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

# Workers of a pool that may be on their way at once.
AWAITED_MOST = 10
# After a worker that could not be made or did not come up: seconds, doubled with each in a row up to the most.
BACKOFF_SECONDS, BACKOFF_MOST_SECONDS = 2.0, 300.0


class Phase(StrEnum):
    """Where a worker is in its life, as the fleet sees it."""

    AWAITED = "awaited"  # its pod is there, and it has not joined
    JOINED = "joined"
    AWAY = "away"  # its stream is broken, and it may come back
    DRAINING = "draining"  # takes nothing new
    LEAVING = "leaving"  # its pod is being deleted
    OVERDUE = "overdue"  # and does not go
    LOST = "lost"  # it did not come back
    FAILED = "failed"  # its pod has ended, or never came up
    STRANDED = "stranded"  # its pod was put on a node that does not take it up


@dataclass(frozen=True, slots=True)
class Member:
    """One worker of a pool."""

    id: str
    phase: Phase
    memory_mb: int
    environments: int
    committed_mb: int = 0  # of what stays whoever else comes
    committed: int = 0
    running: int = 0  # environments that run something, or may at any moment
    held: int = 0  # environments of any kind
    provisioned: Mapping[int, int] = field(default_factory=dict)  # size in MB → how many that another must take over
    trouble: str = ""  # what keeps it from coming up, or made it end
    outdated: bool = False  # made from a template that is not the pool's any more
    started: bool = False  # its process may run: one that has not joined may hold what another scheduler gave out


@dataclass(frozen=True, slots=True)
class PoolPolicy:
    """The numbers of one pool."""

    name: str
    min: int = 0
    max: int = 1
    headroom_mb: int = 0  # kept free for whatever comes
    scale_to_zero: bool = False  # while nothing is wanted and nothing stays, neither min nor headroom count
    idle_seconds: float = 60.0  # how long a worker must not be needed before it is let go
    memory_mb: int = 2048  # of a new worker
    environments: int = 100  # on a new worker


@dataclass(frozen=True, slots=True)
class PoolState:
    """One pool at an instant."""

    policy: PoolPolicy
    members: Sequence[Member] = ()
    waiting: Mapping[int, int] = field(default_factory=dict)  # size in MB → requests that no worker has room for
    provisioned: Mapping[int, int] = field(default_factory=dict)  # size in MB → wanted and not started
    ordered: int = 0  # workers that are being made and are not among the members yet
    silent: frozenset[str] = frozenset()  # nodes that nothing is heard from


@dataclass(frozen=True, slots=True)
class CreateWorker:
    """Make one more. `avoid`: nodes that it had better not be put on."""

    pool: str
    reason: str
    avoid: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class DrainWorker:
    """Have one take nothing new."""

    pool: str
    worker_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class DeleteWorker:
    """Remove one that runs nothing. `force`: without waiting for its node."""

    pool: str
    worker_id: str
    reason: str
    force: bool = False


Decision = CreateWorker | DrainWorker | DeleteWorker


@dataclass(slots=True)
class Room:
    """What is free on one worker."""

    mb: int
    environments: int


def pack(rooms: Iterable[Room], sizes: Mapping[int, int]) -> Counter[int]:
    """Take room for environments (size in MB → how many), the largest first, wherever some is; what is left over."""
    rooms = list(rooms)
    left: Counter[int] = Counter()
    for size, count in sorted(sizes.items(), reverse=True):
        for room in rooms:
            taken = max(0, min(count, room.environments, room.mb // size))
            room.mb -= taken * size
            room.environments -= taken
            count -= taken
        if count:
            left[size] = count
    return left


@dataclass(slots=True)
class _Memory:
    """What is remembered of a pool between two looks."""

    idle_since: dict[str, float] = field(default_factory=dict)  # by worker
    spare_since: float | None = None  # since when there has been one too many
    there: set[str] = field(default_factory=set)  # workers at the last look
    known: set[str] = field(default_factory=set)  # workers that have joined
    blamed: set[str] = field(default_factory=set)  # workers whose failure is counted
    failures: int = 0  # in a row
    retry_at: float = -math.inf
    failed: str = ""  # why the last one failed
    refused: bool = False  # it was not even made


class Fleet:
    """All pools."""

    def __init__(self) -> None:
        self._memories: dict[str, _Memory] = {}
        self.troubles: dict[str, str] = {}  # pool → what keeps it from having the workers that it needs

    def refused(self, pool: str, why: str, now: float) -> None:
        """A worker could not be made."""
        self._fail(self._memories.setdefault(pool, _Memory()), why, now, refused=True)

    @staticmethod
    def _fail(memory: _Memory, why: str, now: float, *, refused: bool) -> None:
        memory.failed, memory.refused = why, refused
        if now < memory.retry_at:
            return  # one of several that were tried together
        memory.failures += 1
        memory.retry_at = now + min(BACKOFF_MOST_SECONDS, BACKOFF_SECONDS * 2 ** (memory.failures - 1))

    def decide(self, state: PoolState, now: float) -> list[Decision]:
        """What is to be done about one pool at this instant: monotonic seconds."""
        memory = self._memories.setdefault(state.policy.name, _Memory())
        self._remember(memory, state, now)
        removals = list(_removals(state))
        plan = _Plan(state)
        blocked = next((m.trouble for m in plan.awaited if m.trouble), "") or memory.failed
        creations = self._create(memory, plan, now)
        trouble = blocked if blocked and (plan.missing or plan.awaited) else plan.beyond
        if trouble:
            self.troubles[state.policy.name] = trouble
        else:
            self.troubles.pop(state.policy.name, None)
        if creations or plan.missing:
            memory.spare_since = None
            return [*removals, *creations]
        outdated = any(member.outdated for member in plan.joined)
        return [*removals, *(_renew(plan) if outdated else self._shrink(memory, plan, now))]

    def _remember(self, memory: _Memory, state: PoolState, now: float) -> None:
        there = {member.id: member for member in state.members}
        # That one was made says that others can be; that one has joined, that others will.
        well = bool(there.keys() - memory.there) if memory.refused else False
        memory.there = set(there)
        for known in (memory.known, memory.blamed):
            known &= there.keys()
        memory.idle_since = {i: at for i, at in memory.idle_since.items() if i in there and not there[i].running}
        for member in state.members:
            if member.phase in (Phase.FAILED, Phase.STRANDED) and member.id not in memory.blamed:
                memory.blamed.add(member.id)
                if member.id in memory.known:
                    # It had come up well: what became of it says nothing of the next.
                    continue
                self._fail(memory, member.trouble, now, refused=False)
            elif member.phase is Phase.JOINED:
                if member.id not in memory.known:
                    memory.known.add(member.id)
                    well = well or not memory.refused
                if not member.running:
                    memory.idle_since.setdefault(member.id, now)
        if well:
            memory.failures, memory.failed, memory.retry_at, memory.refused = 0, "", -math.inf, False

    @staticmethod
    def _create(memory: _Memory, plan: _Plan, now: float) -> list[Decision]:
        """As many as are missing, not too many at once, and none while those before them fail."""
        if now < memory.retry_at or any(member.trouble for member in plan.awaited):
            return []
        # After a failure one is tried before the rest.
        most = 1 if memory.failures else AWAITED_MOST
        count = min(plan.missing, most - len(plan.awaited) - plan.ordered)
        return [CreateWorker(plan.policy.name, plan.why, plan.silent) for _ in range(count)]

    @staticmethod
    def _shrink(memory: _Memory, plan: _Plan, now: float) -> list[Decision]:
        """Let go of the emptiest, if there has been one too many for long enough."""
        chosen = _emptiest(plan, memory.idle_since)
        if chosen is None:
            memory.spare_since = None
            return []
        if memory.spare_since is None:
            memory.spare_since = now
        patience = plan.policy.idle_seconds
        idle_since = memory.idle_since.get(chosen.id, memory.spare_since)
        if now < max(memory.spare_since, idle_since) + patience:
            return []
        if chosen.phase is Phase.AWAITED:
            return [DeleteWorker(plan.policy.name, chosen.id, "not needed any more")]
        return [DrainWorker(plan.policy.name, chosen.id, "not needed")]


class _Plan:
    """How a pool's need compares with what it has and what is on its way."""

    def __init__(self, state: PoolState) -> None:
        policy = self.policy = state.policy
        self.ordered, self.silent = state.ordered, state.silent
        self.awaited = [m for m in state.members if m.phase is Phase.AWAITED and (m.started or not m.outdated)]
        self.joined = [m for m in state.members if m.phase is Phase.JOINED]
        # One that is away may come back, and has no room until then.
        away = sum(member.phase is Phase.AWAY for member in state.members)
        self.count = len(self.awaited) + self.ordered + len(self.joined) + away
        self.wanted = Counter(state.waiting) + Counter(state.provisioned)
        stays = any(member.committed for member in state.members)
        quiet = policy.scale_to_zero and not self.wanted and not stays
        self.floor = 0 if quiet else policy.min
        self.headroom_mb = 0 if quiet else policy.headroom_mb
        rooms = [room_of(member) for member in (*self.joined, *self.awaited)]
        rooms += [Room(policy.memory_mb, policy.environments) for _ in range(self.ordered)]
        left = pack(rooms, self.wanted)
        never = [size for size in left if size > policy.memory_mb]
        for size in never:
            del left[size]
        new = _fresh(policy, left)
        free_mb = sum(room.mb for room in (*rooms, *new))
        short_mb = max(0, self.headroom_mb - free_mb)
        needed = self.count + len(new) + math.ceil(short_mb / policy.memory_mb)
        target = max(needed, self.floor)
        # How many more are to be made now.
        self.missing = max(0, min(target, policy.max) - self.count)
        if new:
            kind = "requests wait" if state.waiting else "provisioned concurrency waits"
            self.why = f"{kind} for room"
        else:
            self.why = "headroom" if short_mb else "minimum"
        self.beyond = ""
        if never:
            self.beyond = f"{max(never)} MB do not fit on a worker of {policy.memory_mb} MB in pool {policy.name}"
        elif new and target > policy.max:
            self.beyond = f"pool {policy.name} has its most workers: {policy.max}"

    def does_without(self, leaving: Member, sizes: Mapping[int, int]) -> bool:
        """Whether the others that have joined have room for need, headroom, and these environments of its."""
        if self.count - 1 < self.floor:
            return False
        rooms = [room_of(member) for member in self.joined if member is not leaving]
        left = pack(rooms, self.wanted + Counter(sizes))
        return not left and sum(room.mb for room in rooms) >= self.headroom_mb


def room_of(member: Member) -> Room:
    """What is free on a worker, or will be."""
    return Room(member.memory_mb - member.committed_mb, member.environments - member.committed)


def _fresh(policy: PoolPolicy, sizes: Counter[int]) -> list[Room]:
    """New workers that together have room for environments, each of which fits on one."""
    new: list[Room] = []
    while sizes and len(new) <= policy.max:
        room = Room(policy.memory_mb, policy.environments)
        sizes = pack([room], sizes)
        new.append(room)
    return new


def _removals(state: PoolState) -> Iterable[Decision]:
    pool = state.policy.name
    for member in state.members:
        match member.phase:
            case Phase.DRAINING if not member.held:
                yield DeleteWorker(pool, member.id, "drained")
            case Phase.FAILED:
                yield DeleteWorker(pool, member.id, member.trouble or "it has ended")
            case Phase.LOST:
                yield DeleteWorker(pool, member.id, "it is lost")
            case Phase.OVERDUE:
                yield DeleteWorker(pool, member.id, "its node does not end it", force=True)
            case Phase.STRANDED:
                yield DeleteWorker(pool, member.id, member.trouble, force=True)
            case Phase.AWAITED if member.outdated and not member.started:
                yield DeleteWorker(pool, member.id, "its template is outdated")


def _emptiest(plan: _Plan, idle_since: Mapping[str, float]) -> Member | None:
    """The worker that is to go first of those that the pool can do without."""
    for member in plan.awaited:
        if not member.started and plan.does_without(member, {}):
            return member
    idle = [m for m in plan.joined if m.id in idle_since]
    idle.sort(key=lambda m: (sum(m.provisioned.values()), m.held, idle_since[m.id], m.id))
    return next((m for m in idle if plan.does_without(m, m.provisioned)), None)


def _renew(plan: _Plan) -> list[Decision]:
    """Replace workers of an old template one after the other: another is made first, one beyond the most if need be;
    then one is drained, and what runs there ends by itself."""
    old = [member for member in plan.joined if member.outdated]
    if plan.awaited or plan.ordered:
        return []
    pool = plan.policy.name
    chosen = min(old, key=lambda m: (m.committed_mb, m.held, m.id))
    rest = [room_of(member) for member in plan.joined if member is not chosen]
    enough = plan.count - 1 >= plan.floor and sum(room.mb for room in rest) >= chosen.committed_mb
    if enough and (len(old) < len(plan.joined) or not chosen.committed):
        return [DrainWorker(pool, chosen.id, "its template is outdated")]
    return [CreateWorker(pool, "another is outdated", plan.silent)] if plan.count <= plan.policy.max else []
