"""Every FunctionStore answers alike: the one in Redis and its twin in memory."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator

import pytest

from lambent.domain.errors import AwsError
from lambent.domain.functions import Code, Configuration, Deployed, FunctionRecord, State, UpdateStatus
from lambent.domain.names import Tenant
from lambent.infra.redis_client import connect
from services.frontend.store.memory_store import MemoryFunctionStore
from services.frontend.store.port import Change, FunctionStore
from services.frontend.store.redis_store import RedisFunctionStore

ONE, OTHER = Tenant("000000000001", "us-east-1"), Tenant("000000000002", "us-east-1")
CONFIGURATION = Configuration(
    role="arn:aws:iam::000000000001:role/r", runtime="python3.11", handler="a.b", description="d", timeout=3,
    memory_mb=128, ephemeral_storage_mb=512, architecture="x86_64", variables="sealed", dead_letter_target=None,
    kms_key_arn=None, tracing_mode="PassThrough", snap_start="None", log_format="Text", application_log_level=None,
    system_log_level=None, log_group="/aws/lambda/f",
)  # fmt: skip


def record(
    name: str = "f", *, tenant: Tenant = ONE, revision: str = "r1", size: int = 10, generation: int = 1
) -> FunctionRecord:
    code = Code("ab" * 32, size)
    return FunctionRecord(
        tenant=tenant, name=name, configuration=CONFIGURATION, code=code, generation=generation, revision_id=revision,
        last_modified=1.5, state=State.ACTIVE, update_status=UpdateStatus.SUCCESSFUL, changed=1.5,
        serving=Deployed("d1", generation, CONFIGURATION, code), tags={"team": "x"},
    )  # fmt: skip


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[FunctionStore]:
    if request.param == "memory":
        yield MemoryFunctionStore()
        return
    client, blocking = connect(redis_url), connect(redis_url, blocking=True)
    yield RedisFunctionStore(client, blocking)
    await client.aclose()
    await blocking.aclose()


async def test_what_was_created_is_read_as_it_was(store: FunctionStore) -> None:
    assert await store.get(ONE, "f") is None
    assert await store.create(record(), 100) is None
    assert await store.get(ONE, "f") == record()


async def test_a_name_is_taken_once_in_each_tenant(store: FunctionStore) -> None:
    assert await store.create(record(), 100) is None
    assert await store.create(record(revision="r2"), 100) == "exists"
    assert await store.create(record(tenant=OTHER), 100) is None
    assert (await store.get(ONE, "f")).revision_id == "r1"  # type: ignore[union-attr]


async def test_code_storage_is_counted_and_limited_by_tenant(store: FunctionStore) -> None:
    assert await store.create(record("a", size=60), 100) is None
    assert await store.create(record("b", size=60), 100) == "code-storage"
    assert await store.create(record("b", size=60, tenant=OTHER), 100) is None
    assert await store.get(ONE, "b") is None
    assert await store.replace(record("a", size=101, revision="r2"), "r1", 100) == "code-storage"
    assert await store.replace(record("a", size=30, revision="r2"), "r1", 100) is None
    assert await store.code_bytes(ONE) == 30
    assert await store.delete(ONE, "a", 3)
    assert await store.code_bytes(ONE) == 0


async def test_replacing_needs_the_latest_revision(store: FunctionStore) -> None:
    assert await store.replace(record(), "r1", 100) == "missing"
    await store.create(record(), 100)
    assert await store.replace(record(revision="r3"), "r2", 100) == "revision"
    assert await store.replace(dataclasses.replace(record(revision="r2"), tags={}), "r1", 100) is None
    assert (await store.get(ONE, "f")).tags == {}  # type: ignore[union-attr]


async def test_two_writers_of_one_revision_do_not_both_win(store: FunctionStore) -> None:
    await store.create(record(), 100)
    answers = await asyncio.gather(*(store.replace(record(revision=f"w{i}"), "r1", 100) for i in range(8)))
    assert sorted(answers, key=str) == [None, *["revision"] * 7]


async def test_lists_are_by_name_and_go_on_after_a_name(store: FunctionStore) -> None:
    for name in ("b", "a", "c-1", "B"):
        await store.create(record(name), 1000)
    await store.create(record("z", tenant=OTHER), 1000)
    assert [r.name for r in await store.list(ONE, "", 3)] == ["B", "a", "b"]
    assert [r.name for r in await store.list(ONE, "a", 3)] == ["b", "c-1"]


async def test_deleting_forgets_and_says_whether_there_was_anything(store: FunctionStore) -> None:
    await store.create(record(), 100)
    assert await store.delete(ONE, "f", 2)
    assert not await store.delete(ONE, "f", 3)
    assert await store.get(ONE, "f") is None
    assert await store.list(ONE, "", 10) == []


async def test_generations_only_grow_and_belong_to_a_tenant(store: FunctionStore) -> None:
    assert [await store.next_generation(ONE) for _ in range(3)] == [1, 2, 3]
    assert await store.next_generation(OTHER) == 1


async def test_the_change_log_tells_every_change_of_its_tenant_only(store: FunctionStore) -> None:
    await store.create(record("before"), 100)
    seen: list[Change] = []
    changes = store.changes(ONE)

    async def read() -> None:
        async for change in changes:
            seen.append(change)
            if len(seen) == 3:
                return

    reader = asyncio.ensure_future(read())
    # The log is followed from the first read on; write until the first change of this test is seen, then the rest.
    generation = 10
    while not seen:
        await store.create(record(f"try{generation}", generation=generation), 1000)
        generation += 1
        await asyncio.sleep(0.01)
    del seen[:]
    await store.create(record("f", generation=90, tenant=OTHER), 1000)
    await store.create(record("f", generation=91), 1000)
    await store.replace(record("f", revision="r2", generation=92), "r1", 1000)
    await store.delete(ONE, "f", 93)
    await asyncio.wait_for(reader, 10)
    told = [change for change in seen if change.name == "f"]
    assert told == [Change(ONE, "f", 91), Change(ONE, "f", 92), Change(ONE, "f", 93)][: len(told)]
    assert told


async def test_a_store_that_is_away_says_so(short_tmp) -> None:  # type: ignore[no-untyped-def]
    client = connect(f"unix://{short_tmp}/nobody.sock")
    away = RedisFunctionStore(client, client)
    with pytest.raises(AwsError) as caught:
        await away.get(ONE, "f")
    assert (caught.value.name, caught.value.row.status) == ("ServiceUnavailableException", 503)
    await client.aclose()
