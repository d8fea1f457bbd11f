"""The scheduler's two streams over real gRPC: who is let in, who is cut off, and that others are untouched."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from lambent.infra import rpc
from lambent.infra.clock import SystemClock, SystemIds
from lambent.infra.invoker.leases import LeaseStream
from lambent.infra.invoker.pool import LeasePool
from lambent.internal.v1 import lease_service_pb2 as leases
from lambent.internal.v1 import lease_service_pb2_grpc, worker_service_pb2_grpc
from lambent.internal.v1 import worker_service_pb2 as workers
from services.scheduler.autoscaler import Autoscaler
from services.scheduler.core.machine import Scheduler
from services.scheduler.core.policies import Policies
from services.scheduler.leadership import Alone
from services.scheduler.rpc import LeaseService, WorkerService
from services.scheduler.shell import Shell

TOKEN = "the cluster's secret"
POLICIES = Policies(
    concurrent_executions=10,
    keep_alive=10.0,
    lease=5.0,
    worker_grace=3.0,
    rebuild=0.0,
    capacity_wait=4.0,
    retry_after=1.0,
)


@pytest.fixture
async def scheduler(short_tmp: Path) -> AsyncIterator[tuple[Shell, str]]:
    clock = SystemClock()
    shell = Shell(
        lambda term: Scheduler(POLICIES, SystemIds(), first_lease_id=term << 20, now=clock.monotonic()),
        clock,
        hold_off=0.1,
    )
    autoscaler = Autoscaler(shell, clock, SystemIds(), 60.0)
    server = rpc.server()
    lease_service_pb2_grpc.add_LeaseServiceServicer_to_server(LeaseService(shell, autoscaler, TOKEN, "s1", 5.0), server)
    worker_service_pb2_grpc.add_WorkerServiceServicer_to_server(WorkerService(shell, TOKEN, "s1"), server)
    address = f"unix:{short_tmp}/s.sock"
    server.add_insecure_port(address)
    await server.start()
    shell.leading = Alone()
    shell.lead(1)
    yield shell, address
    shell.step_down()
    await server.stop(None)


def stub(channel: grpc.aio.Channel) -> Any:
    return lease_service_pb2_grpc.LeaseServiceStub(channel)


async def to_its_end(call: Any) -> None:
    """Read a stream until it ends; raises as it ended."""
    async for _ in call:
        pass


@pytest.mark.parametrize("metadata", [(), (("authorization", "Bearer wrong"),)], ids=["none", "wrong"])
async def test_who_does_not_know_the_token_is_not_let_in(scheduler: tuple[Shell, str], metadata: Any) -> None:
    async with rpc.channel(scheduler[1]) as channel:
        call = stub(channel).Hold(metadata=metadata)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await to_its_end(call)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def settings_of(item: leases.ReservedConcurrency | leases.ProvisionedConcurrency) -> leases.ConcurrencySettings:
    settings = leases.ConcurrencySettings(account="1" * 12, region="r", revision=1)
    if isinstance(item, leases.ReservedConcurrency):
        settings.reserved.append(item)
    else:
        settings.provisioned.append(item)
    return settings


@pytest.mark.parametrize(
    "nonsense",
    [
        leases.CallerEvent(),
        leases.CallerEvent(acquire=leases.Acquire(ticket=1)),
        leases.CallerEvent(hello=leases.CallerHello(caller_id="other")),
        leases.CallerEvent(settings=leases.ConcurrencySettings(account="1" * 12, region="r")),
        leases.CallerEvent(settings=settings_of(leases.ReservedConcurrency(function_name="f", executions=-1))),
        leases.CallerEvent(requests_wanted=leases.RequestsWanted(requests=5)),
        leases.CallerEvent(
            settings=settings_of(
                leases.ProvisionedConcurrency(
                    function_name="f",
                    qualifier="1",
                    requested=1,
                    versions=[
                        leases.ProvisionedVersion(
                            executions=1,
                            need=leases.Need(
                                account="2" * 12, region="r", function_name="f", deployment_id="d", memory_mb=128
                            ),
                        )
                    ],
                )
            )
        ),
    ],
    ids=[
        "empty",
        "no need",
        "second hello",
        "settings of no revision",
        "less than nothing reserved",
        "the rate of nobody",
        "another account's function provisioned",
    ],
)
async def test_a_caller_that_sends_nonsense_is_cut_off_and_others_go_on(
    scheduler: tuple[Shell, str], nonsense: leases.CallerEvent
) -> None:
    shell, address = scheduler
    good = LeaseStream(address, TOKEN, "good", LeasePool(1.0), SystemClock(), random.Random(1))
    good.start()
    await asyncio.wait_for(good.connected.wait(), 10)
    async with rpc.channel(address) as channel:
        call = stub(channel).Hold(metadata=(("authorization", f"Bearer {TOKEN}"),))
        hello = leases.CallerEvent(hello=leases.CallerHello(caller_id="bad"))
        await call.write(leases.CallerEvents(events=[hello]))
        await call.write(leases.CallerEvents(events=[nonsense]))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await to_its_end(call)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert not shell.core.callers["bad"].connected
    assert shell.core.callers["good"].connected
    await good.close()


async def test_a_first_event_that_is_no_hello_is_refused(scheduler: tuple[Shell, str]) -> None:
    async with rpc.channel(scheduler[1]) as channel:
        call = stub(channel).Hold(metadata=(("authorization", f"Bearer {TOKEN}"),))
        await call.write(leases.CallerEvents(events=[leases.CallerEvent(idle_returned=leases.IdleReturned(round=1))]))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await to_its_end(call)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_worker_that_reports_the_impossible_is_cut_off(scheduler: tuple[Shell, str]) -> None:
    shell, address = scheduler
    async with rpc.channel(address) as channel:
        worker: Any = worker_service_pb2_grpc.WorkerServiceStub(channel)
        call = worker.Attach(metadata=(("authorization", f"Bearer {TOKEN}"),))
        hello = workers.WorkerHello(worker_id="w", address="unix:w", memory_mb=100, environments=1)
        await call.write(workers.WorkerEvents(events=[workers.WorkerEvent(hello=hello)]))
        await call.write(workers.WorkerEvents(events=[workers.WorkerEvent()]))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await to_its_end(call)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert not shell.core.workers["w"].connected
