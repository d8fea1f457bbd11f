"""Every count of concurrency, owned here and nowhere else. Totals are maintained, never recomputed.

Two kinds of slots are counted. An *on-demand* slot is taken when a request is admitted, before it has an environment,
and given back when its lease ends: leases never exceed slots, and busy environments never exceed leases. An
*allocation* is taken when an environment is started for provisioned concurrency and given back when it is let go.

With R a function's reserved concurrency, L the tenant's limit, and sums over the tenant's functions:

    with R        on demand + allocated <= R
    without R     on demand + claims    <= L - sum of R        to admit on demand; a claim is what was requested as
                                                               provisioned, or what is allocated, if that is more
                  on demand + allocated <= L - sum of R        to allocate

So no limit is exceeded at any instant (I1), except by what ran when a limit was lowered, which only shrinks.

Pollers, whose requests nobody waits for, can be held to a share of what functions without R use on demand (I8):

    without R     on demand of pollers  <= share * (L - sum of R), and 1 at the least
Source: https://docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field
from typing import TYPE_CHECKING

from lambent.domain.names import Tenant
from services.scheduler.core.reasons import Reason

if TYPE_CHECKING:
    from services.scheduler.core.meters import Meter
    from services.scheduler.core.pools import Pool


@dataclass(slots=True, eq=False)
class Background:
    """What pollers use of an account's unreserved concurrency, and may use."""

    account: Account
    share: float  # of the unreserved concurrency; 1: all of it
    on_demand: int = 0  # slots of functions without reserved concurrency; counted in the account's too

    @property
    def limit(self) -> int:
        """The most slots at once. One at the least, else nothing would ever leave the queue."""
        return max(1, math.floor(self.share * self.account.unreserved + 1e-9))

    @property
    def over(self) -> bool:
        """More is in use than may be, since the limit was lowered."""
        return self.on_demand > self.limit


@dataclass(slots=True, eq=False)
class Account:
    """What one tenant uses, and may use."""

    tenant: Tenant
    limit: int  # executions at once
    revision: int = 0  # of the settings in force; 0: none were ever told
    reserved: int = 0  # sum over the functions that have reserved concurrency
    on_demand: int = 0  # slots of functions without reserved concurrency
    claims: int = 0  # of functions without reserved concurrency
    allocated: int = 0  # of functions without reserved concurrency
    functions: dict[str, Function] = field(default_factory=dict)
    meter: Meter | None = None  # requests of the unreserved pool
    background: Background = field(init=False, repr=False)
    share: InitVar[float] = 1.0  # of the unreserved concurrency that pollers may use

    def __post_init__(self, share: float) -> None:
        self.background = Background(self, share)

    @property
    def unreserved(self) -> int:
        """What functions without reserved concurrency share."""
        return self.limit - self.reserved

    @property
    def executions(self) -> int:
        """On-demand slots of all functions."""
        return sum(function.on_demand for function in self.functions.values())


