"""The layer store's twin for tests: the same answers from plain dictionaries."""

from __future__ import annotations

from lambent.domain.layers import LayerContent, LayerVersion
from lambent.domain.names import LayerRef, Tenant
from lambent.infra.functions.memory_store import MemoryFunctionStore


class MemoryLayerStore:
    """A `LayerStore` in this process."""

    def __init__(self, functions: MemoryFunctionStore) -> None:
        """`functions`: whose bytes count together with those of the layers."""
        self._functions = functions
        self._last: dict[LayerRef, int] = {}
        self._versions: dict[LayerRef, dict[int, LayerVersion]] = {}

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
            self._functions.count_layer(version.layer.tenant, -version.content.code.size)
