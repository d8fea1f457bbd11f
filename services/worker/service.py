"""A worker as a service process: settings in, a `Worker` with its telemetry out."""

from __future__ import annotations

import dataclasses
import logging
import os
import platform
import random
from collections.abc import Mapping
from pathlib import Path

from opentelemetry.trace import SpanKind, StatusCode

from lambent.domain import tracing
from lambent.domain.file_systems import parse as parse_file_systems
from lambent.infra.certificates import certificates
from lambent.infra.clock import SystemClock, SystemIds
from lambent.infra.config import ConfigError
from lambent.infra.connections import ConnectionsError, load
from lambent.infra.interpreters import UnusableInterpreter, interpreters, runtime_dir
from lambent.infra.layout import layout
from lambent.infra.lifecycle import Service, StartError
from lambent.infra.operations_port import OperationsPort, port_after
from lambent.infra.settings import Settings
from lambent.infra.stores import code_store, log_store
from lambent.infra.telemetry import Telemetry
from services.worker.counters import InvocationRecord
from services.worker.sandbox.port import SandboxUnavailable
from services.worker.store_client import StoreClient
from services.worker.unreachable import unreachable
from services.worker.wiring import Worker, WorkerConfig

_log = logging.getLogger(__name__)

# Share of the machine's memory that environments may be promised where the settings do not say.
MEMORY_SHARE = 0.9
# Where a container sees its own limit, by control groups of version 2 and of version 1.
MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
# How long the last logs may take to be sent.
LAST_LOGS_SECONDS = 5.0


def make(settings: Settings) -> Service:
    """The service."""
    return WorkerService(settings)


def _memory_mb() -> int:
    """What environments may be promised together: a share of the machine's memory, or of the container's."""
    most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in MEMORY_LIMITS:
        try:
            most = min(most, int(limit.read_text()))
        except (OSError, ValueError):
            continue  # another version of control groups; or "max", which is none
    return int(most * MEMORY_SHARE) // (1024 * 1024)


