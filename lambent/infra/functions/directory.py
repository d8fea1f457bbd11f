"""What this frontend has looked at lately, ready to be invoked; kept true by the tenants' change logs.

A function's version or alias is read from the store once and then served from here. The log of a tenant is followed
from before its first function is read, so that no change is missed. While the store is away, what is known goes on
being served.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from lambent.domain.event_invoke import EventInvokeConfig
from lambent.domain.function_urls import FunctionUrl
from lambent.domain.functions import Configuration, FunctionRecord, State
from lambent.domain.lineage import TERMINATE, RecursiveLoop
from lambent.domain.names import LATEST, Tenant
from lambent.domain.policies import Policy
from lambent.domain.tracing import lineage_of
from lambent.infra.functions.port import NOBODY, Change, FunctionStore
from lambent.infra.functions.targets import deployed_of, target_of, version_state
from lambent.infra.invoker.invoker import Target
from lambent.infra.invoker.leases import LeaseStream
from lambent.infra.secrets import SecretBox
from lambent.infra.tasks import TaskOwner

_log = logging.getLogger(__name__)
# How long a change log that could not be followed is left alone.
_AGAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Known:
    """What a function's name and a qualifier stand for, and what invoking it takes."""

    record: FunctionRecord
    # None until its creation has ended, while the function is inactive, and while a version has no snapshot that is to
    # have one.
    target: Target | None
    additional: Target | None = None  # the second version of an alias with weights
    share: float = 0.0  # of the requests that go to `additional`, 0 to 1
    event_config: EventInvokeConfig | None = None  # how its events are run; None: by the defaults
    version_state: State = State.ACTIVE  # of the published version that it stands for
    # Of what it stands for: of an alias with weights both versions'. Empty until its creation has ended.
    configurations: tuple[Configuration, ...] = ()
    url: FunctionUrl | None = None  # its own; None: it has none
    policy: Policy | None = None  # its own; None: nobody else may invoke it
    recursive_loop: RecursiveLoop = TERMINATE

    def draw(self, drawn: float) -> Target | None:
        """Which target one request goes to; `drawn` from [0, 1) for each request anew."""
        return self.target if drawn >= self.share else self.additional

    def in_loop(self, header: str | None, most: int) -> bool:
        """Whether it is to run no more in the chain of requests of a trace header, as it ran `most` times in it."""
        if header is None or self.target is None or self.recursive_loop != TERMINATE:
            return False
        return lineage_of(header).get(self.target.mark, 0) >= most


class FunctionDirectory:
    """Functions by tenant, name and qualifier."""

    def __init__(self, store: FunctionStore, secrets: SecretBox, leases: LeaseStream | None) -> None:
        """`leases`: where the scheduler is told of changes; None in tests without one."""
        self._store = store
        self._secrets = secrets
        self._leases = leases
        self._known: dict[tuple[Tenant, str], dict[str | None, Known]] = {}
        self._changed: dict[Tenant, int] = {}  # changes seen of each tenant, to tell a read that one overtook
        self._tasks = TaskOwner("directory")

    def known(self, tenant: Tenant, name: str, qualifier: str | None) -> Known | None:
        """What is known already; no qualifier is $LATEST. The hot path."""
        function = self._known.get((tenant, name))
        return None if function is None else function.get(qualifier)

    async def find(self, tenant: Tenant, name: str, qualifier: str | None) -> Known | None:
        """As `known`, read from the store if need be. None: there is nothing so called."""
        known = self.known(tenant, name, qualifier)
        if known is not None:
            return known
        if tenant not in self._changed:
            self._changed[tenant] = 0
            self._tasks.start(f"changes of {tenant.tag}", self._follow(tenant))
        before = self._changed[tenant]
        known = await self._read(tenant, name, qualifier or LATEST)
        if known is not None and self._changed[tenant] == before:
            self._known.setdefault((tenant, name), {})[qualifier] = known
        return known

    def forget(self, tenant: Tenant, name: str, generation: int, outdates: str) -> None:
        """The function was changed or deleted, here or elsewhere. `outdates`: as in `Change`."""
        self._known.pop((tenant, name), None)
        if tenant in self._changed:
            self._changed[tenant] += 1
        if self._leases is not None and outdates != NOBODY:
            self._leases.function_changed(tenant, name, generation, outdates)

    async def close(self) -> None:
        """Stop following the logs."""
        await self._tasks.close()

    async def _follow(self, tenant: Tenant) -> None:
        change: Change
        while True:
            try:
                async for change in self._store.changes(tenant):
                    self.forget(tenant, change.name, change.generation, change.outdates)
            except Exception:
                # A defect must not end it: what is known here would grow old. What was missed is read anew.
                _log.exception("the change log of %s is followed anew", tenant.tag)
            await asyncio.sleep(_AGAIN_SECONDS)
            self._changed[tenant] += 1
            for key in [key for key in self._known if key[0] == tenant]:
                del self._known[key]

    async def _read(self, tenant: Tenant, name: str, qualifier: str) -> Known | None:
        function = await self._store.find(tenant, name, qualifier)
        versions = () if function is None else function.stands_for(qualifier)
        if function is None or not versions:
            return None
        if not all(function.has(version) for version in versions):
            return None  # the alias was moved away from a version that was then deleted, while it was read
        targets = [None if function.record.away else target_of(self._secrets, function, each) for each in versions]
        states = [version_state(function, each) for each in versions]
        state = next((each for each in states if each is not State.ACTIVE), State.ACTIVE)
        if None in targets:
            targets = [None] * len(targets)  # an alias with weights is invoked as one
        additional, share = None, 0.0
        if len(targets) > 1:
            additional, share = targets[1], function.aliases[qualifier].weights[versions[1]]
        deployed = [deployed_of(function, each) for each in versions]
        configurations = tuple(each.configuration for each in deployed if each is not None)
        config = function.event_configs.get(qualifier)
        beside = (function.urls.get(qualifier), function.policies.get(qualifier), function.recursive_loop)
        return Known(function.record, targets[0], additional, share, config, state, configurations, *beside)
