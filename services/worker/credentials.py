"""The credentials of functions' processes: made when one starts, and an end to environments before theirs expire.

One timer for a worker. An environment whose credentials have been used for long enough is ended while it is idle, and
the caller of one that runs is told not to use it again. What runs may run to its timeout, and an invocation may be
queued behind another one's rest, so credentials are good for twice that longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from lambent.domain.clock import Clock, Ids
from lambent.infra.session_credentials import SessionKeys, Statement
from lambent.internal.v1.deployment_pb2 import Deployment
from services.worker.core.environment import State
from services.worker.core.reasons import Reason

# Beyond the last moment at which a process may use them: clocks of workers and frontends differ.
_SPARE_SECONDS = 60
# How soon one that could not be ended is looked at again.
_AGAIN_SECONDS = 1.0


class Holder(Protocol):
    """What is known of an environment here."""

    deployment: Deployment
    fresh_until: float  # monotonic seconds; its process's credentials are used for new invocations until then

    @property
    def state(self) -> State: ...

    def stop(self, reason: Reason) -> None: ...


class Credentials:
    """Gives every process its own."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, clock: Clock, ids: Ids, keys: SessionKeys, seconds: float
    ) -> None:
        """`seconds`: how old a process gets with its credentials."""
        self._loop = loop
        self._clock = clock
        self._ids = ids
        self._keys = keys
        self._seconds = seconds
        self._held: dict[Holder, float] = {}  # when to look at each
        self._again: list[Holder] = []  # those that ran when it was time
        self._timer: asyncio.TimerHandle | None = None

    def variables(self, holder: Holder, until_at_most: float = float("inf")) -> Mapping[str, str]:
        """Fresh ones, for a process that starts now. `until_at_most`: monotonic seconds at which others expire that it
        may have copied from a snapshot."""
        deployment = holder.deployment
        until = self._seconds + 2 * deployment.timeout_seconds + _SPARE_SECONDS
        statement = Statement(
            account=deployment.account,
            region=deployment.region,
            role=deployment.role,
            function=deployment.function_name,
            exp=int(self._clock.epoch() + until),
            id=self._ids.token(8),
        )
        made = self._keys.issue(statement)
        holder.fresh_until = min(self._clock.monotonic() + self._seconds, until_at_most)
        if self._timer is not None and holder.fresh_until == until_at_most:  # perhaps sooner than all others
            self._timer.cancel()
            self._timer = None
        self._held[holder] = holder.fresh_until
        self._arm()
        return {
            "AWS_ACCESS_KEY_ID": made.key_id,
            "AWS_SECRET_ACCESS_KEY": made.secret,
            "AWS_SESSION_TOKEN": made.token,
        }

    def gone(self, holder: Holder) -> None:
        """It has stopped."""
        self._held.pop(holder, None)
        if holder in self._again:
            self._again.remove(holder)
        if self._timer is not None and not self._held and not self._again:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        if self._timer is None and (self._held or self._again):
            delay = _AGAIN_SECONDS
            if not self._again:
                delay = max(0.0, min(self._held.values()) - self._clock.monotonic())
            self._timer = self._loop.call_later(delay, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        due, self._again = self._again, []
        due += [holder for holder, when in self._held.items() if when <= now]
        self._held = {holder: when for holder, when in self._held.items() if when > now}
        for holder in due:
            if holder.state is State.READY:
                holder.stop(Reason.WORN)
            elif holder.state not in (State.COLD, State.STOPPED):  # these have no process
                self._again.append(holder)
        self._arm()
