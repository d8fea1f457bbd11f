"""Pollers act on schedules: each time once, whoever is lost in between and whatever is changed meanwhile."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from lambent.domain import event_schedules, rules
from lambent.domain.errors import AwsError
from lambent.domain.event_schedules import Schedule, ScheduleTarget
from lambent.domain.names import Tenant
from lambent.domain.rules import Rule, RuleTarget, Wanted
from lambent.domain.turns import Turn
from lambent.infra.due.memory_store import MemoryDueStore
from lambent.infra.due.port import Replaced
from lambent.infra.functions.directory import Known
from lambent.infra.queue.memory_queue import MemoryQueue
from lambent.infra.queue.port import Done, QueueKey, Settlement
from lambent.infra.queue.records import DELIVERIES, decode_delivery, decode_event
from lambent.infra.rule_targets import RuleTargets
from lambent.infra.telemetry import Telemetry
from lambent.infra.telling import Teller
from services.poller.timekeeping import CLAIM_SECONDS, LOOK_RECORDS, Rules, Schedules, Timekeeper
from tests.records import CONFIGURATION, ONE, OTHER, record
from tests.unit.http_support import ManualClock

QUEUE = "arn:aws:sqs:us-east-1:000000000001:letters"


class Lost(Exception):
    """A poller ends here."""


class Store(MemoryDueStore[Rule]):
    """One at which pollers can be lost."""

    before_replace: Callable[[], None] | None = None

    async def replace(self, before: Rule | None, after: Rule | None, most: int, *, claimed: bool = False) -> Replaced:
        if claimed and self.before_replace is not None:
            self.before_replace()
        return await super().replace(before, after, most, claimed=claimed)


class Directory:
    """Functions that there are, by name."""

    def __init__(self) -> None:
        self.isolated = {"f": False}

    async def find(self, tenant: Tenant, name: str, qualifier: str | None) -> Known | None:
        if name not in self.isolated:
            return None
        configuration = dataclasses.replace(CONFIGURATION, isolated=self.isolated[name])
        return Known(dataclasses.replace(record(name), configuration=configuration), None)


class World:
    """A store, a queue, and pollers."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = Store()
        self.functions = Directory()
        self.queue = MemoryQueue(self.clock, "p", dead_seconds=1e9, dead_items=100)
        self.telemetry = Telemetry("test", otlp_endpoint="", prometheus=False, instance="t")

    def poller(self) -> Timekeeper[Rule]:
        teller = Teller(self.queue, self.functions, 600.0)  # type: ignore[arg-type]
        return Timekeeper(self.store, Rules(RuleTargets(teller, self.telemetry)), teller)

    async def put(self, schedule: str, name: str = "r", tenant: Tenant = ONE, **target: Any) -> Rule:
        before = await self.store.get(tenant, name)
        rule = rules.put(before, tenant, name, Wanted(schedule, None, None, None, None), {}, self.clock.now)
        arn = f"arn:aws:lambda:us-east-1:{tenant.account}:function:f"
        rule = dataclasses.replace(rule, targets=(dataclasses.replace(RuleTarget("t", arn), **target),))
        assert await self.store.replace(before, rule, 300) == "done"
        return rule

    async def times(self, tenant: Tenant = ONE) -> list[float]:
        """Those of the events that the function was told since it was asked last."""
        events = [json.loads(decode_event(value)[1]) for value in await self.values("f", tenant)]
        return [datetime.fromisoformat(event["time"].replace("Z", "+00:00")).timestamp() for event in events]

    async def due(self) -> int | None:
        rule = await self.store.get(ONE, "r")
        assert rule is not None
        return rule.due

    async def values(self, name: str, tenant: Tenant = ONE) -> list[bytes]:
        key, now = QueueKey(tenant, name), self.clock.now
        batch = await self.queue.lease(key, 1000, now, now + 5.0)
        await self.queue.settle(key, [Settlement(item.id, item.token, Done()) for item in batch.items], now)
        return [item.value for item in batch.items]


@pytest.fixture
def world() -> World:
    return World()


