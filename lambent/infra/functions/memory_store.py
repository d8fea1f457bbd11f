"""The store's twin for tests: the same answers from plain dictionaries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Literal, TypeVar

from lambent.domain.concurrency import ConcurrencyState
from lambent.domain.function_urls import UrlPlace
from lambent.domain.functions import Function, FunctionRecord, VersionRecord
from lambent.domain.names import Tenant
from lambent.infra.functions.port import EVERY_VERSION, Change, Edit, Obstacle

T = TypeVar("T")


class MemoryFunctionStore:
    """A `FunctionStore` in this process."""

    def __init__(self) -> None:
        self._functions: dict[Tenant, dict[str, Function]] = {}
        self._settings: dict[Tenant, ConcurrencyState] = {}
        self._generations: dict[Tenant, int] = {}
        self._layer_bytes: dict[Tenant, int] = {}
        self._readers: list[tuple[Tenant, asyncio.Queue[Change]]] = []

    async def next_generation(self, tenant: Tenant) -> int:
        self._generations[tenant] = self._generations.get(tenant, 0) + 1
        return self._generations[tenant]

    async def create(
        self, record: FunctionRecord, stamp: str, version: VersionRecord | None, code_limit: int
    ) -> Literal["exists", "code-storage"] | None:
        functions = self._functions.setdefault(record.tenant, {})
        if record.name in functions:
            return "exists"
        function = Function(record, stamp, {} if version is None else {version.number: version}, {})
        if await self.code_bytes(record.tenant) + _bytes(function) > code_limit:
            return "code-storage"
        functions[record.name] = function
        self._tell(Change(record.tenant, record.name, record.generation, EVERY_VERSION))
        return None

    async def change(self, edit: Edit, code_limit: int) -> Obstacle | None:
        tenant, name = edit.tenant, edit.name
        functions = self._functions.get(tenant, {})
        function = functions.get(name)
        if function is None:
            return "missing"
        if edit.revision not in (None, function.record.revision_id):
            return "revision"
        if edit.stamp not in (None, function.stamp):
            return "conflict"
        if edit.settings_revision not in (None, (await self.settings(tenant)).revision):
            return "conflict"
        if edit.added_bytes > 0 and await self.code_bytes(tenant) + edit.added_bytes > code_limit:
            return "code-storage"
        if edit.delete:
            del functions[name]
        else:
            functions[name] = Function(
                edit.record or function.record,
                function.stamp if edit.new_stamp is None else edit.new_stamp,
                _merged(function.versions, edit.versions),
                _merged(function.aliases, edit.aliases),
                _merged(function.event_configs, edit.event_configs),
                _merged(function.policies, edit.policies),
                _merged(function.urls, edit.urls),
                function.tags_since if edit.tags is None else edit.tags,
                edit.recursive_loop or function.recursive_loop,
                _merged(function.runtime_management, edit.runtime_management),
            )
        if edit.settings is not None:
            self._settings[tenant] = edit.settings
        self._tell(Change(tenant, name, edit.generation, edit.outdates))
        return None

    async def get(self, tenant: Tenant, name: str) -> FunctionRecord | None:
        function = await self.read(tenant, name)
        return None if function is None else function.record

    async def find(self, tenant: Tenant, name: str, qualifier: str) -> Function | None:
        function = await self.read(tenant, name)
        if function is None:
            return None
        named = function.stands_for(qualifier)
        return Function(
            function.record,
            function.stamp,
            {key: each for key, each in function.versions.items() if key in named},
            _only(function.aliases, qualifier),
            _only(function.event_configs, qualifier),
            _only(function.policies, qualifier),
            _only(function.urls, qualifier),
            function.tags_since,
            function.recursive_loop,
            _only(function.runtime_management, qualifier),
        )

    async def read(self, tenant: Tenant, name: str) -> Function | None:
        return self._functions.get(tenant, {}).get(name)

    async def list(self, tenant: Tenant, after: str, limit: int) -> list[FunctionRecord]:
        functions = self._functions.get(tenant, {})
        return [functions[name].record for name in sorted(functions) if name > after][:limit]

    async def count(self, tenant: Tenant) -> int:
        return len(self._functions.get(tenant, {}))

    async def code_bytes(self, tenant: Tenant) -> int:
        layers = self._layer_bytes.get(tenant, 0)
        return layers + sum(_bytes(function) for function in self._functions.get(tenant, {}).values())

    def count_layer(self, tenant: Tenant, added_bytes: int) -> None:
        """For the twin of the layer store, whose bytes count with those of functions."""
        self._layer_bytes[tenant] = self._layer_bytes.get(tenant, 0) + added_bytes

    async def settings(self, tenant: Tenant) -> ConcurrencyState:
        return self._settings.get(tenant, ConcurrencyState())

    async def tenants_with_settings(self) -> tuple[Tenant, ...]:
        return tuple(tenant for tenant, state in self._settings.items() if not state.empty)

    async def changes(self, tenant: Tenant) -> AsyncIterator[Change]:
        queue: asyncio.Queue[Change] = asyncio.Queue()
        self._readers.append((tenant, queue))
        while True:
            yield await queue.get()

    def _tell(self, change: Change) -> None:
        for reader, queue in self._readers:
            if reader == change.tenant:
                queue.put_nowait(change)


class MemoryUrlIndex:
    """A `UrlIndex` in this process."""

    def __init__(self) -> None:
        self._places: dict[str, UrlPlace] = {}

    async def note(self, id_: str, place: UrlPlace) -> None:
        self._places[id_] = place

    async def find(self, id_: str) -> UrlPlace | None:
        return self._places.get(id_)

    async def forget(self, id_: str) -> None:
        self._places.pop(id_, None)


def _bytes(function: Function) -> int:
    return function.record.code.size + sum(version.deployed.code.size for version in function.versions.values())


def _only(named: Mapping[str, T], name: str) -> dict[str, T]:
    return {name: named[name]} if name in named else {}


def _merged(before: Mapping[str, T], changes: Mapping[str, T | None]) -> dict[str, T]:
    merged = {key: each for key, each in before.items() if key not in changes}
    return merged | {key: each for key, each in changes.items() if each is not None}
