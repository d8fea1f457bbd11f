"""The fleet against a Kubernetes API: the twin in this process, and a namespace of the cluster that KUBECONFIG reaches.

Pods are real there, and do nothing; their workers are played here, and join once their pod runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lambent.domain.names import Tenant
from lambent.infra.batches import Outbox
from lambent.infra.clock import SystemClock, SystemIds
from lambent.infra.layout import layout
from lambent.infra.settings import Cluster, Kubernetes, Settings
from lambent.infra.tasks import TaskOwner
from lambent.internal.v1 import lease_service_pb2 as leases
from lambent.internal.v1 import worker_service_pb2 as workers
from services.scheduler.adapters.kubernetes_api import KubernetesApi
from services.scheduler.adapters.kubernetes_election import LEASES
from services.scheduler.adapters.kubernetes_pods import PODS, KubernetesPods
from services.scheduler.adapters.pool_files import PoolFile
from services.scheduler.core import events as ev
from services.scheduler.core import roster
from services.scheduler.core.machine import Scheduler
from services.scheduler.core.policies import Policies
from services.scheduler.fleet import FleetKeeper
from services.scheduler.leadership import Alone
from services.scheduler.shell import Shell
from services.scheduler.wiring import make
from tests.kubernetes_twin import KubernetesTwin, namespace, real_cluster

TENANT = Tenant("000000000001", "us-east-1")
POLICIES = Policies(
    concurrent_executions=100,
    keep_alive=0.2,
    lease=5.0,
    worker_grace=30.0,
    rebuild=0.0,
    capacity_wait=60.0,
    retry_after=1.0,
)
TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"team": "functions"}},
    "spec": {
        "terminationGracePeriodSeconds": 0,
        "containers": [
            {
                "name": "worker", "image": "lambent.local/python:3.11", "imagePullPolicy": "IfNotPresent",
                "command": ["sleep", "3600"],
            }
        ],
    },
}  # fmt: skip


def pool(**changes: Any) -> PoolFile:
    """Workers of two environments of 128 MB each."""
    given: dict[str, Any] = {"max": 4, "idle_seconds": 0.2, "memory_mb": 256, "environments": 2, **changes}
    return PoolFile(**{"name": "default", "template": TEMPLATE, **given})


@dataclass
class Stage:
    """A scheduler with its fleet, and who plays the workers."""

    api: KubernetesApi
    twin: KubernetesTwin | None  # None: a real cluster
    pool: PoolFile
    tasks: TaskOwner = field(default_factory=lambda: TaskOwner("stage"))
    told: list[leases.LeaseEvent] = field(default_factory=list)  # to the caller
    joined: dict[str, Outbox[workers.WorkerInstruction]] = field(default_factory=dict)
    drained: list[str] = field(default_factory=list)
    lost_node: str = ""  # where whatever may go anywhere is put

    def __post_init__(self) -> None:
        clock = SystemClock()
        self.shell = Shell(
            lambda term: Scheduler(POLICIES, SystemIds(), first_lease_id=1, now=clock.monotonic()), clock, hold_off=0.1
        )
        self.shell.leading = Alone()
        self.pods = KubernetesPods(self.api, "test", "", {"default": self.pool})
        self.fleet = FleetKeeper(self.shell, self.pods, [self.pool.policy()], "test", clock, SystemIds())

    def begin(self) -> None:
        self.shell.lead(1)
        self.fleet.start()
        self.fleet.lead()
        caller: Outbox[leases.LeaseEvent] = Outbox()
        self.shell.caller_joined(ev.CallerJoined("c", ()), caller)
        self.tasks.start("caller", caller.run(self._hear))
        self.tasks.start("hands", self._play())

    async def _hear(self, events: Sequence[leases.LeaseEvent]) -> None:
        self.told.extend(events)

    async def _play(self) -> None:
        """The kubelet, where there is none, and the workers."""
        while True:
            if self.twin is not None:
                self._kubelet(self.twin)
            for name, facts in self.pods.facts().items():
                if facts.running and not facts.terminating and name not in self.joined:
                    self._join(name)
            await asyncio.sleep(0.01)

    def _kubelet(self, twin: KubernetesTwin) -> None:
        for name, pod in twin.pods().items():
            if pod["metadata"].get("deletionTimestamp"):
                twin.remove("pods", name)
            elif self.lost_node and "affinity" not in pod["spec"]:
                # The cluster does not know yet that it is lost.
                if "nodeName" not in pod["spec"]:
                    twin.update("pods", name, spec={**pod["spec"], "nodeName": self.lost_node})
            elif pod["status"] == {"phase": "Pending"}:
                refused = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
                taken = "nodeSelector" not in pod["spec"]
                status = {"phase": "Running"} if taken else {"phase": "Pending", "conditions": [refused]}
                twin.update("pods", name, status=status)

    def _join(self, name: str) -> None:
        outbox: Outbox[workers.WorkerInstruction] = Outbox()
        self.joined[name] = outbox

        async def obey(instructions: Sequence[workers.WorkerInstruction]) -> None:
            for each in instructions:
                match each.WhichOneof("instruction"):
                    case "start":
                        self.shell.feed(ev.EnvironmentReady(name, each.start.environment_id, 1))
                    case "stop":
                        self.shell.feed(ev.EnvironmentGone(name, each.stop.environment_id, "stopped"))
                    case "drain":
                        self.drained.append(name)

        hello = ev.WorkerJoined(name, f"unix:{name}", self.pool.memory_mb, self.pool.environments, (), "default")
        self.shell.worker_joined(hello, outbox)
        self.tasks.start(f"worker-{name}", outbox.run(obey))

    def want(self, number: int) -> None:
        """An environment for one invocation; a function each, so that none is warm for another."""
        name = f"f{number}"
        need = ev.Need(TENANT, name, "$LATEST", name, 1, 128, "default")
        self.shell.feed(ev.EnvironmentWanted(ev.Ticket("c", number), f"r{number}", need, b"d"))

    def granted(self) -> list[leases.LeaseGranted]:
        return [event.granted for event in self.told if event.HasField("granted")]

    def revoked(self) -> list[tuple[int, str]]:
        return [(e.revoked.lease_id, e.revoked.reason) for e in self.told if e.HasField("revoked")]

    def release_all(self) -> None:
        for granted in self.granted():
            self.shell.feed(ev.LeaseReleased("c", granted.lease_id, reusable=True))

    async def close(self) -> None:
        await self.fleet.close()
        await self.tasks.close()
        self.shell.step_down()


async def until(what: Callable[[], bool], seconds: float = 60.0) -> None:
    for _ in range(int(seconds * 100)):
        if what():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it has not come about")


Staging = Callable[[PoolFile], AbstractAsyncContextManager[Stage]]


@pytest.fixture(
    params=["twin", pytest.param("cluster", marks=pytest.mark.skipif(bool(real_cluster()), reason=real_cluster()))]
)
def stage(request: pytest.FixtureRequest) -> Staging:
    """Sets the stage for a pool."""

    @asynccontextmanager
    async def setting(pool: PoolFile) -> AsyncIterator[Stage]:
        if request.param == "twin":
            with KubernetesTwin() as twin:
                api = twin.api(1.0)
                async with playing(Stage(api, twin, pool)) as playing_stage:
                    yield playing_stage
                api.close()
        else:
            with namespace() as api:
                async with playing(Stage(api, None, pool)) as playing_stage:
                    yield playing_stage

    return setting


@asynccontextmanager
async def playing(stage: Stage) -> AsyncIterator[Stage]:
    stage.begin()
    try:
        yield stage
    finally:
        await stage.close()


@pytest.fixture
def twin_stage() -> Staging:
    """Where faults can be made that a real cluster has at no one's wish."""

    @asynccontextmanager
    async def setting(pool: PoolFile) -> AsyncIterator[Stage]:
        with KubernetesTwin() as twin:
            api = twin.api(0.5)
            async with playing(Stage(api, twin, pool)) as playing_stage:
                yield playing_stage
            api.close()

    return setting


