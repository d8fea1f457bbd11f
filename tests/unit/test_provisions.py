"""Decisions about provisioned concurrency one by one; whole histories are in tests/simulation."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from services.scheduler.core import events as ev
from services.scheduler.core import instructions as ins
from services.scheduler.core.buckets import Rate
from services.scheduler.core.policies import Policies, Ramp, ramps
from services.scheduler.core.reasons import Reason
from tests.unit.test_scheduler_core import POLICIES, TENANT, Bench

ROOMY = dataclasses.replace(POLICIES, concurrent_executions=20, requests_per_execution=1000.0, recycle=100.0)


def version(number: int, name: str = "f") -> ev.Need:
    return ev.Need(TENANT, name, str(number), f"{name}-v{number}", 1, 128)


@dataclass
class Provisioned:
    """A scheduler that is told settings, and a worker that starts whatever it is told to."""

    policies: Policies = ROOMY
    memory_mb: int = 4096
    revision: int = 0
    starts: list[ins.Start] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.bench = Bench(self.policies, memory_mb=self.memory_mb)

    def feed(self, event: ev.Event) -> list[ins.Instruction]:
        out = self.bench.feed(event)
        self.starts += [item for item in out if isinstance(item, ins.Start)]
        return out

    def put(
        self, executions: int, number: int = 1, *, reserved: int | None = None, again: bool = True
    ) -> list[ins.Instruction]:
        """Provision a version through the alias `live`; 0: nothing. `again`: it is a put, not the alias that moves."""
        self.revision += 1
        parts = (ev.ProvisionedVersion(version(number), b"d", executions),)
        put_revision = self.revision if again else 1
        wish = ev.ProvisionedConcurrency("f", "live", executions, put_revision, parts)
        kept = () if reserved is None else (("f", reserved),)
        return self.feed(ev.SettingsTold("c", TENANT, self.revision, kept, (wish,) if executions else ()))

    def ready(self, count: int | None = None, *, failed: bool = False) -> list[ins.Instruction]:
        """The oldest environments that were started become ready; all of them by default."""
        out: list[ins.Instruction] = []
        for _ in range(len(self.starts) if count is None else count):
            start = self.starts.pop(0)
            out += self.feed(ev.EnvironmentReady("w", start.environment_id, 0, failed))
        return out

    def pass_time(self, seconds: float) -> list[ins.Instruction]:
        self.bench.now += seconds
        return self.feed(ev.TimePassed())

    @property
    def status(self) -> tuple[int, int, str, str]:
        [status] = self.bench.core.provision_statuses(TENANT, None)
        return status.allocated, status.available, status.status, status.reason


def stops(out: list[ins.Instruction]) -> list[Reason]:
    return [item.reason for item in out if isinstance(item, ins.Stop)]


def grants(out: list[ins.Instruction]) -> list[ins.Grant]:
    return [item for item in out if isinstance(item, ins.Grant)]


def test_all_that_is_requested_is_started_and_serves_once_all_of_it_is_there() -> None:
    world = Provisioned()
    out = world.put(3)
    assert [start.provisioned for start in world.starts] == [True] * 3
    assert ins.Applied("c", TENANT, 1) in out
    world.ready(2)
    assert world.status == (2, 0, "IN_PROGRESS", "")
    world.ready()
    assert world.status == (3, 3, "READY", "")
    [grant] = grants(world.bench.want(version(1)))
    assert (grant.provisioned, grant.reason) == (True, Reason.PROVISIONED)
    assert world.status == (3, 2, "READY", "")


def test_each_serves_as_it_comes_where_the_policy_says_so() -> None:
    world = Provisioned(dataclasses.replace(ROOMY, serve_when_complete=False))
    world.put(3)
    world.ready(1)
    assert world.status == (1, 1, "IN_PROGRESS", "")
    assert grants(world.bench.want(version(1)))[0].provisioned


def test_more_than_is_provisioned_spills_over() -> None:
    world = Provisioned()
    world.put(1)
    world.ready()
    assert grants(world.bench.want(version(1)))[0].provisioned
    [start] = [item for item in world.bench.want(version(1)) if isinstance(item, ins.Start)]
    assert not start.provisioned
    [grant] = grants(world.bench.feed(ev.EnvironmentReady("w", start.environment_id, 0)))
    assert (grant.provisioned, grant.spillover) == (False, True)


def test_todays_ramp_starts_six_thousand_a_minute_and_the_old_one_a_burst_then_500() -> None:
    named = ramps(burst=1000, per_second=100, provisioned_per_minute=60, regional_burst=4, regional_per_minute=60)
    for name, at_once in (("aws-today", 1), ("aws-2020", 4), ("none", 8)):
        world = Provisioned(dataclasses.replace(ROOMY, ramp=named[name]))
        world.put(8)
        assert len(world.starts) == at_once, name
        if name != "none":
            assert world.status[2:] == ("IN_PROGRESS", "Ramping")
            world.pass_time(1.01)
            assert len(world.starts) == at_once + 1, name
            world.pass_time(60.0)
            assert len(world.starts) >= at_once + 2, name


def test_the_limit_lets_no_more_start_until_what_runs_on_demand_has_ended() -> None:
    world = Provisioned(dataclasses.replace(ROOMY, concurrent_executions=2))
    first, second = world.bench.warm(version(1)), world.bench.warm(version(1))
    world.put(2)
    assert (world.starts, world.status[3]) == ([], "WaitsForConcurrency")
    world.feed(ev.LeaseReleased("c", first.lease_id, reusable=True))
    assert len(world.starts) == 1
    world.feed(ev.LeaseReleased("c", second.lease_id, reusable=True))
    world.ready()
    assert world.status == (2, 2, "READY", "")


def test_no_room_is_told_and_waited_for() -> None:
    world = Provisioned(memory_mb=256)
    world.put(3)
    assert (len(world.starts), world.status[3]) == (2, "InsufficientCapacity")
    world.feed(ev.WorkerJoined("w2", "unix:w2", 256, 10, ()))
    assert [start.worker_id for start in world.starts] == ["w", "w", "w2"]


def test_a_moved_alias_keeps_the_old_until_the_new_is_warm_even_where_the_limit_has_no_room_for_both() -> None:
    world = Provisioned()
    world.put(2, reserved=2)
    world.ready()
    [held] = grants(world.bench.want(version(1)))
    out = world.put(2, 2, reserved=2, again=False)
    assert stops(out) == []
    assert grants(world.bench.want(version(1))), "the old version is served as before"
    world.ready(1)
    assert world.status[:3] == (1, 0, "IN_PROGRESS")
    out = world.ready()
    assert world.status[2] == "READY"
    # Both old ones are leased: they are let go, and their slots pass on, as the leases end.
    assert (stops(out), world.status[1]) == ([], 0)
    out = world.feed(ev.LeaseReleased("c", held.lease_id, reusable=True))
    assert stops(out) == [Reason.NOT_PROVISIONED]
    assert world.status[1] == 1


def test_a_moved_alias_is_served_on_demand_meanwhile_where_all_of_the_reserve_is_provisioned() -> None:
    world = Provisioned()
    world.put(2, reserved=2)
    world.ready()
    world.put(2, 2, reserved=2, again=False)
    spares = list(world.starts)
    out = world.bench.want(version(2))
    # One of the old ones, which nobody can ask for by the alias any more, makes way for who asks.
    assert stops(out) == [Reason.NOT_PROVISIONED]
    [start] = [item for item in out if isinstance(item, ins.Start)]
    [served] = grants(world.feed(ev.EnvironmentReady("w", start.environment_id, 0, False)))
    assert not served.provisioned
    assert grants(world.bench.want(version(1))), "the other one serves its version as before"
    assert not grants(world.bench.want(version(2))), "both slots are in use now"
    # Once all is warm, what runs on demand passes its slot on when it ends; who waited gets it first.
    world.starts = spares
    world.ready()
    assert world.status[2] == "READY"
    [warm] = grants(world.feed(ev.LeaseReleased("c", served.lease_id, reusable=True)))
    assert warm.provisioned


def test_leases_on_demand_are_asked_back_once_what_is_provisioned_is_there() -> None:
    world = Provisioned()
    held = world.bench.warm(version(1))
    world.put(2)
    out = world.ready()
    assert world.status[2] == "READY"
    assert [item for item in out if isinstance(item, ins.Retire)], "the caller would go on using what it holds"
    world.feed(ev.LeaseReleased("c", held.lease_id, reusable=True))
    [next_one] = grants(world.bench.want(version(1)))
    assert next_one.provisioned


def test_an_init_that_fails_is_the_end_of_it_until_it_is_put_again() -> None:
    world = Provisioned()
    world.put(2)
    out = world.ready(1, failed=True)
    assert stops(out) == [Reason.INIT_FAILED] * 2
    assert world.status == (0, 0, "FAILED", "FUNCTION_ERROR_INIT_FAILURE")
    world.starts.clear()
    world.pass_time(1000.0)
    assert world.starts == []
    world.put(2)
    world.ready()
    assert world.status == (2, 2, "READY", "")


def test_an_old_environment_goes_when_its_replacement_is_ready() -> None:
    world = Provisioned()
    world.put(1)
    world.ready()
    world.pass_time(99.0)
    assert world.starts == []
    assert stops(world.pass_time(2.0)) == []
    assert len(world.starts) == 1
    assert world.status == (1, 1, "READY", "")
    assert stops(world.ready()) == [Reason.RECYCLED]
    assert world.status == (1, 1, "READY", "")


def test_a_draining_workers_environments_are_replaced_elsewhere_before_they_go() -> None:
    world = Provisioned()
    world.put(1)
    world.ready()
    world.feed(ev.WorkerJoined("w2", "unix:w2", 1024, 10, ()))
    assert stops(world.feed(ev.WorkerDraining("w"))) == []
    [start] = world.starts
    assert start.worker_id == "w2"
    out = world.feed(ev.EnvironmentReady("w2", start.environment_id, 0))
    assert stops(out) == [Reason.NOT_PROVISIONED]
    assert world.status == (1, 1, "READY", "")


def test_lost_environments_are_replaced_and_serve_at_once() -> None:
    world = Provisioned()
    world.put(2)
    lost = world.starts[0].environment_id
    world.ready()
    world.feed(ev.EnvironmentGone("w", lost, "crashed"))
    assert world.status[:3] == (1, 1, "IN_PROGRESS")
    world.ready()
    assert world.status == (2, 2, "READY", "")


def test_after_a_restart_what_runs_is_kept_and_what_is_not_wanted_goes() -> None:
    world = Provisioned()
    core, now = world.bench.core, world.bench.now
    fresh = type(core)(ROOMY, core.ids, first_lease_id=10_000, now=now)
    running = tuple(
        ev.Running(f"r{n}", n, version(1 if n < 2 else 2), busy=False, ready=True, provisioned=True) for n in range(3)
    )
    fresh.handle(ev.CallerJoined("c", ()), now=now)
    fresh.handle(ev.WorkerJoined("w", "unix:w", 4096, 100, running), now=now)
    parts = (ev.ProvisionedVersion(version(1), b"d", 2),)
    wish = ev.ProvisionedConcurrency("f", "live", 2, 1, parts)
    fresh.handle(ev.SettingsTold("c", TENANT, 1, (), (wish,)), now=now)
    out = fresh.handle(ev.TimePassed(), now=now + ROOMY.rebuild + 0.1)
    assert [item for item in out if isinstance(item, ins.Start)] == []
    assert [item.environment_id for item in out if isinstance(item, ins.Stop)] == ["r2"]
    [status] = fresh.provision_statuses(TENANT, "f")
    assert (status.allocated, status.available, status.status) == (2, 2, "READY")


def test_older_settings_change_nothing() -> None:
    world = Provisioned()
    world.put(1)
    out = world.feed(ev.SettingsTold("c", TENANT, 0, (("f", 0),), ()))
    assert out == [ins.Applied("c", TENANT, 1)]
    assert world.status[2] == "IN_PROGRESS"


def test_a_shared_ramp_is_used_up_by_on_demand_starts_too() -> None:
    slow = Ramp("slow", Rate(0.1, 2), Rate(0.1, 2), shared=True)
    world = Provisioned(dataclasses.replace(ROOMY, ramp=slow))
    world.bench.warm(version(1, "other"))
    world.put(2)
    assert len(world.starts) == 1
