"""The caller's side of leases."""

from __future__ import annotations

from dataclasses import dataclass, field

from lambent.domain.names import Tenant
from lambent.infra.invoker.budgets import Budget, Scope, Use
from lambent.infra.invoker.pool import Acquire, Cancel, GiveBack, Lease, LeasePool, Release, Report, Returned, Wish

TENANT = Tenant("000000000001", "us-east-1")
SCOPE = Scope(TENANT, "", "")


@dataclass
class Waiting:
    """An invocation that notes what it is told."""

    deployment_id: str = "d"
    tenant: Tenant = TENANT
    function_name: str = "f"
    leases: list[Lease] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def lease_ready(self, lease: Lease) -> None:
        self.leases.append(lease)

    def lease_refused(self, reason: str, retry_after: float) -> None:
        self.refused.append(reason)


def lease(number: int = 1, deployment: str = "d") -> Lease:
    budget = Budget(SCOPE, left=100)
    return Lease(number, f"e{number}", "w", "unix:w", number, deployment, TENANT, "f", "Warm", budget)


def pool() -> LeasePool:
    made = LeasePool(hold_seconds=1.0)
    made.joined()
    return made


def drained(of: LeasePool) -> list[object]:
    out, of.out = of.out, []
    return list(out)


def test_a_lease_that_comes_free_serves_the_next_invocation_without_asking() -> None:
    held, first = pool(), Waiting()
    ticket = held.want(first, 0.0)
    held.granted(ticket, lease(), 0.0)
    held.finished(first.leases[0], reusable=True, now=0.0)
    drained(held)
    assert held.take("d", 0.5) is first.leases[0]
    assert held.take("d", 0.5) is None
    assert drained(held) == []


def test_a_lease_that_ran_beside_provisioned_concurrency_is_not_kept_for_the_next_invocation() -> None:
    held, first = pool(), Waiting()
    granted = lease()
    granted.spillover = True
    held.granted(held.want(first, 0.0), granted, 0.0)
    drained(held)
    held.finished(granted, reusable=True, now=0.0)
    assert held.take("d", 0.0) is None
    assert drained(held) == [Release(1, True)]


def test_it_goes_to_the_oldest_that_waits_and_the_scheduler_is_told() -> None:
    held, first, second, third = pool(), Waiting(), Waiting(), Waiting()
    tickets = [held.want(waiter, 0.0) for waiter in (first, second, third)]
    held.granted(tickets[0], lease(), 0.0)
    drained(held)
    held.finished(first.leases[0], reusable=True, now=0.0)
    assert second.leases == first.leases
    assert drained(held) == [Cancel(tickets[1])]
    held.granted(tickets[2], lease(2), 0.0)
    assert [x.id for x in third.leases] == [2]


def test_an_idle_lease_is_given_back_after_a_while() -> None:
    held, waiter = pool(), Waiting()
    held.granted(held.want(waiter, 0.0), lease(), 0.0)
    held.finished(waiter.leases[0], reusable=True, now=0.0)
    drained(held)
    held.tick(0.9)
    assert drained(held) == []
    held.tick(1.1)
    assert drained(held) == [Release(1, reusable=True)]


def test_a_recall_gives_back_what_idles_and_holds_nothing_for_a_while() -> None:
    held, one, two = pool(), Waiting(), Waiting()
    held.granted(held.want(one, 0.0), lease(1), 0.0)
    held.granted(held.want(two, 0.0), lease(2), 0.0)
    held.finished(one.leases[0], reusable=True, now=0.0)
    drained(held)
    held.recalled(7, TENANT, None, 1.0, 0.0)
    assert drained(held) == [Release(1, reusable=True), Returned(7)]
    held.finished(two.leases[0], reusable=True, now=0.5)
    assert drained(held) == [Release(2, reusable=True)]


def test_without_the_stream_leases_are_used_until_they_run_out_and_wishes_are_repeated() -> None:
    held, first, second = pool(), Waiting(), Waiting(deployment_id="other")
    held.granted(held.want(first, 0.0), lease(), 0.0)
    held.finished(first.leases[0], reusable=True, now=0.0)
    ticket = held.want(second, 0.0)
    held.lost(usable_until=10.0)
    taken = held.take("d", 5.0)
    assert taken is not None
    held.finished(taken, reusable=True, now=6.0)
    assert held.take("d", 11.0) is None
    assert [x.id for x in held.joined()] == [1]
    assert [item for item in drained(held) if isinstance(item, Acquire)] == [Acquire(ticket, second)]


def test_a_revoked_lease_is_not_used_again() -> None:
    held, waiter = pool(), Waiting()
    held.granted(held.want(waiter, 0.0), lease(), 0.0)
    held.revoked(1)
    drained(held)
    held.finished(waiter.leases[0], reusable=True, now=0.0)
    assert held.take("d", 0.0) is None
    assert drained(held) == []


