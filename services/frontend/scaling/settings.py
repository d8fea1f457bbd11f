"""What tenants set for Application Auto Scaling: changed in the store, and told to the scheduler."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol
from weakref import WeakValueDictionary

from lambent.domain.errors import AwsError
from lambent.domain.names import Tenant
from lambent.domain.scaling import Action, Policy, Resource, ScalingState, Target
from lambent.internal.v1 import lease_service_pb2 as pb
from services.frontend.scaling.port import ScalingStore

# How often a change is decided anew, since somebody else was quicker, before the caller is asked to come again.
ATTEMPTS = 32


class ScalingStream(Protocol):
    """The lease stream, as far as auto scaling travels on it."""

    def send_settings(self, message: pb.ScalingSettings) -> None:
        """Send, if the scheduler is connected."""
        ...

    def on_connected(self, load: Callable[[], Awaitable[Sequence[pb.ScalingSettings]]]) -> None:
        """`load` is awaited after each connection and what it answers is sent; it raises AwsError while the store is
        away."""
        ...

    def on_order(self, carry_out: Callable[[pb.ScalingOrder], None]) -> None:
        """`carry_out` is given what the scheduler orders."""
        ...

    def send_outcome(self, outcome: pb.ScalingOutcome) -> None:
        """Answer an order, if the scheduler is connected."""
        ...


class ScalingSettings:
    """The store's scaling states, and their way to the scheduler."""

    def __init__(self, store: ScalingStore, stream: ScalingStream) -> None:
        self._store = store
        self._stream = stream
        self._locks: WeakValueDictionary[Tenant, asyncio.Lock] = WeakValueDictionary()
        stream.on_connected(self.load)

    async def read(self, tenant: Tenant) -> ScalingState:
        """A tenant's state."""
        return await self._store.scaling(tenant)

    async def edit(
        self, tenant: Tenant, decide: Callable[[ScalingState], ScalingState]
    ) -> tuple[ScalingState, ScalingState]:
        """Change a tenant's state as `decide` says, and tell the scheduler. Answers it as it was and as it is."""
        # One at a time in this process: among frontends, too few are ever quicker for a change to come to nothing.
        async with self._locks.setdefault(tenant, asyncio.Lock()):
            for _ in range(ATTEMPTS):
                before = await self._store.scaling(tenant)
                after = decide(before)
                if after is before or await self._store.replace_scaling(tenant, before, after):
                    # Also where nothing had to be changed: whoever changed it may not have come to tell.
                    self._stream.send_settings(message_of(tenant, after))
                    return before, after
        raise AwsError("ConcurrentUpdateException", "Too many changes of scalable targets at once; try again shortly.")

    async def load(self) -> list[pb.ScalingSettings]:
        """The settings of every tenant that has any."""
        tenants = await self._store.tenants_with_scaling()
        return [message_of(tenant, await self._store.scaling(tenant)) for tenant in tenants]


def message_of(tenant: Tenant, state: ScalingState) -> pb.ScalingSettings:
    """A tenant's state, as the scheduler is told."""
    message = pb.ScalingSettings(account=tenant.account, region=tenant.region, revision=max(1, state.revision))
    for resource_id, target in state.targets.items():
        message.targets.append(_target(Resource.of(resource_id), target))
    return message


def _target(resource: Resource, target: Target) -> pb.ScalableTarget:
    suspended = target.suspended
    return pb.ScalableTarget(
        function_name=resource.function_name,
        qualifier=resource.qualifier,
        minimum=target.minimum,
        maximum=target.maximum,
        in_suspended=suspended.dynamic_in,
        out_suspended=suspended.dynamic_out,
        scheduled_suspended=suspended.scheduled,
        policies=[_policy(policy) for policy in target.policies.values()],
        actions=[_action(action) for action in target.actions.values()],
    )


def _policy(policy: Policy) -> pb.TrackingPolicy:
    tracking = policy.tracking
    return pb.TrackingPolicy(
        name=policy.name,
        id=policy.id,
        target_value=tracking.target_value,
        statistic=tracking.statistic,
        scale_out_cooldown=tracking.scale_out_cooldown or 0,
        scale_in_cooldown=tracking.scale_in_cooldown or 0,
        disable_scale_in=bool(tracking.disable_scale_in),
    )


def _action(action: Action) -> pb.ScheduledAction:
    return pb.ScheduledAction(
        name=action.name,
        created=action.created,
        schedule=action.schedule,
        timezone=action.timezone or "",
        start=action.start,
        end=action.end,
        since=action.since,
    )
