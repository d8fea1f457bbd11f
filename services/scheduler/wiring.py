"""The scheduler's compose root."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from redis.asyncio import Redis

from lambent.domain.clock import Ids
from lambent.infra import rpc
from lambent.infra.certificates import certificates
from lambent.infra.clock import SystemClock, SystemIds
from lambent.infra.layout import layout
from lambent.infra.lifecycle import Service, StartError
from lambent.infra.operations_port import OperationsPort, port_after
from lambent.infra.redis_client import connect
from lambent.infra.settings import Settings
from lambent.infra.tasks import TaskOwner
from lambent.infra.telemetry import Reading, Telemetry, by_reason
from lambent.internal.v1 import lease_service_pb2_grpc, scheduler_service_pb2_grpc, worker_service_pb2_grpc
from services.scheduler.adapters.pool_files import PoolError, PoolFile, read_pools
from services.scheduler.adapters.redis_election import RedisElection
from services.scheduler.autoscaler import Autoscaler
from services.scheduler.core.break_even import BreakEven
from services.scheduler.core.hybrid_histogram import HybridHistogram
from services.scheduler.core.machine import Scheduler
from services.scheduler.core.placement import POLICIES, Worker
from services.scheduler.core.policies import Policies, keep_alive_policies, ramps
from services.scheduler.fleet import FleetKeeper
from services.scheduler.leadership import Alone, Election, Leadership
from services.scheduler.rpc import LeaseService, WorkerService
from services.scheduler.shell import Shell
from services.scheduler.status_rpc import SchedulerStatus

if TYPE_CHECKING:
    from services.scheduler.adapters.kubernetes_api import KubernetesApi

# How long the Kubernetes API may take to answer.
ANSWER_SECONDS = 5.0


def make(settings: Settings) -> Service:
    """The service."""
    return SchedulerService(settings)


def policies_of(settings: Settings) -> Policies:
    """The core's numbers and named choices."""
    timing, limits, chosen = settings.timing, settings.limits, settings.scheduling
    named = ramps(
        burst=limits.scaling_environments,
        per_second=limits.scaling_per_second,
        provisioned_per_minute=limits.provisioned_per_minute,
        regional_burst=limits.regional_burst,
        regional_per_minute=limits.regional_per_minute,
    )
    histogram = HybridHistogram(
        head=chosen.histogram_head_percent / 100,
        tail=min(1.0, chosen.histogram_tail_percent / 100),
        margin=chosen.histogram_margin_percent / 100,
        samples=chosen.histogram_samples,
        variation=chosen.histogram_variation,
    )
    keep_alives = keep_alive_policies(histogram, BreakEven(chosen.cold_start_price))
    return Policies(
        concurrent_executions=limits.concurrent_executions,
        keep_alive=timing.keep_alive_seconds,
        lease=timing.lease_seconds,
        worker_grace=timing.worker_grace_seconds,
        rebuild=timing.rebuild_seconds,
        capacity_wait=timing.capacity_wait_seconds,
        retry_after=limits.throttle_retry_after_seconds,
        placement=POLICIES[chosen.placement],
        ramp=named[chosen.ramp],
        keep_alive_policy=keep_alives[chosen.keep_alive_policy],
        requests_per_execution=limits.requests_per_execution,
        serve_when_complete=chosen.provisioned_serves == "complete",
        async_share=settings.queue.share,
        recycle=chosen.recycle_seconds,
    )


def pools_of(settings: Settings) -> Mapping[str, PoolFile]:
    """The pools of workers that are configured, by name. Raises StartError."""
    if not settings.kubernetes.pools:
        return {}
    try:
        return read_pools(Path(settings.kubernetes.pools))
    except PoolError as error:
        raise StartError(str(error)) from None


def kubernetes_api(settings: Settings) -> KubernetesApi:
    """The Kubernetes API. Raises StartError. Its client is imported here alone: it takes as much memory as all the rest
    of a scheduler."""
    from services.scheduler.adapters import kubernetes_api as adapter

    try:
        return adapter.connect(settings.kubernetes.namespace, ANSWER_SECONDS)
    except adapter.ClusterUnreachable as error:
        raise StartError(f"{error}; see [kubernetes] in `lambent config`") from error


def _state(worker: Worker) -> str:
    if not worker.connected:
        return "away"
    return "draining" if worker.draining else "joined"