async def test_workers_come_with_need_and_go_after_it(stage: Staging) -> None:
    async with stage(pool(scale_to_zero=True)) as at:
        await until(lambda: at.pods.synced)
        assert at.pods.facts() == {}
        for number in range(5):
            at.want(number)
        await until(lambda: len(at.granted()) == 5)
        assert len(at.pods.facts()) == 3
        [one, *_] = (await at.api.get(PODS))["items"]
        labels = one["metadata"]["labels"]
        assert one["metadata"]["name"] in at.joined
        assert (labels["lambent.dev/pool"], labels["team"]) == ("default", "functions")
        at.release_all()
        await until(lambda: at.pods.facts() == {})
        # Each was told to drain before its pod was removed.
        assert sorted(at.drained) == sorted(at.joined)


async def test_a_worker_that_runs_something_stays(stage: Staging) -> None:
    async with stage(pool(scale_to_zero=True)) as at:
        for number in range(4):
            at.want(number)
        await until(lambda: len(at.granted()) == 4)
        kept, *rest = at.granted()
        for each in rest:
            at.shell.feed(ev.LeaseReleased("c", each.lease_id, reusable=True))
        await until(lambda: list(at.pods.facts()) == [kept.worker_id])
        assert not at.revoked()


async def test_a_lost_pod_is_told_to_callers_and_replaced_at_once(stage: Staging) -> None:
    async with stage(pool(min=1)) as at:
        at.want(1)
        await until(lambda: len(at.granted()) == 1)
        [lost] = at.granted()
        # Somebody removes it behind the scheduler's back; the grace of a lost worker is half a minute.
        await at.api.delete(f"{PODS}/{lost.worker_id}", {"gracePeriodSeconds": 0})
        await until(lambda: (lost.lease_id, "WorkerLost") in at.revoked(), 20.0)
        at.want(2)
        await until(lambda: len(at.granted()) == 2)
        assert at.granted()[1].worker_id != lost.worker_id


