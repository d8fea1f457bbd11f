"""Tells the scheduler what tenants have set about concurrency: all after each connection, one tenant's at each change.

The store has the settings; the scheduler is only told. One that is away is told when it is back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from lambent.domain.concurrency import ConcurrencyState, split
from lambent.domain.errors import AwsError
from lambent.domain.names import Tenant
from lambent.infra.functions.port import FunctionStore
from lambent.infra.functions.targets import target_of
from lambent.infra.secrets import SecretBox, SecretsError
from lambent.internal.v1 import lease_service_pb2 as pb

_log = logging.getLogger(__name__)

# How long a change waits for the scheduler to have it in force before its caller is answered.
APPLY_SECONDS = 2.0


class SettingsStream(Protocol):
    """The lease stream, as far as settings travel on it."""

    def send_settings(self, message: pb.ConcurrencySettings) -> None:
        """Send, if the scheduler is connected."""
        ...

    async def settings_applied(self, account: str, region: str, revision: int) -> None:
        """Returns when the scheduler has a tenant's settings of this revision, or of a later one, in force."""
        ...

    def on_connected(self, load: Callable[[], Awaitable[Sequence[pb.ConcurrencySettings]]]) -> None:
        """`load` is awaited after each connection; what it answers is sent before any wish for an environment. It
        raises AwsError while the store is away."""
        ...


class SettingsLink:
    """From the store to the scheduler."""

    def __init__(
        self,
        store: FunctionStore,
        secrets: SecretBox,
        stream: SettingsStream | None,
        apply_seconds: float = APPLY_SECONDS,
    ) -> None:
        """`stream`: None where there is no scheduler to tell."""
        self._store = store
        self._secrets = secrets
        self._stream = stream
        self._apply_seconds = apply_seconds
        if stream is not None:
            stream.on_connected(self.load)

    async def apply(self, tenant: Tenant) -> None:
        """Send a tenant's settings, and wait until they are in force or the scheduler has not answered for a while."""
        stream = self._stream
        if stream is None:
            return
        try:
            message = await self.message(tenant)
            stream.send_settings(message)
            async with asyncio.timeout(self._apply_seconds):
                await stream.settings_applied(message.account, message.region, message.revision)
        except (AwsError, TimeoutError) as error:
            # They are kept, and sent again with the next connection.
            _log.warning("the scheduler has not applied settings", extra={"tenant": tenant.tag, "reason": repr(error)})

    async def load(self) -> list[pb.ConcurrencySettings]:
        """The settings of every tenant that has any."""
        return [await self.message(tenant) for tenant in await self._store.tenants_with_settings()]

    async def message(self, tenant: Tenant) -> pb.ConcurrencySettings:
        """All that a tenant has set. Versions may be newer than the revision, never older."""
        state = await self._store.settings(tenant)
        message = pb.ConcurrencySettings(account=tenant.account, region=tenant.region, revision=state.revision)
        for name, executions in sorted(state.reserved.items()):
            message.reserved.add(function_name=name, executions=executions)
        for name in sorted(state.provisioned):
            for qualifier in sorted(state.of(name)):
                await self._add(message, tenant, state, name, qualifier)
        return message

    async def _add(
        self, message: pb.ConcurrencySettings, tenant: Tenant, state: ConcurrencyState, name: str, qualifier: str
    ) -> None:
        configuration = state.of(name)[qualifier]
        function = await self._store.find(tenant, name, qualifier)
        versions = () if function is None else function.stands_for(qualifier)
        if function is None or not versions:
            return  # deleted meanwhile: the settings without it follow
        provisioned = message.provisioned.add(
            function_name=name,
            qualifier=qualifier,
            requested=configuration.executions,
            put_revision=configuration.put_revision,
        )
        parts = split(configuration.executions, function.aliases.get(qualifier))
        for version, executions in zip(versions, parts, strict=True):
            try:
                target = target_of(self._secrets, function, version)
            except SecretsError as error:
                # One function that cannot be started must not keep all others' settings back.
                _log.error("settings of a function that cannot be opened", extra={"function": name}, exc_info=error)
                continue
            if target is not None and executions:
                provisioned.versions.add(need=target.need(), deployment=target.deployment, executions=executions)
