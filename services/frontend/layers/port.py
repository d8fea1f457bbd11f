"""What the operations on layers ask of their store. Two implementations under one contract suite (tests/contract)."""

from __future__ import annotations

from typing import Protocol

from lambent.domain.layers import LayerContent, LayerVersion
from lambent.domain.names import LayerRef, Tenant
from lambent.domain.policies import Policy


class LayerStore(Protocol):
    """Layers by tenant; their bytes count with those of the tenant's functions. Every method raises
    ServiceUnavailableException where the store cannot be reached."""

    async def publish(self, layer: LayerRef, content: LayerContent, code_limit: int) -> int | None:
        """Keep content as the layer's next version and answer its number, greater than every number before it, those of
        deleted versions included. None: the tenant's packages would be larger than `code_limit` bytes."""
        ...

    async def get(self, layer: LayerRef, number: int) -> LayerVersion | None:
        """One version."""
        ...

    async def versions(self, layer: LayerRef) -> list[LayerVersion]:
        """A layer's versions, the newest first."""
        ...

    async def names(self, tenant: Tenant, after: str, limit: int) -> list[str]:
        """At most `limit` names of layers that have versions, those that sort after `after`, by name."""
        ...

    async def delete(self, version: LayerVersion) -> None:
        """Forget a version with its policy, and give its bytes back. Nothing happens if it has gone already."""
        ...

    async def policy(self, layer: LayerRef, number: int) -> Policy | None:
        """Who of other accounts may get a version. None: nobody may, or there is no such version."""
        ...

    async def set_policy(self, layer: LayerRef, number: int, policy: Policy | None, revision: str | None) -> bool:
        """Keep a version's policy, or none. False, and nothing is changed: the version is gone, or `revision` is not
        that of its policy (None: it has none)."""
        ...
