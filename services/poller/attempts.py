"""One attempt at an event: what it names now, one invocation, and what came of that in the words of the rules."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from lambent.domain.async_events import Outcome
from lambent.domain.clock import Clock
from lambent.domain.errors import AwsError
from lambent.domain.functions import State
from lambent.domain.limits import Limits
from lambent.domain.lineage import stopped
from lambent.domain.names import FunctionRef, Tenant
from lambent.infra.functions.directory import FunctionDirectory, Known
from lambent.infra.functions.port import FunctionStore
from lambent.infra.functions.waking import Waker
from lambent.infra.invocation_telemetry import Cause, InvocationTelemetry
from lambent.infra.invoker.invoker import Invoker, Target
from lambent.infra.invoker.invoker import Outcome as Ran

# Beyond its handler's time an attempt takes a few milliseconds, unless processors are short: more than so many seconds,
# and more than such a share of the handler's time, are a sign of that.
SLOW_SECONDS, SLOW_SHARE = 0.02, 0.25


@dataclass(slots=True)
class Request:
    """An attempt, as far as its trace goes."""

    request_id: str
    trace_header: str | None
    trace_out: str | None = None
    cause: Cause | None = None  # None: an event


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of one attempt."""

    outcome: Outcome
    detail: str = ""  # what stood against it
    version: str | None = None
    error: str | None = None
    response: bytes = b""
    slow: bool = False  # it took long beyond the handler's time
    trace: str = ""  # X-Amzn-Trace-Id that the handler was given; empty: it did not run


class Attempts:
    """Runs events as a frontend runs requests: through the same leases, within the same limits."""

    def __init__(
        self,
        store: FunctionStore,
        directory: FunctionDirectory,
        waker: Waker,
        invoker: Invoker,
        telemetry: InvocationTelemetry,
        clock: Clock,
        rng: random.Random,
        limits: Limits,
    ) -> None:
        """`rng`: draws which version of an alias with weights an attempt goes to."""
        self._store = store
        self._directory = directory
        self._waker = waker
        self._invoker = invoker
        self._telemetry = telemetry
        self._clock = clock
        self._rng = rng
        self._limits = limits

    async def find(self, ref: FunctionRef) -> Known | Attempt:
        """What an event's name and qualifier stand for now, or why there is no attempt."""
        try:
            known = await self._directory.find(ref.tenant, ref.name, ref.qualifier)
        except AwsError as error:
            return Attempt(Outcome.SYSTEM_ERROR, str(error))
        if known is None:
            return Attempt(Outcome.NOT_FOUND, f"Function not found: {ref.arn}")
        if known.target is None:
            try:
                await self._waker.wake(known.record)
            except AwsError as error:
                return Attempt(Outcome.SYSTEM_ERROR, str(error))
            failed = State.FAILED in (known.record.state, known.version_state)
            state = "Failed" if failed else "Pending"
            return Attempt(Outcome.SYSTEM_ERROR, f"The function is in the state {state}")
        return known

    async def run(
        self, ref: FunctionRef, known: Known, request: Request, payload: bytes, begins: Callable[[], None],
        tenant_id: str | None = None,
    ) -> Attempt:  # fmt: skip
        """Run an event once. `begins` is called when it has an environment. `tenant_id`: whom it is for, of a function
        with tenant isolation."""
        target = known.draw(self._rng.random())
        assert target is not None
        try:
            target = target.of_tenant(tenant_id)
        except AwsError as error:  # it comes from where no tenant is named, or the function is another by now
            return Attempt(Outcome.SYSTEM_ERROR, error.message)
        if self.in_loop(known, request.trace_header):
            return Attempt(Outcome.IN_LOOP, stopped().message)
        began = self._clock.monotonic()
        try:
            with self._telemetry.invocation(request, target, request.cause) as span:
                outcome = await self._invoker.invoke(
                    target,
                    payload,
                    request_id=request.request_id,
                    arn=ref.arn,
                    trace=span.trace_header,
                    client_context=None,
                    tail=False,
                    begins=begins,
                )
                span.ended(outcome)
        except AwsError as error:
            return await self._refused(ref.tenant, target, error)
        result = outcome.result
        ended = Outcome.SUCCEEDED if result.error is None else Outcome.FUNCTION_ERROR
        slow = took_long(self._clock.monotonic() - began, outcome)
        detail, trace = result.error_type or "", span.trace_header
        return Attempt(ended, detail, target.version, result.error, outcome.payload, slow, trace)

    def in_loop(self, known: Known, header: str | None) -> bool:
        """Whether a trace header says that the function has run too often in its chain of requests; that is counted."""
        if known.target is None or not known.in_loop(header, self._limits.recursive_invocations):
            return False
        self._telemetry.stopped(known.target)
        return True

    async def _refused(self, tenant: Tenant, target: Target, error: AwsError) -> Attempt:
        detail = error.reason or str(error)
        if error.name != "TooManyRequestsException":
            return Attempt(Outcome.SYSTEM_ERROR, detail)
        if detail.startswith("Reserved") and await self.none_reserved(tenant, target.function_name):
            return Attempt(Outcome.ZERO_RESERVED, detail)
        return Attempt(Outcome.THROTTLED, detail)

    async def none_reserved(self, tenant: Tenant, name: str) -> bool:
        """Whether a function's reserved concurrency is 0, which the scheduler's refusal does not tell."""
        try:
            return (await self._store.settings(tenant)).reserved.get(name) == 0
        except AwsError:
            return False


def took_long(elapsed: float, ran: Ran) -> bool:
    """Whether an attempt took long beyond its handler's time. `elapsed`: seconds, its wait for a lease included."""
    own, init_ms = ran.result.duration_ms / 1000, ran.result.init_ms
    # A new environment takes what it takes; that says nothing of how many may run at once.
    start = 0.0 if init_ms is None else max(init_ms / 1000, ran.waited)
    return elapsed - start - own > max(SLOW_SECONDS, SLOW_SHARE * own)