def test_refusals_reach_who_asked_and_abandoned_wishes_nobody() -> None:
    held, first, second = pool(), Waiting(), Waiting()
    tickets = [held.want(first, 0.0), held.want(second, 0.0)]
    held.abandon(tickets[1])
    held.refused(tickets[0], "ConcurrentInvocationLimitExceeded", 1.0)
    held.refused(tickets[1], "ConcurrentInvocationLimitExceeded", 1.0)
    assert (first.refused, second.refused) == (["ConcurrentInvocationLimitExceeded"], [])


def full() -> tuple[LeasePool, Waiting]:
    """A pool whose one lease is in use by what is answered, and where sixteen asks for another were in vain."""
    held, running = pool(), Waiting()
    held.granted(held.want(running, 0.0), lease(), 0.0)
    for _ in range(16):
        following = Waiting()
        held.want(following, 0.0)
        held.ask(0.0)
        held.finished(running.leases[0], reusable=True, now=0.0)
        running = following
    drained(held)
    return held, running


def test_where_there_is_no_room_one_asks_at_times_and_nobody_waits_long_without_asking() -> None:
    held, _ = full()
    waiting = [Waiting() for _ in range(4)]
    first, second, *others = [held.want(waiter, 1.0) for waiter in waiting]
    held.ask(1.001)
    assert drained(held) == [Acquire(first, waiting[0])]
    held.ask(1.011)
    assert drained(held) == []
    assert held.asking
    held.ask(1.022)
    assert drained(held) == [Acquire(second, waiting[1])]
    held.ask(1.1)
    assert [item.ticket for item in drained(held) if isinstance(item, Acquire)] == others
    assert not held.asking


def test_once_there_is_room_again_everybody_asks() -> None:
    held, _ = full()
    waiting = [Waiting() for _ in range(3)]
    first, *others = [held.want(waiter, 1.0) for waiter in waiting]
    held.ask(1.001)
    held.granted(first, lease(2), 1.002)
    held.ask(1.003)
    assert [item.ticket for item in drained(held) if isinstance(item, Acquire)] == [first, *others]


def test_a_refusal_has_everybody_asked_for_and_refused_at_once() -> None:
    held, _ = full()
    first, second = held.want(Waiting(), 1.0), held.want(Waiting(), 1.0)
    held.ask(1.001)
    held.refused(first, "ReservedFunctionConcurrentInvocationLimitExceeded", 1.0)
    held.ask(1.002)
    assert [item.ticket for item in drained(held) if isinstance(item, Acquire)] == [first, second]


def test_with_nothing_in_use_here_any_more_everybody_asks() -> None:
    held, running = full()
    waiting = [held.want(Waiting(), 1.0) for _ in range(3)]
    held.finished(running.leases[0], reusable=False, now=1.0)
    held.ask(1.001)
    assert [item.ticket for item in drained(held) if isinstance(item, Acquire)] == waiting


def test_who_gives_up_unasked_is_not_asked_for() -> None:
    held, _ = full()
    held.ask(1.0)
    one, other = held.want(Waiting(), 1.0), held.want(Waiting(), 1.0)
    held.abandon(one)
    held.ask(2.0)
    assert [item.ticket for item in drained(held) if isinstance(item, Acquire | Cancel)] == [other]
    assert not held.asking


def test_while_a_lease_is_in_use_here_the_scheduler_is_asked_only_after_a_moment() -> None:
    held, first, second, third = pool(), Waiting(), Waiting(), Waiting()
    held.granted(held.want(first, 0.0), lease(), 0.0)
    drained(held)
    held.want(second, 0.0)
    assert drained(held) == []
    assert held.asking
    held.finished(first.leases[0], reusable=True, now=0.0)
    assert second.leases == first.leases
    assert drained(held) == []
    ticket = held.want(third, 0.0)
    held.ask(0.0)
    assert drained(held) == [Acquire(ticket, third)]


def paid_lease(held: LeasePool, number: int = 1, scope: Scope = SCOPE) -> Lease:
    """A lease as the stream makes it: with one permission of its scope's budget."""
    budget = held.budget(scope)
    budget.left += 1
    return Lease(number, f"e{number}", "w", "unix:w", number, "d", TENANT, "f", "Warm", budget, bool(scope.version))


def test_each_use_takes_a_permission_and_more_are_asked_for_in_time() -> None:
    held, first = pool(), Waiting()
    held.granted(held.want(first, 0.0), paid_lease(held), 0.0)
    # The grant's own permission is used; some are asked for before the next invocation comes.
    assert [item for item in drained(held) if isinstance(item, Wish)] == [Wish(SCOPE, 8)]
    held.finished(first.leases[0], reusable=True, now=0.05)
    held.permitted(SCOPE, 8, 0.0, 0.05)
    for use in range(4):
        lease = held.take("d", 0.05)
        assert lease is not None
        held.finished(lease, reusable=True, now=0.05)
        # Half of a wish is left when the next one goes out, a larger one: that one was used up quickly.
        wishes = [item for item in drained(held) if isinstance(item, Wish)]
        assert wishes == ([Wish(SCOPE, 16)] if use == 3 else [])


