"""What auto scaling asks of its store. Two implementations under one contract suite (tests/contract)."""

from __future__ import annotations

from typing import Protocol

from lambent.domain.names import Tenant
from lambent.domain.scaling import Activity, ScalingState


class ScalingStore(Protocol):
    """What tenants have set for Application Auto Scaling, and what came of it. Every method raises
    ServiceUnavailableException where the store cannot be reached."""

    async def scaling(self, tenant: Tenant) -> ScalingState:
        """A tenant's scalable targets."""
        ...

    async def replace_scaling(self, tenant: Tenant, before: ScalingState, after: ScalingState) -> bool:
        """Keep `after`. False: it is no longer `before` that is kept, so nothing was changed."""
        ...

    async def tenants_with_scaling(self) -> tuple[Tenant, ...]:
        """Every tenant that has scalable targets; some may be among them that have none any more."""
        ...

    async def add_activity(self, tenant: Tenant, activity: Activity, most: int) -> None:
        """Keep an activity, and of all no more than the `most` newest."""
        ...

    async def activities(self, tenant: Tenant) -> list[Activity]:
        """A tenant's activities, the newest first."""
        ...
