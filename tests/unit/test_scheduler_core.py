"""The scheduler's decisions one by one; whole histories are in tests/simulation."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from lambent.domain.names import Tenant
from services.scheduler.core import book, journal
from services.scheduler.core import events as ev
from services.scheduler.core import instructions as ins
from services.scheduler.core.environment import TRANSITIONS, Change, Environment, InvalidTransition, State
from services.scheduler.core.invariants import Watch
from services.scheduler.core.ledger import Ledger
from services.scheduler.core.machine import Scheduler
from services.scheduler.core.placement import Worker, balance, evictions, pack
from services.scheduler.core.policies import Policies
from services.scheduler.core.pools import Pool
from services.scheduler.core.reasons import Reason
from services.scheduler.core.room import START_ATTEMPTS
from services.scheduler.simulator.cluster import Numbered

TENANT, OTHER = Tenant("000000000001", "us-east-1"), Tenant("000000000002", "us-east-1")
POLICIES = Policies(
    concurrent_executions=2,
    keep_alive=10.0,
    lease=5.0,
    worker_grace=3.0,
    rebuild=1.0,
    capacity_wait=4.0,
    retry_after=1.0,
)


class Bench:
    """A scheduler with its invariants checked after every event."""

    def __init__(self, policies: Policies = POLICIES, *, memory_mb: int = 1024) -> None:
        self.core = Scheduler(policies, Numbered(), first_lease_id=1, now=0.0)
        self.now = 2.0
        self.watch = Watch()
        self.feed(ev.WorkerJoined("w", "unix:w", memory_mb, 100, ()))
        self.feed(ev.CallerJoined("c", ()))
        self.tickets = itertools.count(1)

    def feed(self, event: ev.Event) -> list[ins.Instruction]:
        out = self.core.handle(event, now=self.now)
        self.watch.check(self.core, lowered=isinstance(event, ev.SettingsTold | ev.WorkerJoined))
        return [item for item in out if not isinstance(item, ins.WakeAt)]

    def want(self, need: ev.Need, caller: str = "c") -> list[ins.Instruction]:
        return self.feed(ev.EnvironmentWanted(ev.Ticket(caller, next(self.tickets)), "r", need, b"d"))

    def warm(self, need: ev.Need) -> ins.Grant:
        """A leased environment."""
        [started] = [item for item in self.want(need) if isinstance(item, ins.Start)]
        granted = self.feed(ev.EnvironmentReady("w", started.environment_id, 0))[0]
        assert isinstance(granted, ins.Grant)
        return granted


def need(name: str = "f", tenant: Tenant = TENANT, generation: int = 1, memory_mb: int = 128) -> ev.Need:
    return ev.Need(tenant, name, "$LATEST", f"{tenant.account}-{name}-{generation}", generation, memory_mb)


def test_1_a_cold_request_starts_an_environment_and_gets_it_when_it_is_ready() -> None:
    bench = Bench()
    [start] = bench.want(need())
    assert start == ins.Start("w", "e0", 1, b"d")
    [grant] = bench.feed(ev.EnvironmentReady("w", "e0", 7))
    assert grant == ins.Grant(ev.Ticket("c", 1), 1, "e0", "w", "unix:w", 7, Reason.COLD, ev.RateScope(TENANT), 1)


def test_2_a_released_environment_is_warm_for_the_next() -> None:
    bench = Bench()
    grant = bench.warm(need())
    bench.feed(ev.LeaseReleased("c", grant.lease_id, reusable=True))
    [again] = bench.want(need())
    assert isinstance(again, ins.Grant)
    assert (again.environment_id, again.reason) == (grant.environment_id, Reason.WARM)


def test_3_a_freed_environment_goes_to_who_waits_before_the_started_one() -> None:
    bench = Bench()
    first = bench.warm(need())
    bench.feed(ev.CallerJoined("other", ()))
    out = bench.want(need(), caller="other")
    assert [type(item) for item in out] == [ins.Recall, ins.Start]
    # Who asks is not asked: it would not have come if it had an idle lease.
    assert isinstance(out[0], ins.Recall)
    assert out[0].caller_id == "c"
    [grant] = bench.feed(ev.LeaseReleased("c", first.lease_id, reusable=True))
    assert isinstance(grant, ins.Grant)
    assert grant.reason is Reason.FREED


def test_4_at_the_limit_idle_leases_are_recalled_before_anyone_is_throttled() -> None:
    bench = Bench()
    bench.warm(need("a"))
    second = bench.warm(need("b"))
    [recall] = bench.want(need("c"))
    assert isinstance(recall, ins.Recall)
    assert (recall.tenant, recall.function_name) == (TENANT, None)
    bench.feed(ev.LeaseReleased("c", second.lease_id, reusable=True))
    assert bench.feed(ev.IdleReturned("c", recall.round)) == []
    [refused_or_started] = bench.feed(ev.EnvironmentReady("w", "e2", 0))
    assert isinstance(refused_or_started, ins.Grant)


def test_5_when_everybody_says_that_nothing_idles_the_request_is_throttled_with_awss_reason() -> None:
    bench = Bench()
    bench.warm(need("a"))
    bench.warm(need("b"))
    [recall] = bench.want(need("c"))
    assert isinstance(recall, ins.Recall)
    [refusal] = bench.feed(ev.IdleReturned("c", recall.round))
    assert refusal == ins.Refuse(ev.Ticket("c", 3), Reason.ACCOUNT_LIMIT, 1.0)


def test_6_one_tenants_limit_is_nothing_to_another() -> None:
    bench = Bench()
    bench.warm(need("a"))
    bench.warm(need("b"))
    [start] = bench.want(need("a", OTHER))
    assert isinstance(start, ins.Start)


def test_7_a_change_of_the_function_ends_what_idles_and_what_comes_back() -> None:
    bench = Bench()
    idle, leased = bench.warm(need()), bench.warm(need())
    bench.feed(ev.LeaseReleased("c", idle.lease_id, reusable=True))
    [stop] = bench.feed(ev.FunctionChanged(TENANT, "f", 2))
    assert stop == ins.Stop("w", idle.environment_id, Reason.OUTDATED)
    [stop] = bench.feed(ev.LeaseReleased("c", leased.lease_id, reusable=True))
    assert stop == ins.Stop("w", leased.environment_id, Reason.OUTDATED)


def test_8_idle_environments_end_after_the_keep_alive() -> None:
    bench = Bench()
    grant = bench.warm(need())
    bench.feed(ev.LeaseReleased("c", grant.lease_id, reusable=True))
    bench.now += 9.9
    assert bench.feed(ev.TimePassed()) == []
    bench.now += 0.2
    assert bench.feed(ev.TimePassed()) == [ins.Stop("w", grant.environment_id, Reason.IDLE)]


def test_8b_a_timer_that_fires_early_is_set_again() -> None:
    bench = Bench()
    grant = bench.warm(need())
    bench.feed(ev.LeaseReleased("c", grant.lease_id, reusable=True))
    due = bench.now + POLICIES.keep_alive
    bench.now = due - 0.0005
    assert bench.core.handle(ev.TimePassed(), now=bench.now) == [ins.WakeAt(due)]
    bench.now = due
    assert bench.feed(ev.TimePassed()) == [ins.Stop("w", grant.environment_id, Reason.IDLE)]


def test_9_a_lost_callers_leases_hold_and_then_end_with_their_environments() -> None:
    bench = Bench()
    grant = bench.warm(need())
    bench.feed(ev.CallerLeft("c"))
    bench.now += 4.9
    assert bench.feed(ev.TimePassed()) == []
    assert bench.core.ledger.account(TENANT).executions == 1
    bench.now += 0.2
    assert bench.feed(ev.TimePassed()) == [ins.Stop("w", grant.environment_id, Reason.LEASE_EXPIRED)]
    # What runs there may still run: the slot is free only when the environment is gone.
    assert bench.core.ledger.account(TENANT).executions == 1
    bench.feed(ev.EnvironmentGone("w", grant.environment_id, "stopped"))
    assert bench.core.ledger.account(TENANT).executions == 0


def test_10_a_caller_that_comes_back_keeps_its_leases() -> None:
    bench = Bench()
    grant = bench.warm(need())
    bench.feed(ev.CallerLeft("c"))
    bench.now += 1
    assert bench.feed(ev.CallerJoined("c", ((grant.lease_id, grant.environment_id),))) == []
    bench.feed(ev.LeaseReleased("c", grant.lease_id, reusable=True))
    assert isinstance(bench.want(need())[0], ins.Grant)


def test_11_a_new_scheduler_waits_then_knows_what_the_others_say() -> None:
    core = Scheduler(POLICIES, Numbered(), first_lease_id=1000, now=0.0)
    core.handle(ev.CallerJoined("c", ((77, "x"),)), now=0.1)
    ticket = ev.Ticket("c", 1)
    assert not [
        i for i in core.handle(ev.EnvironmentWanted(ticket, "r", need(), b""), now=0.2) if isinstance(i, ins.Start)
    ]
    running = (ev.Running("x", 3, need(), busy=True, ready=True), ev.Running("y", 4, need(), busy=False, ready=True))
    core.handle(ev.WorkerJoined("w", "unix:w", 1024, 10, running), now=0.3)
    out = core.handle(ev.TimePassed(), now=1.1)
    [grant] = [item for item in out if isinstance(item, ins.Grant)]
    assert (grant.environment_id, grant.reason) == ("y", Reason.WARM)
    assert core.ledger.account(TENANT).executions == 2
    assert core.environments["x"].lease_id == 77


def test_12_without_room_idle_environments_of_others_make_way() -> None:
    bench = Bench(memory_mb=256)
    grant = bench.warm(need("a", memory_mb=200))
    bench.feed(ev.LeaseReleased("c", grant.lease_id, reusable=True))
    [stop] = bench.want(need("b", memory_mb=200))
    assert stop == ins.Stop("w", grant.environment_id, Reason.EVICTED)
    [start] = bench.feed(ev.EnvironmentGone("w", grant.environment_id, "stopped"))
    assert isinstance(start, ins.Start)


def test_13_without_any_room_the_request_is_refused_after_its_wait() -> None:
    bench = Bench(memory_mb=256)
    bench.warm(need("a", memory_mb=200))
    bench.want(need("b", memory_mb=200))
    bench.now += 4.1
    assert bench.feed(ev.TimePassed()) == [ins.Refuse(ev.Ticket("c", 2), Reason.NO_CAPACITY, 1.0)]


def test_14_a_cancelled_wish_frees_its_slot_at_once() -> None:
    bench = Bench()
    bench.want(need())
    assert bench.core.ledger.account(TENANT).executions == 1
    bench.feed(ev.WantCancelled(ev.Ticket("c", 1)))
    assert bench.core.ledger.account(TENANT).executions == 0


def test_15_starts_that_keep_failing_end_in_a_refusal() -> None:
    bench = Bench()
    [start] = bench.want(need())
    for _ in range(2):
        assert isinstance(start, ins.Start)
        [start] = bench.feed(ev.EnvironmentGone("w", start.environment_id, "no sandbox"))
    assert isinstance(start, ins.Start)
    [refusal] = bench.feed(ev.EnvironmentGone("w", start.environment_id, "no sandbox"))
    assert isinstance(refusal, ins.Refuse)
    assert refusal.reason is Reason.START_FAILED


@pytest.mark.parametrize("event", [ev.WorkerDraining("w"), ev.WorkerLost("w")], ids=["drains", "is lost"])
def test_15b_starts_that_end_with_their_worker_are_begun_elsewhere(event: ev.Event) -> None:
    bench = Bench(replace(POLICIES, concurrent_executions=10))
    first = [bench.want(need())[0] for _ in range(START_ATTEMPTS + 1)]
    bench.feed(ev.WorkerJoined("w2", "unix:w2", 4096, 100, ()))
    told = bench.feed(event)
    for start in first:
        assert isinstance(start, ins.Start)
        told += bench.feed(ev.EnvironmentGone("w", start.environment_id, "WorkerDrained"))
    assert [each.worker_id for each in told if isinstance(each, ins.Start)] == ["w2"] * len(first)
    assert not [each for each in told if isinstance(each, ins.Refuse)]


def test_16_a_draining_worker_gets_nothing_new() -> None:
    bench = Bench()
    bench.feed(ev.WorkerJoined("w2", "unix:w2", 1024, 100, ()))
    bench.feed(ev.WorkerDraining("w"))
    [start] = bench.want(need())
    assert isinstance(start, ins.Start)
    assert start.worker_id == "w2"


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("change", Change)
def test_transitions_that_are_not_in_the_table_are_refused(state: State, change: Change) -> None:
    worker = Worker("w", "unix:w", 1024, 10)
    pool = Pool("d", Ledger(1).function(TENANT, "f"), "$LATEST")
    environment = Environment("e", worker, pool, need(), state)
    if (state, change) in TRANSITIONS:
        environment.change(change)
        assert environment.state is TRANSITIONS[state, change]
    else:
        with pytest.raises(InvalidTransition):
            environment.change(change)
        assert environment.state is state


def test_placement_packs_or_balances_and_never_overfills() -> None:
    full, half, empty = (Worker(name, "", 1000, 10, used_mb=used) for name, used in (("f", 950), ("h", 500), ("e", 0)))
    assert pack([full, half, empty], 100, "d") is half
    assert balance([full, half, empty], 100, "d") is empty
    assert pack([full], 100, "d") is None
    half.draining = True
    assert pack([full, half], 100, "d") is None


def test_evictions_take_the_fewest_and_longest_idle_of_one_worker() -> None:
    workers = {"a": Worker("a", "", 300, 10, used_mb=300), "b": Worker("b", "", 300, 10, used_mb=300)}
    idle = [("a1", "a", 100), ("b1", "b", 200), ("a2", "a", 100)]
    assert evictions(workers, idle, 200) == ["b1"]
    assert evictions(workers, idle, 300) == []
    workers["a"].stopping_mb = 200
    assert evictions(workers, idle, 200) == []


def test_functions_that_come_and_go_leave_nothing_that_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book, "KNOWN_FUNCTIONS", 20)
    monkeypatch.setattr(journal, "KEPT", 30)
    bench = Bench(memory_mb=1 << 20)
    for number in range(200):
        bench.now += 1.0
        name = f"f{number}"
        for request in ("once", "twice", "once"):
            wanted = ev.EnvironmentWanted(ev.Ticket("c", next(bench.tickets)), f"{request}-{number}", need(name), b"d")
            [start] = [item for item in bench.feed(wanted) if isinstance(item, ins.Start)]
            [grant] = [
                item
                for item in bench.feed(ev.EnvironmentReady("w", start.environment_id, 0))
                if isinstance(item, ins.Grant)
            ]
            bench.feed(ev.LeaseReleased("c", grant.lease_id, reusable=False))
            bench.feed(ev.EnvironmentGone("w", start.environment_id, "Gone"))
        bench.feed(ev.FunctionChanged(TENANT, name, 9))
    core = bench.core
    assert len(core.generations) == 20
    assert (TENANT, "f199") in core.generations
    assert not core.pools
    assert not core.environments
    assert len(core.journal.of_function(TENANT, "f199")) == 3
    kept = [name for name in (f"f{number}" for number in range(200)) if core.journal.of_function(TENANT, name)]
    assert kept == [f"f{number}" for number in range(185, 200)], "two requests of each, thirty are kept"
    assert len(core.journal._by_function) == 15
