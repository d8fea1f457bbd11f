"""Whoever meets the scheduler in the simulation: callers with the real lease pool, workers made of drawn numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lambent.domain.names import Tenant
from lambent.infra.invoker.pool import Lease, LeasePool
from services.scheduler.core import events as ev
from services.scheduler.core import instructions as ins
from services.scheduler.simulator.bridge import event_of, tell

if TYPE_CHECKING:
    from tests.simulation.cluster import World


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

    @property
    def request_id(self) -> str:
        return str(self.number)

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
    """A frontend or poller: the real pool, with streams that may break."""

    def __init__(self, world: World, name: str, *, background: bool) -> None:
        self.background = background
        self.world, self.id = world, name
        self.pool = LeasePool(hold_seconds=0.05)
        self.up: Stream | None = None
        self.down: Stream | None = None
        self.dead = self.asks = False
        self.busy: dict[int, Invocation] = {}

    def connect(self) -> None:
        if self.dead:
            return
        self.up, self.down = Stream(self.world), Stream(self.world)
        held = tuple((lease.id, lease.environment_id) for lease in self.pool.joined())
        self._up(ev.CallerJoined(self.id, held, self.background))
        for tenant in self.world.configurations:
            self.tell(tenant)
        self.flush()

    def tell(self, tenant: Tenant) -> None:
        """A tenant's settings, if it has any."""
        if self.up is not None and self.world.configurations[tenant].revision:
            self._up(self.world.told(tenant, self.id))

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
            event = event_of(self.id, item)
            if event is not None:
                self._up(event)

    def invoke(self, invocation: Invocation) -> None:
        lease = self.pool.take(invocation.deployment_id, self.world.now)
        if lease is not None:
            self.run(invocation, lease)
        else:
            invocation.ticket = self.pool.want(invocation, self.world.now)
            self.ask_soon()
            if self.world.rng.random() < 0.02:
                self.world.after(0.004, lambda: self.abandon(invocation))
        self.flush()

    def ask_soon(self) -> None:
        if self.pool.asking and not self.asks:
            self.asks = True
            self.world.after(0.001, self.ask)

    def ask(self) -> None:
        self.asks = False
        self.pool.ask(self.world.now)
        if self.up is not None:
            self.flush()
        self.ask_soon()

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
            self.invoke(invocation)
            return
        ran, wanted = self.world.needs[lease.environment_id].deployment_id, invocation.deployment_id
        assert ran == wanted, f"{wanted} ran in an environment of {ran}"
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
        tell(self.pool, instruction, self.world.needs, 0.1, self.world.now)
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

    def __init__(self, world: World, name: str, pool: str) -> None:
        self.world, self.id, self.pool = world, name, pool
        self.environments: dict[str, SimEnvironment] = {}
        self.up: Stream | None = None
        self.down: Stream | None = None
        self._slots = 0

    def connect(self) -> None:
        if self.id not in self.world.workers:
            return
        self.up, self.down = Stream(self.world), Stream(self.world)
        running = tuple(
            ev.Running(i, e.slot, self.world.needs[i], e.invocation is not None, e.ready, e.start.provisioned)
            for i, e in self.environments.items()
        )
        self._up(ev.WorkerJoined(self.id, f"unix:{self.id}", self.world.settings.worker_mb, 100, running, self.pool))

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
