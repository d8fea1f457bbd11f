"""InsightService: what the scheduler does and why."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from lambent.domain.clock import Clock
from lambent.domain.errors import AwsError, invalid_parameter
from lambent.domain.names import parse
from lambent.internal.v1 import scheduler_service_pb2 as internal
from lambent.v1 import insight_service_pb2 as pb
from services.frontend.scheduler_calls import SchedulerCalls
from services.frontend.transport.call import Call


class InsightOperations:
    """The operations of lambent.v1.InsightService."""

    def __init__(self, calls: SchedulerCalls, clock: Clock) -> None:
        self._calls = calls
        self._clock = clock

    async def explain(self, request: pb.ExplainRequest, call: Call) -> pb.ExplainResponse:
        """The decision about one request, or the last ones about one function."""
        if request.HasField("request_id") == request.HasField("function_name"):
            raise invalid_parameter("Give either RequestId or FunctionName.")
        tenant = call.tenant
        question = internal.ExplainRequest(account=tenant.account, region=tenant.region)
        if request.HasField("request_id"):
            question.request_id = request.request_id
        else:
            question.function_name = parse(request.function_name, None, tenant).name
        answer = await self._calls.ask(
            lambda stub, metadata, timeout: stub.Explain(question, metadata=metadata, timeout=timeout)
        )
        if answer is None:
            raise _away()
        if request.HasField("request_id") and not answer.decisions:
            raise AwsError(
                "ResourceNotFoundException",
                f"Nothing was decided about request {request.request_id}, or it is too long ago: it ran on an "
                "environment that was there for it.",
            )
        now = self._clock.epoch()
        return pb.ExplainResponse(decisions=[_decision(each, now) for each in answer.decisions])

    async def get_concurrency_use(
        self, request: pb.GetConcurrencyUseRequest, call: Call
    ) -> pb.GetConcurrencyUseResponse:
        """What is in use at this instant."""
        account, region = call.tenant.account, call.tenant.region
        use = await self._calls.ask(
            lambda stub, metadata, timeout: stub.DescribeUse(
                internal.DescribeUseRequest(account=account, region=region), metadata=metadata, timeout=timeout
            )
        )
        provisioned = await self._calls.ask(
            lambda stub, metadata, timeout: stub.DescribeProvisioned(
                internal.DescribeProvisionedRequest(account=account, region=region), metadata=metadata, timeout=timeout
            )
        )
        if use is None or provisioned is None:
            raise _away()
        return pb.GetConcurrencyUseResponse(
            limit=use.limit,
            unreserved=use.unreserved,
            on_demand=use.on_demand,
            provisioned=use.provisioned,
            workers=use.workers,
            free_memory_mb=use.free_mb,
            functions=[_function(each) for each in use.functions],
            worker_pools=[
                pb.WorkerPoolUse(
                    pool=each.pool, isolation=each.isolation, workers=each.workers, free_memory_mb=each.free_mb
                )
                for each in use.crews
            ],
            provisioned_configs=[
                pb.ProvisionedUse(
                    function_name=each.function_name,
                    qualifier=each.qualifier,
                    requested=each.requested,
                    allocated=each.allocated,
                    available=each.available,
                    status=each.status,
                    status_reason=each.status_reason or None,
                )
                for each in provisioned.statuses
            ],
        )


def _decision(decision: internal.Decision, now: float) -> pb.Decision:
    time = Timestamp()
    time.FromMilliseconds(int((now - decision.age_seconds) * 1000))
    return pb.Decision(
        time=time,
        request_id=decision.request_id,
        function_name=decision.function_name,
        version=decision.version,
        outcome=decision.outcome,
        reason=decision.reason,
        because=decision.because or None,
        numbers=[pb.DecisionNumber(name=each.name, value=each.value) for each in decision.numbers],
    )


def _function(use: internal.FunctionUse) -> pb.FunctionConcurrencyUse:
    return pb.FunctionConcurrencyUse(
        function_name=use.function_name,
        reserved=use.reserved if use.HasField("reserved") else None,
        on_demand=use.on_demand,
        leased=use.leased,
        idle=use.idle,
        starting=use.starting,
        waiting=use.waiting,
        contending=use.contending,
    )


def _away() -> AwsError:
    return AwsError("ServiceUnavailableException", "No scheduler leads at the moment; try again shortly.")
