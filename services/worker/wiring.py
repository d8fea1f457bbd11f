"""The one place that puts a worker together: every part is made here and handed what it needs.

worker = Worker(config, code=..., logs=..., clock=..., ids=...)
await worker.start()          # sandboxes are up, invocations are listened for, the scheduler is dialled
await worker.drain(seconds)   # nothing new; what runs ends by itself
await worker.close()          # nothing is left: no process, no mount, no control group
"""

from __future__ import annotations

import asyncio
import logging
import platform
import resource
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lambent.domain.clock import Clock, Ids
from lambent.domain.images import RUNTIME
from lambent.domain.limits import Limits
from lambent.domain.runtimes import SERVED
from lambent.infra.certificates import Certificates
from lambent.infra.code_store import PackageSource
from lambent.infra.connections import Connections
from lambent.infra.log_store import LogWriter
from lambent.infra.session_credentials import SessionKeys
from lambent.infra.tasks import TaskOwner
from lambent.internal.v1 import worker_service_pb2 as pb
from services.worker.agent import SchedulerAgent
from services.worker.artifacts.cache import ArtifactCache
from services.worker.artifacts.deployments import Artifacts
from services.worker.artifacts.image_shelf import ImageShelf
from services.worker.artifacts.images import ImageCache
from services.worker.counters import InvocationRecord, WorkerCounters
from services.worker.credentials import Credentials
from services.worker.endpoints import Endpoints
from services.worker.environments import Environments, Shared
from services.worker.freezing import Freezer
from services.worker.guests import Programs, is_native
from services.worker.invocations import InvocationServer
from services.worker.sandbox.native import NativeConfig, NativePool
from services.worker.sandbox.port import SandboxPool
from services.worker.sandbox.promises import ASIDE
from services.worker.snapshots import SnapshotSettings

_log = logging.getLogger(__name__)
# What machines are called by their kernels, and by AWS.
ARCHITECTURES = {"x86_64": "x86_64", "aarch64": "arm64"}
_DESCRIPTORS_EACH = 8  # of an environment: channel, pipe, process, namespace, and some room


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """All that a worker is told."""

    worker_id: str
    scheduler_address: str  # host:port, or unix:/path
    address: str  # where invocations come in: unix:/path or host:port
    token: str  # the cluster's shared secret
    session_key: bytes  # what the credentials of functions are made with
    api_url: str  # the REST API as functions reach it
    data_dir: Path  # unpacked packages; survives restarts
    run_dir: Path  # sockets and temporary folders
    interpreters: Mapping[str, Path]  # runtime name → interpreter; at least one Python
    runtime_dir: Path | None = None  # the SDKs that functions find at /var/runtime
    file_systems: Mapping[str, Path] = field(default_factory=dict)  # ARN of an access point → its folder
    advertised_address: str = ""  # what callers dial, where it differs from `address`
    limits: Limits = field(default_factory=Limits)
    isolation: str = "auto"  # auto, namespaces, user-namespace, landlock or process
    minimum_isolation: str = "process"  # a weaker level than this is refused
    network: str = "full"  # or loopback, none
    unreachable: tuple[tuple[str, int | None], ...] = ()  # for functions; without port: all that is there
    control_groups: bool = True  # False: do without them, as where the machine has none for us
    pool: str = ""  # of workers, which the scheduler chooses by
    memory_mb: int = 4096  # that environments may be promised together
    max_environments: int = 1000
    pool_size: int = 4  # sandboxes made in advance, for each interpreter
    uid_base: int = 200_000
    images_mb: int = 20_480  # that unpacked container images may take together on the disk, where none is in use
    snapshots_mb: int = 1024  # that snapshots may use together; 0: there are none
    snapshot_idle_seconds: float = 3600.0  # that one is kept without environments
    snapshot_copies: int = 2  # of each that are made in advance
    freeze_after_ms: int = 100  # idle before an environment is frozen
    rest_after_seconds: float = 5.0  # idle before it gives back memory
    credentials_seconds: float = 43_200.0  # age at which a process is replaced, since its credentials expire
    certificates: Certificates | None = None  # None: no TLS between processes
    connections: Connections = field(default_factory=lambda: Connections(()))
    log_flush_seconds: float = 0.2

    @property
    def snapshots(self) -> SnapshotSettings:
        """What snapshots may use."""
        return SnapshotSettings(self.snapshots_mb, self.memory_mb, self.snapshot_idle_seconds, self.snapshot_copies)