@dataclass(slots=True, eq=False)
class Function:
    """What one function uses, and may use."""

    account: Account
    name: str
    reserved: int | None = None  # reserved concurrency; None: none was put
    on_demand: int = 0  # slots taken
    background: int = 0  # of these, by pollers
    requested: int = 0  # provisioned concurrency, over all versions and aliases
    allocated: int = 0
    meter: Meter | None = None  # requests under reserved concurrency
    pools: dict[str, Pool] = field(default_factory=dict, repr=False)  # its deployments that have a record, by id

    @property
    def slots(self) -> Account | Function:
        """Whose slots it uses on demand: its own reserved ones, or those that the tenant's functions share."""
        return self.account if self.reserved is None else self

    def contended(self, *, background: bool) -> Slots:
        """Where a request waits for a slot. Pollers have a row of their own where they may not use every slot: what
        they must wait for may be free to others."""
        slots = self.slots
        if background and isinstance(slots, Account) and slots.background.share < 1:
            return slots.background
        return slots

    @property
    def claim(self) -> int:
        """What provisioned concurrency keeps from others."""
        return max(self.requested, self.allocated)

    @property
    def unused(self) -> bool:
        """Nothing is known of it but its name."""
        return self.reserved is None and not (self.on_demand or self.requested or self.allocated or self.pools)

    @property
    def over(self) -> bool:
        """More is in use than may be, since a limit was lowered."""
        if self.reserved is not None:
            return self.on_demand > 0 and self.on_demand + self.allocated > self.reserved
        return self.on_demand > 0 and self.account.on_demand + self.account.claims > self.account.unreserved

    def refusal(self, background: bool = False) -> Reason | None:
        """The limit that stands against one more on-demand slot, for a poller if `background`; None: there is one."""
        if self.reserved is not None:
            full = self.on_demand + self.allocated >= self.reserved
            return Reason.RESERVED_LIMIT if full else None
        account = self.account
        if account.on_demand + account.claims >= account.limit - account.reserved:
            return Reason.ACCOUNT_LIMIT
        if background and account.background.on_demand >= account.background.limit:
            return Reason.ASYNC_SHARE
        return None

    def take(self, background: bool = False) -> None:
        """Count an on-demand slot. Limits are not asked: some are facts, leases from before this scheduler began."""
        self.on_demand += 1
        if self.reserved is None:
            self.account.on_demand += 1
        if background:
            self._count_background(1)

    def give_back(self, background: bool = False) -> None:
        """Give an on-demand slot back, as it was taken."""
        self.on_demand -= 1
        if self.reserved is None:
            self.account.on_demand -= 1
        if background:
            self._count_background(-1)

    def _count_background(self, change: int) -> None:
        self.background += change
        if self.reserved is None:
            self.account.background.on_demand += change

    def may_allocate(self) -> bool:
        """Whether one more environment may be counted as provisioned."""
        if self.reserved is not None:
            return self.on_demand + self.allocated < self.reserved
        return self.account.on_demand + self.account.allocated < self.account.unreserved

    def allocate(self, change: int = 1) -> None:
        """Count environments of provisioned concurrency; negative: they are let go."""
        before = self.claim
        self.allocated += change
        if self.reserved is None:
            self.account.allocated += change
            self.account.claims += self.claim - before

    def forget(self) -> bool:
        """Drop its record if nothing is known of it. True: dropped."""
        return self.unused and self.account.functions.pop(self.name, None) is not None


# Whose slots requests wait for.
Slots = Account | Function | Background


class Ledger:
    """The records of all tenants."""

    def __init__(self, concurrent_executions: int, share: float = 1.0) -> None:
        """`concurrent_executions`: limit of each account and region. `share`: of its unreserved part, for pollers."""
        self._limit = concurrent_executions
        self._share = share
        self._accounts: dict[Tenant, Account] = {}

    def find(self, tenant: Tenant, name: str) -> Function | None:
        """A function of which something is known."""
        account = self._accounts.get(tenant)
        return None if account is None else account.functions.get(name)

    def account(self, tenant: Tenant) -> Account:
        """What a tenant uses and may use."""
        account = self._accounts.get(tenant)
        if account is None:
            account = self._accounts[tenant] = Account(tenant, self._limit, share=self._share)
        return account

    def accounts(self) -> Mapping[Tenant, Account]:
        """Every tenant seen so far."""
        return self._accounts

    def function(self, tenant: Tenant, name: str) -> Function:
        """What a function uses and may use."""
        account = self.account(tenant)
        function = account.functions.get(name)
        if function is None:
            function = account.functions[name] = Function(account, name)
        return function

    def configure(self, account: Account, reserved: Mapping[str, int], requested: Mapping[str, int]) -> None:
        """Put settings in force: reserved and provisioned concurrency by function. What is in use stays counted."""
        for name in {*reserved, *requested}:
            self.function(account.tenant, name)
        account.reserved = account.on_demand = account.claims = account.allocated = account.background.on_demand = 0
        for function in account.functions.values():
            function.reserved = reserved.get(function.name)
            function.requested = requested.get(function.name, 0)
            if function.reserved is not None:
                account.reserved += function.reserved
            else:
                account.on_demand += function.on_demand
                account.background.on_demand += function.background
                account.claims += function.claim
                account.allocated += function.allocated