class SchedulerService:
    """One scheduler."""

    def __init__(self, settings: Settings) -> None:
        timing = settings.timing
        clock, ids = SystemClock(), SystemIds()
        policies = policies_of(settings)

        def make_core(term: int) -> Scheduler:
            # Terms are milliseconds: a million leases in each before the numbers of two leaders could meet.
            return Scheduler(policies, ids, first_lease_id=term << 20, now=clock.monotonic())

        self._shell = Shell(make_core, clock, hold_off=timing.recall_hold_off_seconds)
        here = layout(settings.cluster.data)
        token = here.cluster_token()
        self._autoscaler = Autoscaler(self._shell, clock, ids, timing.alarm_period_seconds)
        addresses = settings.internal.scheduler or here.scheduler_addresses(settings.cluster.schedulers)
        self._address = settings.internal.scheduler_listen or addresses.partition(",")[0]
        self._server: grpc.aio.Server | None = None
        self._clock = clock
        scheduler_id = ids.token(8)
        self._tasks = TaskOwner("scheduler")
        self._redis: Redis | None = None
        self._leadership: Leadership | None = None
        self._kubernetes: KubernetesApi | None = None
        seconds = timing.leadership_seconds
        election: Election | None = None
        if settings.kubernetes.election:
            from services.scheduler.adapters.kubernetes_election import LeaseElection

            name = f"{platform.node() or 'scheduler'}_{scheduler_id}"
            api, advertised = self._cluster(settings), settings.internal.scheduler_advertise
            election = LeaseElection(api, settings.kubernetes.lease, name, seconds, clock, address=advertised)
        elif "," in addresses or settings.cluster.schedulers > 1:
            self._redis = connect(settings.cluster.redis_url)
            election = RedisElection(self._redis, f"scheduler-{scheduler_id}", seconds)
        if election is not None:
            self._leadership = Leadership(election, clock, seconds, self._lead, self._step_down)
        pools = pools_of(settings)
        made = {name: pool for name, pool in pools.items() if pool.template}
        self._fleet = self._fleet_of(settings, made, ids) if made else None
        rules = {name: pool.matches() for name, pool in pools.items()}
        self._leases = LeaseService(self._shell, self._autoscaler, token, scheduler_id, timing.lease_seconds, rules)
        self._workers = WorkerService(self._shell, token, scheduler_id, rules)
        self._status = SchedulerStatus(self._shell, token, clock)
        self._telemetry = Telemetry(
            "scheduler",
            otlp_endpoint=settings.telemetry.otlp_endpoint,
            prometheus=bool(settings.telemetry.prometheus),
            instance=scheduler_id,
        )
        self._telemetry.observe("lambent.decisions", lambda: by_reason(self._shell.decisions, "reason"))
        self._telemetry.observe("lambent.environments", self._environments)
        self._telemetry.observe("lambent.workers", self._crews)
        # One that stands by does its part, too.
        self._operations = OperationsPort(port_after(settings.telemetry.prometheus, 1), clock, lambda: None)
        self._certificates = certificates(settings.internal.tls)

    def _cluster(self, settings: Settings) -> KubernetesApi:
        """The Kubernetes API; one for all that use it."""
        if self._kubernetes is None:
            self._kubernetes = kubernetes_api(settings)
        return self._kubernetes

    def _fleet_of(self, settings: Settings, pools: Mapping[str, PoolFile], ids: Ids) -> FleetKeeper:
        from services.scheduler.adapters.kubernetes_pods import KubernetesPods

        release = settings.kubernetes.release
        pods = KubernetesPods(self._cluster(settings), release, settings.kubernetes.owner, pools)
        policies = [pool.policy() for pool in pools.values()]
        return FleetKeeper(self._shell, pods, policies, release, self._clock, ids)

    async def start(self) -> Mapping[str, str]:
        """Listen."""
        self._server = rpc.server()
        lease_service_pb2_grpc.add_LeaseServiceServicer_to_server(self._leases, self._server)
        scheduler_service_pb2_grpc.add_SchedulerServiceServicer_to_server(self._status, self._server)
        worker_service_pb2_grpc.add_WorkerServiceServicer_to_server(self._workers, self._server)
        try:
            rpc.listen(self._server, self._address, self._certificates)
        except RuntimeError as error:
            raise StartError(f"cannot listen on {self._address}: is another scheduler running there?") from error
        await self._server.start()
        if self._fleet is not None:
            self._fleet.start()
        if self._leadership is None:
            self._shell.leading = Alone()
            # A scheduler without standby needs nobody to count its terms.
            self._lead(int(self._clock.epoch() * 1000))
        else:
            self._shell.leading = self._leadership
            self._tasks.start("leadership", self._leadership.run())
        await self._operations.start()
        return {"address": self._address}

    async def stop(self) -> None:
        """Hang up; callers and workers go on with what they hold."""
        if self._leadership is not None:
            await self._leadership.resign()
        await self._tasks.close()
        self._step_down()
        if self._fleet is not None:
            await self._fleet.close()
        if self._redis is not None:
            await self._redis.aclose()
        if self._kubernetes is not None:
            self._kubernetes.close()
        if self._server is not None:
            await self._server.stop(grace=0.5)
        await self._operations.close()
        self._telemetry.close()

    def _lead(self, term: int) -> None:
        self._shell.lead(term)
        self._autoscaler.lead()
        if self._fleet is not None:
            self._fleet.lead()

    def _step_down(self) -> None:
        if self._fleet is not None:
            self._fleet.step_down()
        self._autoscaler.step_down()
        self._shell.step_down()

    def _crews(self) -> list[Reading]:
        if not self._shell.leads:
            return []
        workers = self._shell.core.workers.values()
        counts = Counter((each.pool, each.isolation, _state(each)) for each in workers)
        return [
            ({"pool": pool, "isolation": isolation, "state": state}, count)
            for (pool, isolation, state), count in counts.items()
        ]

    def _environments(self) -> list[Reading]:
        if not self._shell.leads:
            return []
        states = Counter(str(environment.state) for environment in self._shell.core.environments.values())
        return [({"state": state}, count) for state, count in states.items()]
