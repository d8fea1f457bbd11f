"""Every count of concurrency, owned here and nowhere else. Totals are maintained, never recomputed.

A slot is taken when a request is admitted, before it has an environment, and given back when its lease ends: so
leases never exceed slots, busy environments never exceed leases, and no limit is exceeded at any instant (I1).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lambent.domain.names import Tenant
from services.scheduler.core.reasons import Reason


@dataclass(slots=True)
class Account:
    """What one tenant uses."""

    limit: int  # executions at once
    in_use: int = 0  # slots taken
    by_function: dict[str, int] = field(default_factory=dict)  # function name → slots taken; never holds a zero


class Ledger:
    """Takes and gives back slots."""

    def __init__(self, concurrent_executions: int) -> None:
        """`concurrent_executions`: limit of each account and region."""
        self._limit = concurrent_executions
        self._accounts: dict[Tenant, Account] = {}

    def take(self, tenant: Tenant, function_name: str) -> Reason | None:
        """Take a slot. None: taken. A reason: the limit that stands against it, and nothing changed."""
        account = self.account(tenant)
        if account.in_use >= account.limit:
            return Reason.ACCOUNT_LIMIT
        self._add(account, function_name)
        return None

    def recognise(self, tenant: Tenant, function_name: str) -> None:
        """Count a slot that is a fact already: a lease from before this scheduler began."""
        self._add(self.account(tenant), function_name)

    def give_back(self, tenant: Tenant, function_name: str) -> None:
        """Give a slot back."""
        account = self._accounts[tenant]
        account.in_use -= 1
        left = account.by_function[function_name] - 1
        if left:
            account.by_function[function_name] = left
        else:
            del account.by_function[function_name]

    def account(self, tenant: Tenant) -> Account:
        """What a tenant uses and may use."""
        account = self._accounts.get(tenant)
        if account is None:
            account = self._accounts[tenant] = Account(self._limit)
        return account

    def accounts(self) -> dict[Tenant, Account]:
        """Every tenant seen so far."""
        return self._accounts

    @staticmethod
    def _add(account: Account, function_name: str) -> None:
        account.in_use += 1
        account.by_function[function_name] = account.by_function.get(function_name, 0) + 1
