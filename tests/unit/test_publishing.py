"""What can be published, and when: decided by the state of $LATEST."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from pathlib import Path
from typing import Any, cast

import pytest

from lambent.domain.errors import AwsError
from lambent.domain.functions import Snapshot, State, UpdateStatus, VersionRecord
from lambent.domain.limits import Limits
from lambent.domain.principals import Principal
from lambent.infra.clock import SystemClock, SystemIds
from lambent.infra.code_store import DirectoryCodeStore
from lambent.infra.frames import Result
from lambent.infra.functions.concurrency_settings import SettingsLink
from lambent.infra.functions.directory import FunctionDirectory
from lambent.infra.functions.memory_store import MemoryFunctionStore
from lambent.infra.functions.targets import target_of
from lambent.infra.invoker.invoker import Outcome, Target
from lambent.infra.secrets import SecretBox
from lambent.v1 import version_service_pb2 as pb
from services.frontend.operations.editing import Editor
from services.frontend.operations.lookups import Lookups
from services.frontend.operations.settling import Settler
from services.frontend.operations.snapshots import SnapshotMaker
from services.frontend.operations.versions import Publisher, VersionOperations
from services.frontend.transport.call import Call
from tests.records import CONFIGURATION, ONE, record

CALL = Call("r", ONE, Principal("k", ONE.account, "arn"), "rest")
IN_THE_WAY = "The operation cannot be performed at this time. "


class FakeInvoker:
    """Answers the environments that are wanted with what it is given, the last of it again and again."""

    def __init__(self, *answers: Outcome | AwsError) -> None:
        self.answers = list(answers)
        self.asked: list[Target] = []

    async def prepare(self, target: Target, request_id: str) -> Outcome:
        self.asked.append(target)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, AwsError):
            raise answer
        return answer


def prepared(body: object, error_type: str | None = None) -> Outcome:
    error = None if error_type is None else "Unhandled"
    result = Result(error, error_type, 0.0, None, 0, 10, 0.0, None, True)
    return Outcome(result, json.dumps(body).encode(), "Held", 0.0, False, False)


def operations(
    store: MemoryFunctionStore, code: Path, limits: Limits, invoker: FakeInvoker | None = None
) -> VersionOperations:
    clock, ids, secrets = SystemClock(), SystemIds(), SecretBox(b"k" * 32)
    directory = FunctionDirectory(store, secrets, None)
    settler = Settler(store, DirectoryCodeStore(code), directory, limits, clock, ids)
    editor = Editor(store, directory, SettingsLink(store, secrets, None), limits, ids)
    snapshots = SnapshotMaker(store, editor, cast(Any, invoker), secrets, limits, clock, ids)
    return VersionOperations(
        store=store,
        lookups=Lookups(store, settler, snapshots),
        editor=editor,
        publisher=Publisher(snapshots, clock, ids),
        secrets=secrets,
        limits=limits,
        ids=ids,
    )


@pytest.mark.parametrize(
    ("state", "update", "text"),
    [
        (State.PENDING, None, "The function is currently in the following state: Pending"),
        (State.FAILED, None, "The function is currently in the following state: Failed"),
        (
            State.ACTIVE,
            UpdateStatus.IN_PROGRESS,
            "An update is in progress for resource: arn:aws:lambda:us-east-1:000000000001:function:f",
        ),
        (State.ACTIVE, UpdateStatus.FAILED, "The function is currently in the following state: Failed"),
    ],
)
async def test_what_is_not_whole_is_not_published(
    tmp_path: Path, state: State, update: UpdateStatus | None, text: str
) -> None:
    store = MemoryFunctionStore()
    latest = dataclasses.replace(record(), state=state, update_status=update, changed=SystemClock().epoch())
    await store.create(latest, "s1", None, 1000)
    with pytest.raises(AwsError) as caught:
        await operations(store, tmp_path, Limits()).publish_version(pb.PublishVersionRequest(function_name="f"), CALL)
    assert (caught.value.name, caught.value.message) == ("ResourceConflictException", IN_THE_WAY + text)
    function = await store.read(ONE, "f")
    assert function is not None
    assert (function.record, dict(function.versions)) == (latest, {})


async def test_a_version_that_was_deleted_is_published_again_under_a_new_number(tmp_path: Path) -> None:
    store = MemoryFunctionStore()
    await store.create(dataclasses.replace(record(), last_version=4), "s1", None, 1000)
    versions = operations(store, tmp_path, Limits())
    request = pb.PublishVersionRequest(function_name="f")
    assert [(await versions.publish_version(request, CALL)).version for _ in range(3)] == ["5"] * 3
    function = await store.read(ONE, "f")
    assert function is not None
    made = function.versions["5"].deployed
    assert (made.configuration, made.code) == (CONFIGURATION, record().code)
    assert made.deployment_id != "d1"


async def test_a_version_beyond_the_code_storage_is_not_published(tmp_path: Path) -> None:
    store, limits = MemoryFunctionStore(), Limits(code_storage_bytes=15)
    await store.create(record(size=10), "s1", None, 15)
    with pytest.raises(AwsError) as caught:
        await operations(store, tmp_path, limits).publish_version(pb.PublishVersionRequest(function_name="f"), CALL)
    assert caught.value.name == "CodeStorageExceededException"
    assert (await store.get(ONE, "f")) == record(size=10)


SNAP_START = dataclasses.replace(
    record(), configuration=dataclasses.replace(CONFIGURATION, snap_start="PublishedVersions")
)
READY = prepared({"snapshot": True, "reason": "SnapshotReady"})
THREADS = prepared({"snapshot": False, "reason": "Threads"})
BROKEN = prepared({"errorType": "ValueError", "errorMessage": "no"}, "ValueError")
SLOW = prepared({"errorType": "Sandbox.Timedout", "errorMessage": "Task timed out"}, "Sandbox.Timedout")
THROTTLED = AwsError("TooManyRequestsException", "Rate Exceeded.")


async def version_of(store: MemoryFunctionStore, number: str) -> VersionRecord:
    async with asyncio.timeout(10):
        while True:
            function = await store.read(ONE, "f")
            assert function is not None
            if function.versions[number].state is not State.PENDING:
                return function.versions[number]
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("answers", "snapshot"),
    [
        ([READY], Snapshot(State.ACTIVE, True)),
        ([THREADS], Snapshot(State.ACTIVE, False)),
        ([THROTTLED, READY], Snapshot(State.ACTIVE, True)),
        (
            [BROKEN],
            Snapshot(State.FAILED, False, "FunctionError.RuntimeInitError", "The init phase failed: ValueError: no"),
        ),
        (
            [SLOW],
            Snapshot(
                State.FAILED, False, "FunctionError.InitTimeout",
                "The init phase failed: Sandbox.Timedout: Task timed out",
            ),
        ),
    ],
)  # fmt: skip
async def test_a_version_with_snap_start_is_pending_until_its_init_phase_has_ended(
    tmp_path: Path, answers: list[Outcome | AwsError], snapshot: Snapshot
) -> None:
    store, invoker = MemoryFunctionStore(), FakeInvoker(*answers)
    await store.create(SNAP_START, "s1", None, 1000)
    versions = operations(store, tmp_path, Limits(), invoker)
    request = pb.PublishVersionRequest(function_name="f")
    told = await versions.publish_version(request, CALL)
    assert (told.state, told.state_reason_code, told.snap_start.optimization_status) == ("Pending", "Creating", "Off")
    function = await store.read(ONE, "f")
    assert function is not None
    assert target_of(SecretBox(b"k" * 32), function, "1") is None
    version = await version_of(store, "1")
    assert version.snapshot == snapshot
    assert {target.version for target in invoker.asked} == {"1"}
    # What failed is published anew, what went well is not.
    again = await versions.publish_version(request, CALL)
    failed = snapshot.state is State.FAILED
    assert (again.version, again.state) == (("2", "Pending") if failed else ("1", "Active"))
    assert (again.snap_start.optimization_status == "On") is snapshot.taken


async def test_a_publication_whose_frontend_died_goes_on_where_the_version_is_looked_at(tmp_path: Path) -> None:
    store = MemoryFunctionStore()
    await store.create(SNAP_START, "s1", None, 1000)
    dying = operations(store, tmp_path, Limits(), FakeInvoker(THROTTLED))
    await dying.publish_version(pb.PublishVersionRequest(function_name="f"), CALL)
    function = await store.read(ONE, "f")
    assert function is not None
    secrets, invoker, clock = SecretBox(b"k" * 32), FakeInvoker(READY), SystemClock()
    editor = Editor(
        store, FunctionDirectory(store, secrets, None), SettingsLink(store, secrets, None), Limits(), SystemIds()
    )
    other = SnapshotMaker(store, editor, cast(Any, invoker), secrets, Limits(), clock, SystemIds())
    other.look(function.record, function.versions["1"])
    assert invoker.asked == []  # it is left its time
    other.look(function.record, dataclasses.replace(function.versions["1"], last_modified=clock.epoch() - 10))
    assert (await version_of(store, "1")).snapshot == Snapshot(State.ACTIVE, True)
    await other.close()
