"""The layer store's twin for tests: the same answers from plain dictionaries."""

from __future__ import annotations

from lambent.domain.layers import LayerContent, LayerVersion
from lambent.domain.names import LayerRef, Tenant
from lambent.domain.policies import Policy
from lambent.infra.functions.memory_store import MemoryFunctionStore


class MemoryLayerStore:
    """A `LayerStore` in this process."""

    def __init__(self, functions: MemoryFunctionStore) -> None:
        """`functions`: whose bytes count together with those of the layers."""
        self._functions = functions
        self._last: dict[LayerRef, int] = {}
        self._versions: dict[LayerRef, dict[int, LayerVersion]] = {}
        self._policies: dict[tuple[LayerRef, int], Policy | None] = {}

    async def publish(self, layer: LayerRef, content: LayerContent, code_limit: int) -> int | None:
        if await self._functions.code_bytes(layer.tenant) + content.code.size > code_limit:
            return None
        number = self._last[layer] = self._last.get(layer, 0) + 1
        self._versions.setdefault(layer, {})[number] = LayerVersion(layer, number, content)
        self._functions.count_layer(layer.tenant, content.code.size)
        return number

    async def get(self, layer: LayerRef, number: int) -> LayerVersion | None:
        return self._versions.get(layer, {}).get(number)

    async def versions(self, layer: LayerRef) -> list[LayerVersion]:
        return sorted(self._versions.get(layer, {}).values(), key=lambda version: -version.number)

    async def names(self, tenant: Tenant, after: str, limit: int) -> list[str]:
        names = (layer.name for layer, versions in self._versions.items() if versions and layer.tenant == tenant)
        return sorted(name for name in names if name > after)[:limit]

    async def delete(self, version: LayerVersion) -> None:
        if self._versions.get(version.layer, {}).pop(version.number, None) is not None:
            self._policies.pop((version.layer, version.number), None)
            self._functions.count_layer(version.layer.tenant, -version.content.code.size)

    async def policy(self, layer: LayerRef, number: int) -> Policy | None:
        return self._policies.get((layer, number))

    async def set_policy(self, layer: LayerRef, number: int, policy: Policy | None, revision: str | None) -> bool:
        before = self._policies.get((layer, number))
        if number not in self._versions.get(layer, {}) or revision != (None if before is None else before.revision_id):
            return False
        self._policies[layer, number] = policy
        return True
