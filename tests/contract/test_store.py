"""Every FunctionStore answers alike: the one in Redis and its twin in memory."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest

from lambent.domain.concurrency import ConcurrencyState, Provisioned
from lambent.domain.errors import AwsError
from lambent.domain.function_urls import Cors, FunctionUrl, UrlPlace
from lambent.domain.functions import Function, FunctionRecord, RuntimeManagement
from lambent.domain.names import LATEST
from lambent.domain.policies import Policy, Statement
from lambent.infra.functions.memory_store import MemoryFunctionStore, MemoryUrlIndex
from lambent.infra.functions.port import EVERY_VERSION, NOBODY, Change, Edit, FunctionStore, Obstacle, UrlIndex
from lambent.infra.functions.redis_store import RedisFunctionStore, RedisUrlIndex
from lambent.infra.redis_client import connect
from tests.records import ONE, OTHER, alias, record, version


async def create(store: FunctionStore, made: FunctionRecord, limit: int = 1000) -> str | None:
    return await store.create(made, "s1", None, limit)


async def replace(
    store: FunctionStore, made: FunctionRecord, expected: str, limit: int = 1000, *, before: int = 10
) -> Obstacle | None:
    edit = Edit(
        made.tenant, made.name, LATEST, made.generation, revision=expected, record=made,
        added_bytes=made.code.size - before,
    )  # fmt: skip
    return await store.change(edit, limit)


async def delete(store: FunctionStore, name: str, generation: int) -> Obstacle | None:
    return await store.change(Edit(ONE, name, EVERY_VERSION, generation, delete=True), 0)


@pytest.fixture(params=["memory", "redis", "cluster"])
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
    assert await create(store, record(), 100) is None
    assert await store.get(ONE, "f") == record()


async def test_a_name_is_taken_once_in_each_tenant(store: FunctionStore) -> None:
    assert await create(store, record(), 100) is None
    assert await create(store, record(revision="r2"), 100) == "exists"
    assert await create(store, record(tenant=OTHER), 100) is None
    assert (await store.get(ONE, "f")).revision_id == "r1"  # type: ignore[union-attr]


async def test_code_storage_is_counted_and_limited_by_tenant(store: FunctionStore) -> None:
    assert await create(store, record("a", size=60), 100) is None
    assert await create(store, record("b", size=60), 100) == "code-storage"
    assert await create(store, record("b", size=60, tenant=OTHER), 100) is None
    assert await store.get(ONE, "b") is None
    assert await replace(store, record("a", size=101, revision="r2"), "r1", 100, before=60) == "code-storage"
    assert await replace(store, record("a", size=30, revision="r2"), "r1", 100, before=60) is None
    assert await store.code_bytes(ONE) == 30
    assert await delete(store, "a", 3) is None
    assert await store.code_bytes(ONE) == 0


async def test_replacing_needs_the_latest_revision(store: FunctionStore) -> None:
    assert await replace(store, record(), "r1", 100) == "missing"
    await create(store, record(), 100)
    assert await replace(store, record(revision="r3"), "r2", 100) == "revision"
    assert await replace(store, dataclasses.replace(record(revision="r2"), tags={}), "r1", 100) is None
    assert (await store.get(ONE, "f")).tags == {}  # type: ignore[union-attr]


async def test_two_writers_of_one_revision_do_not_both_win(store: FunctionStore) -> None:
    await create(store, record(), 100)
    answers = await asyncio.gather(*(replace(store, record(revision=f"w{i}"), "r1", 100) for i in range(8)))
    assert sorted(answers, key=str) == [None, *["revision"] * 7]


async def test_a_function_is_read_with_all_that_is_published_of_it(store: FunctionStore) -> None:
    assert await store.read(ONE, "f") is None
    assert await store.find(ONE, "f", "1") is None
    assert await store.create(record(), "s1", version("1"), 100) is None
    edit = Edit(
        ONE, "f", NOBODY, revision="r1", record=dataclasses.replace(record(revision="r2"), last_version=3),
        versions={"2": version("2"), "3": version("3")}, added_bytes=20,
    )  # fmt: skip
    assert await store.change(edit, 100) is None
    aliases = {"live": alias("live", "1", _3=0.25), "next": alias("next", LATEST)}
    assert await store.change(Edit(ONE, "f", NOBODY, stamp="s1", new_stamp="s2", aliases=aliases), 100) is None
    whole = await store.read(ONE, "f")
    assert whole == Function(edit.record, "s2", {n: version(n) for n in "123"}, aliases)  # type: ignore[arg-type]
    assert await store.code_bytes(ONE) == 40
    for qualifier, numbers, names in (
        ("1", "1", []), ("live", "13", ["live"]), ("next", "", ["next"]), ("$LATEST", "", []), ("4", "", []), ("x", "", []),
    ):  # fmt: skip
        found = await store.find(ONE, "f", qualifier)
        assert found is not None
        assert (found.record, found.stamp) == (edit.record, "s2")
        assert dict(found.versions) == {n: version(n) for n in numbers}
        assert dict(found.aliases) == {name: aliases[name] for name in names}
        assert whole is not None
        assert found.stands_for(qualifier) == whole.stands_for(qualifier)


async def test_tags_are_those_of_the_creation_until_they_are_set(store: FunctionStore) -> None:
    made = dataclasses.replace(record(), tags={"a": "1"})
    await create(store, made)

    async def found() -> list[dict[str, str]]:
        functions = [await store.read(ONE, "f"), await store.find(ONE, "f", LATEST), await store.find(ONE, "f", "1")]
        return [dict(function.tags) for function in functions if function is not None]

    assert await found() == [{"a": "1"}] * 3
    for tags in ({"a": "2", "b": ""}, {}):
        assert await store.change(Edit(ONE, "f", NOBODY, tags=tags), 1000) is None
        assert await found() == [tags] * 3
    assert await replace(store, dataclasses.replace(made, revision_id="r2"), "r1") is None
    assert await found() == [{}] * 3
    await delete(store, "f", 3)
    await create(store, made)
    assert await found() == [{"a": "1"}] * 3


async def test_what_becomes_of_loops_is_kept_until_the_function_goes(store: FunctionStore) -> None:
    await create(store, record())

    async def found() -> set[str]:
        functions = [await store.read(ONE, "f"), await store.find(ONE, "f", LATEST), await store.find(ONE, "f", "1")]
        return {function.recursive_loop for function in functions if function is not None}

    assert await found() == {"Terminate"}
    for wanted in ("Allow", "Terminate", "Allow"):
        assert await store.change(Edit(ONE, "f", NOBODY, recursive_loop=wanted), 1000) is None
        assert await found() == {wanted}
    assert await replace(store, record(revision="r2"), "r1") is None
    assert await found() == {"Allow"}
    await delete(store, "f", 3)
    await create(store, record())
    assert await found() == {"Terminate"}


async def test_what_is_said_of_a_versions_runtime_is_found_with_it(store: FunctionStore) -> None:
    await store.create(record(), "s1", version("1"), 100)
    said = {LATEST: RuntimeManagement("FunctionUpdate"), "1": RuntimeManagement("Manual", "arn:r")}
    assert await store.change(Edit(ONE, "f", NOBODY, runtime_management=said), 100) is None
    whole = await store.read(ONE, "f")
    assert whole is not None
    assert whole.runtime_management == said
    for qualifier in (LATEST, "1", "2"):
        found = await store.find(ONE, "f", qualifier)
        assert found is not None
        assert dict(found.runtime_management) == {key: each for key, each in said.items() if key == qualifier}
    assert await store.change(Edit(ONE, "f", NOBODY, runtime_management={"1": None}), 100) is None
    whole = await store.read(ONE, "f")
    assert whole is not None
    assert whole.runtime_management == {LATEST: said[LATEST]}


async def test_policies_are_kept_by_qualifier_and_found_with_what_they_are_for(store: FunctionStore) -> None:
    await store.create(record(), "s1", version("1"), 100)
    one, other = (Policy((Statement(sid, "*", "*", (("Bool", "a", "true"),)),), "r") for sid in "ab")

    async def found() -> list[dict[str, Policy]]:
        functions = [await store.read(ONE, "f"), await store.find(ONE, "f", LATEST), await store.find(ONE, "f", "1")]
        return [dict(function.policies) for function in functions if function is not None]

    assert await store.change(Edit(ONE, "f", NOBODY, policies={LATEST: one, "1": other}), 100) is None
    assert await found() == [{LATEST: one, "1": other}, {LATEST: one}, {"1": other}]
    assert await store.change(Edit(ONE, "f", NOBODY, policies={LATEST: None}), 100) is None
    assert await found() == [{"1": other}, {}, {"1": other}]


async def test_addresses_are_kept_by_qualifier_and_found_with_what_they_are_of(store: FunctionStore) -> None:
    await store.create(record(), "s1", version("1"), 100)
    await store.change(Edit(ONE, "f", NOBODY, aliases={"a": alias("a", "1")}), 100)
    own = FunctionUrl("1" * 32, "NONE", "BUFFERED", Cors(allow_origins=("*",), max_age=5), 1.5, 2.5)
    other = FunctionUrl("2" * 32, "AWS_IAM", "RESPONSE_STREAM", None, 3.0, 3.0)

    async def found() -> list[dict[str, FunctionUrl]]:
        functions = [await store.read(ONE, "f"), await store.find(ONE, "f", LATEST), await store.find(ONE, "f", "a")]
        return [dict(function.urls) for function in functions if function is not None]

    assert await store.change(Edit(ONE, "f", NOBODY, urls={LATEST: own, "a": other}), 100) is None
    assert await found() == [{LATEST: own, "a": other}, {LATEST: own}, {"a": other}]
    assert await store.change(Edit(ONE, "f", NOBODY, urls={LATEST: None}), 100) is None
    assert await found() == [{"a": other}, {}, {"a": other}]


@pytest.mark.parametrize("kind", ["memory", "redis"])
async def test_the_index_knows_whose_an_address_is(kind: str, redis_url: str) -> None:
    client = connect(redis_url)
    index: UrlIndex = MemoryUrlIndex() if kind == "memory" else RedisUrlIndex(client)
    id_, places = "3" * 32, (UrlPlace(ONE, "f", None), UrlPlace(ONE, "f", "live"))
    assert await index.find(id_) is None
    for place in places:
        await index.note(id_, place)
        assert await index.find(id_) == place
    await index.forget(id_)
    await index.forget(id_)
    assert await index.find(id_) is None
    await client.aclose()


async def test_what_is_removed_is_gone_and_gives_its_bytes_back(store: FunctionStore) -> None:
    await store.create(record(), "s1", version("1", size=30), 100)
    await store.change(Edit(ONE, "f", NOBODY, aliases={"a": alias("a", "1"), "b": alias("b", "1")}), 100)
    gone = Edit(
        ONE, "f", "1", 5, stamp="s1", new_stamp="s2", versions={"1": None}, aliases={"a": None}, added_bytes=-30
    )
    assert await store.change(gone, 100) is None
    function = await store.read(ONE, "f")
    assert function is not None
    assert (dict(function.versions), list(function.aliases), function.stamp) == ({}, ["b"], "s2")
    assert await store.code_bytes(ONE) == 10


async def test_published_code_counts_against_the_limit(store: FunctionStore) -> None:
    assert await store.create(record(size=60), "s1", version("1", size=60), 100) == "code-storage"
    assert await store.create(record(size=60), "s1", None, 100) is None
    edit = Edit(ONE, "f", NOBODY, versions={"1": version("1", size=60)}, added_bytes=60)
    assert await store.change(edit, 100) == "code-storage"
    assert (await store.read(ONE, "f")).versions == {}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("guards", "obstacle"),
    [
        ({"revision": "r0"}, "revision"),
        ({"stamp": "s0"}, "conflict"),
        ({"settings_revision": 3}, "conflict"),
        ({"revision": "r1", "stamp": "s1", "settings_revision": 0}, None),
    ],
)
async def test_an_edit_is_made_whole_or_not_at_all(store: FunctionStore, guards: dict[str, Any], obstacle: str) -> None:
    await create(store, record())
    settings = ConcurrencyState(1, {"f": 5})
    edit = Edit(ONE, "f", NOBODY, versions={"1": version("1")}, settings=settings, added_bytes=10, **guards)
    assert await store.change(edit, 100) == obstacle
    function = await store.read(ONE, "f")
    assert function is not None
    done = obstacle is None
    assert list(function.versions) == (["1"] if done else [])
    assert await store.settings(ONE) == (settings if done else ConcurrencyState())
    assert await store.code_bytes(ONE) == (20 if done else 10)


async def test_settings_are_read_as_they_were_kept_and_their_tenants_are_known(store: FunctionStore) -> None:
    assert await store.settings(ONE) == ConcurrencyState()
    assert await store.tenants_with_settings() == ()
    await create(store, record())
    await create(store, record(tenant=OTHER))
    settings = ConcurrencyState(7, {"f": 0}, {"f": {"live": Provisioned(3, 6, 1.5)}})
    assert await store.change(Edit(ONE, "f", NOBODY, settings_revision=0, settings=settings), 100) is None
    assert await store.settings(ONE) == settings
    assert await store.settings(OTHER) == ConcurrencyState()
    assert await store.tenants_with_settings() == (ONE,)
    gone = Edit(ONE, "f", EVERY_VERSION, 9, settings_revision=7, settings=ConcurrencyState(8), delete=True)
    assert await store.change(gone, 100) is None
    assert await store.settings(ONE) == ConcurrencyState(8)
    assert await store.read(ONE, "f") is None


async def test_functions_are_counted_by_tenant(store: FunctionStore) -> None:
    for name in "ab":
        await create(store, record(name))
    await create(store, record(tenant=OTHER))
    assert (await store.count(ONE), await store.count(OTHER)) == (2, 1)
    await delete(store, "a", 5)
    assert await store.count(ONE) == 1


async def test_lists_are_by_name_and_go_on_after_a_name(store: FunctionStore) -> None:
    for name in ("b", "a", "c-1", "B"):
        await create(store, record(name), 1000)
    await create(store, record("z", tenant=OTHER), 1000)
    assert [r.name for r in await store.list(ONE, "", 3)] == ["B", "a", "b"]
    assert [r.name for r in await store.list(ONE, "a", 3)] == ["b", "c-1"]


async def test_deleting_forgets_and_says_whether_there_was_anything(store: FunctionStore) -> None:
    await create(store, record(), 100)
    assert await delete(store, "f", 2) is None
    assert await delete(store, "f", 3) == "missing"
    assert await store.get(ONE, "f") is None
    assert await store.list(ONE, "", 10) == []


async def test_generations_only_grow_and_belong_to_a_tenant(store: FunctionStore) -> None:
    assert [await store.next_generation(ONE) for _ in range(3)] == [1, 2, 3]
    assert await store.next_generation(OTHER) == 1


async def test_the_change_log_tells_every_change_of_its_tenant_only(store: FunctionStore) -> None:
    await create(store, record("before"), 100)
    seen: list[Change] = []
    changes = store.changes(ONE)

    async def read() -> None:
        async for change in changes:
            seen.append(change)
            if change.generation == 93:
                return

    reader = asyncio.ensure_future(read())
    # The log is followed from the first read on; write until the first change of this test is seen, then the rest.
    generation = 10
    while not seen:
        await create(store, record(f"try{generation}", generation=generation), 1000)
        generation += 1
        await asyncio.sleep(0.01)
    await create(store, record("f", generation=90, tenant=OTHER), 1000)
    await create(store, record("f", generation=91), 1000)
    await replace(store, record("f", revision="r2", generation=92), "r1", 1000)
    await delete(store, "f", 93)
    await asyncio.wait_for(reader, 10)
    told = [change for change in seen if change.name == "f"]
    expected = [Change(ONE, "f", 91, EVERY_VERSION), Change(ONE, "f", 92, LATEST), Change(ONE, "f", 93, EVERY_VERSION)]
    assert told == expected


async def test_a_store_that_is_away_says_so(short_tmp) -> None:  # type: ignore[no-untyped-def]
    client = connect(f"unix://{short_tmp}/nobody.sock")
    away = RedisFunctionStore(client, client)
    with pytest.raises(AwsError) as caught:
        await away.get(ONE, "f")
    assert (caught.value.name, caught.value.row.status) == ("ServiceUnavailableException", 503)
    await client.aclose()