def test_without_a_permission_an_idle_lease_waits_for_one() -> None:
    held, first, second = pool(), Waiting(), Waiting()
    held.granted(held.want(first, 0.0), paid_lease(held), 0.0)
    held.finished(first.leases[0], reusable=True, now=0.0)
    drained(held)
    assert held.take("d", 0.0) is None
    held.want(second, 0.0)
    assert drained(held) == [], "the lease is there: no other environment is asked for"
    held.permitted(SCOPE, 3, 0.0, 0.0)
    assert second.leases == first.leases


def test_a_rate_that_is_used_up_refuses_with_awss_reason() -> None:
    held, first, second = pool(), Waiting(), Waiting()
    held.granted(held.want(first, 0.0), paid_lease(held), 0.0)
    held.finished(first.leases[0], reusable=True, now=0.0)
    held.want(second, 0.0)
    held.permitted(SCOPE, 0, 0.5, 0.0)
    assert second.refused == ["FunctionInvocationRateLimitExceeded"]


def test_beyond_the_rate_of_provisioned_concurrency_a_request_goes_on_demand() -> None:
    scope = Scope(TENANT, "f", "1")
    held, first, second = pool(), Waiting(), Waiting()
    held.granted(held.want(first, 0.0), paid_lease(held, scope=scope), 0.0)
    held.finished(first.leases[0], reusable=True, now=0.0)
    ticket = held.want(second, 0.0)
    drained(held)
    held.permitted(scope, 0, 0.5, 0.0)
    assert drained(held) == [Acquire(ticket, second, on_demand=True)]


def test_unused_permissions_go_back_when_they_are_recalled_and_after_a_while() -> None:
    held, first = pool(), Waiting()
    held.granted(held.want(first, 0.0), paid_lease(held), 0.0)
    held.permitted(SCOPE, 100, 0.0, 0.0)
    drained(held)
    held.tick(1.5)
    assert drained(held) == [GiveBack(SCOPE, 92, 0)], "all but a few"
    held.permissions_recalled(SCOPE, 7)
    assert drained(held) == [GiveBack(SCOPE, 8, 7)]


def test_retired_leases_are_given_back_as_they_end_whoever_waits() -> None:
    held, first, second, third = pool(), Waiting(), Waiting(), Waiting()
    held.granted(held.want(first, 0.0), paid_lease(held, 1), 0.0)
    held.granted(held.want(second, 0.0), paid_lease(held, 2), 0.0)
    held.permitted(SCOPE, 10, 0.0, 0.0)
    held.finished(first.leases[0], reusable=True, now=0.0)
    drained(held)
    held.retired(TENANT, "f")
    assert drained(held) == [Release(1, reusable=True)]
    held.want(third, 0.0)
    held.finished(second.leases[0], reusable=True, now=0.0)
    assert drained(held) == [Release(2, reusable=True)]
    assert third.leases == []


# How provisioned concurrency is used

PROVISIONED = Scope(TENANT, "f", "1")


def provisioned(held: LeasePool, number: int) -> Lease:
    budget = held.budget(PROVISIONED)
    budget.left = 100
    return Lease(number, f"e{number}", "w", "unix:w", number, "d", TENANT, "f", "Provisioned", budget, provisioned=True)


def reports(held: LeasePool, now: float) -> list[Use]:
    held.tick(now)
    return [each.use for each in drained(held) if isinstance(each, Report)]


def test_what_ran_at_once_when_an_invocation_began_and_how_long_is_reported() -> None:
    held = pool()
    one, two = provisioned(held, 1), provisioned(held, 2)
    held.granted(held.want(Waiting(), 0.0), one, 1.0)
    held.granted(held.want(Waiting(), 0.0), two, 2.0)
    held.finished(one, reusable=True, now=4.0)
    (use,) = reports(held, 6.0)
    assert (use.invocations, use.concurrent, use.most, use.busy_seconds) == (2, 3, 2, 7.0)
    held.finished(two, reusable=True, now=7.0)
    assert reports(held, 7.5) == []
    (rest,) = reports(held, 12.0)
    assert (rest.invocations, rest.busy_seconds) == (0, 1.0)
    assert reports(held, 18.0) == []


def test_an_invocation_ends_for_the_report_also_where_its_lease_is_void() -> None:
    held = pool()
    one = provisioned(held, 1)
    held.granted(held.want(Waiting(), 0.0), one, 0.0)
    held.revoked(one.id)
    held.finished(one, reusable=False, now=2.0)
    (use,) = reports(held, 6.0)
    assert use.busy_seconds == 2.0