async def test_a_schedule_is_told_when_it_is_due_and_again(world: World) -> None:
    poller, start = world.poller(), world.clock.now
    await world.put("rate(1 minute)")
    for second in range(180):
        world.clock.now = start + second
        await poller.act()
    assert await world.times() == [start + 60, start + 120]
    world.clock.now = start + 180
    await poller.act()
    await poller.act()
    assert await world.times() == [start + 180]


async def test_what_was_missed_is_told_once(world: World) -> None:
    start = world.clock.now
    await world.put("rate(1 minute)")
    world.clock.now = start + 600.5
    await world.poller().act()
    assert await world.times() == [start + 600]
    assert await world.due() == start + 660


async def test_a_poller_that_is_lost_between_telling_and_noting_tells_nobody_twice(world: World) -> None:
    start = world.clock.now
    await world.put("rate(10 minutes)")

    def lose() -> None:
        raise Lost

    world.store.before_replace = lose
    world.clock.now = start + 600
    await world.poller().act()  # its loss is a defect to it
    told = await world.values("f")
    assert len(told) == 1
    world.store.before_replace = None
    world.clock.now += CLAIM_SECONDS - 1
    assert await world.poller().act() == 0
    world.clock.now += 1
    assert await world.poller().act() == 1
    assert await world.values("f") == []
    world.clock.now = start + 1200
    assert await world.poller().act() == 1
    assert await world.due() == start + 1800


async def test_a_rule_that_is_changed_while_it_is_acted_on_goes_by_what_it_is_then(world: World) -> None:
    start = world.clock.now
    before = await world.put("rate(1 minute)")
    changes: list[Rule] = []

    def change() -> None:
        world.store.before_replace = None
        after = rules.put(before, ONE, "r", Wanted("rate(3 minutes)", None, None, None, None), {}, world.clock.now)
        world.store._records[ONE, "r"] = after
        changes.append(after)

    world.store.before_replace = change
    world.clock.now = start + 60
    await world.poller().act()
    assert len(changes) == 1
    assert await world.times() == [start + 60]
    await world.poller().act()
    for second in range(61, 300):
        world.clock.now = start + second
        await world.poller().act()
    assert await world.times() == [start + 240]


async def test_a_rule_of_the_same_name_that_is_made_meanwhile_stays_as_it_is(world: World) -> None:
    start = world.clock.now
    before = await world.put("rate(1 minute)")

    def again() -> None:
        world.store.before_replace = None
        del world.store._records[ONE, "r"]
        made = rules.put(None, ONE, "r", Wanted("rate(1 hour)", None, None, None, None), {}, world.clock.now)
        world.store._records[ONE, "r"] = made

    world.store.before_replace = again
    world.clock.now = start + 60
    await world.poller().act()
    kept = await world.store.get(ONE, "r")
    assert kept is not None
    assert (kept.schedule, kept.due, kept.targets) == ("rate(1 hour)", start + 3660, ())
    assert before.targets


async def test_rules_that_are_gone_or_disabled_are_looked_at_no_more(world: World) -> None:
    start = world.clock.now
    gone, off = await world.put("rate(1 minute)", "gone"), await world.put("rate(1 minute)", "off")
    assert await world.store.replace(gone, None, 300) == "done"
    assert await world.store.replace(off, rules.with_state(off, rules.DISABLED, start), 300) == "done"
    world.clock.now = start + 60
    assert await world.poller().act() == 2
    world.clock.now = start + 1000
    assert await world.poller().act() == 0
    assert await world.times() == []


async def test_a_tenants_rules_tell_its_own_functions(world: World) -> None:
    start = world.clock.now
    await world.put("rate(1 minute)")
    await world.put("rate(1 minute)", tenant=OTHER)
    world.clock.now = start + 60
    await world.poller().act()
    assert await world.times() == [start + 60]
    assert await world.times(OTHER) == [start + 60]


