"""The fleet's shell: while this scheduler leads it joins what the core needs with the pods that there are, and carries
out what `core/fleet.py` decides. Where the pods come from is behind a port."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from lambent.domain.clock import Clock, Ids
from lambent.infra.tasks import TaskOwner
from services.scheduler.core import events as ev
from services.scheduler.core.demand import Demand, demands
from services.scheduler.core.fleet import CreateWorker, Decision, DeleteWorker, DrainWorker, Fleet, PoolPolicy
from services.scheduler.core.roster import PodFacts, Roster
from services.scheduler.shell import NotLeading, Shell

_log = logging.getLogger(__name__)

# Longest time between two looks. A change of a pod is looked at at once.
LOOK_SECONDS = 1.0
# How much later than a change, so that many at once are one look.
SETTLE_SECONDS = 0.05


class PodRefused(Exception):
    """A pod could not be made or removed; the text says why."""


class Pods(Protocol):
    """The pods of all pools."""

    synced: bool  # what is known is what there is
    changed: Callable[[], None]  # to be called when something has changed
    gone: Callable[[str], None]  # and when a pod is no more, with its name

    async def run(self) -> None:
        """Follow what there is, for ever."""
        ...

    def facts(self) -> Mapping[str, PodFacts]:
        """By name."""
        ...

    async def create(self, pool: str, name: str, avoid: frozenset[str]) -> None:
        """Make a pod; its name is the worker's id. `avoid`: nodes that are taken only where no other has room. Raises
        PodRefused."""
        ...

    async def delete(self, name: str, *, force: bool) -> None:
        """Remove a pod. `force`: without waiting for its node. Raises PodRefused."""
        ...


class FleetKeeper:
    """Keeps every pool as large as it is needed."""

    def __init__(
        self, shell: Shell, pods: Pods, policies: Iterable[PoolPolicy], release: str, clock: Clock, ids: Ids
    ) -> None:
        """`release`: in the names of pods."""
        self._shell = shell
        self._pods = pods
        self._policies = {policy.name: policy for policy in policies}
        self._release = release
        self._clock = clock
        self._ids = ids
        self._tasks = TaskOwner("fleet")
        self._fleet = Fleet()
        self._roster = Roster()
        self._creating: Counter[str] = Counter()  # pool → pods that are ordered and not there yet
        self._deleting: set[str] = set()
        self._told: dict[str, str] = {}  # pool → the trouble that the core knows
        self._timer: asyncio.TimerHandle | None = None
        self.decisions: Counter[str] = Counter()  # kind → how often
        pods.changed, pods.gone = self._changed, self._gone

    def start(self) -> None:
        """Begin to follow the pods, also while another leads: a standby that takes over knows them already."""
        self._tasks.start("pods", self._pods.run())

    def lead(self) -> None:
        """Begin to decide. Who had joined, and who idles since when, is found out anew."""
        self._fleet, self._roster = Fleet(), Roster()
        self._told.clear()
        self._look_in(0.0)

    def step_down(self) -> None:
        """Decide nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def close(self) -> None:
        """End it. Pods stay."""
        self.step_down()
        await self._tasks.close()

    def _changed(self) -> None:
        # One that is near stays: changes that never end must not put it off for ever.
        if self._timer is not None and self._timer.when() > asyncio.get_running_loop().time() + SETTLE_SECONDS:
            self._look_in(SETTLE_SECONDS)

    def _gone(self, name: str) -> None:
        """A pod is no more: whoever waits for what ran there is told now."""
        try:
            self._shell.lose_worker(name)
        except NotLeading:
            return

    def _look_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        try:
            # Whoever works comes back in this time; before that, nothing seems to be there.
            if self._pods.synced and not self._shell.core.rebuilding:
                self._decide()
        except NotLeading:
            return
        self._look_in(LOOK_SECONDS)

    def _decide(self) -> None:
        now = self._clock.monotonic()
        facts = self._pods.facts()
        for pod in facts.values():
            if pod.ended:
                self._gone(pod.name)
        self._roster.forget_all_but(facts)
        found = demands(self._shell.core)
        for name, policy in self._policies.items():
            mine = [pod for pod in facts.values() if pod.pool == name]
            state = self._roster.state(policy, mine, self._creating[name], found.get(name, Demand()), now)
            for decision in self._fleet.decide(state, now):
                self._carry_out(decision)
            self._tell(name)

    def _tell(self, pool: str) -> None:
        trouble = self._fleet.troubles.get(pool, "")
        if trouble != self._told.get(pool, ""):
            self._told[pool] = trouble
            self._shell.feed(ev.PoolTold(pool, trouble))
            if trouble:
                _log.warning("a pool of workers lacks room", extra={"pool": pool, "reason": trouble})

    def _carry_out(self, decision: Decision) -> None:
        match decision:
            case CreateWorker(pool, reason, avoid):
                name = f"{self._release}-worker-{pool}-{self._ids.token(4)}"
                self._note("create", pool, name, reason)
                self._creating[pool] += 1
                self._tasks.start(f"create-{name}", self._create(pool, name, avoid))
            case DrainWorker(pool, worker_id, reason):
                self._note("drain", pool, worker_id, reason)
                self._shell.drain_worker(worker_id, reason)
            case DeleteWorker(pool, worker_id, reason, force) if worker_id not in self._deleting:
                if worker_id in self._pods.facts():
                    self._note("delete", pool, worker_id, reason)
                    self._deleting.add(worker_id)
                    self._tasks.start(f"delete-{worker_id}", self._delete(worker_id, force=force))

    def _note(self, kind: str, pool: str, worker_id: str, reason: str) -> None:
        self.decisions[kind] += 1
        _log.info("fleet", extra={"decision": kind, "pool": pool, "worker": worker_id, "reason": reason})

    async def _create(self, pool: str, name: str, avoid: frozenset[str]) -> None:
        try:
            await self._pods.create(pool, name, avoid)
        except PodRefused as error:
            self._fleet.refused(pool, str(error), self._clock.monotonic())
        finally:
            self._creating[pool] -= 1
            self._changed()

    async def _delete(self, name: str, *, force: bool) -> None:
        try:
            await self._pods.delete(name, force=force)
        except PodRefused as error:
            _log.warning("a worker's pod could not be removed", extra={"worker": name, "reason": str(error)})
            await asyncio.sleep(LOOK_SECONDS)
        finally:
            self._deleting.discard(name)
