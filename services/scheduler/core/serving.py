"""How requests are served: request rate, admission, late binding, recall of idle leases.

A request first gets an idle environment of its version's provisioned concurrency, if one is there. Else it pays (a
permission of the request-rate rule), is admitted (a slot of the ledger) and gets whichever comes first of an
environment that idles, one that is freed, and one that is started for it. Before anything is refused, every caller has
been asked for what it holds and does not use.

Fourth of five levels (Book < Room < Provisioning < Serving < Scheduler).
"""

from __future__ import annotations

from services.scheduler.core import events as ev
from services.scheduler.core import instructions as ins
from services.scheduler.core.environment import Change, Environment, State
from services.scheduler.core.keep_alive import Windows
from services.scheduler.core.ledger import Account, Function, Slots
from services.scheduler.core.meters import Meter
from services.scheduler.core.pools import Caller, Pool, Request
from services.scheduler.core.provisioning import Provisioning
from services.scheduler.core.reasons import Reason
from services.scheduler.core.recalls import Round, Scope
from services.scheduler.core.room import START_ATTEMPTS

# Every lease comes by here, and to look a member up in its enum costs as much as two calls.
_RELEASE, _WARM, _FREED = Change.RELEASE, Reason.WARM, Reason.FREED


class Serving(Provisioning):
    """Provisions, and how requests use them and what else there is."""

    # Admission

    def admit(self, request: Request) -> None:
        """Grant what is provisioned; else take a permission and a slot; else find out what idles elsewhere."""
        pool = request.pool
        if pool.ready and not request.on_demand and self._pay_provisioned(request):
            self.grant(next(reversed(pool.ready.values())), request, Reason.PROVISIONED)
            return
        if request.paid is None and not self._pay(request):
            return
        function = pool.function
        refusal = function.refusal(request.background)
        if refusal is Reason.RESERVED_LIMIT and self.yield_slot(function):
            refusal = function.refusal(request.background)
        if refusal is None:
            function.take(request.background)
            request.admitted = True
            self.serve(request)
            return
        function_name = None if function.reserved is None else function.name
        round = self.recall(Scope(request.need.tenant, function_name, refusal is Reason.ASYNC_SHARE))
        if round:
            self.contend(request, round)
        else:
            self.refuse(request, refusal)

    def _pay(self, request: Request) -> bool:
        """Take permission for an on-demand request. False: it waits for what others have not used, or is refused."""
        meter = self.meter(request.pool.function.slots)
        if meter.take_one(self.now):
            request.paid = meter
            return True
        self._ask_round(meter, request.caller.id)
        if not meter.pending:
            self.refuse(request, _rate_reason(meter))
            return False
        meter.requests[request.ticket] = request
        request.unpaid = meter
        return False

    def _pay_provisioned(self, request: Request) -> bool:
        """Take permission of the version's provisioned concurrency instead of what was paid before."""
        meter = self.meter(request.pool)
        if not meter.take_one(self.now):
            return False
        self._give_permission_back(request)
        request.paid = meter
        return True

    @staticmethod
    def _give_permission_back(request: Request) -> None:
        paid, request.paid = request.paid, None
        if paid is not None:
            paid.put_back(1)

    def refuse(self, request: Request, reason: Reason) -> None:
        """Answer a request with no. Its slot, if it holds one, stays with the caller of this."""
        pool = request.need.pool
        self.journal.refused(request, reason, self.crew(pool), self.now, self.troubles.get(pool or "", ""))
        self.drop(request)
        self._give_permission_back(request)
        self.out.append(ins.Refuse(request.ticket, reason, self.policies.retry_after))
        self.tidy(request.pool)

    def withdraw(self, request: Request) -> None:
        """The caller no longer wants it."""
        self.drop(request)
        self._give_permission_back(request)
        if request.admitted:
            self.slot_freed(request.pool.function, background=request.background)
        self.tidy(request.pool)

    def slot_freed(self, function: Function, *, background: bool) -> None:
        """Give an on-demand slot back, and let whoever has waited longest for one have it: provisioned concurrency
        first, since it was promised. `background`: a poller's."""
        function.give_back(background)
        if self.short or self.contended:
            self.offer_slots(function)

    def offer_slots(self, function: Function) -> None:
        """A slot may be free that this function's limit counts."""
        if self.short:
            self.advance(function.account)
        if not self.contended:
            return
        slots = function.slots
        self._offer(slots)
        if isinstance(slots, Account):
            self._offer(slots.background)

    def _offer(self, whose: Slots) -> None:
        queue = self.contended.get(whose)
        while queue:
            request = next(iter(queue.values()))
            if request.pool.function.refusal(request.background) is not None:
                return
            self.stop_contending(request)
            self.admit(request)

    def settings_told(self, told: ev.SettingsTold) -> None:
        """Put settings in force, and look again at who waits: their limits may be others now."""
        account = self.ledger.account(told.tenant)
        if self.configure(told):
            everybody = (request for queue in self.contended.values() for request in queue.values())
            waiting = [request for request in everybody if request.pool.function.account is account]
            for request in sorted(waiting, key=lambda r: r.since):
                self.stop_contending(request)
                self.admit(request)
        self.out.append(ins.Applied(told.caller_id, told.tenant, account.revision))

    # Environments for admitted requests

    def serve(self, request: Request) -> None:
        """Give an admitted request an environment, or let it wait for whichever comes first."""
        pool = request.pool
        if pool.idle:
            self.grant(next(reversed(pool.idle.values())), request, Reason.WARM)
            return
        pool.waiting[request.ticket] = request
        if pool.leased:
            self.hint(Scope(request.need.tenant, request.need.function_name), besides=request.caller.id)
        self.start_for(request)

    def grant(self, environment: Environment, request: Request, reason: Reason) -> None:
        """Bind an environment to a request that has paid; an admitted one's slot becomes the lease's, or comes free."""
        self.drop(request)
        assert request.paid is not None
        self.leave_pool(environment)
        self.lease(environment, request.caller, request.ticket, request.paid, reason)
        if environment.provisioned and request.admitted:
            self.slot_freed(request.pool.function, background=request.background)

    def lease(self, environment: Environment, caller: Caller, ticket: ev.Ticket, paid: Meter, reason: Reason) -> None:
        """Give a caller an environment that has left its pool. Permission and slot are taken already."""
        lease_id = self.next_lease
        self.next_lease = lease_id + 1
        self.bind(environment, caller, lease_id)
        worker, provisioned = environment.worker, environment.provisioned
        self.out.append(
            ins.Grant(
                ticket, lease_id, environment.id, worker.id, worker.address, environment.slot, reason, paid.scope, 1,
                provisioned, not provisioned and environment.pool.part is not None,
            )
        )  # fmt: skip

    def lease_at_once(self, event: ev.EnvironmentWanted, caller: Caller, pool: Pool) -> bool:
        """The common case, without a record of the request: an environment idles, and no limit stands against it."""
        if not pool.idle or pool.ready:
            return False
        function, background = pool.function, caller.background
        meter = function.account.meter if function.reserved is None else function.meter
        if meter is None or function.refusal(background) is not None:
            return False
        take_one = meter.take_one
        if not take_one(self.now):
            return False
        function.take(background)
        self.lease(self.take_idle(pool), caller, event.ticket, meter, _WARM)
        return True

    def start_for(self, request: Request) -> None:
        """Start one environment, unless as many are on their way as requests wait; without room, wait for room."""
        pool = request.pool
        if len(pool.starting) >= len(pool.waiting):
            self.unplaced.pop(request.ticket, None)
            return
        if request.need.pool is None:
            self.refuse(request, Reason.NO_POOL)
            self.slot_freed(pool.function, background=request.background)
            return
        if not self.ramp(pool.function, provisioned=False).take_one(self.now):
            # As on AWS the rest of a burst is refused; unless an environment comes free first.
            self.unplaced.pop(request.ticket, None)
            request.starved = True
            request.round = self.recall(Scope(request.need.tenant, request.need.function_name))
            if not request.round:
                self.refuse(request, Reason.SCALING_LIMIT)
                self.slot_freed(pool.function, background=request.background)
            return
        if self.start(pool, request.need, request.deployment, provisioned=False) is None:
            self.ramp(pool.function, provisioned=False).put_back(1)
            self.unplaced[request.ticket] = request
            self.due(request.since + self.policies.capacity_wait)
        else:
            self.unplaced.pop(request.ticket, None)
            self.journal.started(request, self.crew(request.need.pool), self.now)

    def free(self, environment: Environment, reason: Reason) -> None:
        """An IDLE environment has nobody: the oldest request for one like it gets it, or it idles."""
        worker, pool = environment.worker, environment.pool
        if environment.provisioned:
            self._free_provisioned(environment)
        elif pool.waiting and worker.connected and not worker.draining:
            self.set_idle(environment)
            request = next(iter(pool.waiting.values()))
            took_anothers = reason is Reason.COLD and (request.starved or request.ticket in self.unplaced)
            self.grant(environment, request, reason)
            if took_anothers:
                self.start_missing(pool)
        elif pool.outdated or worker.draining:
            self.stop(environment, Reason.OUTDATED)
            self.start_missing(pool)
        else:
            self.set_idle(environment)
            if not worker.connected:
                self.lose(environment)
                self.start_missing(pool)
            elif self.unplaced or self.short:
                self.retry_unplaced()

    def _free_provisioned(self, environment: Environment) -> None:
        if environment.outgoing and (environment.pool.part is not None or self.successor(environment.pool) is None):
            self.let_go(environment, Reason.NOT_PROVISIONED)
            return
        self.set_idle(environment)
        if not environment.worker.connected:
            self.lose(environment)
        elif environment.serving:
            self.provisioned_free(environment)

    def provisioned_free(self, environment: Environment) -> None:
        """Give an idle provisioned environment to who waits for its version: admitted ones first, they are older."""
        pool = environment.pool
        pool.ready[environment.id] = environment
        for request in (*pool.waiting.values(), *pool.contended.values()):
            if not request.on_demand:
                if self._pay_provisioned(request):
                    self.grant(environment, request, Reason.FREED)
                return

    def retry_unplaced(self) -> None:
        """Room may have come free: try again for those that wait for it, oldest first, until a pool has none."""
        full: set[str | None] = set()
        for request in list(self.unplaced.values()):
            if request.need.pool in full or request.ticket not in self.unplaced:
                continue
            self.start_for(request)
            if request.ticket in self.unplaced:
                full.add(request.need.pool)
        if self.short:
            self.advance()

    def start_failed(self, pool: Pool) -> None:
        """A start came to nothing: try again for who waits, a few times in a row."""
        pool.failures += 1
        if pool.failures >= START_ATTEMPTS and pool.waiting:
            request = next(iter(pool.waiting.values()))
            self.refuse(request, Reason.START_FAILED)
            self.slot_freed(pool.function, background=request.background)
        self.start_missing(pool)

    def start_missing(self, pool: Pool) -> None:
        """Start what requests wait for and nothing brings."""
        for request in list(pool.waiting.values()):
            if len(pool.starting) >= len(pool.waiting):
                return
            if request.ticket in pool.waiting and request.ticket not in self.unplaced and not request.starved:
                self.start_for(request)

    # Leases that end

    def end_lease(self, environment: Environment, *, reusable: bool) -> None:
        """A caller gave a lease back; nothing runs on the environment."""
        self.unbind(environment)
        held, environment.slot_held = environment.slot_held, False
        background = environment.background
        if not reusable:
            self._end(environment, Reason.NOT_REUSABLE)
        else:
            environment.change(_RELEASE)
            self.free(environment, _FREED)
            windows = environment.windows
            if windows is not None and windows.begin and environment.id in self.idle_order:
                self._rest(environment, windows)
        if held:
            self.slot_freed(environment.pool.function, background=background)

    def _rest(self, environment: Environment, windows: Windows) -> None:
        """Its use has just ended, and the next one is not due for a while: let it go and start one in time."""
        habit, deployment = environment.pool.habit, environment.deployment
        if habit is not None and deployment:
            rest = habit.rests(environment.need, deployment, windows, self.now + windows.end)
            self.stop(environment, Reason.NOT_DUE)
            self.start_at(self.now + windows.begin, rest)

    def start_ahead(self) -> None:
        """Start what is due to be there for the next use, if that takes nothing from anybody."""
        for rest in self.rests_due():
            pool = self.pool(rest.need)
            function, habit = pool.function, pool.habit
            there = len(pool.idle) + len(pool.starting)
            needed = not (pool.outdated or pool.waiting) and habit is not None and habit.busy + there < rest.level
            wanted_by_others = self.unplaced or self.short or function.refusal() is not None
            ramp = self.ramp(function, provisioned=False)
            if (
                needed and not wanted_by_others and ramp.take_one(self.now)
                and not self.start_unasked(pool, rest)
            ):  # fmt: skip
                ramp.put_back(1)
            self.tidy(pool)

    def _end(self, environment: Environment, reason: Reason) -> None:
        """Stop an environment that nobody leases any more; a provisioned one is replaced."""
        self.stop(environment, reason)
        if environment.provisioned:
            self.provisioned_gone(environment)
            self.advance(environment.pool.function.account)

    def forget(self, environment: Environment, reason: Reason, *, failed: bool = False) -> None:
        """An environment is no more. `failed`: if it was starting, it could not be made; otherwise it went with its
        worker, which says nothing about the next one."""
        was_starting = environment.state is State.STARTING
        pool = environment.pool
        held = self.remove(environment, reason)
        if environment.provisioned:
            self.provisioned_gone(environment, failed=failed and was_starting)
        if held:
            self.slot_freed(pool.function, background=environment.background)
        if was_starting and not environment.provisioned:
            if failed:
                self.start_failed(pool)
            else:
                self.start_missing(pool)
        self.retry_unplaced()
        self.tidy(pool)

    # Recalls

    def idle_returned(self, caller_id: str, number: int) -> None:
        """A caller has no idle lease left in the scope. When the last one says so, who still waits is refused."""
        ended = self.recalls.answered(caller_id, number)
        while ended is not None:
            following = ended.following
            # First of all, so that whoever asks anew because of the refusals waits for the round after it.
            begun = bool(following) and self._begin_again(following, ended.scope)
            self._refuse_round(ended)
            ended = Round(following, ended.scope) if following and not begun else None

    def _refuse_round(self, ended: Round) -> None:
        tenant, function_name, background = ended.scope
        if tenant is None:
            return
        account = self.ledger.account(tenant)
        if function_name is None:
            self._refuse_contended(account, ended.number, Reason.ACCOUNT_LIMIT)
            self._refuse_background(account, ended.number, pollers_alone=background)
            return
        function = account.functions.get(function_name)
        if function is None:
            return
        self._refuse_contended(function, ended.number, Reason.RESERVED_LIMIT)
        for pool in list(function.pools.values()):
            for request in [r for r in pool.waiting.values() if r.starved and r.round == ended.number]:
                self.refuse(request, Reason.SCALING_LIMIT)
                self.slot_freed(function, background=request.background)

    def _begin_again(self, number: int, scope: Scope) -> bool:
        return self.begin_round(number, scope, self.holders(background=scope.background), hold_off=True)

    def _refuse_contended(self, whose: Slots, number: int, reason: Reason) -> None:
        for request in self._of_round(whose, number):
            self.refuse(request, reason)

    def _refuse_background(self, account: Account, number: int, *, pollers_alone: bool) -> None:
        for request in self._of_round(account.background, number):
            refusal = request.pool.function.refusal(True) or Reason.ASYNC_SHARE
            if pollers_alone and refusal is Reason.ACCOUNT_LIMIT:
                # It waited for what pollers held; what is missing now may idle with anybody.
                self.stop_contending(request)
                self.admit(request)
            else:
                self.refuse(request, refusal)

    def _of_round(self, whose: Slots, number: int) -> list[Request]:
        return [request for request in self.contended.get(whose, {}).values() if request.round == number]

    # The request-rate rule

    def requests_wanted(self, event: ev.RequestsWanted) -> None:
        """A caller wants permissions in advance, or because it has none left."""
        meter = self._meter_of(event.scope)
        if meter is None:
            self.out.append(ins.Permit(event.caller_id, event.scope, 0, 0.0))
            return
        taken = meter.take_share(event.caller_id, event.requests, self.now)
        if not taken:
            self._ask_round(meter, event.caller_id)
            if meter.pending:
                meter.asks.append(event.caller_id)
                return
        self.out.append(ins.Permit(event.caller_id, event.scope, taken, meter.retry_after(self.now)))

    def _meter_of(self, scope: ev.RateScope) -> Meter | None:
        """The meter of a scope, if its limit is still the one that counts."""
        if not scope.function_name:
            return self.meter(self.ledger.account(scope.tenant))
        meter = self.meters.get(scope)
        if meter is None or (isinstance(meter.whose, Function) and meter.whose.reserved is None):
            return None
        return None if isinstance(meter.whose, Pool) and meter.whose.part is None else meter

    def _ask_round(self, meter: Meter, besides: str) -> None:
        for caller_id in sorted(meter.begin_round(besides)):
            self.out.append(ins.RecallRequests(caller_id, meter.scope, meter.round))

    def requests_returned(self, event: ev.RequestsReturned) -> None:
        """A caller gives unused permissions back; after the last answer of a round whoever waits is answered."""
        meter = self.meters.get(event.scope)
        if meter is not None:
            meter.put_back(event.requests)
            self._answered(meter, event.caller_id, event.round)

    def holder_left(self, caller_id: str) -> None:
        """A caller's stream broke: what it holds is lost, and no round waits for it."""
        for meter in list(self.meters.values()):
            meter.asks = [asking for asking in meter.asks if asking != caller_id]
            self._answered(meter, caller_id, None)

    def _answered(self, meter: Meter, caller_id: str, round: int | None) -> None:
        if not meter.answered(caller_id, round):
            return
        for request in list(meter.requests.values()):
            meter.requests.pop(request.ticket, None)
            request.unpaid = None
            if meter.take_one(self.now):
                request.paid = meter
                self.admit(request)
            else:
                self.refuse(request, _rate_reason(meter))
        asks, meter.asks = meter.asks, []
        for asking in asks:
            taken = meter.take_share(asking, 1, self.now)
            self.out.append(ins.Permit(asking, meter.scope, taken, meter.retry_after(self.now)))


def _rate_reason(meter: Meter) -> Reason:
    if isinstance(meter.whose, Function):
        # Nothing reserved stops the function; that it permits no request either is not why.
        return Reason.RESERVED_RATE_LIMIT if meter.whose.reserved else Reason.RESERVED_LIMIT
    return Reason.RATE_LIMIT
