"""What a pod's status means: each row is a status as the kubelet or a controller writes it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from services.scheduler.adapters.pod_facts import POOL, TEMPLATE, facts_of
from services.scheduler.core.demand import Demand, Standing
from services.scheduler.core.fleet import Phase, PoolPolicy
from services.scheduler.core.placement import Worker
from services.scheduler.core.roster import (
    BACK_SECONDS,
    JOIN_SECONDS,
    OVERDUE_SECONDS,
    RETURN_SECONDS,
    TAKEN_SECONDS,
    PodFacts,
    Roster,
)


def pod(status: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    labels = {POOL: "default", TEMPLATE: "t1"}
    return {"metadata": {"name": "p", "labels": labels, **metadata}, "status": status}


def waiting(reason: str, message: str = "", **last: Any) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"phase": "Pending", "containerStatuses": [{"state": state, "lastState": last}]}


TROUBLES: list[tuple[dict[str, Any], str]] = [
    ({"phase": "Pending"}, ""),
    (waiting("ContainerCreating"), ""),
    ({"phase": "Running", "conditions": [{"type": "PodScheduled", "status": "True"}]}, ""),
    (
        {
            "phase": "Pending",
            "conditions": [
                {
                    "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                    "message": "0/3 nodes are available:\n  3 Insufficient memory.",
                }
            ],
        },
        "Unschedulable: 0/3 nodes are available: 3 Insufficient memory.",
    ),
    (waiting("ImagePullBackOff", "Back-off pulling image"), "ImagePullBackOff: Back-off pulling image"),
    (waiting("CreateContainerConfigError", 'secret "keys" not found'), 'CreateContainerConfigError: secret "keys" not found'),
    (
        waiting("CrashLoopBackOff", "back-off 10s", terminated={"reason": "OOMKilled", "exitCode": 137}),
        "CrashLoopBackOff: OOMKilled, exit code 137",
    ),
    (
        {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."},
        "Evicted: The node was low on resource: memory.",
    ),
    (
        {"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}]},
        "OOMKilled: exit code 137",
    ),
    ({"phase": "Succeeded"}, "its pod has succeeded"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "trouble"), TROUBLES)
def test_what_keeps_a_pod_from_running_or_made_it_end(status: dict[str, Any], trouble: str) -> None:
    facts = facts_of(pod(status), {"default": "t1"})
    assert facts.trouble == trouble
    assert facts.ended == (status["phase"] in ("Failed", "Succeeded"))
    assert facts.pool == "default"
    assert not facts.outdated


def test_a_pod_of_another_template_is_outdated_and_one_that_is_deleted_terminates() -> None:
    assert facts_of(pod({"phase": "Running"}), {"default": "t2"}).outdated
    going = pod({"phase": "Running"}, deletionTimestamp="2026-01-01T00:00:00Z", deletionGracePeriodSeconds=900)
    facts = facts_of(going, {"default": "t1"})
    assert (facts.terminating, facts.grace_seconds) == (True, 900.0)


def phase(roster: Roster, facts: PodFacts, worker: Worker | None, now: float) -> Phase:
    demand = Demand({worker.id: Standing(worker)} if worker is not None else {})
    [member] = roster.state(PoolPolicy("default"), [facts], 0, demand, now).members
    return member.phase


def test_a_worker_from_its_pod_to_its_end() -> None:
    roster, worker = Roster(), Worker("p", "unix:p", 256, 2, "default")
    made, runs = PodFacts("p", "default"), PodFacts("p", "default", running=True)
    assert phase(roster, made, None, 0.0) is Phase.AWAITED
    assert phase(roster, runs, None, JOIN_SECONDS) is Phase.AWAITED, "it has run since now"
    assert phase(roster, runs, worker, JOIN_SECONDS + 1) is Phase.JOINED
    worker.connected = False
    assert phase(roster, runs, worker, JOIN_SECONDS + 2) is Phase.AWAY
    assert phase(roster, runs, None, JOIN_SECONDS + 3) is Phase.AWAY
    assert phase(roster, runs, None, JOIN_SECONDS + 2 + BACK_SECONDS) is Phase.LOST
    gone = PodFacts("p", "default", running=True, terminating=True, grace_seconds=10.0)
    assert phase(roster, gone, None, 1000.0) is Phase.LEAVING
    assert phase(roster, gone, None, 1010.0 + OVERDUE_SECONDS) is Phase.LEAVING
    assert phase(roster, gone, None, 1010.1 + OVERDUE_SECONDS) is Phase.OVERDUE


def test_a_pod_that_runs_and_whose_worker_never_joins_has_failed() -> None:
    roster, runs = Roster(), PodFacts("p", "default", running=True)
    assert phase(roster, runs, None, 0.0) is Phase.AWAITED
    state = roster.state(PoolPolicy("default"), [runs], 0, Demand(), JOIN_SECONDS + 1)
    assert (state.members[0].phase, state.members[0].trouble) == (Phase.FAILED, "its worker did not join within 120 s")


def test_a_pod_that_its_node_does_not_take_up_is_stranded() -> None:
    roster, made = Roster(), PodFacts("p", "default")
    put = replace(made, node="n1")
    assert phase(roster, made, None, 0.0) is Phase.AWAITED
    assert phase(roster, made, None, 1000.0) is Phase.AWAITED, "the cluster may look for a node, or make one, as long"
    assert phase(roster, put, None, 1001.0) is Phase.AWAITED
    assert phase(roster, put, None, 1001.0 + TAKEN_SECONDS) is Phase.AWAITED
    state = roster.state(PoolPolicy("default"), [put], 0, Demand(), 1001.1 + TAKEN_SECONDS)
    assert (state.members[0].phase, state.members[0].trouble) == (
        Phase.STRANDED,
        "its node did not take it up within 20 s",
    )
    assert state.silent == {"n1"}
    pulls = replace(put, taken=True)  # an image takes as long as it takes
    assert phase(roster, pulls, None, 2000.0) is Phase.AWAITED


def test_a_node_is_silent_while_all_workers_that_it_had_are_away() -> None:
    roster = Roster()
    pods = [
        PodFacts(name, "default", node=node, running=True) for name, node in (("a", "n1"), ("b", "n1"), ("c", "n2"))
    ]
    workers = {pod.name: Worker(pod.name, f"unix:{pod.name}", 256, 2, "default") for pod in pods}

    def silent(now: float) -> frozenset[str]:
        demand = Demand({name: Standing(worker) for name, worker in workers.items()})
        return roster.state(PoolPolicy("default"), pods, 0, demand, now).silent

    assert silent(0.0) == frozenset()
    workers["a"].connected = False
    assert silent(1.0) == frozenset(), "another is heard from there"
    workers["b"].connected = False
    assert silent(2.0) == {"n1"}
    del workers["a"], workers["b"]
    assert silent(1.5 + BACK_SECONDS) == {"n1"}, "lost, and there still"
    del pods[:2]
    roster.forget_all_but({"c": None})
    assert silent(2.0 + BACK_SECONDS) == frozenset()


def test_a_worker_that_had_joined_another_scheduler_is_away_soon_and_lost_in_the_end() -> None:
    roster = Roster()
    ready = PodFacts("p", "default", running=True, ready=True)
    silent = PodFacts("p", "default", running=True)  # its node is lost by now, and says so
    assert phase(roster, ready, None, 0.0) is Phase.AWAITED
    assert phase(roster, ready, None, RETURN_SECONDS) is Phase.AWAITED
    assert phase(roster, silent, None, RETURN_SECONDS + 1) is Phase.AWAY
    assert phase(roster, silent, None, BACK_SECONDS + 1) is Phase.LOST
    worker = Worker("p", "unix:p", 256, 2, "default")
    assert phase(roster, ready, worker, BACK_SECONDS + 2) is Phase.JOINED


def test_a_node_that_has_taken_up_a_pod_has_said_so() -> None:
    put = {**pod({"phase": "Pending"}), "spec": {"nodeName": "n1"}}
    assert (facts_of(put, {}).node, facts_of(put, {}).taken) == ("n1", False)
    put["status"] = {"phase": "Pending", "startTime": "2026-01-01T00:00:00Z"}
    assert facts_of(put, {}).taken
    assert facts_of({**put, "spec": {}}, {}).node == ""


@pytest.mark.parametrize("status", ["True", "False"])
def test_a_pod_is_ready_if_its_status_says_so(status: str) -> None:
    facts = facts_of(pod({"phase": "Running", "conditions": [{"type": "Ready", "status": status}]}), {})
    assert facts.ready is (status == "True")
