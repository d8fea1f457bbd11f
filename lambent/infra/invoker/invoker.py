"""Runs one invocation: a lease, a frame to the worker, the answer. What frontends and pollers call."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

from lambent.domain import tenancy
from lambent.domain.clock import Clock
from lambent.domain.errors import AwsError
from lambent.domain.functions import VpcAttachment
from lambent.domain.lineage import mark
from lambent.domain.names import Tenant
from lambent.infra import frames
from lambent.infra.invoker.leases import LeaseStream
from lambent.infra.invoker.pool import Lease, LeasePool
from lambent.infra.invoker.worker_links import WorkerLinks
from lambent.internal.v1 import lease_service_pb2 as pb
from lambent.internal.v1.deployment_pb2 import Deployment

# How often an invocation that never began is given to another environment before the caller is told.
ATTEMPTS = 5

# How long an invocation waits for a lease in use here to come free before the scheduler is asked for another; and how
# long one that nobody waits for. Of those there are often as many as may run: most would ask in vain, or for one more
# environment where those that are there take all processors already.
ASK_SECONDS, BACKGROUND_ASK_SECONDS = 0.001, 0.01

# What the scheduler's reasons mean to a client: error name and text. AWS's own throttles are TooManyRequestsException.
REFUSALS: dict[str, tuple[str, str]] = {
    "ConcurrentInvocationLimitExceeded": ("TooManyRequestsException", "Rate Exceeded."),
    "ReservedFunctionConcurrentInvocationLimitExceeded": ("TooManyRequestsException", "Rate Exceeded."),
    "AsynchronousShareExceeded": ("TooManyRequestsException", "Rate Exceeded."),  # of pollers alone
    "FunctionInvocationRateLimitExceeded": ("TooManyRequestsException", "Rate Exceeded."),
    "ReservedFunctionInvocationRateLimitExceeded": ("TooManyRequestsException", "Rate Exceeded."),
    "NoCapacity": ("ServiceUnavailableException", "No worker has room for this function's memory at the moment."),
    "NoWorkers": ("ServiceUnavailableException", "No worker is connected."),
    "NoWorkerPool": (
        "ServiceUnavailableException",
        "No pool of workers takes this function: its architecture, runtime or VpcConfig is in no pool's rule.",
    ),
    "EnvironmentStartFailed": ("ServiceException", "Workers could not make an execution environment; see their logs."),
}

# What an environment that could not be restored answers, as clients know it.
# Source: https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
RESTORE_ERRORS: dict[str, tuple[str, str]] = {
    "Runtime.AfterRestoreError": (
        "SnapStartException", "A hook after the restore from the snapshot failed; the function's log says how.",
    ),
    "Runtime.RestoreHookUserTimeout": (
        "SnapStartTimeoutException", "The environment could not be restored from the snapshot in time.",
    ),
}  # fmt: skip

# Reasons of ours that AWS's clients know under another name.
AWS_REASONS = {"FunctionScalingRateLimitExceeded": "FunctionInvocationRateLimitExceeded"}


@dataclass(frozen=True, slots=True)
class Target:
    """A deployment that can be invoked: made once for each change of a function."""

    tenant: Tenant
    function_name: str
    version: str  # $LATEST or a number
    deployment_id: str
    generation: int
    memory_mb: int
    deployment: bytes  # serialized lambent.internal.v1.Deployment
    architecture: str = ""  # with the runtime, what pools of workers are chosen by
    runtime: str = ""
    vpc: VpcAttachment | None = None
    isolated: bool = False  # it runs for one tenant of its callers' at a time (`of_tenant`)
    tenant_id: str | None = None  # for this one; None: for none, or not said yet
    mark: str = field(init=False)  # of the function, in lineages

    def __post_init__(self) -> None:
        object.__setattr__(self, "mark", mark(self.tenant, self.function_name))

    def of_tenant(self, tenant_id: str | None) -> Target:
        """What runs for a tenant of the callers': itself, unless it keeps these apart. Raises
        InvalidParameterValueException where one has to be named, or must not be.

        To the scheduler it is another deployment: environments are interchangeable within one tenant.
        """
        tenancy.check(self.isolated, tenant_id)
        if tenant_id is None:
            return self
        deployment_id = f"{self.deployment_id}/{tenant_id}"
        # Of fields that come twice the last ones count (protobuf's encoding, "last one wins").
        own = Deployment(deployment_id=deployment_id, tenant_id=tenant_id).SerializeToString()
        return replace(self, deployment_id=deployment_id, deployment=self.deployment + own, tenant_id=tenant_id)

    def need(self) -> pb.Need:
        """What the scheduler decides by."""
        return pb.Need(
            account=self.tenant.account,
            region=self.tenant.region,
            function_name=self.function_name,
            version=self.version,
            deployment_id=self.deployment_id,
            generation=self.generation,
            memory_mb=self.memory_mb,
            architecture=self.architecture,
            runtime=self.runtime,
            subnet_ids=() if self.vpc is None else self.vpc.subnets,
            security_group_ids=() if self.vpc is None else self.vpc.security_groups,
        )


@dataclass(slots=True)
class Outcome:
    """What came of an invocation."""

    result: frames.Result
    payload: bytes
    reason: str  # why its lease was granted; "Held" if it was held already
    waited: float  # seconds between asking for a lease and having it; 0 for a held one
    provisioned: bool  # it ran on provisioned concurrency
    spillover: bool  # it ran on demand, since its version's provisioned concurrency was all in use


class _Invocation:
    """One invocation: a waiter of the pool and a call of a worker link."""

    __slots__ = (
        "_attempts", "_begins", "_cold", "_invoker", "_lease", "_meta", "_payload", "_sent", "_since", "_target",
        "_ticket", "_waited", "future",
    )  # fmt: skip

    def __init__(
        self,
        invoker: Invoker,
        target: Target,
        meta: frames.Invoke,
        payload: bytes,
        begins: Callable[[], None] | None = None,
    ) -> None:
        self._invoker = invoker
        self._target = target
        self._meta = meta
        self._payload = payload
        self._begins = begins
        self._lease: Lease | None = None
        self._ticket = 0
        self._sent: tuple[str, int] | None = None
        self._attempts = 0
        self._since = 0.0
        self._waited = 0.0
        self._cold = "Held"
        self.future: asyncio.Future[Outcome] = invoker.loop.create_future()

    @property
    def tenant(self) -> Tenant:
        return self._target.tenant

    @property
    def function_name(self) -> str:
        return self._target.function_name

    @property
    def deployment_id(self) -> str:
        return self._target.deployment_id

    def acquire(self, ticket: int, on_demand: bool) -> pb.Acquire:
        target = self._target
        return pb.Acquire(
            ticket=ticket,
            request_id=self._meta.request_id,
            need=target.need(),
            deployment=target.deployment,
            on_demand=on_demand,
        )

    def begin(self) -> None:
        """Take a held lease, or wait for one."""
        self._attempts += 1
        invoker = self._invoker
        lease = invoker.pool.take(self._target.deployment_id, invoker.clock.monotonic())
        if lease is not None:
            invoker.counters["held"] += 1
            self._run(lease)
            return
        invoker.counters["waited"] += 1
        self._since = invoker.clock.monotonic()
        self._ticket = invoker.pool.want(self, self._since)
        invoker.leases.flush()
        invoker.ask_soon()

    def lease_ready(self, lease: Lease) -> None:
        self._cold = lease.reason
        self._waited = self._invoker.clock.monotonic() - self._since
        self._run(lease)

    def lease_refused(self, reason: str, retry_after: float) -> None:
        if not self.future.done():
            reason = AWS_REASONS.get(reason, reason)
            name, text = REFUSALS.get(reason, ("ServiceException", f"The scheduler refused: {reason}"))
            self._invoker.counters["refused"] += 1
            self.future.set_exception(AwsError(name, text, reason=reason, retry_after_seconds=retry_after))

    def _run(self, lease: Lease) -> None:
        self._lease = lease
        meta = self._meta
        meta.slot, meta.environment_id = lease.slot, lease.environment_id
        if self._begins is not None:
            self._begins()
        self._sent = self._invoker.links.invoke(lease.address, self, meta, self._payload)

    def begun(self, sent: tuple[str, int]) -> None:
        self._sent = sent
        if self._lease is None:  # given up while its worker was dialled
            self._invoker.links.cancel(sent)

    def streams(self, content_type: str) -> None:
        """Never: it did not ask for that."""

    def piece(self, data: bytes) -> None:
        """Never: it did not ask for that."""

    def _done_with_lease(self, *, reusable: bool) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            invoker = self._invoker
            invoker.pool.finished(lease, reusable=reusable, now=invoker.clock.monotonic())
            invoker.leases.flush()

    def answered(self, result: frames.Result, payload: bytes) -> None:
        lease = self._lease
        self._done_with_lease(reusable=result.reusable)
        if self.future.done():
            return
        if result.error_type in RESTORE_ERRORS and not self._meta.prepares:
            self.future.set_exception(AwsError(*RESTORE_ERRORS[result.error_type], reason=result.error_type))
        else:
            provisioned, spillover = (lease.provisioned, lease.spillover) if lease is not None else (False, False)
            self.future.set_result(Outcome(result, payload, self._cold, self._waited, provisioned, spillover))

    def rejected(self, reason: str) -> None:
        self._done_with_lease(reusable=False)
        if self.future.done():
            return
        if self._attempts < ATTEMPTS:
            self.begin()
        else:
            self.future.set_exception(
                AwsError("ServiceUnavailableException", "No execution environment took the invocation.", reason=reason)
            )

    def lost(self) -> None:
        self._done_with_lease(reusable=False)
        if not self.future.done():
            text = "The worker was lost while the function ran; whether it finished is not known."
            self.future.set_exception(AwsError("ServiceException", text, reason="WorkerLost"))

    def cancel(self) -> None:
        """The caller is gone: free what it held at once."""
        if self._lease is None:
            self._invoker.pool.abandon(self._ticket)
            self._invoker.leases.flush()
            return
        if self._sent is not None:
            self._invoker.links.cancel(self._sent)
        self._done_with_lease(reusable=False)


class _Streamed(_Invocation):
    """An invocation whose response is taken piece by piece."""

    __slots__ = ("_changed", "_pieces", "_taken")

    def __init__(self, invoker: Invoker, target: Target, meta: frames.Invoke, payload: bytes) -> None:
        super().__init__(invoker, target, meta, payload)
        self._pieces: deque[bytes | frames.Stream] = deque()
        self._taken = 0  # bytes that were taken and not yet told of
        self._changed = asyncio.Event()
        self.future.add_done_callback(lambda _: self._changed.set())

    def streams(self, content_type: str) -> None:
        self._pieces.append(frames.Stream(content_type))
        self._changed.set()

    def piece(self, data: bytes) -> None:
        self._pieces.append(data)
        self._changed.set()

    async def next(self) -> bytes | frames.Stream | Outcome:
        """What comes next: at most one Stream, then pieces, at last the outcome. Raises as `Invoker.invoke` does."""
        while not self._pieces:
            if self.future.done():
                return self.future.result()
            self._changed.clear()
            await self._changed.wait()
        item = self._pieces.popleft()
        if isinstance(item, bytes):
            self._taken += len(item)
            if self._taken >= frames.WINDOW // 4 and self._sent is not None:
                self._invoker.links.credit(self._sent, self._taken)
                self._taken = 0
        return item


class Invoker:
    """The way to run functions. One for each process."""

    def __init__(
        self,
        pool: LeasePool,
        leases: LeaseStream,
        links: WorkerLinks,
        clock: Clock,
        *,
        ask_seconds: float = ASK_SECONDS,
    ) -> None:
        """`ask_seconds`: how long an invocation waits for what is held here before more is asked for."""
        self.pool = pool
        self.leases = leases
        self.links = links
        self.clock = clock
        self._ask_seconds = ask_seconds
        self.loop = asyncio.get_running_loop()
        self.counters: Counter[str] = Counter()  # held, waited, refused
        self._asking: asyncio.TimerHandle | None = None
        self._running = 0
        self._idle: asyncio.Event | None = None  # set when nothing runs; made when somebody waits for that

    def invoke(
        self,
        target: Target,
        payload: bytes,
        *,
        request_id: str,
        arn: str,
        trace: str,
        client_context: str | None,
        tail: bool,
        begins: Callable[[], None] | None = None,
    ) -> Coroutine[Any, Any, Outcome]:
        """Run one invocation to its end. `begins` is called when an environment is there for it: again, if that did
        not take it.

        Raises AwsError where it could not begin or was lost. If the task is cancelled, the environment is stopped and
        its slot freed at once.
        """
        meta = frames.Invoke(0, "", request_id, arn, trace, client_context, tail)
        return self._run(_Invocation(self, target, meta, payload, begins))

    async def prepare(self, target: Target, request_id: str) -> Outcome:
        """Have an environment made, and with it the snapshot of a version with SnapStart; what came of its init phase.

        Nothing runs in it. Raises as `invoke` does.
        """
        meta = frames.Invoke(0, "", request_id, "", "", None, False, prepares=True)
        return await self._run(_Invocation(self, target, meta, b""))

    async def _run(self, invocation: _Invocation) -> Outcome:
        self._running += 1
        try:
            invocation.begin()
            return await invocation.future
        except asyncio.CancelledError:
            invocation.cancel()
            raise
        finally:
            self._ended()

    async def stream(
        self,
        target: Target,
        payload: bytes,
        *,
        request_id: str,
        arn: str,
        trace: str,
        client_context: str | None,
        tail: bool,
    ) -> AsyncGenerator[bytes | frames.Stream | Outcome]:
        """Run one invocation whose response is taken piece by piece: a Stream and pieces, where the function streams,
        and then the outcome. No more is on its way than `frames.WINDOW`.

        Raises as `invoke` does. An iteration that is given up stops the environment.
        """
        meta = frames.Invoke(0, "", request_id, arn, trace, client_context, tail, True)
        invocation = _Streamed(self, target, meta, payload)
        self._running += 1
        try:
            invocation.begin()
            while True:
                item = await invocation.next()
                yield item
                if isinstance(item, Outcome):
                    return
        except (asyncio.CancelledError, GeneratorExit):
            if not invocation.future.done():
                invocation.cancel()
            raise
        finally:
            self._ended()

    def _ended(self) -> None:
        self._running -= 1
        if self._idle is not None and not self._running:
            self._idle.set()

    def ask_soon(self) -> None:
        """Ask the scheduler for those who wait and whom no lease here has served in a moment."""
        if self.pool.asking and self._asking is None:
            self._asking = self.loop.call_later(self._ask_seconds, self._ask)

    def _ask(self) -> None:
        self._asking = None
        self.pool.ask(self.clock.monotonic())
        self.leases.flush()
        self.ask_soon()

    @property
    def running(self) -> int:
        """Invocations under way."""
        return self._running

    async def drained(self) -> None:
        """Wait until nothing is under way."""
        while self._running:
            if self._idle is None:
                self._idle = asyncio.Event()
            self._idle.clear()
            await self._idle.wait()
