"""Where provisioned concurrency stands, as the scheduler says."""

from __future__ import annotations

from typing import Protocol

from lambent.domain.names import Tenant
from lambent.internal.v1 import scheduler_service_pb2 as pb
from services.frontend.scheduler_calls import SchedulerCalls


class ProvisionedStatuses(Protocol):
    """Whoever knows."""

    async def describe(self, tenant: Tenant, function_name: str) -> list[pb.ProvisionedStatus]:
        """Of one function's versions and aliases; empty while the scheduler is away."""
        ...


class SchedulerStatuses:
    """Asks the scheduler."""

    def __init__(self, calls: SchedulerCalls) -> None:
        self._calls = calls

    async def describe(self, tenant: Tenant, function_name: str) -> list[pb.ProvisionedStatus]:
        request = pb.DescribeProvisionedRequest(
            account=tenant.account, region=tenant.region, function_name=function_name
        )
        answer = await self._calls.ask(
            lambda stub, metadata, timeout: stub.DescribeProvisioned(request, metadata=metadata, timeout=timeout)
        )
        return [] if answer is None else list(answer.statuses)
