"""The two streams that the scheduler serves, turned into events of the core. A peer that sends what makes no sense is
cut off; what it held is treated as that of any peer that left."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, cast, get_args

import grpc

from lambent.domain.names import Tenant
from lambent.domain.scaling import Action, Policy, Resource, Statistic, Suspended, Target, Tracking
from lambent.domain.schedules import ScheduleError, parse, zone_of
from lambent.infra import rpc
from lambent.infra.batches import Outbox, heard
from lambent.infra.tasks import TaskOwner
from lambent.internal.v1 import lease_service_pb2 as leases
from lambent.internal.v1 import lease_service_pb2_grpc as leases_grpc
from lambent.internal.v1 import worker_service_pb2 as workers
from lambent.internal.v1 import worker_service_pb2_grpc as workers_grpc
from services.scheduler.autoscaler import Autoscaler
from services.scheduler.core import events as ev
from services.scheduler.core.utilization import Use
from services.scheduler.core.worker_pools import Rule, Traits, misfit, pool_of
from services.scheduler.shell import NotLeading, Shell

_log = logging.getLogger(__name__)

Rules = Mapping[str, Rule]  # of pools of workers, by name
NO_RULES: Rules = {}

CallerStream = grpc.aio.ServicerContext[leases.CallerEvents, leases.LeaseEvents]
WorkerStream = grpc.aio.ServicerContext[workers.WorkerEvents, workers.WorkerInstructions]


# How long the last write to a peer may take before its stream is ended under it.
LAST_WRITE_SECONDS = 1.0


class Nonsense(Exception):
    """A peer broke the protocol; the text says how."""


class LeaseService(leases_grpc.LeaseServiceServicer):
    """Callers."""

    def __init__(
        self,
        shell: Shell,
        autoscaler: Autoscaler,
        token: str,
        scheduler_id: str,
        lease_seconds: float,
        rules: Rules = NO_RULES,
    ) -> None:
        """`token`: the cluster's shared secret. `rules`: of the pools of workers."""
        self._shell = shell
        self._autoscaler = autoscaler
        self._token = token
        self._scheduler_id = scheduler_id
        self._lease_seconds = lease_seconds
        self._rules = rules

    async def Hold(self, request_iterator: AsyncIterator[leases.CallerEvents], context: CallerStream) -> None:  # type: ignore[override]
        """One caller's stream, from its hello to its end."""
        shell = self._shell
        outbox: Outbox[leases.LeaseEvent] = Outbox()
        welcome = leases.LeaseWelcome(
            scheduler_id=self._scheduler_id, lease_seconds=self._lease_seconds, term=shell.term
        )
        outbox.put(leases.LeaseEvent(welcome=welcome))

        async def write(events: Sequence[leases.LeaseEvent]) -> None:
            await context.write(leases.LeaseEvents(events=events))

        def join(event: leases.CallerEvent) -> str:
            hello = event.hello
            held = tuple((lease.lease_id, lease.environment_id) for lease in hello.leases)
            joined = ev.CallerJoined(_require_hello(hello.caller_id, event), held, hello.background)
            shell.caller_joined(joined, outbox)
            if hello.takes_orders:
                self._autoscaler.joined(hello.caller_id)
            return hello.caller_id

        await _serve(
            shell, context, self._token, request_iterator, outbox, write, join, self._take,
            lambda caller_id: shell.caller_left(caller_id, outbox),
        )  # fmt: skip

    def _take(self, caller_id: str, event: leases.CallerEvent) -> None:
        match event.WhichOneof("event"):
            case "scaling_settings":
                self._autoscaler.told(*_scaling_settings(event.scaling_settings))
            case "provisioned_use":
                use = event.provisioned_use
                self._autoscaler.used(
                    _scope(use.scope), caller_id, Use(use.invocations, use.concurrent, use.most, use.busy_seconds)
                )
            case "scaling_outcome":
                self._autoscaler.ended(event.scaling_outcome.order_id, done=event.scaling_outcome.done)
            case _:
                self._shell.feed(_caller_event(caller_id, event, self._rules))


