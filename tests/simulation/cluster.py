"""The real scheduler core and the real lease pools of callers on virtual time, with workers made of drawn numbers.

Messages take drawn times and arrive in order on each stream; streams break; workers, callers and the scheduler die.
Everything follows from one seed. The invariants are checked after every event the scheduler takes.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from lambent.domain.names import Tenant
from services.scheduler.core import events as ev
from services.scheduler.core import instructions as ins
from services.scheduler.core.invariants import Watch
from services.scheduler.core.keep_alive import KeepAlivePolicy
from services.scheduler.core.machine import Scheduler
from services.scheduler.core.policies import NO_RAMP, Policies, Ramp
from tests.simulation.peers import Invocation, SimCaller, SimWorker

TENANTS = (Tenant("000000000001", "us-east-1"), Tenant("000000000002", "us-east-1"))


class SeededIds:
    """Identifiers that repeat with the seed."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def uuid(self) -> str:
        return self.token(16)

    def token(self, size: int) -> str:
        return self._rng.randbytes(size).hex()


@dataclass
class Settings:
    """What a history is like."""

    callers: int = 3
    pollers: int = 0  # callers beside these that may use `share` of the unreserved concurrency
    share: float = 1.0
    workers: int = 2
    functions: int = 4
    limit: int = 8
    worker_mb: int = 1024
    environment_mb: int = 128
    arrivals: int = 400
    gap: float = 0.01  # mean seconds between arrivals
    beat: float = 0.0  # seconds of silence after each eight arrivals
    duration: float = 0.05  # mean seconds of an invocation
    trouble: float = 0.0  # share of arrivals that come with a fault
    keep_alive: float = 3.0
    keep_alive_policy: KeepAlivePolicy | None = None  # None: keep-alive is fixed
    configured: bool = False  # reserved and provisioned concurrency are put, changed and deleted meanwhile
    ramp: Ramp = NO_RAMP
    requests_per_execution: float = 1e6
    serve_when_complete: bool = True
    recycle: float = 1e9
    calm: float = 20.0  # seconds that follow the last arrival
    pools: tuple[str, ...] = ("",)  # of workers; functions and workers are dealt out to them in turn
    isolated: int = 0  # tenants of its callers' that each function keeps apart; 0: none


