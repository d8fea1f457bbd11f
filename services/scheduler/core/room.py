"""Room for environments: placing them on workers, evicting what idles, recalling what idles with callers.

Second of five levels (Book < Room < Provisioning < Serving < Scheduler).
"""

from __future__ import annotations

from lambent.domain.clock import Ids
from services.scheduler.core import instructions as ins
from services.scheduler.core.book import Book
from services.scheduler.core.environment import Environment, State
from services.scheduler.core.events import Need
from services.scheduler.core.keep_alive import Rest
from services.scheduler.core.ledger import Account, Background, Function, Slots
from services.scheduler.core.placement import Worker, evictions
from services.scheduler.core.policies import Policies
from services.scheduler.core.pools import Pool
from services.scheduler.core.reasons import Reason
from services.scheduler.core.recalls import Recalls, Scope

# Starts that fail in a row (no sandbox, worker lost) before who waits for them is told so.
START_ATTEMPTS = 3


class Room(Book):
    """The book, and room for what is in it."""

    def __init__(self, policies: Policies, ids: Ids, *, first_lease_id: int, now: float) -> None:
        super().__init__(policies, ids, first_lease_id=first_lease_id, now=now)
        self.recalls = Recalls()

    def start(self, pool: Pool, need: Need, deployment: bytes, *, provisioned: bool) -> Environment | None:
        """Order an environment from the worker that the placement policy names. None: no worker has room."""
        worker = self.policies.placement(self.crew(need.pool).values(), need.memory_mb, need.deployment_id)
        if worker is None:
            self.make_room(need)
            return None
        return self._start_on(worker, pool, need, deployment, provisioned=provisioned)

    def start_unasked(self, pool: Pool, rest: Rest) -> bool:
        """Order one that nobody waits for yet. False: no worker has room, and none is made."""
        need = rest.need
        worker = self.policies.placement(self.crew(need.pool).values(), need.memory_mb, need.deployment_id)
        if worker is None:
            return False
        environment = self._start_on(worker, pool, need, rest.deployment, provisioned=False)
        environment.ahead, environment.idle_until, environment.windows = True, rest.until, rest.windows
        return True

    def _start_on(self, worker: Worker, pool: Pool, need: Need, deployment: bytes, *, provisioned: bool) -> Environment:
        environment = Environment(
            self.ids.token(16), worker, pool, need, State.STARTING, provisioned=provisioned, deployment=deployment
        )
        self.add(environment)
        self.out.append(ins.Start(worker.id, environment.id, need.generation, deployment, provisioned))
        return environment

    def make_room(self, need: Need) -> None:
        """Stop idle environments of others in the same pool, first those that nobody has used yet; where there are
        none, have callers return what idles with them."""
        crew = self.crew(need.pool)
        if not crew:
            return
        everywhere = [*self.ahead.values(), *self.idle_order.values()]
        idle = ((e.id, e.worker.id, e.need.memory_mb) for e in everywhere if e.worker.id in crew)
        victims = evictions(crew, idle, need.memory_mb)
        for environment_id in victims:
            self.stop(self.environments[environment_id], Reason.EVICTED)
        if not victims:
            self.hint(Scope(None, None))

    # Recalls of idle leases

    def recall(self, scope: Scope) -> int:
        """Have callers return idle leases, for slots. Answers the round whose end tells, 0 if nobody is to be asked."""
        asked = self.holders(background=scope.background)
        if not asked:
            return 0
        number, begin = self.recalls.want(scope)
        if begin:
            self.begin_round(number, scope, asked, hold_off=True)
        return number

    def hint(self, scope: Scope, *, besides: str | None = None) -> None:
        """Have callers return idle leases where nobody waits for the end of it; one round at a time is enough.

        `besides`: a caller that is not asked, since it would not have come if it had one. Nothing is held off: the idle
        leases of this moment are wanted, and to keep none would send every next invocation of a busy function here.
        """
        asked = self.holders(besides)
        if asked and not self.recalls.running(scope):
            number, _ = self.recalls.want(scope)
            self.begin_round(number, scope, asked, hold_off=False)

    def holders(self, besides: str | None = None, *, background: bool = False) -> list[str]:
        """Who may have something idle. `background`: of pollers alone."""
        callers = self.callers.values()
        return sorted(
            c.id for c in callers if c.connected and c.leases and c.id != besides and c.background >= background
        )

    def begin_round(self, number: int, scope: Scope, asked: list[str], *, hold_off: bool) -> bool:
        """Ask. False: there is nobody."""
        if not asked:
            return False
        self.recalls.begin(number, scope, asked)
        self.out.extend(
            ins.Recall(caller_id, number, scope.tenant, scope.function_name, hold_off) for caller_id in asked
        )
        return True

    def retire(self, whose: Slots) -> None:
        """Have callers give back every lease of a tenant or function, each when its invocation has ended; of what
        pollers share of a tenant's, pollers alone."""
        function_name = whose.name if isinstance(whose, Function) else None
        account = whose if isinstance(whose, Account) else whose.account
        asked = self.holders(background=isinstance(whose, Background))
        self.out.extend(ins.Retire(caller_id, account.tenant, function_name) for caller_id in asked)
