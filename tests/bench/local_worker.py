"""The worker's own code in this process, without scheduler and frontend: environments are ordered and invoked directly."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import sys
import tempfile
import time
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from lambent.domain.limits import Limits
from lambent.domain.names import Tenant
from lambent.infra.clock import SystemClock, SystemIds
from lambent.infra.code_store import MemoryCodeStore
from lambent.infra.connections import Connections
from lambent.infra.frames import Invoke, Result
from lambent.infra.interpreters import INSTALLED_RUNTIMES
from lambent.infra.log_store import LogChunk, LogWriter
from lambent.infra.session_credentials import SessionKeys
from lambent.infra.tasks import TaskOwner
from lambent.internal.v1.deployment_pb2 import Deployment
from services.worker.artifacts.cache import ArtifactCache
from services.worker.artifacts.deployments import Artifacts
from services.worker.artifacts.image_shelf import ImageShelf
from services.worker.artifacts.images import ImageCache
from services.worker.core.reasons import Reason
from services.worker.counters import WorkerCounters
from services.worker.credentials import Credentials
from services.worker.endpoints import Endpoints
from services.worker.environments import Environments, Shared
from services.worker.freezing import Freezer
from services.worker.guests import Programs
from services.worker.sandbox.native import NativeConfig, NativePool
from services.worker.snapshots import SLOTS, SnapshotSettings
from services.worker.wiring import raise_descriptor_limit

RUNTIME = f"python{sys.version_info[0]}.{sys.version_info[1]}"
# The interpreter itself, so that a baseline that names it starts no wrapper and reads no pyvenv.cfg.
INTERPRETER = Path(os.path.realpath(sys.executable))
_PATIENCE = 30.0


def package(source: str) -> bytes:
    """A package with one module, `app`."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("app.py", source)
    return out.getvalue()


class _NoLogs(LogWriter):
    """Takes lines and forgets them, so that what is measured does not grow."""

    def append(self, tenant: Tenant, group: str, chunk: LogChunk) -> None:
        """Forget it."""

    def flush(self) -> None:
        """Nothing is kept."""


class LocalWorker:
    """Environments in real sandboxes, with everything but the wires around them. Made by `local_worker`."""

    def __init__(self, pool: NativePool, environments: Environments, deployment: bytes) -> None:
        self.pool = pool
        self.environments = environments
        self._deployment = deployment
        self._ready: dict[str, asyncio.Future[None]] = {}
        self._calls: dict[int, asyncio.Future[tuple[Result, bytes]]] = {}
        self._next = 0
        environments.reporter = self

    # services.worker.environments.Reporter

    def ready(self, environment_id: str, slot: int, *, init_failed: bool) -> None:
        """An environment takes invocations."""
        waiting = self._ready.get(environment_id)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def gone(self, environment_id: str, reason: str) -> None:
        """An environment has ended."""
        waiting = self._ready.pop(environment_id, None)
        if waiting is not None and not waiting.done():
            waiting.set_exception(RuntimeError(f"environment gone: {reason}"))

    # services.worker.environment.Caller

    def streams(self, call: int, content_type: str) -> None:
        """Never: nothing here streams."""

    def piece(self, call: int, data: bytes) -> None:
        """Never: nothing here streams."""

    def answer(self, call: int, result: Result, payload: bytes) -> None:
        """An invocation has ended."""
        self._calls.pop(call).set_result((result, payload))

    # What measurements call

    async def start(self) -> str:
        """A new environment, once it is ready; answers its id."""
        self._next += 1
        name = f"e{self._next}"
        waiting = self._ready[name] = asyncio.get_running_loop().create_future()
        self.environments.start(name, 1, self._deployment, provisioned=False)
        await asyncio.wait_for(waiting, _PATIENCE)
        return name

    async def invoke(self, environment_id: str, payload: bytes = b"{}") -> bytes:
        """One invocation; answers its payload. Raises RuntimeError where the function failed."""
        environment = self.environments.by_id[environment_id]
        self._next += 1
        call = self._next
        waiting = self._calls[call] = asyncio.get_running_loop().create_future()
        request = Invoke(environment.slot, environment_id, f"r{call}", "arn", "", None, False)
        reason = environment.invoke(request, payload, self, call)
        if reason is not None:
            raise RuntimeError(f"not invoked: {reason}")
        result: Result
        body: bytes
        result, body = await asyncio.wait_for(waiting, _PATIENCE)
        if result.error is not None:
            raise RuntimeError(body.decode(errors="replace"))
        return body

    def stop(self, environment_id: str) -> None:
        """End an environment."""
        self.environments.stop(environment_id, Reason.STOPPED)

    def sources(self) -> str:
        """What environments of a version with SnapStart came of, and why."""
        counts = self.environments._shared.counters.sources
        return ", ".join(f"{source} ({reason}): {count}" for (source, reason), count in counts.items())

    async def emptied(self) -> None:
        """Wait until what was stopped has ended."""
        while any(  # noqa: ASYNC110 no event tells
            len(stems.zygote.children) > stems._count for stems in self.pool._stems.values()
        ):
            await asyncio.sleep(0.001)

    async def rested(self) -> None:
        """Wait until environments have been idle for so long that nothing more becomes of them."""
        while not self.environments._shared.freezer.at_rest:  # noqa: ASYNC110 no event tells
            await asyncio.sleep(0.05)

    def pids(self) -> list[int]:
        """The guests' processes, as this machine counts them."""
        found: list[int] = []
        for environment in self.environments.running():
            sandbox: Any = environment._sandbox
            if sandbox is not None and sandbox.stem.child.pid is not None:
                found.append(sandbox.stem.child.pid)
        return found


