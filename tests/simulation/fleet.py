"""A cluster whose workers are pods that the fleet makes and removes: the real core, the real decisions, drawn pods."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from services.scheduler.core import events as ev
from services.scheduler.core.demand import Demand, demands
from services.scheduler.core.fleet import CreateWorker, DeleteWorker, DrainWorker, Fleet, PoolPolicy
from services.scheduler.core.roster import PodFacts, Roster
from tests.simulation.cluster import World
from tests.simulation.peers import SimWorker

LOOK_SECONDS = 0.1
LOST_NODE = "lost"


@dataclass
class FleetWorld(World):
    """Pods of one pool that come up after a while, fail, and are lost."""

    policy: PoolPolicy = field(default_factory=lambda: PoolPolicy("", max=4))
    start_seconds: float = 0.3  # mean, until a pod's worker has joined
    quota: int = 1000  # pods beyond which the cluster makes none
    pods: dict[str, PodFacts] = field(default_factory=dict)
    sizes: list[tuple[float, int]] = field(default_factory=list)  # instant, workers that are there or on their way
    strands: float = 0.0  # how likely a pod is put on a lost node, as the cluster does not know yet that it is lost
    created: int = 0
    deleted: list[str] = field(default_factory=list)  # why

    def __post_init__(self) -> None:
        self.fleet, self.roster = Fleet(), Roster()
        super().__post_init__()
        self.after(LOOK_SECONDS, self.look)

    def look(self) -> None:
        """One look of the fleet, and the next."""
        if not self.scheduler.rebuilding:
            self._decide()
        self.after(LOOK_SECONDS, self.look)

    def _decide(self) -> None:
        self.roster.forget_all_but(self.pods)
        demand = demands(self.scheduler).get("", Demand())
        state = self.roster.state(self.policy, list(self.pods.values()), 0, demand, self.now)
        for decision in self.fleet.decide(state, self.now):
            match decision:
                case CreateWorker(_, _, avoid):
                    self._create(avoid)
                case DrainWorker(_, worker_id):
                    self.feed(ev.WorkerDraining(worker_id))
                case DeleteWorker(_, worker_id, reason):
                    self._delete(worker_id, reason)
        trouble = self.fleet.troubles.get("", "")
        self.feed(ev.PoolTold("", trouble))
        self.sizes.append((self.now, sum(not (p.terminating or p.ended) for p in self.pods.values())))

    def _create(self, avoid: frozenset[str]) -> None:
        if len(self.pods) >= self.quota:
            self.fleet.refused("", "exceeded quota", self.now)
            return
        self.created += 1
        name = f"pod{self.created}"
        if LOST_NODE not in avoid and self.rng.random() < self.strands:
            self.pods[name] = PodFacts(name, "", LOST_NODE)
            return
        self.pods[name] = PodFacts(name, "", "node", taken=True)
        fails = self.rng.random() < self.settings.trouble
        delay = self.rng.expovariate(1 / self.start_seconds)
        self.after(delay, lambda: self._fail(name) if fails else self._up(name))

    def _up(self, name: str) -> None:
        if name in self.pods and not self.pods[name].terminating:
            self.pods[name] = replace(self.pods[name], running=True)
            self.add_worker(name, "")

    def _fail(self, name: str) -> None:
        if name in self.pods:
            self.pods[name] = replace(self.pods[name], ended=True, trouble="Error: exit code 1")

    def _delete(self, name: str, reason: str) -> None:
        worker = self.workers.get(name)
        assert worker is None or not worker.environments or reason == "it is lost", f"{name} runs: {reason}"
        self.deleted.append(reason)
        if worker is not None:
            worker.die()
        self.pods.pop(name, None)
        self.feed(ev.WorkerLost(name))

    def kill_worker(self) -> None:
        """A pod is lost with its node; the cluster says so."""
        if self.workers:
            lost: SimWorker = self.rng.choice(list(self.workers.values()))
            lost.die()
            self.pods.pop(lost.id, None)
            self.after(self.rng.uniform(0.0, 0.1), lambda: self.feed(ev.WorkerLost(lost.id)))