async def test_a_quota_is_the_reason_that_provisioned_concurrency_is_told(stage: Staging) -> None:
    async with stage(pool()) as at:
        if at.twin is not None:
            at.twin.quota = 1
        else:
            quota = {"metadata": {"name": "small"}, "spec": {"hard": {"pods": "1"}}}
            await at.api.create("api/v1 resourcequotas", quota)
            for _ in range(200):
                if (await at.api.get("api/v1 resourcequotas/small")).get("status", {}).get("used"):
                    break
                await asyncio.sleep(0.05)
        need = ev.Need(TENANT, "f", "1", "f1", 1, 128, "default")
        part = ev.ProvisionedVersion(need, b"d", 4)
        wish = ev.ProvisionedConcurrency("f", "1", 4, 1, (part,))
        at.shell.feed(ev.SettingsTold("c", TENANT, 1, (), (wish,)))

        def reason() -> str:
            return at.shell.core.provision_statuses(TENANT, "f")[0].reason

        await until(lambda: "exceeded quota in pool default" in reason())
        assert reason().startswith("InsufficientCapacity: ")
        [status] = at.shell.core.provision_statuses(TENANT, "f")
        assert (status.status, status.requested) == ("IN_PROGRESS", 4)
        if at.twin is not None:
            at.twin.quota = None
        else:
            await at.api.delete("api/v1 resourcequotas/small")
        await until(lambda: at.shell.core.provision_statuses(TENANT, "f")[0].status == "READY")
        await until(lambda: at.shell.core.troubles == {})


async def test_a_pod_that_no_node_takes_is_told_as_a_reason(stage: Staging) -> None:
    nowhere = {**TEMPLATE, "spec": {**TEMPLATE["spec"], "nodeSelector": {"moon": "dark"}}}
    async with stage(pool(template=nowhere)) as at:
        at.want(1)
        await until(lambda: "Unschedulable: 0/" in at.shell.core.troubles.get("default", ""))
        assert len(at.pods.facts()) == 1, "no more are made while one is not taken"


