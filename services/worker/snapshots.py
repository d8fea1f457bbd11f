"""The snapshots of this worker: made at first need, copied for environments, ended when memory is wanted or time is up.

A snapshot is an environment like any other that no invocation comes to; what becomes of it, and what an environment is
to come of, is decided in core/zygote_tree.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lambent.domain.limits import Limits
from lambent.internal.v1.deployment_pb2 import Deployment
from services.worker.artifacts.cache import Unpacked
from services.worker.core import zygote_tree as tree
from services.worker.core.environment import State as EnvironmentState
from services.worker.core.outcomes import Outcome
from services.worker.core.reasons import Reason
from services.worker.core.zygote_tree import FunctionZygote, Need, Room, Source, State
from services.worker.environment import Environment
from services.worker.guests import needs_launcher, needs_program
from services.worker.sandbox.port import Sandbox, SandboxSpec, SandboxUnavailable

if TYPE_CHECKING:
    from services.worker.environments import Shared

_log = logging.getLogger(__name__)
_LOOK_SECONDS = 1.0
# After a copy was used, whose function has work to do first: its first call copies most of what it touches. To make the
# next copy takes more processor time than that call does; it waits longer where another is left.
_REFILL_SECONDS, _LAST_SECONDS = 0.03, 0.004
_MOST_UNFIT = 1000  # versions that are remembered to have no snapshot, or to have lost some
_MOST_LOST = 3  # of one version that may end by themselves: each may have held up all environments


# Slots, and with them user ids, for snapshots and their copies, beside those of environments.
SLOTS = 256


@dataclass(frozen=True, slots=True)
class SnapshotSettings:
    """What a worker's snapshots may use."""

    most_mb: int  # together; 0: there are none
    worker_mb: int  # that environments may be promised
    idle_seconds: float  # that one is kept without environments
    copies: int  # of each that are made in advance

    @property
    def slots(self) -> int:
        """How many more there are for them."""
        return SLOTS if self.most_mb else 0


@dataclass(frozen=True, slots=True)
class Found:
    """What an environment of a version with SnapStart comes of."""

    snapshot: Environment | None  # None: an init phase of its own
    reason: str
    details: str = ""  # for whoever reads the function's log
    failed: Outcome | None = None  # how the snapshot's own init phase ended, where it did not go well


@dataclass(slots=True)
class _Held:
    """One version's."""

    environment: Environment
    spec: SandboxSpec
    slot: int
    zygote: FunctionZygote
    details: str = ""
    failed: Outcome | None = None
    copies: deque[tuple[Sandbox, int]] = field(default_factory=deque)  # made in advance, with their slots
    refill: asyncio.TimerHandle | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)  # its init phase has ended


def spec_of(
    identity: str, slot: int, deployment: Deployment, unpacked: Unpacked, limits: Limits, *,
    background: bool = False, snapshot: bool = False, mounted: tuple[Path, str] | None = None,
) -> SandboxSpec:  # fmt: skip
    """What a deployment's sandbox must be like. `mounted`: as in SandboxSpec."""
    return SandboxSpec(
        environment_id=identity,
        slot=slot,
        runtime=deployment.runtime,
        code=unpacked.code,
        opt=unpacked.opt,
        memory_mb=deployment.memory_mb,
        ephemeral_storage_mb=deployment.ephemeral_storage_mb or limits.default_ephemeral_storage_mb,
        cpu_share=deployment.memory_mb / limits.vcpu_memory_mb,
        launcher=needs_launcher(deployment, unpacked.code, unpacked.opt),
        program=needs_program(deployment, unpacked.code, unpacked.opt),
        background=background,
        snapshot=snapshot,
        image=unpacked.built,
        mounted=mounted,
    )


