"""Where provisioned concurrency stands, as the scheduler says."""

from __future__ import annotations

import logging
from typing import Protocol

import grpc

from lambent.domain.names import Tenant
from lambent.infra import rpc
from lambent.internal.v1 import scheduler_service_pb2 as pb
from lambent.internal.v1 import scheduler_service_pb2_grpc as pb_grpc

_log = logging.getLogger(__name__)

# How long a scheduler may take to answer before it counts as away.
ANSWER_SECONDS = 1.0


class ProvisionedStatuses(Protocol):
    """Whoever knows."""

    async def describe(self, tenant: Tenant, function_name: str) -> list[pb.ProvisionedStatus]:
        """Of one function's versions and aliases; empty while the scheduler is away."""
        ...


class SchedulerStatuses:
    """Asks the scheduler."""

    def __init__(self, address: str, token: str) -> None:
        """`address`: of the schedulers, separated by commas. `token`: the cluster's shared secret."""
        self._schedulers = rpc.Candidates(address)
        self._metadata = (("authorization", f"Bearer {token}"),)

    async def describe(self, tenant: Tenant, function_name: str) -> list[pb.ProvisionedStatus]:
        request = pb.DescribeProvisionedRequest(
            account=tenant.account, region=tenant.region, function_name=function_name
        )
        for _ in self._schedulers.addresses:
            stub: pb_grpc.SchedulerServiceAsyncStub = pb_grpc.SchedulerServiceStub(self._schedulers.channel())
            try:
                answer = await stub.DescribeProvisioned(request, metadata=self._metadata, timeout=ANSWER_SECONDS)
            except grpc.RpcError as error:
                _log.debug("a scheduler said nothing of provisioned concurrency", extra={"reason": str(error)})
                self._schedulers.next()
            else:
                return list(answer.statuses)
        return []

    async def close(self) -> None:
        """Hang up."""
        await self._schedulers.close()