class WorkerService(workers_grpc.WorkerServiceServicer):
    """Workers."""

    def __init__(self, shell: Shell, token: str, scheduler_id: str, rules: Rules = NO_RULES) -> None:
        """`token`: the cluster's shared secret. `rules`: of the pools of workers."""
        self._shell = shell
        self._token = token
        self._scheduler_id = scheduler_id
        self._rules = rules

    async def Attach(self, request_iterator: AsyncIterator[workers.WorkerEvents], context: WorkerStream) -> None:  # type: ignore[override]
        """One worker's stream, from its hello to its end."""
        shell = self._shell
        outbox: Outbox[workers.WorkerInstruction] = Outbox()
        welcome = workers.WorkerWelcome(scheduler_id=self._scheduler_id, term=shell.term)
        outbox.put(workers.WorkerInstruction(welcome=welcome))

        async def write(instructions: Sequence[workers.WorkerInstruction]) -> None:
            await context.write(workers.WorkerInstructions(instructions=instructions))

        def join(event: workers.WorkerEvent) -> str:
            _require_hello(event.hello.worker_id, event)
            self._compare(event.hello)
            shell.worker_joined(_worker_joined(event.hello, self._rules), outbox)
            return event.hello.worker_id

        await _serve(
            shell, context, self._token, request_iterator, outbox, write, join,
            lambda worker_id, event: shell.feed(_worker_event(worker_id, event)),
            lambda worker_id: shell.worker_left(worker_id, outbox),
        )  # fmt: skip

    def _compare(self, hello: workers.WorkerHello) -> None:
        """Say so where a worker is not what its pool's rule promises to functions."""
        if not self._rules:
            return
        rule = self._rules.get(hello.pool)
        why = "there is none" if rule is None else misfit(rule, hello.architecture, hello.runtimes)
        if why:
            extra = {"worker": hello.worker_id, "pool": hello.pool, "reason": why}
            _log.warning("a worker does not fit its pool", extra=extra)


async def _serve(
    shell: Shell,
    context: Any,
    token: str,
    batches: AsyncIterator[Any],
    outbox: Outbox[Any],
    write: Callable[[Sequence[Any]], Awaitable[None]],
    join: Callable[[Any], str],
    take: Callable[[str, Any], None],
    leave: Callable[[str], None],
) -> None:
    """One peer's stream: its token, its hello (`join` answers its name), its events, its end."""
    await rpc.require_token(context, token)
    await require_leading(context, shell)
    # A write to a peer that has gone fails so.
    owner = TaskOwner("stream", expected=(grpc.aio.InternalError,))
    name = nonsense = ""

    async def write_leading(events: Sequence[Any]) -> None:
        # What was decided while this scheduler led must not leave it once another does.
        if shell.leads:
            await write(events)

    async def read() -> None:
        nonlocal name, nonsense
        try:
            async for batch in heard(batches):
                for event in batch.events:
                    if name:
                        take(name, event)
                    else:
                        name = join(event)
        except Nonsense as error:
            nonsense = str(error)
        except (NotLeading, TimeoutError):
            pass  # the peer is told below, if it can hear

    writer, reader = owner.start("writer", outbox.run(write_leading)), owner.start("reader", read())
    try:
        await asyncio.wait((writer, reader), return_when=asyncio.FIRST_COMPLETED)
    finally:
        if name:
            leave(name)
        reader.cancel()
        # A stream cannot be ended in the middle of a write.
        outbox.close()
        await owner.drain(LAST_WRITE_SECONDS)
        await owner.close()
    if nonsense:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, nonsense)
    await require_leading(context, shell)


async def require_leading(context: grpc.aio.ServicerContext[Any, Any], shell: Shell) -> None:
    """Send whoever asks a standby on to the next."""
    if not shell.leads:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "this scheduler does not lead")


def _require_hello(name: str, event: leases.CallerEvent | workers.WorkerEvent) -> str:
    if event.WhichOneof("event") != "hello" or not name:
        raise Nonsense("the first event must be a hello with a name")
    return name


def _need(need: leases.Need, rules: Rules) -> ev.Need:
    if not need.account or not need.deployment_id or need.memory_mb <= 0:
        raise Nonsense("a need without account, deployment or memory")
    return ev.Need(
        Tenant(need.account, need.region), need.function_name, need.version, need.deployment_id, need.generation,
        need.memory_mb,
        pool_of(
            Traits(
                need.architecture, need.runtime, need.subnet_ids, need.security_group_ids, need.account,
                need.function_name,
            ), rules
        ) if rules else "",
    )  # fmt: skip


def _caller_event(caller_id: str, event: leases.CallerEvent, rules: Rules) -> ev.Event:
    match event.WhichOneof("event"):
        case "acquire":
            wanted = event.acquire
            ticket = ev.Ticket(caller_id, wanted.ticket)
            return ev.EnvironmentWanted(
                ticket, wanted.request_id, _need(wanted.need, rules), wanted.deployment, wanted.on_demand
            )
        case "cancel":
            return ev.WantCancelled(ev.Ticket(caller_id, event.cancel.ticket))
        case "release":
            return ev.LeaseReleased(caller_id, event.release.lease_id, event.release.reusable)
        case "idle_returned":
            return ev.IdleReturned(caller_id, event.idle_returned.round)
        case "function_changed":
            changed = event.function_changed
            return ev.FunctionChanged(
                Tenant(changed.account, changed.region), changed.function_name, changed.generation, changed.version
            )
        case "settings":
            return _settings(caller_id, event.settings, rules)
        case "requests_wanted":
            return ev.RequestsWanted(caller_id, _scope(event.requests_wanted.scope), event.requests_wanted.requests)
        case "requests_returned":
            returned = event.requests_returned
            return ev.RequestsReturned(caller_id, _scope(returned.scope), returned.requests, returned.round)
        case kind:
            raise Nonsense(f"an event of kind {kind} after the hello")


