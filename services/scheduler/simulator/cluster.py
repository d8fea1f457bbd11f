"""One simulated cluster: the real scheduler's core and callers' real lease pools, with workers made of numbers.

Messages take no time; what takes time is what a trace and a cold-start model say: invocations and starts. Nothing
breaks (that is what tests/simulation is for). The same arguments give the same history.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lambent.domain.names import Tenant
from lambent.infra.invoker.invoker import ASK_SECONDS
from lambent.infra.invoker.pool import Lease, LeasePool
from services.scheduler.core import events as ev
from services.scheduler.core import instructions as ins
from services.scheduler.core.machine import Scheduler
from services.scheduler.core.policies import Policies
from services.scheduler.core.reasons import Reason
from services.scheduler.simulator.bridge import event_of, tell
from services.scheduler.simulator.distributions import COLD_START, lognormal, unit
from services.scheduler.simulator.figures import Figures
from services.scheduler.simulator.settings import WORKER_MB, Variant
from services.scheduler.simulator.trace import LONGEST, Arrival, TraceFunction

TENANT = Tenant("000000000000", "us-east-1")
_TIME_PASSED = ev.TimePassed()


class Numbered:
    """Identifiers in order."""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    def uuid(self) -> str:
        return self.token(16)

    def token(self, size: int) -> str:
        return f"e{next(self._numbers)}"


@dataclass(slots=True, eq=False)
class _Environment:
    """An environment on a simulated worker."""

    id: str
    worker_id: str
    gigabytes: float
    ordered_at: float
    ready_at: float = math.inf
    busy: float = 0.0  # seconds
    used: bool = False


class _Invocation:
    """One invocation; a `Waiter` of the pool."""

    __slots__ = ("_cluster", "caller", "deployment_id", "duration", "environment", "lease", "need", "since")

    tenant = TENANT
    request_id = ""  # nobody asks for it afterwards

    def __init__(self, cluster: Cluster, caller: _Caller, need: ev.Need, since: float, duration: float) -> None:
        self._cluster, self.caller, self.need, self.since, self.duration = cluster, caller, need, since, duration
        self.deployment_id = need.deployment_id
        self.lease: Lease | None = None
        self.environment: _Environment | None = None

    @property
    def function_name(self) -> str:
        return self.need.function_name

    def lease_ready(self, lease: Lease) -> None:
        self._cluster.begin(self, lease)

    def lease_refused(self, reason: str, retry_after: float) -> None:
        self._cluster.refused(reason)


class _Caller:
    """A frontend: the real pool, and when its oldest idle lease has been kept long enough."""

    def __init__(self, number: int, hold_seconds: float) -> None:
        self.id = f"caller{number}"
        self.pool = LeasePool(hold_seconds)
        self.pool.joined()
        self.idle: deque[tuple[float, Lease]] = deque()  # until when it is kept; every idle lease is the last once
        self.asks = self.ticks = False  # an entry of the cluster's agenda is out


class Cluster:
    """One variant at work."""

    def __init__(self, variant: Variant, policies: Policies, trace: tuple[Sequence[TraceFunction], float, int]) -> None:
        """`trace`: functions, length in seconds, and the seed of cold starts."""
        functions, self._seconds, seed = trace
        settings, simulated = variant.settings, variant.simulated
        self.figures = Figures(variant.name, price_busy=simulated.price_busy, price_warm=simulated.price_warm)
        self.now = 0.0
        self._rng = random.Random(seed)
        self._start = None if simulated.start_seconds == "model" else float(simulated.start_seconds)
        self._hold_off = settings.timing.recall_hold_off_seconds
        self._needs = [
            ev.Need(TENANT, function.name, "$LATEST", f"d{number}", 1, function.memory_mb)
            for number, function in enumerate(functions)
        ]
        self._agenda: list[tuple[float, int, Callable[[Any], None], object]] = []  # heap: when, order, what, with whom
        self._order = itertools.count()
        self._woken: object = None  # the wake-up that counts
        self._inbox: deque[ev.Event] = deque()
        self._carry_out: defaultdict[type, Callable[[Any], None]] = defaultdict(
            lambda: self._told,
            {
                ins.Grant: self._granted,
                ins.Start: self._order_environment,
                ins.Stop: self._stop,
                ins.WakeAt: self._wake_at,
            },
        )
        self._environments: dict[str, _Environment] = {}
        self._need_of: dict[str, ev.Need] = {}
        self.running = 0
        self.core = Scheduler(policies, Numbered(), first_lease_id=1, now=0.0)
        callers = [_Caller(n, settings.timing.lease_hold_seconds) for n in range(simulated.callers)]
        self._callers = {caller.id: caller for caller in callers}
        self._turns = itertools.cycle(self._callers.values())
        memory = settings.worker.memory_mb or WORKER_MB
        for number in range(simulated.workers):
            self._inbox.append(ev.WorkerJoined(f"w{number}", "", memory, settings.worker.environments, ()))
        self._inbox.extend(ev.CallerJoined(caller_id, ()) for caller_id in self._callers)
        self._deliver()

    # The passing of time

    def replay(self, arrivals: Iterable[Arrival]) -> None:
        """Let invocations arrive, in order of time."""
        agenda = self._agenda
        for at, number, duration in arrivals:
            if agenda and agenda[0][0] <= at:
                self._until(at)
            self.now = at
            self._arrive(self._needs[number], duration)

    def finish(self) -> Figures:
        """Let all that runs or waits come to its end; what there is then is counted to the end of the trace."""
        self._until(self._seconds)
        while self._agenda and self.unfinished:
            self._until(self._agenda[0][0])
        for environment in list(self._environments.values()):
            self._gone(environment, max(self._seconds, self.now))
        return self.figures

    @property
    def unfinished(self) -> int:
        """Invocations that run or wait."""
        return self.figures.invocations - self.figures.ran - self.figures.throttled.total() + self.running

    def _until(self, at: float) -> None:
        agenda = self._agenda
        while agenda and agenda[0][0] <= at:
            self.now, _, what, whom = heapq.heappop(agenda)
            what(whom)
        self.now = max(self.now, at)

    def _at(self, time: float, what: Callable[[Any], None], whom: object) -> None:
        heapq.heappush(self._agenda, (time, next(self._order), what, whom))

    # Invocations

    def _arrive(self, need: ev.Need, duration: float) -> None:
        self.figures.invocations += 1
        caller = next(self._turns)
        invocation = _Invocation(self, caller, need, self.now, duration)
        lease = caller.pool.take(need.deployment_id, self.now)
        if lease is not None:
            self.begin(invocation, lease)
            if not caller.pool.out:
                return
        else:
            caller.pool.want(invocation, self.now)
            self._ask_soon(caller)
        self._flush(caller)

    def begin(self, invocation: _Invocation, lease: Lease) -> None:
        """An invocation has a lease to run on."""
        environment = self._environments[lease.environment_id]
        figures = self.figures
        figures.ran += 1
        figures.cold += lease.reason is Reason.COLD and not environment.used
        figures.delays.add(self.now - invocation.since)
        environment.used = True
        invocation.lease, invocation.environment = lease, environment
        self.running += 1
        self._at(self.now + invocation.duration, self._end, invocation)

    def refused(self, reason: str) -> None:
        """An invocation was throttled, or there was no room for it."""
        self.figures.throttled[str(reason)] += 1

    def _end(self, invocation: _Invocation) -> None:
        environment, lease, caller = invocation.environment, invocation.lease, invocation.caller
        assert environment is not None
        assert lease is not None
        self.running -= 1
        environment.busy += self._within(self.now - invocation.duration, self.now)
        caller.pool.finished(lease, reusable=True, now=self.now)
        self._idles(caller, lease)
        if caller.pool.out:
            self._flush(caller)

    def _within(self, begin: float, end: float) -> float:
        """The part of a stretch of time that lies within the trace."""
        return max(0.0, min(end, self._seconds) - min(begin, self._seconds))

    # Callers

    def _idles(self, caller: _Caller, lease: Lease) -> None:
        """The lease may idle with its caller now: give it back in time."""
        if lease.idle_until >= self.now:
            caller.idle.append((lease.idle_until, lease))
            if not caller.ticks:
                caller.ticks = True
                self._at(lease.idle_until, self._tick, caller)

    def _tick(self, caller: _Caller) -> None:
        caller.ticks = False
        idle = caller.idle
        due = False
        while idle and (idle[0][0] <= self.now or idle[0][0] != idle[0][1].idle_until):
            until, lease = idle.popleft()
            due = due or until == lease.idle_until
        if due:
            caller.pool.tick(self.now)
        if idle and not caller.ticks:
            caller.ticks = True
            self._at(idle[0][0], self._tick, caller)
        self._flush(caller)

    def _ask_soon(self, caller: _Caller) -> None:
        if caller.pool.asking and not caller.asks:
            caller.asks = True
            self._at(self.now + ASK_SECONDS, self._ask, caller)

    def _ask(self, caller: _Caller) -> None:
        caller.asks = False
        caller.pool.ask(self.now)
        self._flush(caller)
        self._ask_soon(caller)

    def _flush(self, caller: _Caller) -> None:
        self._hear(caller)
        self._deliver()

    def _hear(self, caller: _Caller) -> None:
        out, caller.pool.out = caller.pool.out, []
        for item in out:
            event = event_of(caller.id, item)
            if event is not None:
                self._inbox.append(event)

    # The scheduler and its workers

    def _deliver(self) -> None:
        """Everything that was said, in order, until all are silent."""
        inbox, handle, carry_out = self._inbox, self.core.handle, self._carry_out
        while inbox:
            for instruction in handle(inbox.popleft(), now=self.now):
                carry_out[type(instruction)](instruction)

    def _granted(self, grant: ins.Grant) -> None:
        caller = self._callers[grant.ticket.caller_id]
        tell(caller.pool, grant, self._need_of, self._hold_off, self.now)
        lease = caller.pool.leases.get(grant.lease_id)
        if lease is not None:
            self._idles(caller, lease)
        self._hear(caller)

    def _told(self, instruction: ins.Instruction) -> None:
        caller_id = instruction.ticket.caller_id if isinstance(instruction, ins.Refuse) else instruction.caller_id  # type: ignore[union-attr]
        caller = self._callers[caller_id]
        tell(caller.pool, instruction, self._need_of, self._hold_off, self.now)
        self._hear(caller)

    def _wake_at(self, instruction: ins.WakeAt) -> None:
        self._woken = instruction
        if instruction.at != math.inf:
            self._at(max(instruction.at, self.now), self._wake, instruction)

    def _wake(self, instruction: object) -> None:
        if self._woken is instruction:
            self._inbox.append(_TIME_PASSED)
            self._deliver()

    def _stop(self, stop: ins.Stop) -> None:
        self._gone(self._environments[stop.environment_id], self.now)
        self._inbox.append(ev.EnvironmentGone(stop.worker_id, stop.environment_id, stop.reason))

    def _order_environment(self, start: ins.Start) -> None:
        known = self.core.environments[start.environment_id]
        gigabytes = known.need.memory_mb / 1024
        environment = _Environment(start.environment_id, start.worker_id, gigabytes, self.now)
        self._environments[environment.id] = environment
        self._need_of[environment.id] = known.need
        self.figures.starts += 1
        self.figures.ahead += known.ahead
        takes = self._start if self._start is not None else min(LONGEST, lognormal(unit(self._rng), *COLD_START))
        self._at(self.now + takes, self._ready, environment)

    def _ready(self, environment: _Environment) -> None:
        if environment.id in self._environments:
            environment.ready_at = self.now
            self._inbox.append(ev.EnvironmentReady(environment.worker_id, environment.id, 0))
            self._deliver()

    def _gone(self, environment: _Environment, at: float) -> None:
        del self._environments[environment.id]
        self._need_of.pop(environment.id, None)
        figures, ready_at = self.figures, min(environment.ready_at, at)
        figures.starting += environment.gigabytes * self._within(environment.ordered_at, ready_at)
        figures.busy += environment.gigabytes * environment.busy
        figures.warm += environment.gigabytes * (self._within(ready_at, at) - environment.busy)
