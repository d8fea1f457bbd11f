"""Provisioned concurrency: what is configured, and the decisions that bring what exists to what is wanted.

Each configuration (a *provision*) is put on an alias or a version and wants a number of environments of one version, or
of two for an alias with weights: its *parts*. Environments are started as the ramp limit, the ledger and the workers'
room allow, and are let go when they are not wanted any more. None is wasted: a resize keeps what remains.

Whatever takes the place of another environment (an alias was moved, an old one is to be recycled) is started beside it
as a *spare*, which holds no slot and serves nobody; when the old one is let go, its slot passes to a spare. So the new
is warm before the old goes, even where the limit has no room for both.

Third of five levels (Book < Room < Provisioning < Serving < Scheduler).
Source: https://docs.aws.amazon.com/lambda/latest/dg/provisioned-concurrency.html
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from lambent.domain.clock import Ids
from lambent.domain.names import Tenant
from services.scheduler.core import events as ev
from services.scheduler.core.buckets import Bucket
from services.scheduler.core.environment import Environment, State
from services.scheduler.core.ledger import Account, Function
from services.scheduler.core.meters import Meter
from services.scheduler.core.policies import Policies
from services.scheduler.core.pools import Pool
from services.scheduler.core.provision import Part, Provision, ProvisionStatus
from services.scheduler.core.reasons import Reason
from services.scheduler.core.recalls import Scope
from services.scheduler.core.room import START_ATTEMPTS, Room

# How long after starts that failed in a row an allocation is tried again.
RETRY_SECONDS = 5.0
# Between looks at an environment that is too old and cannot be replaced yet.
RECYCLE_SECONDS = 1.0


class Provisioning(Room, ABC):
    """The room, and what is provisioned in it."""

    def __init__(self, policies: Policies, ids: Ids, *, first_lease_id: int, now: float) -> None:
        super().__init__(policies, ids, first_lease_id=first_lease_id, now=now)
        self.rebuilding = True  # until the window has closed nothing is granted and nothing started
        self.provisions: dict[tuple[Tenant, str, str], Provision] = {}  # by tenant, function and qualifier
        self.relieved: dict[Function, None] = {}  # whose allocations were given back in this event
        self.short: dict[Provision, None] = {}  # those that lack environments, in the order of their wish
        self._ramps: dict[tuple[Account | Function, bool], Bucket] = {}
        self._recycle: dict[str, Environment] = {}  # serving provisioned environments, oldest first

    def ramp(self, function: Function, *, provisioned: bool) -> Bucket:
        """The budget that a start for this function is taken from."""
        ramp = self.policies.ramp
        key = (function.account, False) if ramp.shared else (function, provisioned)
        bucket = self._ramps.get(key)
        if bucket is None:
            bucket = self._ramps[key] = Bucket(ramp.provisioned if provisioned else ramp.on_demand)
        return bucket

    def forget_full_ramps(self) -> None:
        """Drop budgets that nobody has used lately."""
        self._ramps = {key: bucket for key, bucket in self._ramps.items() if not bucket.full(self.now)}

    # Settings

    def configure(self, told: ev.SettingsTold) -> bool:
        """Put settings in force. False: those in force are as new."""
        account = self.ledger.account(told.tenant)
        if told.revision <= account.revision:
            return False
        account.revision = told.revision
        requested: dict[str, int] = {}
        for wish in told.provisioned:
            requested[wish.function_name] = requested.get(wish.function_name, 0) + wish.requested
        scoped = {name for name, function in account.functions.items() if function.reserved is not None}
        self.ledger.configure(account, dict(told.reserved), requested)
        for name in scoped ^ {name for name, _ in told.reserved}:
            # Its leases count elsewhere from now on, and so do the requests on them.
            self.retire(self.ledger.function(told.tenant, name))
        self._set_rates(account)
        wishes = {(told.tenant, wish.function_name, wish.qualifier): wish for wish in told.provisioned}
        mine = [provision for key, provision in self.provisions.items() if key[0] == told.tenant]
        left = [pool for provision in mine for pool in provision.pools]
        for pool in left:
            pool.part = None
        for key in [key for key in self.provisions if key[0] == told.tenant and key not in wishes]:
            self.short.pop(self.provisions.pop(key), None)
        for key, wish in wishes.items():
            self._provision(key, wish)
        # What is wanted of a version is known only now that every wish has been read: let go of the rest.
        self._reconcile(account)
        for pool in left:
            self.tidy(pool)
        for function in list(account.functions.values()):
            if function.reserved is not None and function.over:
                self.retire(function)
            self.tidy_function(function)
        if any(function.reserved is None and function.over for function in account.functions.values()):
            self.retire(account)
        elif account.background.over:
            self.retire(account.background)
        return True

    def _reconcile(self, account: Account) -> None:
        """Bring what exists for a tenant to what is wanted, as far as that can be begun now."""
        if self.rebuilding:
            return
        mine = [provision for provision in self.provisions.values() if provision.function.account is account]
        for provision in mine:
            self.check_short(provision)
        for function in list(account.functions.values()):
            for pool in list(function.pools.values()):
                self._let_go_of_surplus(pool)
        for provision in mine:
            if not provision.complete:
                self._complete(provision)
        self.advance(account)

    def reconcile_all(self) -> None:
        """After a rebuild: settings and environments have come in whatever order."""
        for account in self.ledger.accounts().values():
            # Of a tenant whose settings nobody has told yet, everything is left as it is.
            if account.revision:
                self._reconcile(account)

    def _set_rates(self, account: Account) -> None:
        each = self.policies.requests_per_execution
        self.meter(account).change(each * account.limit)
        for function in account.functions.values():
            if function.reserved is not None:
                self.meter(function).change(each * function.reserved)

    def meter(self, whose: Account | Function | Pool) -> Meter:
        """The request rate of a limit's holder."""
        if whose.meter is None:
            each = self.policies.requests_per_execution
            match whose:
                case Account():
                    whose.meter = Meter(whose, ev.RateScope(whose.tenant), each * whose.limit)
                case Function():
                    scope = ev.RateScope(whose.account.tenant, whose.name)
                    whose.meter = Meter(whose, scope, each * (whose.reserved or 0))
                case Pool():
                    scope = ev.RateScope(whose.function.account.tenant, whose.function.name, whose.version)
                    whose.meter = Meter(whose, scope, 0.0)
            self.meters[whose.meter.scope] = whose.meter
        return whose.meter

    def _provision(self, key: tuple[Tenant, str, str], wish: ev.ProvisionedConcurrency) -> None:
        provision = self.provisions.get(key)
        if provision is None:
            function = self.ledger.function(key[0], wish.function_name)
            provision = self.provisions[key] = Provision(function, wish.qualifier, wish.requested, wish.put_revision)
        elif (provision.put_revision, [pool.deployment_id for pool in provision.pools]) != (
            wish.put_revision,
            [version.need.deployment_id for version in wish.versions],
        ):
            provision.complete, provision.failed, provision.failures, provision.retry_at = False, None, 0, 0.0
        provision.requested, provision.put_revision = wish.requested, wish.put_revision
        provision.pools = []
        for version in wish.versions:
            pool = self.pool(version.need)
            if pool.part is not None:
                continue  # Two configurations of one version cannot be put; the first counts.
            pool.part = Part(provision, version.need, version.deployment, version.executions)
            self.meter(pool).change(self.policies.requests_per_execution * version.executions)
            provision.pools.append(pool)

    def _let_go_of_surplus(self, pool: Pool) -> None:
        """Mark what is not wanted of a version; what idles goes at once unless a spare is to follow it."""
        moved = pool.part is None and self.successor(pool) is not None
        if pool.part is None and not moved:
            # Some may have been marked while there was one that was to follow them, and it is wanted no more.
            for environment in list(pool.census.leaving.values()):
                self.let_go(environment, Reason.NOT_PROVISIONED)
        surplus = -self._missing(pool)
        if surplus <= 0:
            return
        staying = [e for e in pool.provisioned.values() if e.stays]
        # Those that serve nobody yet go first, then the idle ones, the oldest first.
        staying.sort(key=lambda e: (e.state is State.LEASED, e.serving, e.ready_at))
        for environment in staying[:surplus]:
            environment.send_out()
            if not (moved and environment.counted):
                self.let_go(environment, Reason.NOT_PROVISIONED)
        if any(environment.state is State.LEASED for environment in staying[:surplus]):
            self.retire(pool.function)
        self.tidy(pool)

    def successor(self, pool: Pool) -> Provision | None:
        """The provision of the same function whose environments are to follow those of a version moved away from; None
        once they are all there."""
        return next((p for p in self.short if p.function is pool.function and not p.complete and not p.failed), None)

    # Environments

    def let_go(self, environment: Environment, reason: Reason) -> None:
        """End a provisioned environment now if it idles; one that is leased ends with its lease."""
        self._recycle.pop(environment.id, None)
        environment.send_out()
        idle = environment.state is State.UNCLAIMED and not environment.reported_busy
        if idle or environment.state in (State.STARTING, State.IDLE):
            # Before its slot goes on: whoever gets that may complete a provision, which lets go of all that leaves.
            self.stop(environment, reason)
            self.pass_allocation_on(environment)

    def pass_allocation_on(self, environment: Environment) -> None:
        """An environment is let go: its slot goes to a spare of the same function, else back to the ledger."""
        if not environment.counted:
            return
        environment.count(False)
        spare = self._spare(environment.pool.function)
        if spare is None:
            environment.pool.function.allocate(-1)
            self.relieved[environment.pool.function] = None
            return
        spare.count(True)
        self._serve_if_complete(spare)

    def _spare(self, function: Function) -> Environment | None:
        """An environment of the function that holds no slot yet; one that is initialised before one that is not."""
        coming = None
        for pool in function.pools.values():
            if pool.part is None:
                continue
            for environment in pool.census.spares.values():
                if environment.state is not State.STARTING:
                    return environment
                coming = coming or environment
        return coming

    def _serve_if_complete(self, environment: Environment) -> None:
        """Let an initialised environment serve, if it may by now."""
        part = environment.pool.part
        if part is None or environment.serving or not environment.counted or environment.state is not State.IDLE:
            return
        if part.provision.complete or not self.policies.serve_when_complete:
            environment.serving = True
            self._watch_age(environment)
            self.provisioned_free(environment)

    @abstractmethod
    def provisioned_free(self, environment: Environment) -> None:
        """A provisioned environment is idle and may serve; the level above gives it to whoever waits."""

    def provisioned_ready(self, environment: Environment, *, init_failed: bool) -> None:
        """A provisioned environment is initialised, well or not."""
        environment.ready_at = self.now
        part = environment.pool.part
        if environment.outgoing or part is None or init_failed:
            if init_failed and part is not None and not environment.outgoing:
                self._init_failed(environment, part.provision)
            self.let_go(environment, Reason.INIT_FAILED if init_failed else Reason.NOT_PROVISIONED)
            return
        part.provision.failures = 0
        self._complete(part.provision)
        self._serve_if_complete(environment)
        if not environment.counted and not self.policies.serve_when_complete:
            self._let_one_go(environment.pool.function)

    def _let_one_go(self, function: Function) -> None:
        """End one idle environment that is on its way out, for one that takes its place."""
        for environment in self._outgoing(function):
            if environment.state is State.IDLE:
                self.let_go(environment, Reason.NOT_PROVISIONED)
                return

    def yield_slot(self, function: Function) -> bool:
        """Free the slot of an idle environment whose version nobody provisions any more, for a request that has none.

        An alias was moved, and what follows is not warm yet: its invocations run on demand meanwhile, and where all of
        the reserve is provisioned there is no other slot for them. The spare that was to have this one gets one later.
        """
        for environment in self._outgoing(function):
            idle = environment.state is State.IDLE and environment.counted
            if idle and environment.pool.part is None:
                self._recycle.pop(environment.id, None)
                environment.count(False)
                function.allocate(-1)
                self.stop(environment, Reason.NOT_PROVISIONED)
                return True
        return False

    @staticmethod
    def _outgoing(function: Function) -> list[Environment]:
        """A function's provisioned environments that are on their way out."""
        return [environment for pool in function.pools.values() for environment in pool.census.leaving.values()]

    def _complete(self, provision: Provision) -> None:
        """Note that all that was requested is there; then what it replaces is let go, and it serves."""
        surplus: list[Environment] = []
        for pool in provision.pools:
            more = pool.census.up - (pool.part.wanted if pool.part is not None else 0)
            if more < 0:
                return
            if more > 0:
                # The replacement of the oldest is ready.
                ready = [e for e in pool.provisioned.values() if e.stays and e.state in (State.IDLE, State.LEASED)]
                surplus += sorted(ready, key=lambda e: e.ready_at)[:more]
        if not provision.complete:
            # Callers use what they hold as long as they have something to run: on demand what is provisioned now.
            self.retire(provision.function)
        provision.complete, provision.waits = True, None
        for environment in self._outgoing(provision.function):
            self.let_go(environment, Reason.NOT_PROVISIONED)
        for environment in surplus:
            self.let_go(environment, Reason.RECYCLED)
        for environment in list(provision.environments):
            self._serve_if_complete(environment)
        self.check_short(provision)

    def provisioned_gone(self, environment: Environment, *, failed: bool = False) -> None:
        """A provisioned environment is no more: its slot is free, and another takes its place if one is wanted.
        `failed`: it could not be made."""
        self._recycle.pop(environment.id, None)
        self.pass_allocation_on(environment)
        part = environment.pool.part
        if part is None:
            return
        provision = part.provision
        if failed and not environment.outgoing:
            provision.failures += 1
            if provision.failures >= START_ATTEMPTS:
                provision.retry_at = self.now + RETRY_SECONDS
                provision.waits = Reason.START_FAILED
        self.check_short(provision)

    def _init_failed(self, failed: Environment, provision: Provision) -> None:
        """Give an allocation up until it is put again; what serves already goes on serving."""
        failed.send_out()
        if self._missing(failed.pool) <= 0:
            # It was to replace an old one: that one is tried again after another such while.
            for environment in failed.pool.provisioned.values():
                if environment.serving and not environment.outgoing and environment.id not in self._recycle:
                    environment.ready_at = self.now
                    self._watch_age(environment)
            return
        provision.failed = Reason.INIT_FAILED
        self.short.pop(provision, None)
        for environment in list(provision.environments):
            if not environment.serving:
                self.let_go(environment, Reason.INIT_FAILED)
        # What was to be replaced by these serves nobody any more.
        for environment in self._outgoing(provision.function):
            if environment is not failed:
                self.let_go(environment, Reason.NOT_PROVISIONED)

    def check_short(self, provision: Provision) -> None:
        """Note whether a provision lacks environments, or slots for those that it has."""
        if provision.failed is None and any(self._missing(p) > 0 or self._lacking(p) > 0 for p in provision.pools):
            self.short[provision] = None
        else:
            self.short.pop(provision, None)

    @staticmethod
    def _missing(pool: Pool) -> int:
        return (pool.part.wanted if pool.part is not None else 0) - pool.census.staying

    @staticmethod
    def _lacking(pool: Pool) -> int:
        """How many slots are missing: of environments that are not there, and of spares."""
        return (pool.part.wanted if pool.part is not None else 0) - pool.census.slots

    # Allocation

    def advance(self, of: Account | None = None) -> None:
        """Start what is missing, as far as ramp limit, ledger and room allow. `of`: this tenant's provisions only."""
        for provision in list(self.short):
            if of is None or provision.function.account is of:
                self._advance(provision)

    def _advance(self, provision: Provision) -> None:
        if self.now < provision.retry_at:
            self.due(provision.retry_at)
            return
        function = provision.function
        outgoing, spares = self._transition(function)
        if spares > outgoing and not self._count_spares(provision, spares - outgoing):
            return
        ramp = self.ramp(function, provisioned=True)
        for pool in provision.pools:
            part = pool.part
            for _ in range(self._missing(pool)):
                assert part is not None
                as_spare = spares < outgoing
                if not as_spare and not function.may_allocate():
                    self._wait_for_slot(provision)
                    return
                if not ramp.take_one(self.now):
                    provision.waits = Reason.RAMPING
                    self.due(ramp.next_at(self.now))
                    return
                environment = self.start(pool, part.need, part.deployment, provisioned=True)
                if environment is None:
                    ramp.put_back(1)
                    provision.waits = Reason.WAITS_FOR_ROOM if part.need.pool is not None else Reason.NO_POOL
                    # What is to be replaced may be what takes the room.
                    self._let_one_go(function)
                    return
                if as_spare:
                    spares += 1
                else:
                    environment.count(True)
                    function.allocate()
        provision.waits = None
        self.check_short(provision)

    def _wait_for_slot(self, provision: Provision) -> None:
        """Have callers give back what idles with them."""
        provision.waits = Reason.WAITS_FOR_SLOT
        function = provision.function
        self.hint(Scope(function.account.tenant, function.name if function.reserved is not None else None))

    def _count_spares(self, provision: Provision, most: int) -> bool:
        """Give slots of their own to spares that nothing on its way out will pass one to. False: there are none."""
        for pool in provision.pools:
            for environment in list(pool.census.spares.values()):
                if most <= 0 or self._lacking(pool) <= 0:
                    break
                if not provision.function.may_allocate():
                    self._wait_for_slot(provision)
                    return False
                environment.count(True)
                provision.function.allocate()
                most -= 1
                self._serve_if_complete(environment)
        return True

    def _transition(self, function: Function) -> tuple[int, int]:
        """Of a function's provisioned environments: those on their way out that hold a slot, and the spares."""
        mine = [pool.census for pool in function.pools.values()]
        return sum(each.leaving_slots for each in mine), sum(len(each.spares) for each in mine)

    def _watch_age(self, environment: Environment) -> None:
        """Replace it once it is too old."""
        self._recycle[environment.id] = environment
        self.due(environment.ready_at + self.policies.recycle)

    def recycle(self) -> None:
        """Replace what is too old: the replacement is started first, and one at a time."""
        age = self.policies.recycle
        while self._recycle:
            environment = next(iter(self._recycle.values()))
            if self.now < environment.ready_at + age:
                self.due(environment.ready_at + age)
                return
            part = environment.pool.part
            if part is not None and not environment.outgoing:
                under_way = self._missing(environment.pool) < 0
                if under_way or self.start(environment.pool, part.need, part.deployment, provisioned=True) is None:
                    # Or there is no room at the moment: it serves on and is looked at again.
                    self.due(self.now + RECYCLE_SECONDS)
                    return
            del self._recycle[environment.id]

    # What is told of it

    def provision_statuses(self, tenant: Tenant, function_name: str | None) -> list[ProvisionStatus]:
        """Every provision of a tenant, or of one of its functions."""
        return [
            provision.status(self.troubles)
            for (owner, name, _), provision in self.provisions.items()
            if owner == tenant and function_name in (None, name)
        ]

    # What workers and callers bring

    def adopt_provisioned(self, environment: Environment) -> None:
        """An environment that a worker reported is a fact: after a restart it counts from the first moment on.

        One that comes back later, with a worker that was given up, counts if it is wanted still.
        """
        environment.serving = True
        environment.ready_at = self.now
        function = environment.pool.function
        if not self.rebuilding and function.account.revision:
            # Among those that are there it is one too many by now if nothing is missing.
            wanted = self._missing(environment.pool) >= 0 and function.may_allocate()
            if not wanted and not environment.reported_busy:
                environment.serving = False
                environment.send_out()
                return
            if not wanted:
                environment.send_out()
        environment.count(True)
        function.allocate()
        self._watch_age(environment)

    def replace(self, environment: Environment) -> None:
        """An environment's worker is to go: another is started, and this one is let go when that one is ready."""
        if environment.outgoing or environment.state is State.STOPPING:
            return
        part = environment.pool.part
        environment.send_out()
        if part is None or environment.state is State.STARTING:
            self.let_go(environment, Reason.NOT_PROVISIONED)
        if part is not None:
            self.check_short(part.provision)