def _scope(scope: leases.RateScope) -> ev.RateScope:
    if not scope.account:
        raise Nonsense("a request rate of no account")
    return ev.RateScope(Tenant(scope.account, scope.region), scope.function_name, scope.version)


def _settings(caller_id: str, settings: leases.ConcurrencySettings, rules: Rules) -> ev.SettingsTold:
    if not settings.account or settings.revision <= 0:
        raise Nonsense("settings without account or revision")
    tenant = Tenant(settings.account, settings.region)
    reserved = tuple((item.function_name, item.executions) for item in settings.reserved)
    if any(executions < 0 for _, executions in reserved):
        raise Nonsense("reserved concurrency below zero")
    provisioned = []
    for item in settings.provisioned:
        versions = tuple(
            ev.ProvisionedVersion(_need(version.need, rules), version.deployment, version.executions)
            for version in item.versions
        )
        # Fewer are possible: a version whose deployment cannot be made is left out.
        if sum(version.executions for version in versions) > item.requested or any(v.executions <= 0 for v in versions):
            raise Nonsense("provisioned concurrency whose versions do not add up")
        if any(v.need.tenant != tenant or v.need.function_name != item.function_name for v in versions):
            raise Nonsense("provisioned concurrency of another's function")
        provisioned.append(
            ev.ProvisionedConcurrency(item.function_name, item.qualifier, item.requested, item.put_revision, versions)
        )
    return ev.SettingsTold(caller_id, tenant, settings.revision, reserved, tuple(provisioned))


def _scaling_settings(settings: leases.ScalingSettings) -> tuple[Tenant, int, dict[Resource, Target]]:
    if not settings.account or settings.revision <= 0:
        raise Nonsense("scaling settings without account or revision")
    targets = {Resource(each.function_name, each.qualifier): _target(each) for each in settings.targets}
    return Tenant(settings.account, settings.region), settings.revision, targets


def _target(target: leases.ScalableTarget) -> Target:
    if not 0 <= target.minimum <= target.maximum:
        raise Nonsense("a scalable target without bounds")
    return Target(
        "", 0.0, target.minimum, target.maximum,
        suspended=Suspended(target.in_suspended, target.out_suspended, target.scheduled_suspended),
        policies={policy.name: _policy(policy) for policy in target.policies},
        actions={action.name: _action(action) for action in target.actions},
    )  # fmt: skip


def _policy(policy: leases.TrackingPolicy) -> Policy:
    if policy.target_value <= 0 or policy.statistic not in get_args(Statistic):
        raise Nonsense("a policy that tracks nothing")
    tracking = Tracking(
        policy.target_value,
        cast(Statistic, policy.statistic),
        scale_out_cooldown=policy.scale_out_cooldown,
        scale_in_cooldown=policy.scale_in_cooldown,
        disable_scale_in=policy.disable_scale_in,
    )
    return Policy(policy.name, policy.id, 0.0, tracking)


def _action(action: leases.ScheduledAction) -> Action:
    try:
        parse(action.schedule)
        zone_of(action.timezone or "UTC")
    except ScheduleError as error:
        raise Nonsense(f"a scheduled action that is never due: {error}") from None
    return Action(
        action.name, "", action.created, action.schedule, action.timezone or None,
        action.start if action.HasField("start") else None, action.end if action.HasField("end") else None,
        None, None, action.since,
    )  # fmt: skip


def _worker_joined(hello: workers.WorkerHello, rules: Rules) -> ev.WorkerJoined:
    # Where no pools are configured all workers are one, whatever they call themselves.
    pool = hello.pool if rules else ""
    running = tuple(
        ev.Running(
            item.environment_id,
            item.slot,
            ev.Need(
                Tenant(item.account, item.region), item.function_name, item.version, item.deployment_id,
                item.generation, item.memory_mb, pool,
            ),
            item.busy,
            item.ready,
            item.provisioned,
        )
        for item in hello.running
    )  # fmt: skip
    return ev.WorkerJoined(
        hello.worker_id, hello.address, hello.memory_mb, hello.environments, running, pool, hello.isolation
    )


def _worker_event(worker_id: str, event: workers.WorkerEvent) -> ev.Event:
    match event.WhichOneof("event"):
        case "ready":
            ready = event.ready
            return ev.EnvironmentReady(worker_id, ready.environment_id, ready.slot, ready.init_failed)
        case "gone":
            return ev.EnvironmentGone(worker_id, event.gone.environment_id, event.gone.reason)
        case "draining":
            return ev.WorkerDraining(worker_id)
        case kind:
            raise Nonsense(f"an event of kind {kind} after the hello")
