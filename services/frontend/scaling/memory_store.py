"""The scaling store's twin for tests: the same answers from plain dictionaries."""

from __future__ import annotations

from lambent.domain.names import Tenant
from lambent.domain.scaling import Activity, ScalingState


class MemoryScalingStore:
    """A `ScalingStore` in this process."""

    def __init__(self) -> None:
        self._states: dict[Tenant, ScalingState] = {}
        self._activities: dict[Tenant, list[Activity]] = {}

    async def scaling(self, tenant: Tenant) -> ScalingState:
        return self._states.get(tenant, ScalingState())

    async def replace_scaling(self, tenant: Tenant, before: ScalingState, after: ScalingState) -> bool:
        if (await self.scaling(tenant)).revision != before.revision:
            return False
        self._states[tenant] = after
        return True

    async def tenants_with_scaling(self) -> tuple[Tenant, ...]:
        return tuple(sorted(tenant for tenant, state in self._states.items() if not state.empty))

    async def add_activity(self, tenant: Tenant, activity: Activity, most: int) -> None:
        self._activities[tenant] = [activity, *self._activities.get(tenant, [])][:most]

    async def activities(self, tenant: Tenant) -> list[Activity]:
        return list(self._activities.get(tenant, []))