async def test_a_pod_on_a_node_that_is_lost_is_no_room_and_the_next_is_put_elsewhere(
    twin_stage: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roster, "TAKEN_SECONDS", 0.3)
    async with twin_stage(pool()) as at:
        assert at.twin is not None
        at.lost_node = "n1"
        at.want(1)
        await until(lambda: len(at.granted()) == 1)
        [(name, pod)] = at.twin.pods().items()
        assert name in at.joined
        [wish] = pod["spec"]["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
        assert wish["preference"] == {"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["n1"]}]}


async def test_a_watch_that_is_too_old_begins_again_and_misses_nothing(twin_stage: Staging) -> None:
    async with twin_stage(pool(min=2)) as at:
        assert at.twin is not None
        await until(lambda: len(at.joined) == 2)
        [lost, kept] = sorted(at.joined)
        at.twin.away = True
        at.twin.break_watches()
        at.twin.remove("pods", lost)
        at.twin.forget_history()
        at.twin.away = False
        await until(lambda: lost not in at.shell.core.workers)
        await until(lambda: len(at.joined) == 3)
        assert kept in at.shell.core.workers


async def test_an_api_that_is_away_disturbs_nothing_and_is_made_good_for_afterwards(twin_stage: Staging) -> None:
    async with twin_stage(pool(min=1)) as at:
        assert at.twin is not None
        at.want(1)
        await until(lambda: len(at.granted()) == 1)
        at.twin.away = True
        at.twin.break_watches()
        for number in (2, 3):
            at.want(number)
        await until(lambda: len(at.granted()) == 2)  # on the worker that is there
        await until(lambda: "cannot be reached" in at.shell.core.troubles.get("default", ""))
        assert not at.revoked()
        at.twin.away = False
        await until(lambda: len(at.granted()) == 3)


async def test_a_scheduler_as_it_is_configured_leads_by_a_lease_and_makes_its_workers(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (short_tmp / "pools").mkdir()
    (short_tmp / "pools" / "default.json").write_bytes(msgspec.json.encode(pool(min=2)))
    with KubernetesTwin() as twin:
        (short_tmp / "kubeconfig").write_text(twin.kubeconfig())
        # The library has read where it looks for it when it was imported.
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(short_tmp / "kubeconfig"))
        owner = {"metadata": {"name": "test-pools"}}
        api = twin.api()
        uid = (await api.create("api/v1 configmaps", owner))["metadata"]["uid"]
        ours = Kubernetes(
            election=True, lease="one", release="test", owner="test-pools", pools=str(short_tmp / "pools")
        )
        layout(str(short_tmp)).make()
        service = make(Settings(cluster=Cluster(data=str(short_tmp)), kubernetes=ours))
        await service.start()
        try:
            await until(lambda: len(twin.pods()) == 2)
            assert (await api.get(f"{LEASES}/one"))["spec"]["holderIdentity"]
            for name, made in twin.pods().items():
                assert name.startswith("test-worker-default-")
                assert made["metadata"]["ownerReferences"][0]["uid"] == uid
        finally:
            await service.stop()
        assert (await api.get(f"{LEASES}/one"))["spec"]["holderIdentity"] == "", "given back, for another to begin"
        assert len(twin.pods()) == 2, "what runs there goes on"
        api.close()


async def test_workers_of_an_old_template_are_replaced_without_ending_what_runs(twin_stage: Staging) -> None:
    async with twin_stage(pool(min=1, max=1)) as at:
        assert at.twin is not None
        at.want(1)
        await until(lambda: len(at.granted()) == 1)
        [old] = at.joined
        renamed = at.twin.pods()[old]["metadata"]
        at.twin.update("pods", old, metadata={**renamed, "labels": {**renamed["labels"], "lambent.dev/template": "x"}})
        await until(lambda: at.drained == [old])
        assert len(at.joined) == 2, "another was there first"
        at.want(2)
        await until(lambda: len(at.granted()) == 2)
        assert at.granted()[1].worker_id != old
        assert old in at.pods.facts()
        assert not at.revoked()
        at.release_all()
        await until(lambda: old not in at.pods.facts())
