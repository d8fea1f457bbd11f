"""What the scheduler tells of itself, by unary calls: where provisioned concurrency stands."""

from __future__ import annotations

from typing import Any

import grpc

from lambent.domain.names import Tenant
from lambent.internal.v1 import scheduler_service_pb2 as pb
from lambent.internal.v1 import scheduler_service_pb2_grpc as pb_grpc
from services.scheduler.rpc import require_leading, require_token
from services.scheduler.shell import Shell

Context = grpc.aio.ServicerContext[Any, Any]


class SchedulerStatus(pb_grpc.SchedulerServiceServicer):
    """Serves lambent.internal.v1.SchedulerService."""

    def __init__(self, shell: Shell, token: str) -> None:
        """`token`: the cluster's shared secret."""
        self._shell = shell
        self._token = token

    async def DescribeProvisioned(
        self, request: pb.DescribeProvisionedRequest, context: Context
    ) -> pb.DescribeProvisionedResponse:
        """Every provisioned concurrency configuration of a tenant, or of one function."""
        await require_token(context, self._token)
        await require_leading(context, self._shell)
        statuses = self._shell.core.provision_statuses(
            Tenant(request.account, request.region), request.function_name or None
        )
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
