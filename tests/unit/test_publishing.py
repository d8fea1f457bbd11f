"""What can be published, and when: decided by the state of $LATEST."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from lambent.domain.errors import AwsError
from lambent.domain.functions import State, UpdateStatus
from lambent.domain.limits import Limits
from lambent.domain.principals import Principal
from lambent.infra.clock import SystemClock, SystemIds
from lambent.infra.code_store import DirectoryCodeStore
from lambent.infra.functions.concurrency_settings import SettingsLink
from lambent.infra.functions.directory import FunctionDirectory
from lambent.infra.functions.memory_store import MemoryFunctionStore
from lambent.infra.secrets import SecretBox
from lambent.v1 import version_service_pb2 as pb
from services.frontend.operations.editing import Editor
from services.frontend.operations.lookups import Lookups
from services.frontend.operations.settling import Settler
from services.frontend.operations.versions import Publisher, VersionOperations
from services.frontend.transport.call import Call
from tests.records import CONFIGURATION, ONE, record

CALL = Call("r", ONE, Principal("k", ONE.account, "arn"), "rest")
IN_THE_WAY = "The operation cannot be performed at this time. "


def operations(store: MemoryFunctionStore, code: Path, limits: Limits) -> VersionOperations:
    clock, ids, secrets = SystemClock(), SystemIds(), SecretBox(b"k" * 32)
    directory = FunctionDirectory(store, secrets, None)
    settler = Settler(store, DirectoryCodeStore(code), directory, limits, clock, ids)
    return VersionOperations(
        store=store,
        lookups=Lookups(store, settler),
        editor=Editor(store, directory, SettingsLink(store, secrets, None), limits, ids),
        publisher=Publisher(clock, ids),
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
