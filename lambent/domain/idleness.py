"""When a function that is attached to a network becomes Inactive, and how it comes back.

On AWS the network interface of a function that was not invoked for two weeks is taken back; the next invocation is
refused, and makes the function Pending until it has one again. Source:
https://docs.aws.amazon.com/lambda/latest/dg/functions-states.html
"""

from __future__ import annotations

from dataclasses import replace

from lambent.domain.functions import FunctionRecord, State, UpdateStatus


def reclaim(record: FunctionRecord, *, idle_since: float, provisioned: bool, revision_id: str) -> FunctionRecord | None:
    """The function as it is once its network was taken back; `idle_since`: last used before it (epoch seconds) is not
    used lately. None: it stays as it is."""
    if record.state is not State.ACTIVE or record.update_status is UpdateStatus.IN_PROGRESS:
        return None
    if provisioned or not record.configuration.attached or record.changed > idle_since:
        return None
    return replace(record, state=State.INACTIVE, revision_id=revision_id)


def wake(record: FunctionRecord, *, now: float, revision_id: str) -> FunctionRecord | None:
    """The function on its way back. None: it is not inactive."""
    if record.state is not State.INACTIVE:
        return None
    return replace(record, state=State.PENDING, changed=now, revision_id=revision_id)


def restored(record: FunctionRecord, *, revision_id: str) -> FunctionRecord | None:
    """The function once it is back; what it runs has not changed. None: it was not on its way back."""
    if record.state is not State.PENDING or not record.away:
        return None
    return replace(record, state=State.ACTIVE, revision_id=revision_id)
