"""The functions that this frontend has looked at lately, ready to be invoked; kept true by the tenants' change logs.

A function is read from the store once and then served from here. The log of a tenant is followed from before its
first function is read, so that no change is missed. While the store is away, what is known goes on being served.
"""

from __future__ import annotations

from dataclasses import dataclass

from lambent.domain.functions import Deployed, FunctionRecord
from lambent.domain.names import LATEST, Tenant
from lambent.infra.invoker.invoker import Target
from lambent.infra.invoker.leases import LeaseStream
from lambent.infra.secrets import SecretBox
from lambent.infra.tasks import TaskOwner
from lambent.internal.v1 import deployment_pb2
from services.frontend.store.port import Change, FunctionStore
from services.frontend.variables import open_variables


@dataclass(frozen=True, slots=True)
class Known:
    """A function, and what invoking it takes."""

    record: FunctionRecord
    target: Target | None  # None until its creation has ended


class FunctionDirectory:
    """Functions by tenant and name."""

    def __init__(self, store: FunctionStore, secrets: SecretBox, leases: LeaseStream | None) -> None:
        """`leases`: where the scheduler is told of changes; None in tests without one."""
        self._store = store
        self._secrets = secrets
        self._leases = leases
        self._known: dict[tuple[Tenant, str], Known] = {}
        self._changed: dict[Tenant, int] = {}  # changes seen of each tenant, to tell a read that one overtook
        self._tasks = TaskOwner("directory")

    def known(self, tenant: Tenant, name: str) -> Known | None:
        """What is known already. The hot path."""
        return self._known.get((tenant, name))

    async def find(self, tenant: Tenant, name: str) -> Known | None:
        """A function, read from the store if need be. None: there is none."""
        known = self._known.get((tenant, name))
        if known is not None:
            return known
        if tenant not in self._changed:
            self._changed[tenant] = 0
            self._tasks.start(f"changes of {tenant.tag}", self._follow(tenant))
        before = self._changed[tenant]
        record = await self._store.get(tenant, name)
        if record is None:
            return None
        known = Known(record, self._target(record))
        if self._changed[tenant] == before:
            self._known[tenant, name] = known
        return known

    def forget(self, tenant: Tenant, name: str, generation: int) -> None:
        """The function was changed or deleted, here or elsewhere."""
        self._known.pop((tenant, name), None)
        if tenant in self._changed:
            self._changed[tenant] += 1
        if self._leases is not None:
            self._leases.function_changed(tenant, name, generation, "")

    async def close(self) -> None:
        """Stop following the logs."""
        await self._tasks.close()

    async def _follow(self, tenant: Tenant) -> None:
        change: Change
        async for change in self._store.changes(tenant):
            self.forget(tenant, change.name, change.generation)

    def _target(self, record: FunctionRecord) -> Target | None:
        serving = record.serving
        if serving is None:
            return None
        return Target(
            tenant=record.tenant,
            function_name=record.name,
            version=LATEST,
            deployment_id=serving.deployment_id,
            generation=serving.generation,
            memory_mb=serving.configuration.memory_mb,
            deployment=self._deployment(record, serving).SerializeToString(),
        )

    def _deployment(self, record: FunctionRecord, serving: Deployed) -> deployment_pb2.Deployment:
        configuration = serving.configuration
        return deployment_pb2.Deployment(
            account=record.tenant.account,
            region=record.tenant.region,
            function_name=record.name,
            version=LATEST,
            deployment_id=serving.deployment_id,
            runtime=configuration.runtime,
            handler=configuration.handler,
            code_sha256=serving.code.sha256,
            memory_mb=configuration.memory_mb,
            timeout_seconds=configuration.timeout,
            ephemeral_storage_mb=configuration.ephemeral_storage_mb,
            variables=open_variables(self._secrets, record.tenant, record.name, configuration.variables) or {},
            log_format=configuration.log_format,
            application_log_level=configuration.application_log_level or "",
            log_group=configuration.log_group,
        )