@pytest.mark.parametrize(
    ("isolated", "late", "code"), [(None, 0, "NO_RESOURCE"), (True, 0, "INVALID_PARAMETER"), (False, 61, "TIMEOUT")]
)
async def test_what_a_target_cannot_be_told_goes_to_its_dead_letter_queue(
    world: World, isolated: bool | None, late: int, code: str
) -> None:
    start = world.clock.now
    rule = await world.put("rate(10 minutes)", dead_letter_arn=QUEUE, age_seconds=60)
    if isolated is None:
        del world.functions.isolated["f"]
    else:
        world.functions.isolated["f"] = isolated
    world.clock.now = start + 600 + late
    await world.poller().act()
    assert await world.values("f") == []
    [value] = await world.values(f"{DELIVERIES}{QUEUE}")
    delivery, body = decode_delivery(value)
    assert delivery.attributes["ERROR_CODE"] == ("String", code)
    assert delivery.attributes["RULE_ARN"] == ("String", rule.arn)
    assert json.loads(body)["detail-type"] == "Scheduled Event"


async def test_while_the_store_is_away_it_is_tried_again(world: World) -> None:
    start = world.clock.now
    await world.put("rate(1 minute)")

    def away() -> None:
        raise AwsError("ServiceUnavailableException", "away")

    world.store.before_replace = away
    world.clock.now = start + 60
    with pytest.raises(AwsError):
        await world.poller().act()
    world.store.before_replace = None
    world.clock.now += CLAIM_SECONDS
    await world.poller().act()
    assert await world.times() == [start + 60]


@pytest.mark.parametrize("seed", range(20))
async def test_histories_of_losses_and_changes_tell_each_time_once(world: World, seed: int) -> None:
    """Pollers are lost at times, rules are put again; nothing that was due while one looked is missed or told twice."""
    rng = random.Random(seed)
    start = world.clock.now
    await world.put("rate(2 minutes)")
    wanted = [start + 120 * number for number in range(1, 31)]

    def lose() -> None:
        if rng.random() < 0.3:
            raise Lost

    world.store.before_replace = lose
    told: list[float] = []
    for second in range(3600 + 90):
        world.clock.now = start + second
        for _ in range(rng.randint(0, 2)):
            await world.poller().act()
        if rng.random() < 0.01:
            await world.put("rate(2 minutes)")
        told += await world.times()
    assert told == sorted(told)
    assert sorted(set(told)) == told
    assert set(told) <= set(wanted)
    # A loss costs the time of a claim, which is less than that between two times.
    assert wanted[:29] == told[:29]


async def test_a_schedule_that_ends_with_its_last_time_ends_whoever_is_lost(world: World) -> None:
    schedules, start = MemoryDueStore[Schedule](), world.clock.now
    teller = Teller(world.queue, world.functions, 600.0)  # type: ignore[arg-type]
    target = ScheduleTarget("arn:aws:lambda:us-east-1:000000000001:function:f", "arn:aws:iam::000000000001:role/r")
    at = datetime.fromtimestamp(start + 60, UTC)
    wanted = event_schedules.Wanted(f"at({at:%Y-%m-%dT%H:%M:%S})", target, deletes=True)
    made = event_schedules.create(ONE, "default", "s", wanted, start)
    assert await schedules.replace(None, made, 9) == "done"

    class Losing(Schedules):
        """Its poller is lost before it has noted anything."""

        def acted(self, record: Schedule, taken: Turn) -> Schedule | None:
            raise Lost

    world.clock.now = start + 60
    await Timekeeper(schedules, Losing(teller, world.telemetry), teller).act()
    assert await world.times() == [start + 60]
    assert await schedules.get(ONE, made.key) == made
    world.clock.now += CLAIM_SECONDS
    poller = Timekeeper(schedules, Schedules(teller, world.telemetry), teller)
    assert await poller.act() == 1
    assert await world.times() == []
    assert await schedules.get(ONE, made.key) is None
    world.clock.now += 1000
    assert await poller.act() == 0


async def test_more_than_are_claimed_at_a_time_are_acted_on_at_once(world: World) -> None:
    start, count = world.clock.now, LOOK_RECORDS * 2 + 7
    for number in range(count):
        await world.put("rate(1 minute)", f"r{number}")
    world.clock.now = start + 60
    acted = [await world.poller().act() for _ in range(4)]
    assert acted == [LOOK_RECORDS, LOOK_RECORDS, 7, 0]
    assert len(await world.times()) == count
