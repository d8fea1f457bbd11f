"""What VpcConfig may name, and when a function that is attached becomes Inactive and comes back."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from lambent.domain.concurrency import ConcurrencyState, Provisioned
from lambent.domain.errors import AwsError
from lambent.domain.functions import FunctionRecord, State, UpdateStatus, VpcAttachment
from lambent.domain.idleness import reclaim, restored, wake
from lambent.domain.names import LATEST
from lambent.domain.networks import Networks, parse
from lambent.infra.clock import SystemIds
from lambent.infra.functions.attached import MemoryAttachedFunctions
from lambent.infra.functions.directory import FunctionDirectory
from lambent.infra.functions.memory_store import MemoryFunctionStore
from lambent.infra.functions.port import NOBODY, Edit
from lambent.infra.functions.use_recorder import UseRecorder
from lambent.infra.functions.waking import Waker
from lambent.infra.secrets import SecretBox
from services.frontend.reclaiming import Reclaimer
from tests.records import ONE, record
from tests.unit.http_support import ManualClock

NETWORKS = Networks({"subnet-1": "vpc-1", "subnet-2": "vpc-1", "subnet-3": "vpc-2"}, {"sg-1": "vpc-1", "sg-3": "vpc-2"})


def attached(**changes: object) -> FunctionRecord:
    """A function that is attached to a network."""
    made = record()
    configuration = replace(made.configuration, vpc=VpcAttachment(("subnet-1",), ("sg-1",), "vpc-1", False))
    serving = replace(made.serving, configuration=configuration) if made.serving else None
    return replace(made, **({"configuration": configuration, "serving": serving} | changes))  # type: ignore[arg-type]


def test_subnets_and_groups_of_one_vpc_are_attached_once_each() -> None:
    made = NETWORKS.attach(["subnet-2", "subnet-1", "subnet-2"], ["sg-1"], True)
    assert made == VpcAttachment(("subnet-2", "subnet-1"), ("sg-1",), "vpc-1", True)
    assert NETWORKS.attach([], [], False) == VpcAttachment((), (), "", False)


def test_a_star_stands_for_any() -> None:
    networks = Networks({"*": "vpc-1", "subnet-3": "vpc-2"}, {"*": "vpc-1"})
    assert networks.attach(["subnet-9"], ["sg-9"], False).vpc == "vpc-1"
    with pytest.raises(AwsError):
        networks.attach(["subnet-9", "subnet-3"], ["sg-9"], False)


@pytest.mark.parametrize(
    ("subnets", "groups", "text"),
    [
        (["subnet-1"], [], "SubnetIds and SecurityIds must coexist or be both empty list."),
        ([], ["sg-1"], "SubnetIds and SecurityIds must coexist or be both empty list."),
        (["subnet-9"], ["sg-1"], "EC2 Error Code: InvalidSubnetID.NotFound. EC2 Error Message: The subnet ID 'subnet-9' "),
        (["subnet-1"], ["sg-9"], "EC2 Error Code: InvalidGroup.NotFound. EC2 Error Message: The security group 'sg-9' "),
        (["subnet-1", "subnet-3"], ["sg-1"], "The subnets are not in the same VPC."),
        (["subnet-1"], ["sg-3"], "The security group 'sg-3' is not in the VPC of the subnets."),
    ],
)  # fmt: skip
def test_what_does_not_exist_or_go_together_is_refused(subnets: list[str], groups: list[str], text: str) -> None:
    with pytest.raises(AwsError) as refused:
        NETWORKS.attach(subnets, groups, False)
    assert refused.value.name == "InvalidParameterValueException"
    assert text in refused.value.message


def test_networks_are_written_as_pairs() -> None:
    assert parse(" subnet-1 = vpc-1, subnet-2=vpc-1 ,") == {"subnet-1": "vpc-1", "subnet-2": "vpc-1"}
    assert parse("") == {}
    for wrong in ("subnet-1", "=vpc-1", "subnet-1=", "subnet-1=vpc-1,subnet-1=vpc-2"):
        with pytest.raises(ValueError):
            parse(wrong)


@pytest.mark.parametrize(
    ("before", "provisioned"),
    [
        (record(), False),
        (attached(), True),
        (attached(state=State.PENDING), False),
        (attached(state=State.INACTIVE), False),
        (attached(update_status=UpdateStatus.IN_PROGRESS), False),
        (attached(changed=100.5), False),
    ],
    ids=["not-attached", "provisioned", "pending", "inactive", "changing", "changed-lately"],
)
def test_what_keeps_its_network(before: FunctionRecord, provisioned: bool) -> None:
    assert reclaim(before, idle_since=100.0, provisioned=provisioned, revision_id="r2") is None


def test_inactive_pending_and_active_again_with_what_it_ran_before() -> None:
    idle = reclaim(attached(), idle_since=100.0, provisioned=False, revision_id="r2")
    assert idle is not None
    assert (idle.state, idle.away, idle.revision_id) == (State.INACTIVE, True, "r2")
    assert restored(idle, revision_id="r3") is None
    pending = wake(idle, now=200.0, revision_id="r3")
    assert pending is not None
    assert (pending.state, pending.away, pending.changed) == (State.PENDING, True, 200.0)
    assert wake(pending, now=201.0, revision_id="r4") is None
    back = restored(pending, revision_id="r4")
    assert back == attached(changed=200.0, revision_id="r4")
    assert not back.away


def test_what_is_being_created_is_not_on_its_way_back() -> None:
    created = attached(state=State.PENDING, serving=None)
    assert not created.away
    assert restored(created, revision_id="r2") is None


@dataclass
class Counted:
    invocations: int = 0
    running: int = 0


class House:
    """What a frontend has of it, on a clock of the test's own; networks are taken back after 100 s."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store, self.attached = MemoryFunctionStore(), MemoryAttachedFunctions()
        self.directory = FunctionDirectory(self.store, SecretBox(b"k" * 32), None)
        ids = SystemIds()
        self.counts: dict[tuple[object, str], Counted] = {}
        self.recorder = UseRecorder(self.counts, self.attached, self.clock)  # type: ignore[arg-type]
        self.reclaimer = Reclaimer(self.store, self.attached, self.directory, self.clock, ids, idle_seconds=100.0)
        self.waker = Waker(self.store, self.attached, self.directory, self.clock, ids)

    async def create(self) -> None:
        now = self.clock.epoch()
        await self.attached.add(ONE, "f", now)
        await self.store.create(attached(changed=now), "s", None, 1000)

    async def state(self) -> State:
        found = await self.store.get(ONE, "f")
        assert found is not None
        return found.state

    async def after(self, seconds: float) -> State:
        """The function's state when that much has gone by."""
        self.clock.now += seconds
        await self.recorder.tell()
        await self.reclaimer.look()
        return await self.state()


