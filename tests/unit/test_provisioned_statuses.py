"""What is told of provisioned concurrency: the scheduler's word where it has one, else that it has just begun."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lambent.domain.concurrency import ConcurrencyState, Provisioned
from lambent.domain.limits import Limits
from lambent.domain.names import Tenant
from lambent.domain.principals import Principal
from lambent.infra import rpc
from lambent.infra.clock import SystemClock, SystemIds
from lambent.infra.functions.concurrency_settings import SettingsLink
from lambent.infra.functions.directory import FunctionDirectory
from lambent.infra.functions.memory_store import MemoryFunctionStore
from lambent.infra.functions.port import NOBODY, Edit
from lambent.infra.secrets import SecretBox
from lambent.internal.v1 import scheduler_service_pb2 as pb
from lambent.internal.v1 import scheduler_service_pb2_grpc as pb_grpc
from lambent.v1 import concurrency_service_pb2 as api
from services.frontend.operations.concurrency import ConcurrencyOperations
from services.frontend.operations.editing import Editor
from services.frontend.operations.provisioner import Provisioner
from services.frontend.provisioned_statuses import SchedulerStatuses
from services.frontend.scheduler_calls import SchedulerCalls
from services.frontend.transport.call import Call
from tests.records import ONE, alias, record, version

CALL = Call("r", ONE, Principal("k", ONE.account, "arn"), "rest")
FAILED = pb.ProvisionedStatus(
    function_name="f", qualifier="live", requested=5, allocated=1, available=1, status="FAILED",
    status_reason="FUNCTION_ERROR_INIT_FAILURE",
)  # fmt: skip


class Statuses:
    """Says what it was given."""

    def __init__(self, *statuses: pb.ProvisionedStatus) -> None:
        self.statuses = list(statuses)

    async def describe(self, tenant: Tenant, function_name: str) -> list[pb.ProvisionedStatus]:
        assert (tenant, function_name) == (ONE, "f")
        return self.statuses


async def operations(statuses: Statuses) -> ConcurrencyOperations:
    """Over function f, whose alias `live` has 5 provisioned and whose version 1 has 3."""
    store, limits, secrets = MemoryFunctionStore(), Limits(), SecretBox(b"k" * 32)
    await store.create(record(), "s1", version("1"), 1000)
    settings = ConcurrencyState(2, {}, {"f": {"live": Provisioned(5, 1, 0.0), "1": Provisioned(3, 2, 86400.0)}})
    edit = Edit(
        ONE, "f", NOBODY, versions={"2": version("2")}, aliases={"live": alias("live", "2")}, settings=settings
    )  # fmt: skip
    await store.change(edit, 1000)
    link = SettingsLink(store, secrets, None)
    editor = Editor(store, FunctionDirectory(store, secrets, None), link, limits, SystemIds())
    provisioner = Provisioner(editor, limits, SystemClock())
    return ConcurrencyOperations(store=store, editor=editor, provisioner=provisioner, statuses=statuses, limits=limits)


def shown(message: Any) -> tuple[int, int, int, str, str]:
    return (
        message.requested_provisioned_concurrent_executions, message.allocated_provisioned_concurrent_executions,
        message.available_provisioned_concurrent_executions, message.status, message.status_reason,
    )  # fmt: skip


async def get(statuses: Statuses) -> tuple[int, int, int, str, str]:
    request = api.GetProvisionedConcurrencyConfigRequest(function_name="f", qualifier="live")
    return shown(await (await operations(statuses)).get_provisioned_concurrency_config(request, CALL))


async def test_the_schedulers_numbers_are_shown() -> None:
    assert await get(Statuses(FAILED)) == (5, 1, 1, "FAILED", "FUNCTION_ERROR_INIT_FAILURE")


@pytest.mark.parametrize(
    "statuses", [[], [pb.ProvisionedStatus(qualifier="live", requested=4, allocated=4, status="READY")]]
)
async def test_what_it_has_not_heard_of_has_just_begun(statuses: list[pb.ProvisionedStatus]) -> None:
    assert await get(Statuses(*statuses)) == (5, 0, 0, "IN_PROGRESS", "")


async def test_a_list_has_every_configuration_with_its_status() -> None:
    request = api.ListProvisionedConcurrencyConfigsRequest(function_name="f")
    answer = await (await operations(Statuses(FAILED))).list_provisioned_concurrency_configs(request, CALL)
    found = answer.provisioned_concurrency_configs
    assert [(each.function_arn.rpartition(":")[2], *shown(each)) for each in found] == [
        ("1", 3, 0, 0, "IN_PROGRESS", ""), ("live", 5, 1, 1, "FAILED", "FUNCTION_ERROR_INIT_FAILURE"),
    ]  # fmt: skip
    assert found[0].last_modified == "1970-01-02T00:00:00+0000"


class Scheduler(pb_grpc.SchedulerServiceServicer):
    """Answers whoever has the token."""

    async def DescribeProvisioned(
        self, request: pb.DescribeProvisionedRequest, context: Any
    ) -> pb.DescribeProvisionedResponse:
        assert dict(context.invocation_metadata())["authorization"] == "Bearer token"
        assert (request.account, request.region, request.function_name) == (ONE.account, ONE.region, "f")
        return pb.DescribeProvisionedResponse(statuses=[FAILED])

    async def Explain(self, request: pb.ExplainRequest, context: Any) -> pb.ExplainResponse:
        raise AssertionError("nobody asks for this")

    async def DescribeUse(self, request: pb.DescribeUseRequest, context: Any) -> pb.DescribeUseResponse:
        raise AssertionError("nobody asks for this")


@pytest.mark.parametrize("serving", [True, False])
async def test_the_scheduler_is_asked_and_may_be_away(short_tmp: Path, serving: bool) -> None:
    address = f"unix:{short_tmp}/scheduler.sock"
    server = rpc.server()
    if serving:
        pb_grpc.add_SchedulerServiceServicer_to_server(Scheduler(), server)
        server.add_insecure_port(address)
        await server.start()
    calls = SchedulerCalls(address, "token")
    statuses = SchedulerStatuses(calls)
    assert await statuses.describe(ONE, "f") == ([FAILED] if serving else [])
    await calls.close()
    await server.stop(None)