class Worker:
    """One worker."""

    def __init__(
        self,
        config: WorkerConfig,
        *,
        code: PackageSource,
        logs: LogWriter,
        clock: Clock,
        ids: Ids,
        pool: SandboxPool | None = None,
        on_invocation: Callable[[InvocationRecord], None] | None = None,
    ) -> None:
        """`pool` replaces the sandboxes in tests; `on_invocation` is called after each invocation and must be quick."""
        self.config = config
        self.counters = WorkerCounters()
        self._code = code
        self._logs = logs
        self._clock = clock
        self._ids = ids
        self._on_invocation = on_invocation
        self._tasks = TaskOwner("worker")
        packages = config.data_dir.resolve() / "packages"
        pythons = {name: path for name, path in config.interpreters.items() if is_native(name)}
        architecture = ARCHITECTURES.get(platform.machine(), "")
        self._artifacts = Artifacts(
            ArtifactCache(code, packages, config.limits, pythons.values()),
            ImageCache(
                config.connections, packages, config.limits, architecture,
                ImageShelf(packages, config.images_mb * 1024 * 1024, clock),
            ),
        )  # fmt: skip
        # What is no Python is started by a launcher, which the newest Python is as good for as any.
        newest = pythons[max(pythons, key=version_of)]
        launched = {name: newest for name in (*SERVED, RUNTIME) if not is_native(name)}
        self.pool: SandboxPool = pool or NativePool(
            NativeConfig(
                worker_id=config.worker_id,
                packages=packages,
                run_dir=config.run_dir.resolve(),
                interpreters={**pythons, **launched},
                runtime_dir=config.runtime_dir,
                folders=folders_of(config.interpreters),
                mounted=tuple(dict.fromkeys(config.file_systems.values())),
                level=config.isolation,
                minimum=config.minimum_isolation,
                network=config.network,
                unreachable=config.unreachable,
                control_groups=config.control_groups,
                stems=config.pool_size,
                users=config.max_environments + config.snapshots.slots,
                uid_base=config.uid_base,
                processes=config.limits.processes,
                descriptors=config.limits.file_descriptors,
            )
        )
        self._environments: Environments | None = None
        self._server: InvocationServer | None = None
        self._agent: SchedulerAgent | None = None

    @property
    def environments(self) -> Environments:
        """What runs; after `start`."""
        assert self._environments is not None
        return self._environments

    @property
    def agent(self) -> SchedulerAgent:
        """The line to the scheduler; after `start`."""
        assert self._agent is not None
        return self._agent

    @property
    def address(self) -> str:
        """Where invocations come in; after `start`."""
        assert self._server is not None
        return self.config.advertised_address or self._server.address

    @property
    def connected(self) -> bool:
        """Whether a scheduler knows this worker."""
        return self._agent is not None and self._agent.connected.is_set()

    async def start(self) -> None:
        """Bring everything up. Raises SandboxUnavailable where the machine allows too little."""
        config = self.config
        raise_descriptor_limit(config.max_environments * _DESCRIPTORS_EACH + 1024)
        await self.pool.start()
        _log.info("sandboxes are up", extra={"isolation": self.pool.level, "reason": self.pool.reason})
        loop = asyncio.get_running_loop()
        shared = Shared(
            loop=loop,
            clock=self._clock,
            limits=config.limits,
            logs=self._logs,
            pool=self.pool,
            programs=self._programs(),
            ids=self._ids,
            tasks=self._tasks,
            counters=self.counters,
            freezer=Freezer(loop, self._clock, config.freeze_after_ms / 1000, config.rest_after_seconds),
            credentials=Credentials(
                loop, self._clock, self._ids, SessionKeys(config.session_key), config.credentials_seconds
            ),
            endpoints=Endpoints(config.api_url, config.connections),
            on_invocation=self._on_invocation,
        )
        environments = Environments(shared, self._artifacts, config.max_environments, snapshots=config.snapshots)
        self._environments = environments
        self._server = InvocationServer(
            config.address, config.token, environments.by_slot, self.counters, config.certificates
        )
        await self._server.start()
        self._agent = SchedulerAgent(
            config.scheduler_address, config.token, environments, self._hello, config.certificates
        )
        self._tasks.start("flush-logs", self._flush_logs())
        self._agent.start()

    def _programs(self) -> Programs:
        return Programs(self.config.interpreters, self.pool.level in ASIDE, self.config.file_systems)

    def _hello(self) -> pb.WorkerHello:
        programs = self._programs()
        return pb.WorkerHello(
            worker_id=self.config.worker_id,
            address=self.address,
            memory_mb=self.config.memory_mb,
            environments=self.config.max_environments,
            isolation=self.pool.level,
            pool=self.config.pool,
            architecture=ARCHITECTURES.get(platform.machine(), ""),
            runtimes=[name for name in sorted({*SERVED, RUNTIME}) if programs.have(name)],
        )

    async def _flush_logs(self) -> None:
        while True:
            await asyncio.sleep(self.config.log_flush_seconds)
            self.environments.show_logs()
            self._logs.flush()

    async def drain(self, seconds: float) -> bool:
        """Take nothing new and wait, at most `seconds`, until what runs has ended by itself; True if all has."""
        if self._agent is None or self._environments is None:
            return True
        self._agent.drain()
        deadline = self._clock.monotonic() + seconds
        environments = self._environments
        while environments.drain():
            left = deadline - self._clock.monotonic()
            if left <= 0:
                return False
            # An invocation that ends is seen here rather than told on the warm path.
            await asyncio.sleep(min(0.02, left))
        return True

    async def close(self) -> None:
        """End everything. Harmless when it has ended or never began."""
        if self._server is not None:
            self._server.refuse()
        if self._environments is not None:
            self._environments.close()
        if self._server is not None:
            await self._server.close()
        if self._agent is not None:
            await self._agent.close()
        await self._tasks.close()
        await self._artifacts.close()
        await self.pool.close()
        self._logs.flush()


def raise_descriptor_limit(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    best = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < best:
        resource.setrlimit(resource.RLIMIT_NOFILE, (best, hard))


def version_of(runtime: str) -> tuple[int, ...]:
    """python3.11 → (3, 11)."""
    return tuple(int(part) for part in runtime.lstrip("abcdefghijklmnopqrstuvwxyz").split(".") if part.isdecimal())


def folders_of(interpreters: Mapping[str, Path]) -> tuple[Path, ...]:
    """The folders that interpreters other than Python need, beyond those of the system."""
    found = {path.resolve().parent.parent for name, path in interpreters.items() if not is_native(name)}
    return tuple(sorted(folder for folder in found if folder != Path("/usr") and folder != Path("/")))