@dataclass
class Configuration:
    """One tenant's concurrency settings."""

    tenant: Tenant
    revision: int = 0
    reserved: dict[int, int] = field(default_factory=dict)
    provisioned: dict[int, tuple[int, int, int]] = field(default_factory=dict)  # version, executions, revision of put

    def change(self, rng: random.Random, function: int, limit: int) -> bool:
        """One change. False: it is not one that the API would take."""
        reserved, provisioned = dict(self.reserved), dict(self.provisioned)
        match rng.randrange(4):
            case 0:
                reserved[function] = rng.randrange(limit // 2)
            case 1:
                reserved.pop(function, None)
            case 2:
                provisioned[function] = (rng.choice((1, 2)), rng.randint(1, 3), self.revision + 1)
            case _:
                provisioned.pop(function, None)
        claims = sum(executions for f, (_, executions, _) in provisioned.items() if f not in reserved)
        beyond = any(executions > reserved.get(f, limit) for f, (_, executions, _) in provisioned.items())
        if beyond or limit - sum(reserved.values()) - claims < 1:
            return False
        self.reserved, self.provisioned, self.revision = reserved, provisioned, self.revision + 1
        return True


@dataclass
class World:
    """The whole cluster."""

    seed: int
    settings: Settings
    now: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    events: int = 0
    rejected: int = 0
    started_ahead: int = 0
    busy: int = 0
    restarted: bool = False

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.policies = Policies(
            concurrent_executions=self.settings.limit, keep_alive=self.settings.keep_alive, lease=0.5,
            worker_grace=0.3, rebuild=0.2, capacity_wait=1.0, retry_after=1.0, ramp=self.settings.ramp,
            keep_alive_policy=self.settings.keep_alive_policy,
            requests_per_execution=self.settings.requests_per_execution,
            serve_when_complete=self.settings.serve_when_complete, recycle=self.settings.recycle,
            async_share=self.settings.share,
        )  # fmt: skip
        self.configurations = {tenant: Configuration(tenant) for tenant in TENANTS}
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self.needs: dict[str, ev.Need] = {}
        self.busy_now: Counter[Tenant] = Counter()
        self.busy_most: Counter[Tenant] = Counter()
        self.start_times: list[float] = []
        self.started: list[tuple[float, Tenant]] = []  # every invocation that ran, in order
        self._wake = 0
        self.generation = dict.fromkeys(range(self.settings.functions), 1)
        self.workers: dict[str, SimWorker] = {}
        self.callers: dict[str, SimCaller] = {}
        self.watch = Watch()
        self.scheduler = self._new_scheduler()
        for number in range(self.settings.workers):
            self.add_worker(f"worker{number}", self.settings.pools[number % len(self.settings.pools)])
        for number in range(self.settings.callers):
            self.add_caller(f"caller{number}")
        for number in range(self.settings.pollers):
            self.add_caller(f"poller{number}", background=True)
        self.feed(ev.TimePassed())

    def _new_scheduler(self) -> Scheduler:
        return Scheduler(self.policies, SeededIds(self.rng), first_lease_id=int(self.now * 1e6) + 1, now=self.now)

    def add_worker(self, name: str, pool: str) -> None:
        worker = self.workers[name] = SimWorker(self, name, pool)
        worker.connect()

    def add_caller(self, name: str, *, background: bool = False) -> None:
        caller = self.callers[name] = SimCaller(self, name, background=background)
        caller.connect()
        caller.tick()

    def at(self, time: float, what: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._heap, (time, self._order, what))

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        self.at(self.now + seconds, what)

    def count_busy(self, tenant: Tenant, change: int) -> None:
        if change > 0:
            self.started.append((self.now, tenant))
        self.busy_now[tenant] += change
        self.busy_most[tenant] = max(self.busy_most[tenant], self.busy_now[tenant])

    def feed_if_known(self, event: ev.CallerLeft | ev.WorkerLeft) -> None:
        known = (
            event.caller_id in self.scheduler.callers
            if isinstance(event, ev.CallerLeft)
            else event.worker_id in self.scheduler.workers
        )
        if known:
            self.feed(event)

    def feed(self, event: ev.Event) -> None:
        """One event into the scheduler, its instructions out, the invariants checked."""
        self.events += 1
        instructions = self.scheduler.handle(event, now=self.now)
        self.watch.check(self.scheduler, lowered=self.restarted or isinstance(event, ev.SettingsTold | ev.WorkerJoined))
        for instruction in instructions:
            self._carry_out(instruction)

    def _carry_out(self, instruction: ins.Instruction) -> None:
        match instruction:
            case ins.Grant() | ins.Refuse():
                self._to_caller(instruction.ticket.caller_id, instruction)
            case ins.Recall() | ins.Revoke() | ins.Retire() | ins.Applied() | ins.Permit() | ins.RecallRequests():
                self._to_caller(instruction.caller_id, instruction)
            case ins.Start():
                self.start_times.append(self.now)
                self.started_ahead += self.scheduler.environments[instruction.environment_id].ahead
                self.needs[instruction.environment_id] = self.scheduler.environments[instruction.environment_id].need
                self._to_worker(instruction.worker_id, instruction)
            case ins.Stop():
                self._to_worker(instruction.worker_id, instruction)
            case ins.WakeAt(at):
                self._wake += 1
                mine = self._wake
                if at != float("inf"):
                    self.at(max(at, self.now), lambda: self.feed(ev.TimePassed()) if mine == self._wake else None)

    def _to_caller(self, caller_id: str, instruction: ins.Instruction) -> None:
        caller = self.callers[caller_id]
        if caller.down is not None:
            caller.down.send(lambda: caller.receive(instruction))

    def _to_worker(self, worker_id: str, instruction: ins.Instruction) -> None:
        worker = self.workers.get(worker_id)
        if worker is not None and worker.down is not None:
            worker.down.send(lambda: worker.receive(instruction))

    def need(self, function: int, version: int = 0, tenant_id: str = "") -> ev.Need:
        """What an invocation needs; version 0 is $LATEST, whose deployments change. `tenant_id`: of the callers' tenant
        that it is for."""
        tenant = TENANTS[function % len(TENANTS)]
        generation = 1 if version else self.generation[function]
        deployment = f"v{version}" if version else str(generation)
        return ev.Need(
            tenant, f"f{function}", str(version) if version else "$LATEST",
            f"{tenant.account}/f{function}/{deployment}{tenant_id}", generation, self.settings.environment_mb,
            self.settings.pools[function % len(self.settings.pools)],
        )  # fmt: skip

    def told(self, tenant: Tenant, caller_id: str) -> ev.SettingsTold:
        """What a caller tells of a tenant's concurrency."""
        configuration = self.configurations[tenant]
        provisioned = []
        for function, (version, executions, revision) in sorted(configuration.provisioned.items()):
            part = ev.ProvisionedVersion(self.need(function, version), b"", executions)
            provisioned.append(ev.ProvisionedConcurrency(f"f{function}", "live", executions, revision, (part,)))
        reserved = tuple((f"f{function}", n) for function, n in sorted(configuration.reserved.items()))
        return ev.SettingsTold(caller_id, tenant, configuration.revision, reserved, tuple(provisioned))

    def configure(self) -> None:
        """Somebody puts, moves or deletes a configuration, within what the API would let them."""
        function = self.rng.randrange(self.settings.functions)
        configuration = self.configurations[TENANTS[function % len(TENANTS)]]
        if not configuration.change(self.rng, function, self.settings.limit):
            return
        for caller in self.callers.values():
            if not caller.dead:
                caller.tell(configuration.tenant)
                break

    def arrive(self, number: int) -> None:
        living = [c for c in self.callers.values() if not c.dead]
        caller = self.rng.choice(living)
        version = self.rng.randrange(3) if self.settings.configured else 0
        # As Target.of_tenant has it.
        tenant_id = f"/{self.rng.randrange(self.settings.isolated)}" if self.settings.isolated else ""
        need = self.need(self.rng.randrange(self.settings.functions), version, tenant_id)
        caller.invoke(Invocation(self, caller, number, need))
        if self.settings.configured and self.rng.random() < 0.05:
            self.configure()
        if self.rng.random() < self.settings.trouble:
            self.rng.choice(self.faults())()
        if number + 1 < self.settings.arrivals:
            silence = self.settings.beat if number % 8 == 7 else 0.0
            self.after(silence + self.rng.expovariate(1 / self.settings.gap), lambda: self.arrive(number + 1))

    def faults(self) -> list[Callable[[], None]]:
        return [
            self.break_caller, self.kill_caller, self.break_worker, self.kill_worker, self.crash_environment,
            self.restart_scheduler, self.change_function,
        ]  # fmt: skip

    def break_caller(self) -> None:
        caller = self.rng.choice([c for c in self.callers.values() if not c.dead])
        caller.disconnect()
        self.after(self.rng.choice((0.01, 0.3, 0.9)), lambda: caller.connect() if caller.up is None else None)

    def kill_caller(self) -> None:
        lost = self.rng.choice([c for c in self.callers.values() if not c.dead])
        lost.die()
        self.add_caller(f"caller{len(self.callers)}", background=lost.background)

    def break_worker(self) -> None:
        if self.workers:
            worker = self.rng.choice(list(self.workers.values()))
            worker.disconnect()
            self.after(self.rng.choice((0.01, 0.2, 0.6)), lambda: worker.connect() if worker.up is None else None)

    def kill_worker(self) -> None:
        pool = self.rng.choice(self.settings.pools)
        if self.workers:
            lost = self.rng.choice(list(self.workers.values()))
            pool = lost.pool
            lost.die()
        name = f"worker{self._order}"
        self.after(0.1, lambda: self.add_worker(name, pool))

    def crash_environment(self) -> None:
        if self.workers:
            self.rng.choice(list(self.workers.values())).crash_environment()

    def change_function(self) -> None:
        function = self.rng.randrange(self.settings.functions)
        self.generation[function] += 1
        need = self.need(function)
        self.feed(ev.FunctionChanged(need.tenant, need.function_name, need.generation, need.version))

    def restart_scheduler(self) -> None:
        """It dies with all it knew; callers and workers come back one after the other."""
        self.restarted = True
        self._wake += 1
        peers: list[SimCaller | SimWorker] = [*self.callers.values(), *self.workers.values()]
        connected = [peer for peer in peers if peer.up is not None]
        self.scheduler = self._new_scheduler()
        for peer in connected:
            peer.disconnect()
        self.feed(ev.TimePassed())
        for peer in connected:
            self.after(self.rng.uniform(0.0, 0.15), partial(self._return, peer))

    @staticmethod
    def _return(peer: SimCaller | SimWorker) -> None:
        if peer.up is None:
            peer.connect()

    def run(self) -> None:
        """Until nothing is left to happen but the callers' ticks."""
        self.at(0.5, lambda: self.arrive(0))
        horizon = 0.5 + self.settings.arrivals * (self.settings.gap * 2 + self.settings.beat / 8) + self.settings.calm
        while self._heap and self._heap[0][0] <= horizon:
            self.now, _, what = heapq.heappop(self._heap)
            what()
