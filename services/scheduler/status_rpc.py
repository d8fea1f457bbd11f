"""What the scheduler tells of itself, by unary calls: where provisioned concurrency stands, why it decided what it did,
what is in use."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import grpc

from lambent.domain.clock import Clock
from lambent.domain.names import Tenant
from lambent.infra import rpc
from lambent.internal.v1 import scheduler_service_pb2 as pb
from lambent.internal.v1 import scheduler_service_pb2_grpc as pb_grpc
from services.scheduler.core.machine import Scheduler
from services.scheduler.core.placement import Worker
from services.scheduler.rpc import require_leading
from services.scheduler.shell import Shell

Context = grpc.aio.ServicerContext[Any, Any]


def _crew(worker: Worker) -> tuple[str, str]:
    return worker.pool, worker.isolation


class SchedulerStatus(pb_grpc.SchedulerServiceServicer):
    """Serves lambent.internal.v1.SchedulerService."""

    def __init__(self, shell: Shell, token: str, clock: Clock) -> None:
        """`token`: the cluster's shared secret."""
        self._shell = shell
        self._token = token
        self._clock = clock

    async def _core(self, context: Context) -> Scheduler:
        """The core, for whoever knows the token, while this scheduler leads."""
        await rpc.require_token(context, self._token)
        await require_leading(context, self._shell)
        return self._shell.core

    async def DescribeProvisioned(
        self, request: pb.DescribeProvisionedRequest, context: Context
    ) -> pb.DescribeProvisionedResponse:
        """Every provisioned concurrency configuration of a tenant, or of one function."""
        core = await self._core(context)
        statuses = core.provision_statuses(Tenant(request.account, request.region), request.function_name or None)
        return pb.DescribeProvisionedResponse(
            statuses=[
                pb.ProvisionedStatus(
                    function_name=status.function_name,
                    qualifier=status.qualifier,
                    requested=status.requested,
                    allocated=status.allocated,
                    available=status.available,
                    status=status.status,
                    status_reason=status.reason,
                )
                for status in statuses
            ]
        )

    async def Explain(self, request: pb.ExplainRequest, context: Context) -> pb.ExplainResponse:
        """The decision about a request, or the last ones about a function."""
        core = await self._core(context)
        tenant = Tenant(request.account, request.region)
        if request.request_id:
            found = core.journal.of_request(tenant, request.request_id)
            decisions = [] if found is None else [found]
        else:
            decisions = core.journal.of_function(tenant, request.function_name)
        now = self._clock.monotonic()
        return pb.ExplainResponse(
            decisions=[
                pb.Decision(
                    age_seconds=now - decision.at,
                    request_id=decision.request_id,
                    function_name=decision.function_name,
                    version=decision.version,
                    outcome=decision.outcome,
                    reason=decision.reason,
                    because=decision.because,
                    numbers=[pb.Number(name=name, value=value) for name, value in decision.numbers],
                )
                for decision in decisions
            ]
        )

    async def DescribeUse(self, request: pb.DescribeUseRequest, context: Context) -> pb.DescribeUseResponse:
        """A tenant's concurrency by function."""
        core = await self._core(context)
        tenant = Tenant(request.account, request.region)
        account = core.ledger.account(tenant)
        workers = [worker for worker in core.workers.values() if worker.connected]
        answer = pb.DescribeUseResponse(
            limit=account.limit,
            unreserved=account.unreserved,
            on_demand=account.executions,
            provisioned=sum(function.allocated for function in account.functions.values()),
            workers=len(workers),
            free_mb=sum(worker.memory_mb - worker.used_mb for worker in workers),
        )
        crews = groupby(sorted(workers, key=_crew), key=_crew)
        for (pool, isolation), crew in crews:
            members = list(crew)
            answer.crews.add(
                pool=pool, isolation=isolation, workers=len(members),
                free_mb=sum(worker.memory_mb - worker.used_mb for worker in members),
            )  # fmt: skip
        for name, function in sorted(account.functions.items()):
            pools = function.pools.values()
            answer.functions.add(
                function_name=name,
                reserved=function.reserved,
                on_demand=function.on_demand,
                provisioned_requested=function.requested,
                provisioned_allocated=function.allocated,
                leased=sum(pool.leased for pool in pools),
                idle=sum(len(pool.idle) + len(pool.ready) for pool in pools),
                starting=sum(len(pool.starting) for pool in pools),
                waiting=sum(len(pool.waiting) for pool in pools),
                contending=sum(len(pool.contended) for pool in pools),
            )
        return answer
