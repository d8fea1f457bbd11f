"""A caller's lease pool and the scheduler's core without the messages between: what one says, in the other's values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, cast

from lambent.infra.invoker.budgets import Scope
from lambent.infra.invoker.pool import (
    Acquire,
    Cancel,
    GiveBack,
    Lease,
    LeasePool,
    Outgoing,
    Release,
    Returned,
    Waiter,
    Wish,
)
from services.scheduler.core import events as ev
from services.scheduler.core import instructions as ins

# What stands for a deployment's message: workers that are simulated read none.
DEPLOYMENT = b"simulated"


class Asking(Waiter, Protocol):
    """An invocation that says what it needs."""

    @property
    def need(self) -> ev.Need: ...
    @property
    def request_id(self) -> str: ...


def event_of(caller_id: str, item: Outgoing) -> ev.Event | None:
    """What a pool says, as the scheduler hears it; None: nothing to the core."""
    match item:
        case Acquire(ticket, waiter, on_demand):
            asking = cast(Asking, waiter)
            return ev.EnvironmentWanted(
                ev.Ticket(caller_id, ticket), asking.request_id, asking.need, DEPLOYMENT, on_demand
            )
        case Cancel(ticket):
            return ev.WantCancelled(ev.Ticket(caller_id, ticket))
        case Release(lease_id, reusable):
            return ev.LeaseReleased(caller_id, lease_id, reusable)
        case Returned(number):
            return ev.IdleReturned(caller_id, number)
        case Wish(scope, requests):
            return ev.RequestsWanted(caller_id, ev.RateScope(*scope), requests)
        case GiveBack(scope, requests, number):
            return ev.RequestsReturned(caller_id, ev.RateScope(*scope), requests, number)
        case _:
            return None


def tell(
    pool: LeasePool, instruction: ins.Instruction, needs: Mapping[str, ev.Need], hold_off: float, now: float
) -> None:
    """What the scheduler says to a caller, told to its pool. `needs`: by environment. `hold_off`: seconds in which a
    caller keeps nothing idle when slots are short."""
    match instruction:
        case ins.Grant():
            need, budget = needs[instruction.environment_id], pool.budget(_scope(instruction.scope))
            budget.left += instruction.requests
            lease = Lease(
                instruction.lease_id, instruction.environment_id, instruction.worker_id, instruction.address,
                instruction.slot, need.deployment_id, need.tenant, need.function_name, instruction.reason, budget,
                instruction.provisioned, instruction.spillover,
            )  # fmt: skip
            pool.granted(instruction.ticket.number, lease, now)
        case ins.Refuse():
            pool.refused(instruction.ticket.number, instruction.reason, instruction.retry_after)
        case ins.Recall():
            keeps_none = hold_off if instruction.hold_off else 0.0
            pool.recalled(instruction.round, instruction.tenant, instruction.function_name, keeps_none, now)
        case ins.Revoke():
            pool.revoked(instruction.lease_id)
        case ins.Retire():
            pool.retired(instruction.tenant, instruction.function_name)
        case ins.Permit():
            pool.permitted(_scope(instruction.scope), instruction.requests, instruction.retry_after, now)
        case ins.RecallRequests():
            pool.permissions_recalled(_scope(instruction.scope), instruction.round)


def _scope(scope: ev.RateScope) -> Scope:
    return Scope(scope.tenant, scope.function_name, scope.version)
