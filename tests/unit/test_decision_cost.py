"""What a decision costs does not depend on how much there is: as many bytecodes, with few or with many.

Time would say less: the more there is, the less of it lies in the processor's caches.
"""

from __future__ import annotations

import gc
import random
import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import pytest

from lambent.domain.names import Tenant
from services.scheduler.core import events as ev
from services.scheduler.core import instructions as ins
from services.scheduler.core.machine import Scheduler
from services.scheduler.core.policies import Policies
from services.scheduler.simulator.cluster import Numbered
from tests.bench.decisions import CALLERS, World

TENANT = Tenant("000000000001", "us-east-1")


def bytecodes(work: Callable[[], Any]) -> int:
    """How many are executed; none of them by what ends as the garbage of earlier tests is collected."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    gc.disable()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
        gc.enable()
    return count


@pytest.mark.parametrize("policy", ["fixed", "break-even"])
def test_an_admission_costs_the_same_among_many_functions_and_environments(policy: str) -> None:
    costs = []
    for functions in (100, 10_000):
        world = World(functions, policy=policy)
        world.rate(50, random.Random(1))
        wanted = [
            (world.wanted(need, number % CALLERS), number % CALLERS) for number, need in enumerate(world.needs[:100])
        ]
        costs.append(bytecodes(partial(world.serve, wanted)))
    few, many = costs
    assert few == many


def provisioned(executions: int) -> list[int]:
    """Bytecodes of the scheduler for each environment of provisioned concurrency that becomes ready."""
    policies = Policies(
        concurrent_executions=10**6, keep_alive=1e6, lease=15.0, worker_grace=10.0, rebuild=0.0, capacity_wait=10.0,
        retry_after=1.0,
    )  # fmt: skip
    core = Scheduler(policies, Numbered(), first_lease_id=1, now=0.0)
    core.handle(ev.WorkerJoined("w", "unix:w", 10**9, 10**6, ()), now=1.0)
    need = ev.Need(TENANT, "f", "1", "d", 1, 128)
    version = ev.ProvisionedVersion(need, b"", executions)
    wish = ev.ProvisionedConcurrency("f", "1", executions, 1, (version,))
    told = core.handle(ev.SettingsTold("c", TENANT, 1, (), (wish,)), now=1.0)
    starts = [each for each in told if isinstance(each, ins.Start)]
    assert len(starts) == executions
    return [
        bytecodes(partial(core.handle, _ready(start, slot), now=1.0)) for slot, start in enumerate(starts[:-1], start=1)
    ]


def _ready(start: ins.Start, slot: int) -> ev.EnvironmentReady:
    return ev.EnvironmentReady("w", start.environment_id, slot)


def test_a_provisioned_environment_that_becomes_ready_costs_the_same_among_many() -> None:
    assert set(provisioned(2_000)) == set(provisioned(20))