async def test_a_function_is_inactive_once_nobody_used_it_for_long() -> None:
    house = House()
    await house.create()
    counted = house.counts[ONE, "f"] = Counted(invocations=1)
    assert await house.after(90) is State.ACTIVE
    counted.invocations += 1
    assert await house.after(90) is State.ACTIVE
    counted.running = 1  # an invocation that runs all the time is a use all the time
    assert await house.after(150) is State.ACTIVE
    assert await house.after(150) is State.ACTIVE
    counted.running = 0
    assert await house.after(99) is State.ACTIVE
    assert await house.after(2) is State.INACTIVE


async def test_an_invocation_wakes_it_and_counts_as_a_use() -> None:
    house = House()
    await house.create()
    assert await house.after(101) is State.INACTIVE
    known = await house.directory.find(ONE, "f", None)
    assert known is not None
    assert known.target is None
    assert await house.waker.wake(known.record)
    assert await house.state() is State.PENDING
    await house.waker.close()
    assert await house.after(99) is State.ACTIVE
    known = await house.directory.find(ONE, "f", None)
    assert known is not None
    assert known.target is not None
    assert known.target.need().subnet_ids == ["subnet-1"]
    assert await house.after(2) is State.INACTIVE


async def test_whoever_looks_next_finishes_what_a_lost_process_began() -> None:
    house = House()
    await house.create()
    await house.after(101)
    idle = await house.store.get(ONE, "f")
    assert idle is not None
    pending = wake(idle, now=house.clock.epoch(), revision_id="r9")
    assert pending is not None
    await house.store.change(Edit(ONE, "f", NOBODY, revision=idle.revision_id, record=pending), 0)
    assert await house.waker.wake(pending)
    assert await house.state() is State.PENDING
    house.clock.now += 3
    assert await house.waker.wake(pending)
    assert await house.state() is State.ACTIVE
    assert not await house.waker.wake(attached())


async def test_what_was_deleted_detached_or_is_provisioned_is_left_alone() -> None:
    house = House()
    await house.create()
    provisioned = ConcurrencyState(provisioned={"f": {"1": Provisioned(1, 0, 0.0)}})
    await house.store.change(Edit(ONE, "f", NOBODY, settings=provisioned), 0)
    assert await house.after(101) is State.ACTIVE
    detached = record(revision="r2")
    await house.store.change(Edit(ONE, "f", LATEST, 2, revision="r1", record=detached, settings=ConcurrencyState()), 0)
    assert await house.after(101) is State.ACTIVE
    assert await house.attached.unused_since(house.clock.epoch()) == []