class WorkerService:
    """One worker process."""

    def __init__(self, settings: Settings) -> None:
        here = layout(settings.cluster.data)
        clock, ids = SystemClock(), SystemIds()
        self._stopping = False
        self._drain_seconds = settings.timing.drain_seconds
        worker_id = settings.internal.worker_id or f"{platform.node() or 'worker'}-{ids.token(4)}"
        self._telemetry = Telemetry(
            "worker",
            otlp_endpoint=settings.telemetry.otlp_endpoint,
            prometheus=bool(settings.telemetry.prometheus),
            instance=worker_id,
        )
        self._operations = OperationsPort(port_after(settings.telemetry.prometheus, 2), clock, self._unready)
        internal = settings.internal
        identity = certificates(internal.tls)
        try:
            closed = unreachable(settings)
            found, warnings = interpreters(settings.worker.interpreters)
            runtimes = runtime_dir(settings.worker.runtime_dir)
            connections = load(settings.queue.connections)
            mounts = file_systems(settings.cluster.file_systems)
        except (UnusableInterpreter, ConnectionsError, ConfigError) as error:
            raise StartError(str(error)) from None
        for warning in warnings:
            _log.warning("runtimes share an interpreter", extra={"runtimes": warning})
        config = WorkerConfig(
            worker_id=worker_id,
            scheduler_address=internal.scheduler or here.scheduler_addresses(settings.cluster.schedulers),
            address=internal.worker or f"unix:{here.run}/worker.sock",
            advertised_address=internal.worker_advertise,
            token=here.cluster_token(),
            session_key=here.session_key(),
            api_url=(settings.worker.api_url or settings.cluster.url).rstrip("/"),
            data_dir=here.data / "worker",
            run_dir=here.run / "worker",
            interpreters=found,
            runtime_dir=runtimes,
            file_systems=mounts,
            limits=settings.limits,
            isolation=settings.worker.isolation,
            minimum_isolation=settings.worker.minimum_isolation,
            network=settings.worker.network,
            unreachable=closed,
            memory_mb=settings.worker.memory_mb or _memory_mb(),
            max_environments=settings.worker.environments,
            pool=settings.internal.worker_pool,
            pool_size=settings.worker.pool,
            uid_base=settings.worker.uid_base,
            images_mb=settings.worker.images_mb,
            snapshots_mb=settings.worker.snapshots_mb,
            snapshot_copies=settings.worker.snapshot_copies,
            snapshot_idle_seconds=settings.worker.snapshot_idle_seconds,
            freeze_after_ms=settings.worker.freeze_after_ms,
            rest_after_seconds=settings.worker.rest_after_seconds,
            credentials_seconds=settings.worker.credentials_seconds,
            certificates=identity,
            connections=connections,
        )
        self._store: StoreClient | None = None
        if internal.store:
            self._store = StoreClient(internal.store, config.token, identity, random.Random())
        elif settings.storage.logs != "directory":
            raise StartError("workers send logs to frontends where storage.logs is not a directory: set internal.store")
        self._worker = Worker(
            config,
            code=self._store or code_store(settings, here),
            logs=self._store or log_store(settings, here, worker_id, clock),
            clock=clock,
            ids=ids,
            on_invocation=self._trace if self._telemetry.tracer is not None else None,
        )
        self._telemetry.observe("lambent.worker.invocations", self._outcomes)
        self._telemetry.observe("lambent.worker.snap_starts", self._snap_starts)
        self._telemetry.observe("lambent.worker.snapshot_evictions", self._snapshot_evictions)

    async def start(self) -> Mapping[str, str]:
        """Bring the sandboxes up and dial the scheduler."""
        if self._store is not None:
            self._store.start()
        try:
            await self._worker.start()
        except SandboxUnavailable as error:
            raise StartError(
                f"{error}; see worker.isolation and worker.minimum_isolation in `lambent config`"
            ) from error
        await self._operations.start()
        return {"isolation": self._worker.pool.level, "isolation_reason": self._worker.pool.reason}

    async def stop(self) -> None:
        """Take nothing new, let running invocations end, leave nothing behind."""
        self._stopping = True
        await self._worker.drain(self._drain_seconds)
        await self._worker.close()
        if self._store is not None:
            await self._store.close(LAST_LOGS_SECONDS)
        await self._operations.close()
        self._telemetry.close()

    def _unready(self) -> str | None:
        """Why no invocation is to come here."""
        if self._stopping:
            return "stopping"
        return None if self._worker.connected else "no scheduler leads"

    def _outcomes(self) -> list[tuple[Mapping[str, str], int]]:
        counters = dataclasses.asdict(self._worker.counters)
        return [
            ({"outcome": name}, counters[name]) for name in ("invocations", "errors", "timeouts", "cold", "rejected")
        ]

    def _snap_starts(self) -> list[tuple[Mapping[str, str], int]]:
        counts = self._worker.counters.sources
        return [({"source": source, "reason": reason}, count) for (source, reason), count in counts.items()]

    def _snapshot_evictions(self) -> list[tuple[Mapping[str, str], int]]:
        return [({"reason": reason}, count) for reason, count in self._worker.counters.evictions.items()]

    def _trace(self, record: InvocationRecord) -> None:
        """A span for a sampled invocation, made after the fact."""
        context = tracing.parse_xray(record.trace)
        if self._telemetry.tracer is None or context is None or not context.sampled:
            return
        start = int(record.started * 1e9)
        span = self._telemetry.tracer.start_span(
            "handler",
            context=self._telemetry.parent_of(context),
            kind=SpanKind.INTERNAL,
            start_time=start,
            attributes={
                "faas.invocation_id": record.request_id,
                "faas.coldstart": record.cold,
                "aws.lambda.invoked_arn": record.arn,
            },
        )
        if record.init_ms is not None:
            span.set_attribute("lambent.init_ms", record.init_ms)
        if record.error_type is not None:
            span.set_status(StatusCode.ERROR)
            span.set_attribute("error.type", record.error_type)
        span.end(start + int(record.duration_ms * 1e6))


def file_systems(named: str) -> dict[str, Path]:
    """The folders of access points, by ARN. Raises ConfigError."""
    try:
        found = {arn: Path(folder) for arn, folder in parse_file_systems(named).items()}
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if missing := [folder for folder in found.values() if not folder.is_dir()]:
        raise ConfigError(f"file_systems: there is no folder {missing[0]} on this worker; mount it, or make it")
    return {arn: folder.resolve() for arn, folder in found.items()}