class Snapshots:
    """By deployment id."""

    def __init__(
        self,
        shared: Shared,
        settings: SnapshotSettings,
        take_slot: Callable[[], int | None],
        give_slot: Callable[[int], None],
        promised_mb: Callable[[], int],
    ) -> None:
        """`shared`: becomes this object's own. `promised_mb`: memory of the environments that there are."""
        self._shared = shared
        self._settings = settings
        self._take_slot = take_slot
        self._give_slot = give_slot
        self._promised_mb = promised_mb
        self._held: dict[str, _Held] = {}
        self._lost: dict[str, int] = {}  # snapshots that have ended by themselves
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        shared.owner = self

    # What an environment comes of

    def now(self, deployment: Deployment, unpacked: Unpacked, *, provisioned: bool) -> Found | None:
        """What an environment comes of; None: that has to be waited for (`obtain`)."""
        choice = self._choose(deployment, unpacked, provisioned=provisioned)
        held = self._held.get(deployment.deployment_id)
        if choice.source is Source.FUNCTION and held is not None:
            return self._count(choice, Found(held.environment, choice.reason))
        if choice.source is Source.RUNTIME:
            details, failed = ("", None) if held is None else (held.details, held.failed)
            return self._count(choice, Found(None, choice.reason, details, failed))
        return None

    async def obtain(self, deployment: Deployment, unpacked: Unpacked, *, provisioned: bool) -> Found:
        """The same, once it is known; a snapshot is made where there is to be one and is none yet."""
        found: Found | None = None
        while not self._closed and (found := self.now(deployment, unpacked, provisioned=provisioned)) is None:
            held = self._held.get(deployment.deployment_id)
            if held is None or held.zygote.state is not State.MAKING:
                choice = self._choose(deployment, unpacked, provisioned=provisioned)
                for key in choice.evicted:
                    self._evict(key, tree.Reason.PRESSURE)
                held = self._make(deployment, unpacked)
            await held.changed.wait()
        return found or Found(None, tree.Reason.SWITCHED_OFF)

    def _choose(self, deployment: Deployment, unpacked: Unpacked, *, provisioned: bool) -> tree.Choice:
        held = self._held.get(deployment.deployment_id)
        if held is not None and held.zygote.state is State.READY:
            sandbox = held.environment.sandbox
            if held.environment.state is not EnvironmentState.READY or sandbox is None or sandbox.ended:
                self._lose(held)
        native = not needs_launcher(deployment, unpacked.code, unpacked.opt)
        need = Need(deployment.deployment_id, deployment.snap_start, provisioned, native)
        return tree.choose(self._zygotes(), need, self._room())

    def _count(self, choice: tree.Choice, found: Found) -> Found:
        self._shared.counters.sources[choice.source.value, choice.reason.value] += 1
        return found

    def _zygotes(self) -> list[FunctionZygote]:
        return [held.zygote for held in self._held.values()]

    def _room(self) -> Room:
        settings = self._settings
        return Room(
            settings.most_mb, settings.worker_mb, self._promised_mb(), settings.idle_seconds,
            restores=self._shared.pool.restores,
        )  # fmt: skip

    # The life of a snapshot

    def _make(self, deployment: Deployment, unpacked: Unpacked) -> _Held:
        shared, key = self._shared, deployment.deployment_id
        slot = self._take_slot()
        identity = f"snapshot-{shared.ids.token(8)}"
        spec = spec_of(identity, slot or 0, deployment, unpacked, shared.limits, snapshot=True)
        environment = Environment(shared, spec, deployment, 0, shared.ids.token(16))
        making = FunctionZygote(key, State.MAKING, tree.Reason.BEING_MADE, tree.ASSUMED_MB)
        held = self._held[key] = _Held(environment, spec, -1 if slot is None else slot, making)
        try:
            if slot is None:
                raise SandboxUnavailable("no slot is free")
            environment.start()
        except SandboxUnavailable as error:
            self._unfit(held, tree.Reason.NO_SANDBOX, str(error))
        if self._timer is None:
            self._timer = shared.loop.call_later(_LOOK_SECONDS, self._look)
        return held

    def became_ready(self, environment: Environment) -> None:
        """The init phase of a snapshot has ended, well or not."""
        held = self._of(environment)
        if held is None:
            return
        if environment.state is EnvironmentState.READY:
            now = self._shared.clock.monotonic()
            held.zygote = replace(
                held.zygote, state=State.READY, reason=tree.Reason.READY, memory_mb=environment.used_mb, idle_since=now
            )
            held.changed.set()
            self._refill_soon(held)
            return
        reason, details = tree.Reason.INIT_FAILED, ""
        if environment.unfit is not None:
            name, _, details = environment.unfit.partition(": ")
            reason = tree.Reason(name) if name in set(tree.Reason) else tree.Reason.INIT_FAILED
            environment.tell_fallback(reason, details)
        else:
            held.failed = environment.outcome
        self._unfit(held, reason, details)

    def _unfit(self, held: _Held, reason: tree.Reason, details: str) -> None:
        deployment = held.environment.deployment
        extra = {"function": deployment.function_name, "version": deployment.version, "reason": reason}
        _log.warning("no snapshot", extra={**extra, "cause": details})
        held.details = details
        held.zygote = replace(held.zygote, state=State.UNFIT, reason=reason, memory_mb=0)
        held.changed.set()
        held.environment.stop(Reason.STOPPED)
        unfit = [key for key, each in self._held.items() if each.zygote.state is State.UNFIT]
        for key in unfit[:-_MOST_UNFIT]:
            del self._held[key]

    def went(self, environment: Environment, reason: Reason) -> None:
        """A snapshot has stopped."""
        self._shared.credentials.gone(environment)
        held = self._of(environment)
        if held is None:
            return
        if held.refill is not None:
            held.refill.cancel()
        while held.copies:
            self._discard(*held.copies.popleft())
        if held.slot >= 0:
            self._give_slot(held.slot)
            held.slot = -1
        if held.zygote.state is not State.UNFIT:
            del self._held[held.zygote.key]
            held.changed.set()

    # Copies made in advance

    def copy_of(self, snapshot: Environment) -> tuple[Sandbox, int] | tuple[None, None]:
        """A copy that is there already, which is the caller's now, and the slot that it was made for."""
        held = self._of(snapshot)
        while held is not None and held.copies:
            sandbox, slot = held.copies.popleft()
            self._refill_soon(held)
            if not sandbox.ended:
                return sandbox, slot
            self._discard(sandbox, slot)
        return None, None

    def _refill_soon(self, held: _Held) -> None:
        if len(held.copies) >= self._settings.copies:
            return
        if held.refill is not None:
            if held.copies:
                return
            held.refill.cancel()  # it would come too late
        delay = _REFILL_SECONDS if held.copies else _LAST_SECONDS
        held.refill = self._shared.loop.call_later(delay, self._refill, held)

    def _refill(self, held: _Held) -> None:
        held.refill = None
        snapshot = held.environment
        if held.zygote.state is not State.READY or snapshot.sandbox is None or self._of(snapshot) is not held:
            return
        slot = self._take_slot()
        if slot is None:
            return
        spec = replace(held.spec, environment_id=f"{held.spec.environment_id}-{slot}", slot=slot, snapshot=False)
        try:
            held.copies.append((self._shared.pool.restore(replace(spec, background=True), snapshot.sandbox), slot))
        except SandboxUnavailable as error:
            _log.error("no copy could be made in advance", extra={"cause": str(error)})
            self._give_slot(slot)
        else:
            self._refill_soon(held)

    def _discard(self, sandbox: Sandbox, slot: int) -> None:
        sandbox.channel.close()
        sandbox.destroy("not used")
        self._give_slot(slot)

    def joined(self, snapshot: Environment) -> None:
        """An environment has come of it."""
        held = self._of(snapshot)
        if held is not None:
            held.zygote = replace(held.zygote, environments=held.zygote.environments + 1)

    def left(self, snapshot: Environment) -> None:
        """An environment that came of it has ended."""
        held = self._of(snapshot)
        if held is not None:
            now = self._shared.clock.monotonic()
            held.zygote = replace(held.zygote, environments=held.zygote.environments - 1, idle_since=now)

    def broke(self, snapshot: Environment) -> None:
        """A copy of it did not come to life: where there is no other, there will be none."""
        held = self._of(snapshot)
        if held is not None and held.zygote.environments <= 1:
            self._unfit(held, tree.Reason.NO_SANDBOX, "its copy ended at once")

    def _of(self, environment: Environment) -> _Held | None:
        held = self._held.get(environment.deployment.deployment_id)
        return held if held is not None and held.environment is environment else None

    # Time and memory

    def _look(self) -> None:
        now = self._shared.clock.monotonic()
        for held in self._held.values():
            if held.zygote.state is State.READY and now >= held.environment.fresh_until:
                held.zygote = replace(held.zygote, state=State.LEAVING, reason=tree.Reason.WORN)
        machine_mb, available_mb = _machine_memory()
        room = replace(self._room(), machine_mb=machine_mb, available_mb=available_mb)
        for key, reason in list(tree.evictions(self._zygotes(), room, now)):
            self._evict(key, reason)
        alive = any(zygote.lives for zygote in self._zygotes())
        self._timer = self._shared.loop.call_later(_LOOK_SECONDS, self._look) if alive else None

    def _evict(self, key: str, reason: tree.Reason) -> None:
        held = self._held.get(key)
        if held is not None:
            deployment = held.environment.deployment
            extra = {"function": deployment.function_name, "version": deployment.version, "reason": reason}
            _log.info("snapshot ended", extra=extra)
            self._shared.counters.evictions[reason.value] += 1
            held.environment.stop(Reason.STOPPED)

    def _lose(self, held: _Held) -> None:
        """It has ended by itself: what does so again and again is not worth another one."""
        key = held.zygote.key
        self._lost[key] = times = self._lost.pop(key, 0) + 1
        if len(self._lost) > _MOST_UNFIT:
            del self._lost[next(iter(self._lost))]
        if times < _MOST_LOST:
            self._evict(key, tree.Reason.LOST)
        else:
            self._unfit(held, tree.Reason.LOST, "it has ended by itself again and again")

    def close(self) -> None:
        """End all of them."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for held in list(self._held.values()):
            held.environment.stop(Reason.CLOSING)


def _machine_memory() -> tuple[int, int]:
    """Memory of the machine and what of it is available, in MB; zeros where that is not told."""
    found: dict[str, int] = {}
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            name, _, rest = line.partition(":")
            if name in ("MemTotal", "MemAvailable"):
                found[name] = int(rest.split()[0]) >> 10
    except (OSError, ValueError, IndexError):
        return 0, 0
    return found.get("MemTotal", 0), found.get("MemAvailable", 0)