@contextlib.asynccontextmanager
async def local_worker(
    source: str,
    *,
    most: int = 1000,
    pool_size: int = 4,
    snap_start: bool = False,
    memory_mb: int = 128,
    copies: int = 2,
) -> AsyncIterator[LocalWorker]:
    """A worker that runs one function. Leaves nothing behind. `copies`: of its snapshot, made in advance."""
    raise_descriptor_limit(most * 8 + 1024)
    with tempfile.TemporaryDirectory(prefix="lb-") as name:
        folder = Path(name)
        os.chmod(folder, 0o755)  # functions run as users of their own
        store, limits, tasks = MemoryCodeStore(), Limits(), TaskOwner("bench")
        digest = store.put(package(source))
        packages = folder / "packages"
        artifacts = Artifacts(
            ArtifactCache(store, packages, limits, [INTERPRETER]),
            ImageCache(Connections(()), packages, limits, "", ImageShelf(packages, 0, SystemClock())),
        )
        pool = NativePool(
            NativeConfig(
                f"bench-{os.getpid()}-{folder.name}", folder / "packages", folder / "run", {RUNTIME: INTERPRETER}, stems=pool_size,
                users=most + SLOTS, runtime_dir=INSTALLED_RUNTIMES if INSTALLED_RUNTIMES.is_dir() else None,
            )
        )  # fmt: skip
        deployment = Deployment(
            account="000000000000", region="us-east-1", function_name="bench", version="1", deployment_id="d",
            runtime=RUNTIME, handler="app.handler", code_sha256=digest, memory_mb=memory_mb, timeout_seconds=30,
            log_format="Text", log_group="/aws/lambda/bench", snap_start=snap_start,
        )  # fmt: skip
        loop, clock, ids = asyncio.get_running_loop(), SystemClock(), SystemIds()
        shared = Shared(
            loop, clock, limits, _NoLogs(), pool, Programs({}), ids, tasks, WorkerCounters(), Freezer(loop, clock, 0.1, 5.0),
            Credentials(loop, clock, ids, SessionKeys(b"bench"), 43_200.0),
            Endpoints("http://127.0.0.1:9001", Connections(())), None,
        )  # fmt: skip
        environments = Environments(shared, artifacts, most, snapshots=SnapshotSettings(1024, 1 << 30, 3600.0, copies))
        try:
            await artifacts.unpacked(deployment)
            await pool.start()
            yield LocalWorker(pool, environments, deployment.SerializeToString())
        finally:
            environments.close()
            await tasks.close()
            await artifacts.close()
            await pool.close()


def timer() -> float:
    """Seconds, for durations."""
    return time.perf_counter()
