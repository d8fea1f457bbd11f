"""Every ScalingStore answers alike: the one in Redis and its twin in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from lambent.domain.errors import AwsError
from lambent.domain.scaling import (
    Action,
    Activity,
    NotScaled,
    Policy,
    Resource,
    ScalingState,
    Suspended,
    Target,
    Tracking,
)
from lambent.infra.redis_client import connect
from services.frontend.scaling.memory_store import MemoryScalingStore
from services.frontend.scaling.port import ScalingStore
from services.frontend.scaling.redis_store import RedisScalingStore
from tests.records import ONE, OTHER

RESOURCE = Resource("f", "live")
TARGET = Target(
    "t1", 1.5, 1, 10,
    role="arn:aws:iam::000000000000:role/r",
    suspended=Suspended(dynamic_out=True),
    tags={"team": "a"},
    policies={"p": Policy("p", "p1", 2.5, Tracking(0.7, "Maximum", True, 0, None, False))},
    actions={"a": Action("a", "a1", 3.5, "rate(1 hour)", "Europe/Berlin", 4.0, None, 1, None, 3.5)},
)  # fmt: skip


def activity(number: int) -> Activity:
    return Activity(
        str(number), RESOURCE.id, "Setting", "because", float(number), number + 0.5, "Failed", "no",
        NotScaled("AlreadyAtMaxCapacity", number),
    )  # fmt: skip


@pytest.fixture(params=["memory", "redis", "cluster"])
async def store(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[ScalingStore]:
    if request.param == "memory":
        yield MemoryScalingStore()
        return
    client = connect(redis_url)
    yield RedisScalingStore(client)
    await client.aclose()


async def test_what_is_kept_is_read_as_it_was_by_its_tenant_alone(store: ScalingStore) -> None:
    nothing = await store.scaling(ONE)
    assert nothing == ScalingState()
    after = nothing.with_target(RESOURCE, TARGET)
    assert await store.replace_scaling(ONE, nothing, after)
    assert await store.scaling(ONE) == after
    assert (await store.scaling(OTHER)).empty
    assert ONE in await store.tenants_with_scaling()
    assert OTHER not in await store.tenants_with_scaling()


async def test_a_change_that_was_decided_on_what_is_no_more_changes_nothing(store: ScalingStore) -> None:
    nothing = ScalingState()
    first = nothing.with_target(RESOURCE, TARGET)
    assert await store.replace_scaling(ONE, nothing, first)
    assert not await store.replace_scaling(ONE, nothing, nothing.with_target(Resource("g", "1"), TARGET))
    assert await store.scaling(ONE) == first
    second = first.with_target(RESOURCE, None)
    assert await store.replace_scaling(ONE, first, second)
    assert (await store.scaling(ONE)).empty


async def test_the_newest_activities_are_kept_the_newest_first(store: ScalingStore) -> None:
    assert await store.activities(ONE) == []
    for number in range(4):
        await store.add_activity(ONE, activity(number), 3)
    assert await store.activities(ONE) == [activity(3), activity(2), activity(1)]
    assert await store.activities(OTHER) == []


async def test_a_store_that_is_away_is_said_to_be() -> None:
    client = connect("redis://127.0.0.1:1/0")
    store = RedisScalingStore(client)
    calls = [
        store.scaling(ONE),
        store.replace_scaling(ONE, ScalingState(), ScalingState(1)),
        store.tenants_with_scaling(),
        store.add_activity(ONE, activity(1), 3),
        store.activities(ONE),
    ]
    for call in calls:
        with pytest.raises(AwsError) as raised:
            await call
        assert raised.value.name == "ServiceUnavailableException"
    await client.aclose()
