"""What an environment knows of the world around it: the worker that hosts it, and who called."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from lambent.domain.clock import Clock, Ids
from lambent.domain.limits import Limits
from lambent.infra.frames import Result
from lambent.infra.log_store import LogWriter
from lambent.infra.tasks import TaskOwner
from services.worker.core.reasons import Reason
from services.worker.counters import InvocationRecord, WorkerCounters
from services.worker.credentials import Credentials
from services.worker.endpoints import Endpoints
from services.worker.freezing import Freezer
from services.worker.guests import Programs
from services.worker.sandbox.port import SandboxPool

if TYPE_CHECKING:
    from services.worker.environment import Environment


class Caller(Protocol):
    """Where an answer goes: a connection."""

    def answer(self, call: int, result: Result, payload: bytes) -> None: ...

    def streams(self, call: int, content_type: str) -> None: ...

    def piece(self, call: int, data: bytes) -> None: ...


class Host(Protocol):
    """What every environment of a worker shares."""

    loop: asyncio.AbstractEventLoop
    clock: Clock
    limits: Limits
    logs: LogWriter
    pool: SandboxPool
    programs: Programs
    ids: Ids
    tasks: TaskOwner
    counters: WorkerCounters
    freezer: Freezer
    credentials: Credentials
    endpoints: Endpoints
    on_invocation: Callable[[InvocationRecord], None] | None

    def environment_ready(self, environment: Environment) -> None: ...

    def environment_gone(self, environment: Environment, reason: Reason) -> None: ...
