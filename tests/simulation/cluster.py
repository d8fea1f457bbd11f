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
from lambent.infra.invoker.pool import Acquire, Cancel, Lease, LeasePool, Release, Returned
from services.scheduler.core import events as ev
from services.scheduler.core import instructions as ins
from services.scheduler.core.invariants import check
from services.scheduler.core.machine import Scheduler
from services.scheduler.core.serving import Policies

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
    workers: int = 2
    functions: int = 4
    limit: int = 8
    worker_mb: int = 1024
    environment_mb: int = 128
    arrivals: int = 400
    gap: float = 0.01  # mean seconds between arrivals
    duration: float = 0.05  # mean seconds of an invocation
    trouble: float = 0.0  # share of arrivals that come with a fault
    keep_alive: float = 3.0


@dataclass
class Invocation:
    """One invocation; a `Waiter` of the pool."""

    world: World
    caller: SimCaller
    number: int
    need: ev.Need
    outcome: str | None = None
    ticket: int = 0

    @property
    def tenant(self) -> Tenant:
        return self.need.tenant

    @property
    def function_name(self) -> str:
        return self.need.function_name

    @property
    def deployment_id(self) -> str:
        return self.need.deployment_id

    def lease_ready(self, lease: Lease) -> None:
        self.caller.run(self, lease)

    def lease_refused(self, reason: str, retry_after: float) -> None:
        self.finish(reason)

    def finish(self, outcome: str) -> None:
        assert self.outcome is None, f"invocation {self.number} answered twice: {self.outcome}, {outcome}"  # I3
        self.outcome = outcome
        self.world.outcomes[outcome] += 1


@dataclass
class SimEnvironment:
    """An environment on a simulated worker."""

    start: ins.Start
    slot: int
    ready: bool = False
    invocation: Invocation | None = None


class Stream:
    """One direction of one connection: in order, each message a drawn time later."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._free_at = 0.0
        self.open = True

    def send(self, deliver: Callable[[], None]) -> None:
        arrival = max(self._free_at, self._world.now + self._world.rng.expovariate(1 / 0.002))
        self._free_at = arrival
        self._world.at(arrival, lambda: deliver() if self.open else None)


class SimCaller:
    """A frontend: the real pool, with streams that may break."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.id = world, name
        self.pool = LeasePool(hold_seconds=0.05)
        self.up: Stream | None = None
        self.down: Stream | None = None
        self.dead = False
        self.busy: dict[int, Invocation] = {}

    def connect(self) -> None:
        if self.dead:
            return
        self.up, self.down = Stream(self.world), Stream(self.world)
        held = tuple((lease.id, lease.environment_id) for lease in self.pool.joined())
        self._up(ev.CallerJoined(self.id, held))
        self.flush()

    def disconnect(self) -> None:
        if self.up is None or self.down is None:
            return
        self.up.open = self.down.open = False
        self.up = self.down = None
        self.pool.lost(self.world.now + self.world.policies.lease * 0.8)
        # The scheduler's side notices too, unless it is the one that died.
        self.world.feed_if_known(ev.CallerLeft(self.id))

    def _up(self, event: ev.Event) -> None:
        assert self.up is not None
        self.up.send(lambda: self.world.feed(event))

    def flush(self) -> None:
        out, self.pool.out = self.pool.out, []
        for item in out:
            match item:
                case Acquire(ticket, waiter):
                    assert isinstance(waiter, Invocation)
                    self._up(ev.EnvironmentWanted(ev.Ticket(self.id, ticket), str(waiter.number), waiter.need, b""))
                case Cancel(ticket):
                    self._up(ev.WantCancelled(ev.Ticket(self.id, ticket)))
                case Release(lease_id, reusable):
                    self._up(ev.LeaseReleased(self.id, lease_id, reusable))
                case Returned(number):
                    self._up(ev.IdleReturned(self.id, number))

    def invoke(self, invocation: Invocation) -> None:
        lease = self.pool.take(invocation.deployment_id, self.world.now)
        if lease is not None:
            self.run(invocation, lease)
        else:
            invocation.ticket = self.pool.want(invocation)
            self.world.after(0.001, self.ask)
            if self.world.rng.random() < 0.02:
                self.world.after(0.004, lambda: self.abandon(invocation))
        self.flush()

    def ask(self) -> None:
        self.pool.ask()
        if self.up is not None:
            self.flush()

    def abandon(self, invocation: Invocation) -> None:
        if invocation.outcome is None and invocation.number not in self.busy:
            self.pool.abandon(invocation.ticket)
            invocation.finish("abandoned")
            self.flush()

    def run(self, invocation: Invocation, lease: Lease) -> None:
        self.busy[invocation.number] = invocation
        worker = self.world.workers.get(lease.worker_id)
        environment = worker.environments.get(lease.environment_id) if worker is not None else None
        if environment is None or environment.invocation is not None:
            # What a worker answers with a Reject: nothing ran, the invocation takes another lease.
            self.busy.pop(invocation.number)
            self.world.rejected += 1
            self.pool.finished(lease, reusable=False, now=self.world.now)
            invocation.ticket = self.pool.want(invocation)
            self.world.after(0.001, self.ask)
            self.flush()
            return
        environment.invocation = invocation
        self.world.busy += 1
        self.world.count_busy(invocation.tenant, +1)
        self.world.after(
            self.world.rng.expovariate(1 / self.world.settings.duration), lambda: self.ended(invocation, lease)
        )

    def ended(self, invocation: Invocation, lease: Lease) -> None:
        worker = self.world.workers.get(lease.worker_id)
        environment = worker.environments.get(lease.environment_id) if worker is not None else None
        if environment is None or environment.invocation is not invocation:
            return  # The environment died with it; its end was told when it died.
        environment.invocation = None
        self.world.count_busy(invocation.tenant, -1)
        if self.dead:
            return
        del self.busy[invocation.number]
        invocation.finish("ok")
        self.pool.finished(lease, reusable=True, now=self.world.now)
        self.flush()

    def lost(self, invocation: Invocation) -> None:
        """The worker's connection broke while it ran the invocation."""
        if not self.dead and self.busy.pop(invocation.number, None) is not None:
            invocation.finish("lost with its environment")

    def receive(self, instruction: ins.Instruction) -> None:
        now = self.world.now
        match instruction:
            case ins.Grant():
                waiter = self.world.needs[instruction.environment_id]
                lease = Lease(
                    instruction.lease_id, instruction.environment_id, instruction.worker_id, instruction.address,
                    instruction.slot, waiter.deployment_id, waiter.tenant, waiter.function_name, instruction.reason,
                )  # fmt: skip
                self.pool.granted(instruction.ticket.number, lease, now)
            case ins.Refuse():
                self.pool.refused(instruction.ticket.number, instruction.reason, instruction.retry_after)
            case ins.Recall():
                hold_off = 0.1 if instruction.tenant and not instruction.function_name else 0.0
                self.pool.recalled(instruction.round, instruction.tenant, instruction.function_name, hold_off, now)
            case ins.Revoke():
                self.pool.revoked(instruction.lease_id)
        self.flush()

    def tick(self) -> None:
        if not self.dead:
            self.pool.tick(self.world.now)
            if self.up is not None:
                self.flush()
            self.world.after(0.02, self.tick)

    def die(self) -> None:
        self.disconnect()
        self.dead = True
        for invocation in list(self.busy.values()):
            invocation.finish("caller died")
        for waiter in self.pool.waiters():
            assert isinstance(waiter, Invocation)
            waiter.finish("caller died")


