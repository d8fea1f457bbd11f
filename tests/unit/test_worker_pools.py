"""Which pool of workers a function belongs to, and that one pool's want is not another's."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from services.scheduler.core import events as ev
from services.scheduler.core import instructions as ins
from services.scheduler.core.reasons import Reason
from services.scheduler.core.worker_pools import Rule, Traits, misfit, pool_of
from tests.unit.test_scheduler_core import POLICIES, TENANT, Bench, need

ARM = Rule(architectures=("arm64",))
JAVA = Rule(architectures=("x86_64", "arm64"), runtimes=("java21",))
INSIDE = Rule(subnets=("subnet-1", "subnet-2"), security_groups=("sg-1",))
MINE = Rule(accounts=("000000000002",), functions=("order-*", "bill"))
RULES = {"default": Rule(), "arm": ARM, "java": JAVA, "inside": INSIDE, "mine": MINE}


@pytest.mark.parametrize(
    ("traits", "pool"),
    [
        (Traits("x86_64", "python3.12"), "default"),
        (Traits("arm64", "python3.12"), "arm"),
        (Traits("arm64", "java21"), "java"),
        (Traits("x86_64", "java21"), "java"),
        (Traits("x86_64", "java21", account="000000000002", function="order-1"), "java"),  # the first by name
        (Traits("x86_64", "python3.12", account="000000000002", function="order-1"), "mine"),
        (Traits("x86_64", "python3.12", account="000000000002", function="bill"), "mine"),
        (Traits("x86_64", "python3.12", account="000000000002", function="bills"), "default"),
        (Traits("x86_64", "python3.12", account="000000000001", function="bill"), "default"),
        (Traits(), "java"),  # of a caller that does not say: whatever asks for most
        (Traits("x86_64", "python3.12", ["subnet-1"], ["sg-1"]), "inside"),
        (Traits("x86_64", "python3.12", ["subnet-1", "subnet-2"], ["sg-1"]), "inside"),
        (Traits("x86_64", "python3.12", ["subnet-1"], ["sg-1", "sg-2"]), None),
        (Traits("x86_64", "python3.12", ["subnet-1"]), None),
        (Traits("x86_64", "python3.12", ["subnet-1", "subnet-3"]), None),
        (Traits("x86_64", "python3.12", ["subnet-1"], ["sg-2"]), None),
    ],
)
def test_the_pool_that_asks_for_most_of_those_that_take_it(traits: Traits, pool: str | None) -> None:
    assert pool_of(traits, RULES) == pool


def test_without_pools_all_are_one() -> None:
    assert pool_of(Traits("arm64", "java21", ["subnet-1"]), {}) == ""


def test_equals_are_taken_by_name() -> None:
    assert pool_of(Traits("x86_64"), {"b": Rule(), "a": Rule()}) == "a"


_words = st.sampled_from(["", "p", "q"])
_lists = st.lists(st.sampled_from(["p", "q", "r"]), unique=True).map(tuple)
_rules = st.builds(Rule, _lists, _lists, _lists, _lists)
_traits = st.builds(Traits, _words, _words, _lists, _lists)


@given(_traits, st.dictionaries(st.sampled_from("abc"), _rules))
def test_the_pool_takes_the_function_whatever_the_order_of_the_rules(traits: Traits, rules: dict[str, Rule]) -> None:
    pool = pool_of(traits, rules)
    assert pool == pool_of(traits, dict(reversed(rules.items())))
    if pool is None:
        assert rules
        assert not any(rule.takes(traits) for rule in rules.values())
    elif pool:
        assert rules[pool].takes(traits)


def test_a_worker_that_is_not_what_its_pool_promises_is_found_out() -> None:
    assert misfit(JAVA, "x86_64", ["java21", "python3.12"]) == ""
    assert misfit(ARM, "x86_64", []) == "its architecture is x86_64"
    assert misfit(JAVA, "arm64", ["python3.12"]) == "it lacks java21"
    assert misfit(ARM, "", []) == ""


def test_who_waits_for_room_in_one_pool_does_not_hold_up_another() -> None:
    bench = Bench(replace(POLICIES, concurrent_executions=10))
    bench.feed(ev.WorkerJoined("a", "unix:a", 128, 100, (), "a"))
    bench.feed(ev.WorkerJoined("b", "unix:b", 128, 100, (), "b"))
    here = {pool: structs.replace(need(f"f{pool}"), pool=pool) for pool in "ab"}
    held = {}
    for pool in "ab":
        [start] = bench.want(here[pool])
        assert isinstance(start, ins.Start)
        [granted] = bench.feed(ev.EnvironmentReady(pool, start.environment_id, 1))
        assert isinstance(granted, ins.Grant)
        held[pool] = granted
        bench.want(structs.replace(need(f"g{pool}"), pool=pool))
    assert [request.need.function_name for request in bench.core.unplaced.values()] == ["ga", "gb"]
    # In pool a nothing comes free; in b it does.
    bench.feed(ev.LeaseReleased("c", held["b"].lease_id, reusable=True))
    stops = bench.feed(ev.EnvironmentGone("b", held["b"].environment_id, "gone"))
    [start] = [item for item in stops if isinstance(item, ins.Start)]
    assert start.worker_id == "b"
    assert [request.need.function_name for request in bench.core.unplaced.values()] == ["ga"]


def test_a_function_that_no_pool_takes_is_refused_at_once() -> None:
    bench = Bench()
    [refused] = bench.want(structs.replace(need(), pool=None))
    assert isinstance(refused, ins.Refuse)
    assert refused.reason is Reason.NO_POOL
    assert bench.core.ledger.account(TENANT).executions == 0


def test_a_worker_that_comes_back_in_another_pool_brings_nothing_from_the_old_one() -> None:
    bench = Bench()
    granted = bench.warm(need())
    out = bench.feed(ev.WorkerJoined("w", "unix:w", 1024, 100, (), "other"))
    assert ins.Revoke("c", granted.lease_id, Reason.WORKER_LOST) in out
    assert bench.core.crew("") == {}
    assert list(bench.core.crew("other")) == ["w"]


def test_what_keeps_a_pool_from_growing_is_said_with_the_refusal() -> None:
    bench = Bench()
    bench.feed(ev.WorkerJoined("a", "unix:a", 128, 100, (), "a"))
    bench.feed(ev.PoolTold("a", "exceeded quota in pool a"))
    bench.want(structs.replace(need("big", memory_mb=512), pool="a"))
    bench.now += POLICIES.capacity_wait
    [refused] = bench.feed(ev.TimePassed())
    assert isinstance(refused, ins.Refuse)
    decision = bench.core.journal.of_request(TENANT, "r")
    assert decision is not None
    assert decision.because.endswith("No more workers: exceeded quota in pool a.")


def test_a_worker_that_is_no_more_is_not_waited_for() -> None:
    bench = Bench()
    granted = bench.warm(need())
    out = bench.feed(ev.WorkerLost("w"))
    assert ins.Revoke("c", granted.lease_id, Reason.WORKER_LOST) in out
    assert bench.core.workers == {}
    assert bench.core.ledger.account(TENANT).executions == 0
    # What was on its way from it comes after that.
    for late in (ev.WorkerLost("w"), ev.WorkerDraining("w"), ev.WorkerLeft("w")):
        assert bench.feed(late) == []
