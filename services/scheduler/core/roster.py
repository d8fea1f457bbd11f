"""Who is in the fleet: pods as the cluster has them, joined with workers as the scheduler knows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from services.scheduler.core.demand import Demand, Standing
from services.scheduler.core.fleet import Member, Phase, PoolPolicy, PoolState

# How long a pod that runs may take until its worker has joined: seconds.
JOIN_SECONDS = 120.0
# How long a pod may take to be taken up by the node that it was put on: seconds. A node that is lost counts as ready to
# the cluster for some 45 s, and is given pods until then.
TAKEN_SECONDS = 20.0
# How long a worker that had joined a scheduler before this one may take until it counts as away: seconds.
RETURN_SECONDS = 5.0
# How long a worker that the scheduler has given up may take to come back before its pod is removed: seconds.
BACK_SECONDS = 60.0
# How much longer than its grace a pod may take to end: seconds.
OVERDUE_SECONDS = 60.0


# Of a pod that says nothing of its own.
_TROUBLES = {
    Phase.FAILED: f"its worker did not join within {JOIN_SECONDS:.0f} s",
    Phase.STRANDED: f"its node did not take it up within {TAKEN_SECONDS:.0f} s",
}
_SILENT = (Phase.AWAY, Phase.LOST)
_HEARD = (Phase.JOINED, Phase.DRAINING)


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What is known of one worker's pod."""

    name: str  # the worker's id
    pool: str
    node: str = ""  # that it was put on; empty: none yet
    taken: bool = False  # its node has taken it up
    running: bool = False  # its containers run
    ready: bool = False  # its worker is attached to a scheduler, as far as its node knows
    ended: bool = False  # none will run again
    terminating: bool = False  # it is being deleted
    grace_seconds: float = 30.0  # that it has to end
    trouble: str = ""  # what keeps it from coming up, or made it end
    outdated: bool = False  # made from a template that is not the pool's any more


@dataclass(slots=True)
class Sighting:
    """Since when a pod has been as it is, by this process's clock: monotonic seconds."""

    facts: PodFacts
    since: float
    phase: Phase = Phase.AWAITED  # of its worker, at the last look


class Roster:
    """Remembers what pods and workers do not say: who had joined, and since when."""

    def __init__(self) -> None:
        self._seen: dict[str, Sighting] = {}
        self._joined: dict[str, float] = {}  # worker → when it was last seen connected: monotonic seconds
        # Worker → since when it is known that it had joined another scheduler: monotonic seconds.
        self._expected: dict[str, float] = {}
        # Node → when a pod was last seen stranded there, not long ago: monotonic seconds.
        self._untaken: dict[str, float] = {}

    def state(
        self, policy: PoolPolicy, pods: Iterable[PodFacts], ordered: int, demand: Demand, now: float
    ) -> PoolState:
        """One pool at this instant. `ordered`: pods that are being made."""
        standings = dict(demand.standings)
        members = [self._member(policy, pod, standings.pop(pod.name, None), now) for pod in pods]
        # Workers that are nobody's pod were started by hand: their room counts, and they are left alone.
        strangers = [each for each in standings.values() if each.worker.connected and not each.worker.draining]
        members += [_member_of(each, each.worker.id, Phase.JOINED) for each in strangers]
        return PoolState(policy, members, demand.waiting, demand.provisioned, ordered, self._silent_nodes(now))

    def _silent_nodes(self, now: float) -> frozenset[str]:
        """Nodes whose workers are away, all that there are, or that did not take up what was put on them."""
        self._untaken = {node: at for node, at in self._untaken.items() if now - at <= BACK_SECONDS}
        silent = self._untaken.keys() | {each.facts.node for each in self._seen.values() if each.phase in _SILENT}
        heard = {each.facts.node for each in self._seen.values() if each.phase in _HEARD}
        return frozenset(silent - heard - {""})

    def forget_all_but(self, names: Mapping[str, object]) -> None:
        """These are the pods that there are."""
        for known in (self._seen, self._joined, self._expected):
            for name in known.keys() - names.keys():
                del known[name]

    def _member(self, policy: PoolPolicy, pod: PodFacts, standing: Standing | None, now: float) -> Member:
        sighting = self._seen.get(pod.name)
        if sighting is None or _changed(sighting.facts, pod):
            sighting = self._seen[pod.name] = Sighting(pod, now)
        connected = standing is not None and standing.worker.connected
        if connected:
            self._joined[pod.name] = now
        elif pod.ready:
            self._expected.setdefault(pod.name, now)
        phase, trouble = self._phase(pod, standing, now - sighting.since, now), pod.trouble
        sighting.phase = phase
        if phase is Phase.STRANDED:
            self._untaken[pod.node] = now
        if phase in _TROUBLES and not trouble:
            trouble = "its pod has ended" if pod.ended else _TROUBLES[phase]
        if standing is not None:
            return _member_of(standing, pod.name, phase, trouble=trouble, outdated=pod.outdated)
        return Member(
            pod.name, phase, policy.memory_mb, policy.environments, trouble=trouble, outdated=pod.outdated,
            started=pod.running,
        )  # fmt: skip

    def _phase(self, pod: PodFacts, standing: Standing | None, since: float, now: float) -> Phase:
        if pod.terminating:
            return Phase.OVERDUE if since > pod.grace_seconds + OVERDUE_SECONDS else Phase.LEAVING
        if pod.ended:
            return Phase.FAILED
        if standing is not None:
            if not standing.worker.connected:
                return Phase.AWAY
            return Phase.DRAINING if standing.worker.draining else Phase.JOINED
        last = self._joined.get(pod.name)
        if last is not None:
            return Phase.LOST if now - last > BACK_SECONDS else Phase.AWAY
        expected = self._expected.get(pod.name)
        if expected is not None and now - expected > RETURN_SECONDS:
            return Phase.LOST if now - expected > BACK_SECONDS else Phase.AWAY
        if pod.running:
            return Phase.FAILED if since > JOIN_SECONDS else Phase.AWAITED
        return Phase.STRANDED if pod.node and not pod.taken and since > TAKEN_SECONDS else Phase.AWAITED


def _changed(before: PodFacts, after: PodFacts) -> bool:
    return (before.node, before.running, before.terminating) != (after.node, after.running, after.terminating)


def _member_of(standing: Standing, name: str, phase: Phase, *, trouble: str = "", outdated: bool = False) -> Member:
    worker = standing.worker
    return Member(
        name, phase, worker.memory_mb, worker.environments, standing.committed_mb, standing.committed,
        standing.running, len(worker.holds), standing.provisioned, trouble, outdated,
    )  # fmt: skip
