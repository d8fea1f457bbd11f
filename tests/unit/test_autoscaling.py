"""Application Auto Scaling's decisions, minute by minute on virtual time."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import replace

import pytest

from lambent.domain.scaling import Action, Policy, Resource, Suspended, Target, Tracking
from services.scheduler.core.autoscaling import (
    IN_MINUTES,
    Autoscaling,
    Key,
    NoteNotScaled,
    Order,
    Provisioned,
    RunAction,
    SetCapacity,
)
from services.scheduler.core.reasons import Reason
from services.scheduler.core.utilization import Use, point
from tests.records import ONE
from tests.simulation.cluster import SeededIds

RESOURCE = Resource("f", "live")
KEY = Key(ONE, RESOURCE)
START = 1_800_000_000.0 // 60 * 60


def tracking(target: float = 0.7, **other: object) -> Policy:
    return Policy("p", "p-id", 0.0, Tracking(target, **other))  # type: ignore[arg-type]


def action(schedule: str, name: str = "a", since: float = START, **other: object) -> Action:
    fields = {"timezone": None, "start": None, "end": None, "minimum": 1, "maximum": None, **other}
    return Action(name, f"{name}-id", since, schedule, since=since, **fields)  # type: ignore[arg-type]


class World:
    """One scalable target whose orders are carried out at once, unless said otherwise."""

    def __init__(self, target: Target, capacity: int = 10) -> None:
        self.now, self.revision, self.capacity, self.allocated = START, 0, capacity, -1
        self.core = Autoscaling(SeededIds(random.Random(1)), 60.0, self.now)
        self.tell(target)
        self.minute(None)  # the first is not seen whole

    def tell(self, target: Target) -> None:
        self.target = target
        self.revision += 1
        self.core.told(ONE, self.revision, {RESOURCE: target})

    def provisioned(self, key: Key) -> Provisioned | None:
        assert key == KEY
        allocated = self.capacity if self.allocated < 0 else self.allocated
        return Provisioned(self.capacity, allocated, frozenset({"1"})) if self.capacity else None

    def decide(self) -> list[Order]:
        return self.core.decide(self.now, self.provisioned)

    def minute(self, busy: float | None, *, done: bool | None = True) -> list[Order]:
        """A minute in which `busy` environments ran at each instant. `done`: how orders end; None: nobody answers."""
        if busy is not None:
            use = Use(100, round(100 * busy), math.ceil(busy), busy * 60)
            self.core.used(ONE, "f", "1", "caller", use)
        self.now += 60
        orders = self.decide()
        for order in orders:
            if done and isinstance(order, SetCapacity):
                self.capacity = order.capacity
            if done is not None:
                self.core.ended(order.id, done=done, now=self.now)
        return orders

    def minutes(self, count: int, busy: float | None) -> list[Order]:
        return [order for _ in range(count) for order in self.minute(busy)]


def target(
    policies: Mapping[str, Policy] | None = None, minimum: int = 1, maximum: int = 100, **other: object
) -> Target:
    known = {"p": tracking()} if policies is None else policies
    return Target("t", 0.0, minimum, maximum, policies=known, **other)  # type: ignore[arg-type]


def capacities(orders: list[Order]) -> list[int]:
    return [order.capacity for order in orders if isinstance(order, SetCapacity)]


def test_three_minutes_above_the_target_scale_out_in_one_step_in_proportion() -> None:
    world = World(target())
    assert world.minutes(2, 9.0) == []
    (order,) = world.minute(9.0)
    assert isinstance(order, SetCapacity)
    assert order.capacity == math.ceil(10 * 0.9 / 0.7) == 13
    assert order.reason is Reason.SCALED_OUT
    assert order.cause == (
        "monitor alarm TargetTracking-function:f:live-AlarmHigh-p-id in state ALARM triggered policy p"
    )


def test_a_minute_at_the_target_or_without_data_begins_the_count_anew() -> None:
    world = World(target())
    assert world.minutes(2, 9.0) + world.minute(7.0) + world.minutes(2, 9.0) == []
    assert world.minute(None) + world.minutes(2, 9.0) == []
    assert capacities(world.minute(9.0)) == [13]


def test_a_target_that_fits_exactly_is_not_moved_by_rounding() -> None:
    world = World(target({"p": tracking(0.1)}), capacity=3)
    assert capacities(world.minutes(3, 0.6)) == [6]


def test_fifteen_minutes_below_nine_tenths_of_the_target_scale_in_a_step_each_minute() -> None:
    world = World(target(), capacity=40)
    assert world.minutes(IN_MINUTES - 1, 4.0) == []
    assert capacities(world.minutes(3, 4.0)) == [36, 33, 30]
    assert world.minute(4.0)[0].cause.startswith("monitor alarm TargetTracking-function:f:live-AlarmLow-p-id in state")


def test_scale_in_ends_before_use_would_be_above_the_target() -> None:
    world = World(target(), capacity=10)
    world.minutes(60, 4.0)
    assert world.capacity == math.ceil(4 / 0.7)


def test_between_nine_tenths_of_the_target_and_the_target_nothing_happens() -> None:
    world = World(target(), capacity=100)
    assert world.minutes(20, 63.0) == []
    assert world.minutes(20, 70.0) == []


def test_an_idle_function_does_not_scale_in() -> None:
    world = World(target())
    assert world.minutes(30, None) == []


def test_what_is_not_provisioned_is_left_alone() -> None:
    world = World(target(), capacity=0)
    assert world.minutes(20, 5.0) == []


def test_capacity_stays_within_the_bounds_and_what_could_not_be_done_is_noted_once() -> None:
    world = World(target(maximum=12))
    assert capacities(world.minutes(3, 10.0)) == [12]
    noted = world.minutes(5, 12.0)
    assert [(type(order), order.reason) for order in noted] == [(NoteNotScaled, Reason.AT_MAXIMUM)]
    world = World(target(minimum=10))
    noted = world.minutes(20, 1.0)
    assert [(type(order), order.reason) for order in noted] == [(NoteNotScaled, Reason.AT_MINIMUM)]


def test_of_several_policies_the_largest_scales_out() -> None:
    policies = {"a": replace(tracking(0.5), name="a"), "b": replace(tracking(0.8), name="b")}
    world = World(target(policies))
    assert capacities(world.minutes(3, 9.0)) == [18]


def test_scale_in_needs_every_policy_that_may_scale_in() -> None:
    both = {"a": replace(tracking(0.7), name="a"), "b": replace(tracking(0.3), name="b")}
    world = World(target(both))
    assert world.minutes(20, 2.8) == []
    of_one = {**both, "b": replace(tracking(0.3, disable_scale_in=True), name="b")}
    world = World(target(of_one))
    assert capacities(world.minutes(20, 2.8))[0] == 9


def test_a_policy_that_may_not_scale_in_never_does() -> None:
    world = World(target({"p": tracking(0.7, disable_scale_in=True)}))
    assert world.minutes(30, 1.0) == []


def test_a_scale_in_cooldown_spreads_the_steps() -> None:
    world = World(target({"p": tracking(0.7, scale_in_cooldown=300)}), capacity=100)
    world.minutes(IN_MINUTES, 10.0)
    assert world.capacity == 90
    assert world.minutes(4, 10.0) == []
    assert capacities(world.minute(10.0)) == [81]


def test_scaling_out_ends_a_scale_in_cooldown() -> None:
    world = World(target({"p": tracking(0.7, scale_in_cooldown=6000)}, maximum=1000), capacity=100)
    world.minutes(IN_MINUTES, 10.0)
    assert capacities(world.minutes(3, 90.0)) == [129]
    assert capacities(world.minutes(IN_MINUTES, 10.0)) == [117]


def test_within_a_scale_out_cooldown_only_a_larger_wish_counts_less_what_was_added() -> None:
    world = World(target({"p": tracking(0.5, scale_out_cooldown=600)}), capacity=10)
    assert capacities(world.minutes(3, 9.0)) == [18]
    # 0.8 of the ten that there were wants 16: there are 18 by now.
    assert world.minute(0.8 * 18) == []
    world.allocated = 18
    assert capacities(world.minute(18.0)) == [20]


def test_suspended_directions_rest() -> None:
    out = World(target(suspended=Suspended(dynamic_out=True)))
    assert out.minutes(5, 9.0) == []
    assert capacities(out.minutes(IN_MINUTES, 1.0))
    into = World(target(suspended=Suspended(dynamic_in=True)))
    assert into.minutes(20, 1.0) == []
    assert capacities(into.minutes(3, 9.0))


def test_an_order_that_failed_is_given_again_and_leaves_no_cooldown() -> None:
    world = World(target({"p": tracking(0.7, scale_out_cooldown=6000)}))
    world.minutes(2, 9.0)
    assert capacities(world.minute(9.0, done=False)) == [13]
    assert capacities(world.minute(9.0)) == [13]


def test_an_order_that_nobody_answers_is_given_again() -> None:
    world = World(target())
    world.minutes(2, 9.0)
    (first,) = world.minute(9.0, done=None)
    (second,) = world.minute(9.0, done=None)
    assert first.id != second.id


def test_a_policy_on_the_maximum_sees_peaks() -> None:
    def peaks(statistic: str) -> list[Order]:
        world = World(target({"p": tracking(0.7, statistic=statistic)}))
        orders = []
        for _ in range(3):
            world.core.used(ONE, "f", "1", "caller", Use(99, 99, 9, 60.0))
            orders += world.minute(None)
        return orders

    assert peaks("Average") == []
    assert capacities(peaks("Maximum")) == [13]


def test_a_clock_that_is_set_counts_as_a_minute_without_data() -> None:
    for jump in (3600.0, -3600.0):
        world = World(target())
        world.minutes(2, 9.0)
        world.now += jump
        assert world.minutes(3, 9.0) == []
        assert capacities(world.minute(9.0)) == [13]


# Scheduled actions


def test_a_scheduled_action_is_ordered_when_it_is_due_and_once() -> None:
    moment = START + 600
    world = World(target({}, actions={"a": action("rate(10 minutes)", start=moment)}))
    world.now = moment - 1
    assert world.decide() == []
    assert world.core.next_at(world.now) == moment
    world.now = moment
    (order,) = world.decide()
    assert isinstance(order, RunAction)
    assert (order.name, order.due, order.cause) == ("a", moment, "scheduled action name a was triggered")
    world.tell(replace(world.target, actions={"a": action("rate(10 minutes)", since=moment, start=moment)}))
    assert world.decide() == []
    world.now = moment + 600
    assert [order.due for order in world.decide() if isinstance(order, RunAction)] == [moment + 600]


def test_an_action_that_nobody_did_is_ordered_again() -> None:
    world = World(target({}, actions={"a": action("rate(10 minutes)", start=START + 60)}))
    world.now = START + 120
    (first,) = world.decide()
    world.now += 29
    assert world.decide() == []
    world.now += 2
    assert world.decide() == [first]


def test_of_missed_times_the_last_counts_and_earlier_actions_come_first() -> None:
    actions = {
        "up": action("rate(1 hour)", "up", start=START + 1800),
        "down": action("rate(1 hour)", "down", start=START + 3600),
    }
    world = World(target({}, actions=actions))
    world.now = START + 10 * 3600
    assert [(order.name, order.due - START) for order in world.decide() if isinstance(order, RunAction)] == [
        ("up", 9.5 * 3600),
        ("down", 10 * 3600),
    ]


def test_suspended_actions_are_passed_over() -> None:
    suspended = target(
        {}, actions={"a": action("rate(10 minutes)", start=START + 60)}, suspended=Suspended(scheduled=True)
    )
    world = World(suspended)
    world.now = START + 120
    assert world.decide() == []
    world.tell(replace(suspended, suspended=Suspended()))
    assert world.decide() == []
    world.now = START + 660
    assert len(world.decide()) == 1


def test_a_target_that_was_deregistered_is_forgotten() -> None:
    world = World(target({}, actions={"a": action("rate(10 minutes)", start=START + 60)}))
    world.core.told(ONE, 2, {})
    world.now = START + 3600
    assert world.decide() == []


def test_settings_of_an_older_revision_are_passed_over() -> None:
    world = World(target())
    world.core.told(ONE, 1, {})
    assert capacities(world.minutes(3, 9.0)) == [13]


# The metric


@pytest.mark.parametrize(
    ("uses", "expected"),
    [
        ([], None),
        ([Use(0, 0, 0, 60.0)], None),  # busy since before the minute, and nothing began
        ([Use(10, 10, 1, 6.0)], 0.1),  # each alone
        ([Use(1, 1, 1, 60.0), Use(0, 0, 0, 60.0)], 0.2),  # one beside another caller's that ran all the time
        ([Use(2, 4, 2, 30.0), Use(2, 4, 2, 30.0)], 0.25),
        ([Use(100, 5000, 50, 3000.0)], 1.0),
    ],
)  # fmt: skip
def test_the_metric_is_what_runs_when_an_invocation_begins(uses: list[Use], expected: float | None) -> None:
    found = point(uses, 10, 60.0)
    assert (None if found is None else pytest.approx(found.average)) == expected