class SimWorker:
    """A worker whose environments take drawn times to start."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.id = world, name
        self.environments: dict[str, SimEnvironment] = {}
        self.up: Stream | None = None
        self.down: Stream | None = None
        self._slots = 0

    def connect(self) -> None:
        if self.id not in self.world.workers:
            return
        self.up, self.down = Stream(self.world), Stream(self.world)
        running = tuple(
            ev.Running(i, e.slot, self.world.needs[i], e.invocation is not None, e.ready)
            for i, e in self.environments.items()
        )
        self._up(ev.WorkerJoined(self.id, f"unix:{self.id}", self.world.settings.worker_mb, 100, running))

    def disconnect(self) -> None:
        if self.up is None or self.down is None:
            return
        self.up.open = self.down.open = False
        self.up = self.down = None
        self.world.feed_if_known(ev.WorkerLeft(self.id))

    def _up(self, event: ev.Event) -> None:
        if self.up is not None:
            self.up.send(lambda: self.world.feed(event))

    def receive(self, instruction: ins.Instruction) -> None:
        match instruction:
            case ins.Start():
                if self.world.rng.random() < self.world.settings.trouble / 2:
                    self._up(ev.EnvironmentGone(self.id, instruction.environment_id, "sandbox unavailable"))
                    return
                self._slots += 1
                self.environments[instruction.environment_id] = SimEnvironment(instruction, self._slots)
                self.world.after(self.world.rng.expovariate(1 / 0.02), lambda: self.ready(instruction.environment_id))
            case ins.Stop():
                self.end(instruction.environment_id)
                self._up(ev.EnvironmentGone(self.id, instruction.environment_id, instruction.reason))

    def ready(self, environment_id: str) -> None:
        environment = self.environments.get(environment_id)
        if environment is not None:
            environment.ready = True
            self._up(ev.EnvironmentReady(self.id, environment_id, environment.slot))

    def end(self, environment_id: str) -> None:
        environment = self.environments.pop(environment_id, None)
        if environment is not None and environment.invocation is not None:
            self.world.count_busy(environment.invocation.tenant, -1)
            environment.invocation.caller.lost(environment.invocation)

    def crash_environment(self) -> None:
        if self.environments:
            environment_id = self.world.rng.choice(sorted(self.environments))
            self.end(environment_id)
            self._up(ev.EnvironmentGone(self.id, environment_id, "crashed"))

    def die(self) -> None:
        self.disconnect()
        del self.world.workers[self.id]
        for environment_id in list(self.environments):
            self.end(environment_id)


@dataclass
class World:
    """The whole cluster."""

    seed: int
    settings: Settings
    now: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    events: int = 0
    rejected: int = 0
    busy: int = 0
    restarted: bool = False

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.policies = Policies(
            concurrent_executions=self.settings.limit, keep_alive=self.settings.keep_alive, lease=0.5,
            worker_grace=0.3, rebuild=0.2, capacity_wait=1.0, retry_after=1.0,
        )  # fmt: skip
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self.needs: dict[str, ev.Need] = {}
        self.busy_now: Counter[Tenant] = Counter()
        self.busy_most: Counter[Tenant] = Counter()
        self._wake = 0
        self.generation = dict.fromkeys(range(self.settings.functions), 1)
        self.workers: dict[str, SimWorker] = {}
        self.callers: dict[str, SimCaller] = {}
        self.scheduler = self._new_scheduler()
        for number in range(self.settings.workers):
            self.add_worker(f"worker{number}")
        for number in range(self.settings.callers):
            self.add_caller(f"caller{number}")
        self.feed(ev.TimePassed())

    def _new_scheduler(self) -> Scheduler:
        return Scheduler(self.policies, SeededIds(self.rng), first_lease_id=int(self.now * 1e6) + 1, now=self.now)

    def add_worker(self, name: str) -> None:
        worker = self.workers[name] = SimWorker(self, name)
        worker.connect()

    def add_caller(self, name: str) -> None:
        caller = self.callers[name] = SimCaller(self, name)
        caller.connect()
        caller.tick()

    def at(self, time: float, what: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._heap, (time, self._order, what))

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        self.at(self.now + seconds, what)

    def count_busy(self, tenant: Tenant, change: int) -> None:
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
        check(self.scheduler, recognised=self.restarted)
        for instruction in instructions:
            self._carry_out(instruction)

    def _carry_out(self, instruction: ins.Instruction) -> None:
        match instruction:
            case ins.Grant() | ins.Refuse():
                self._to_caller(instruction.ticket.caller_id, instruction)
            case ins.Recall() | ins.Revoke():
                self._to_caller(instruction.caller_id, instruction)
            case ins.Start():
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

    def need(self, function: int) -> ev.Need:
        tenant = TENANTS[function % len(TENANTS)]
        generation = self.generation[function]
        return ev.Need(
            tenant, f"f{function}", "$LATEST", f"{tenant.account}/f{function}/{generation}", generation,
            self.settings.environment_mb,
        )  # fmt: skip

    def arrive(self, number: int) -> None:
        living = [c for c in self.callers.values() if not c.dead]
        caller = self.rng.choice(living)
        caller.invoke(Invocation(self, caller, number, self.need(self.rng.randrange(self.settings.functions))))
        if self.rng.random() < self.settings.trouble:
            self.rng.choice(self.faults())()
        if number + 1 < self.settings.arrivals:
            self.after(self.rng.expovariate(1 / self.settings.gap), lambda: self.arrive(number + 1))

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
        self.rng.choice([c for c in self.callers.values() if not c.dead]).die()
        self.add_caller(f"caller{len(self.callers)}")

    def break_worker(self) -> None:
        if self.workers:
            worker = self.rng.choice(list(self.workers.values()))
            worker.disconnect()
            self.after(self.rng.choice((0.01, 0.2, 0.6)), lambda: worker.connect() if worker.up is None else None)

    def kill_worker(self) -> None:
        if self.workers:
            self.rng.choice(list(self.workers.values())).die()
        name = f"worker{self._order}"
        self.after(0.1, lambda: self.add_worker(name))

    def crash_environment(self) -> None:
        if self.workers:
            self.rng.choice(list(self.workers.values())).crash_environment()

    def change_function(self) -> None:
        function = self.rng.randrange(self.settings.functions)
        self.generation[function] += 1
        need = self.need(function)
        self.feed(ev.FunctionChanged(need.tenant, need.function_name, need.generation))

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
        horizon = 0.5 + self.settings.arrivals * self.settings.gap * 2 + 20.0
        while self._heap and self._heap[0][0] <= horizon:
            self.now, _, what = heapq.heappop(self._heap)
            what()
