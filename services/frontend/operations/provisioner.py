"""Puts and ends provisioned concurrency, for whoever decided it: a client, or auto scaling."""

from __future__ import annotations

from lambent.domain import concurrency, tenancy
from lambent.domain.clock import Clock
from lambent.domain.concurrency import ConcurrencyState
from lambent.domain.functions import Function
from lambent.domain.limits import Limits
from lambent.domain.names import FunctionRef, alias_not_found, is_version, not_found
from lambent.infra.functions.port import NOBODY, Edit
from services.frontend.operations.editing import Editor


class Provisioner:
    """Changes provisioned concurrency as lambent/domain/concurrency.py allows."""

    def __init__(self, editor: Editor, limits: Limits, clock: Clock) -> None:
        self._editor = editor
        self._limits = limits
        self._clock = clock

    async def put(self, ref: FunctionRef, qualifier: str, executions: int) -> float:
        """Provision `executions` for a version or alias; the scheduler begins at once. Answers when that was, epoch
        seconds."""
        now = self._clock.epoch()

        def decide(function: Function, settings: ConcurrencyState) -> Edit | None:
            check_exists(function, qualifier)
            if function.record.configuration.isolated:
                raise tenancy.unsupported("Provisioned concurrency")
            after = concurrency.put_provisioned(settings, function, qualifier, executions, self._limits, now)
            return settings_edit(ref, settings, after)

        await self._editor.edit(ref, decide)
        return now

    async def delete(self, ref: FunctionRef, qualifier: str) -> None:
        """Let the environments go. No error if there is no configuration."""

        def decide(function: Function, settings: ConcurrencyState) -> Edit | None:
            check_exists(function, qualifier)
            return settings_edit(ref, settings, concurrency.delete_provisioned(settings, ref.name, qualifier))

        await self._editor.edit(ref, decide)


def check_exists(function: Function, qualifier: str) -> None:
    """Refuse a version or alias that is not there. Raises ResourceNotFoundException."""
    if not function.stands_for(qualifier):
        ref = FunctionRef(function.record.tenant, function.record.name, qualifier)
        raise not_found(ref) if is_version(qualifier) else alias_not_found(ref)


def settings_edit(ref: FunctionRef, before: ConcurrencyState, after: ConcurrencyState) -> Edit | None:
    """The edit that puts settings in force; None: they are as they were."""
    return None if after is before else Edit(ref.tenant, ref.name, NOBODY, settings=after)
