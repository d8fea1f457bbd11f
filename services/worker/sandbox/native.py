"""Sandboxes forked from zygotes: levels `namespaces`, `user-namespace` and `process`. Host side.

A stem is a forked child that waits for its claim; the pool keeps some for each runtime. `take` sends the claim down the
stem's own channel, so neither the zygote nor a round trip is on the path of a cold start. When no stem is left the fork
is ordered and claimed at once; zygotes fork one at a time, which bounds a burst by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import socket
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lambent.infra.clock import SystemClock
from lambent.infra.tasks import TaskOwner
from services.worker.guest import wire
from services.worker.sandbox.cgroups import Group, Groups, RssWatch
from services.worker.sandbox.port import Exit, SandboxSpec, SandboxUnavailable
from services.worker.sandbox.zygotes import Child, Zygote

_log = logging.getLogger(__name__)

LEVELS = ("process", "user-namespace", "namespaces")  # weakest first
_REFILL_DELAY = 0.004  # s; a claimed stem has its function to import, which a refill would compete with
_SHARE_DELAY = 0.005  # s
_MOST_PENDING = 2  # forks ordered ahead for one runtime
_WATCH_SECONDS = 0.1
BOOTSTRAPS = Path(__file__).resolve().parent.parent / "guest" / "bootstraps"
BOOTSTRAPS_INSIDE = "/run/lambent/bootstraps"
_ASIDE = frozenset({"namespaces", "user-namespace"})


@dataclass(frozen=True, slots=True)
class NativeConfig:
    """What a pool is made of."""

    worker_id: str
    packages: Path  # every package folder is below it
    run_dir: Path  # for temporary folders
    interpreters: Mapping[str, Path]  # runtime name → Python interpreter that its sandboxes are forked from
    runtime_dir: Path | None = None  # what functions find at /var/runtime; None: nothing
    folders: tuple[Path, ...] = ()  # further folders that functions see, read-only, at the same place
    level: str = "auto"  # auto, or one of LEVELS
    minimum: str = "process"  # a weaker level is refused
    stems: int = 4  # kept in advance for each runtime
    users: int = 1000  # how many user ids may be needed
    uid_base: int = 200_000
    processes: int = 1024
    descriptors: int = 1024
    control_groups: bool = True  # False: sample what is used, as where the machine has no control groups for us


@dataclass(slots=True)
class _Stem:
    child: Child
    channel: socket.socket
    output: int
    group: Group | None


@dataclass(slots=True)
class _Runtime:
    zygote: Zygote
    stems: deque[_Stem] = field(default_factory=deque)
    refill: asyncio.TimerHandle | None = None


class NativeSandbox:
    """One claimed stem."""

    def __init__(
        self, pool: NativePool, spec: SandboxSpec, stem: _Stem, namespace: int | None, tmp: Path | None
    ) -> None:
        self._pool = pool
        self.spec = spec
        self.stem = stem
        self._namespace = namespace  # joined, and kept for the next one; None: it has its own
        self._tmp = tmp
        self._exit: Exit | None = None
        self._waiters: list[asyncio.Future[Exit]] = []
        self._destroyed = False
        self.over_limit = False  # found by the sampler, where there are no control groups
        stem.child.on_change = self._changed

    @property
    def channel(self) -> socket.socket:
        return self.stem.channel

    @property
    def output(self) -> int:
        return self.stem.output

    @property
    def task_root(self) -> str:
        return "/var/task" if self._pool.isolated else str(self.spec.code)

    @property
    def opt_root(self) -> str:
        return "/opt" if self._pool.isolated or self.spec.opt is None else str(self.spec.opt)

    @property
    def runtime_root(self) -> str:
        return self._pool.runtime_root

    @property
    def bootstraps(self) -> str:
        return BOOTSTRAPS_INSIDE if self._pool.isolated else str(BOOTSTRAPS)

    @property
    def user(self) -> int | None:
        return self._pool.user_of(self.spec)

    @property
    def own_network(self) -> bool:
        return False

    def peak_memory_kb(self) -> int:
        return 0 if self.stem.group is None else self.stem.group.peak_memory_kb()

    def out_of_memory(self) -> bool:
        return self.over_limit or (self.stem.group is not None and self.stem.group.out_of_memory())

    def _changed(self, child: Child) -> None:
        if child.status is None or self._exit is not None:
            return
        status = child.status
        killed = os.WIFSIGNALED(status)
        memory = killed and self.out_of_memory()
        self._exit = Exit(None if killed else os.WEXITSTATUS(status), os.WTERMSIG(status) if killed else None, memory)
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(self._exit)
        if self._destroyed:
            self._gone()

    async def exited(self) -> Exit:
        if self._exit is not None:
            return self._exit
        waiter: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        return await waiter

    def initialised(self) -> None:
        # A little later, as the first invocation comes right after and the kernel takes its time.
        asyncio.get_running_loop().call_later(_SHARE_DELAY, self._limit_cpu)

    def _limit_cpu(self) -> None:
        if self.stem.group is not None and self._exit is None and not self._destroyed:
            with contextlib.suppress(OSError):  # it has just ended
                self.stem.group.limit_cpu(self.spec.cpu_share)

    def kill(self) -> None:
        self.stem.child.kill()
        if not self._pool.isolated and self.stem.group is not None:
            self.stem.group.kill()  # whatever left the process group

    def reset(self) -> NativeSandbox:
        return self._pool.replace(self)

    def destroy(self, reason: str) -> None:
        if self._destroyed:
            return
        self._destroyed = True
        _log.debug("sandbox destroyed", extra={"environment": self.spec.environment_id, "reason": reason})
        self.kill()
        os.close(self.stem.output)
        self._pool.released(self)
        if self._exit is not None:
            self._gone()

    def hand_over(self) -> tuple[int | None, Path | None]:
        """The mount namespace and the temporary folder become another sandbox's."""
        tmp, self._tmp = self._tmp, None
        namespace, self._namespace = self._namespace, None
        if namespace is None and self.stem.child.namespace is not None:
            namespace = os.dup(self.stem.child.namespace)
        return namespace, tmp

    def _gone(self) -> None:
        self._pool.bury(self.stem.group, self._namespace, *self.stem.child.forget())
        self._namespace = None
        if self._tmp is not None:
            shutil.rmtree(self._tmp, ignore_errors=True)


class NativePool:
    """A SandboxPool over zygotes."""

    def __init__(self, config: NativeConfig) -> None:
        self._config = config
        # By interpreter: several runtime names may share one, and then share its zygote and stems.
        self._runtimes: dict[Path, _Runtime] = {}
        self._live: set[NativeSandbox] = set()
        self._tasks = TaskOwner("sandboxes")
        self._groups: Groups | None = None
        self._level = ""
        self._reason = ""
        self._staging: Path | None = None
        self._closed = False
        # The kernel takes its time to let go of a mount namespace or a control group; the loop does not wait for it.
        self._undertaker = ThreadPoolExecutor(1, "sandbox-remains")

    @property
    def level(self) -> str:
        return self._level

    @property
    def reason(self) -> str:
        return self._reason

    @property
    def isolated(self) -> bool:
        """Whether sandboxes have namespaces of their own."""
        return self._level in _ASIDE

    @property
    def runtime_root(self) -> str:
        """Where functions see the platform's SDKs."""
        folder = self._config.runtime_dir
        return "/var/runtime" if self.isolated or folder is None else str(folder)

    def user_of(self, spec: SandboxSpec) -> int | None:
        """The user id that is this sandbox's alone; None: the level has no such thing."""
        return self._config.uid_base + spec.slot if self._level == "namespaces" else None

    async def start(self) -> None:
        config = self._config
        candidates = self._candidates()
        config.run_dir.mkdir(parents=True, exist_ok=True)
        config.packages.mkdir(parents=True, exist_ok=True)
        limits = self._start_groups()
        tried: list[str] = []
        for level in candidates:
            try:
                await self._start_level(level)
            except SandboxUnavailable as error:
                tried.append(f"{level}: {error}")
                await self._end_zygotes()
                continue
            self._reason = "; ".join([*tried, limits])
            if self._groups is None:
                self._tasks.start("memory-watch", self._watch())
            return
        await self.close()
        raise SandboxUnavailable(
            "; ".join(tried)
            + " (give the worker CAP_SYS_ADMIN or unprivileged user namespaces, or allow a weaker level)"
        )

    def _start_groups(self) -> str:
        cause = "not wanted"
        if self._config.control_groups:
            try:
                self._groups = Groups(self._config.worker_id, self._config.processes, SystemClock().epoch())
                return f"limits by control groups version {2 if self._groups.unified else 1}"
            except OSError as error:
                cause = error.strerror or str(error)
        return f"no control groups ({cause}): memory is limited by sampling, processes and CPU are not"

    def _candidates(self) -> list[str]:
        config = self._config
        if config.level != "auto":
            if LEVELS.index(config.level) < LEVELS.index(config.minimum):
                raise SandboxUnavailable(
                    f"isolation {config.level} is weaker than the minimum, {config.minimum}: "
                    "ask for that level or a stronger one, or lower the minimum"
                )
            return [config.level]
        levels = [level for level in reversed(LEVELS) if LEVELS.index(level) >= LEVELS.index(config.minimum)]
        return levels if os.geteuid() == 0 else [level for level in levels if level != "namespaces"]

    async def _start_level(self, level: str) -> None:
        if level == "namespaces" and os.geteuid() != 0:
            raise SandboxUnavailable("needs root")
        config = self._config
        self._level = level
        self._staging = config.run_dir / "root"
        self._staging.mkdir(exist_ok=True)
        common = {
            "level": level,
            "staging": str(self._staging.resolve()),
            "packages": str(config.packages.resolve()),
            "users": [config.uid_base, config.users],
            "bootstraps": str(BOOTSTRAPS),
            "runtime": None if config.runtime_dir is None else str(config.runtime_dir.resolve()),
            "folders": [str(folder) for folder in config.folders],
        }
        for interpreter in dict.fromkeys(config.interpreters.values()):
            zygote = Zygote(interpreter, common, self._lost)
            self._runtimes[interpreter] = _Runtime(zygote)
            await zygote.start()
            # A first child tells whether the machine allows all that a sandbox needs, not only a zygote.
            ended = asyncio.get_running_loop().create_future()
            stem = self._order(self._runtimes[interpreter])
            stem.child.on_change = lambda child, future=ended: future.done() or future.set_result(child.status)
            status = await ended
            stem.child.on_change = None
            if status is not None:
                said = ""
                with contextlib.suppress(BlockingIOError):
                    said = os.read(stem.output, 65536).decode(errors="replace").strip().rpartition("\n")[2]
                self._drop(stem)
                raise SandboxUnavailable(said or "a first sandbox ended at once")
            self._runtimes[interpreter].stems.append(stem)
            self._refill(interpreter)

    # Stems

    def _order(self, runtime: _Runtime) -> _Stem:
        host, guest = socket.socketpair()
        host.setblocking(False)
        read, write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(read, False)
        group, members = None, []
        try:
            if self._groups is not None:
                group = self._groups.make()
                members = group.open_members()
            child = runtime.zygote.fork(guest, write, members)
        except OSError:
            host.close()
            os.close(read)
            if group is not None:
                self.bury(group)
            raise
        finally:
            guest.close()
            for descriptor in (write, *members):
                os.close(descriptor)
        return _Stem(child, host, read, group)

    def _drop(self, stem: _Stem) -> None:
        """End a stem that was never claimed."""

        def ended(child: Child) -> None:
            if child.status is not None:
                self.bury(stem.group, *child.forget())

        stem.child.on_change = ended
        stem.child.kill()
        stem.channel.close()
        os.close(stem.output)
        if stem.child.status is not None:
            ended(stem.child)

    def _refill(self, interpreter: Path) -> None:
        runtime = self._runtimes.get(interpreter)
        if self._closed or runtime is None:
            return
        runtime.refill = None
        while runtime.stems and runtime.stems[0].child.status is not None:
            self._drop(runtime.stems.popleft())
        pending = sum(1 for stem in runtime.stems if not stem.child.ready)
        while len(runtime.stems) < self._config.stems and pending < _MOST_PENDING:
            try:
                stem = self._order(runtime)
            except OSError as error:
                _log.error(
                    "no sandbox could be made in advance", extra={"interpreter": str(interpreter), "cause": str(error)}
                )
                self._refill_soon(interpreter, 1.0)
                return
            stem.child.on_change = lambda _: self._refill_soon(interpreter, 0.0)
            runtime.stems.append(stem)
            pending += 1

    def _refill_soon(self, interpreter: Path, delay: float) -> None:
        runtime = self._runtimes.get(interpreter)
        if runtime is not None and runtime.refill is None and not self._closed:
            runtime.refill = asyncio.get_running_loop().call_later(delay, self._refill, interpreter)

    # Sandboxes

    def take(self, spec: SandboxSpec) -> NativeSandbox:
        return self._claim(spec, None, None)

    def replace(self, old: NativeSandbox) -> NativeSandbox:
        """What `Sandbox.reset` does."""
        namespace, tmp = old.hand_over()
        old.destroy("reset")
        return self._claim(old.spec, namespace, tmp)

    def _claim(self, spec: SandboxSpec, namespace: int | None, tmp: Path | None) -> NativeSandbox:
        try:
            stem = self._stem_for(spec)
        except SandboxUnavailable:
            if namespace is not None:
                os.close(namespace)
            raise
        if not self.isolated and tmp is None:
            tmp = self._config.run_dir / "tmp" / spec.environment_id
            tmp.mkdir(parents=True, exist_ok=True)
        claim: dict[str, Any] = {
            "package": str(spec.code.relative_to(self._config.packages)),
            "opt": None if spec.opt is None else str(spec.opt.relative_to(self._config.packages)),
            "tmp_mb": spec.ephemeral_storage_mb,
            "uid": self.user_of(spec),
            "launcher": spec.launcher,
            "descriptors": self._config.descriptors,
            "tmp": str(tmp),
            "task": str(spec.code),
            "joins": namespace is not None,
        }
        frame = wire.pack(wire.CLAIM, json.dumps(claim).encode())
        sandbox = NativeSandbox(self, spec, stem, namespace, tmp)
        with contextlib.suppress(OSError):  # it has just ended: `exited` tells
            socket.send_fds(stem.channel, [frame], [] if namespace is None else [namespace])
        self._live.add(sandbox)
        interpreter = self._config.interpreters[spec.runtime]
        self._refill_soon(interpreter, _REFILL_DELAY if self._runtimes[interpreter].stems else 0.0)
        return sandbox

    def _stem_for(self, spec: SandboxSpec) -> _Stem:
        interpreter = self._config.interpreters.get(spec.runtime)
        runtime = None if interpreter is None else self._runtimes.get(interpreter)
        if self._closed or runtime is None:
            raise SandboxUnavailable(f"no interpreter for {spec.runtime} on this worker")
        stem = None
        while stem is None and runtime.stems:
            stem = runtime.stems.popleft()
            if stem.child.status is not None:
                self._drop(stem)
                stem = None
        try:
            if stem is None:
                stem = self._order(runtime)
            if stem.group is not None:
                stem.group.limit_memory(spec.memory_mb)
        except OSError as error:
            if stem is not None:
                self._drop(stem)
            raise SandboxUnavailable(f"no sandbox could be made: {error}") from error
        return stem

    def released(self, sandbox: NativeSandbox) -> None:
        """The sandbox was destroyed."""
        self._live.discard(sandbox)

    def bury(self, group: Group | None, *descriptors: int | None) -> None:
        """Nothing is in the group any more, nobody needs the descriptors."""
        self._undertaker.submit(self._bury, group, descriptors)

    def _bury(self, group: Group | None, descriptors: tuple[int | None, ...]) -> None:
        for descriptor in descriptors:
            if descriptor is not None:
                os.close(descriptor)
        if group is not None and self._groups is not None:
            self._groups.discard(group)

    # Zygotes and the end

    def _lost(self, zygote: Zygote) -> None:
        if self._closed or not self._reason:
            return
        for interpreter, runtime in self._runtimes.items():
            if runtime.zygote is zygote:
                _log.error("zygote lost", extra={"interpreter": str(interpreter)})
                while runtime.stems:
                    self._drop(runtime.stems.popleft())
                self._tasks.start(f"restart-{interpreter.name}", self._restart(interpreter, runtime))

    async def _restart(self, interpreter: Path, runtime: _Runtime) -> None:
        await runtime.zygote.start()
        self._refill(interpreter)

    async def _watch(self) -> None:
        watch = RssWatch()
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            for sandbox in list(self._live):
                pid = sandbox.stem.child.pid
                if pid is not None and watch.used_mb(pid) > sandbox.spec.memory_mb:
                    sandbox.over_limit = True
                    sandbox.stem.child.kill()

    async def _end_zygotes(self) -> None:
        runtimes, self._runtimes = self._runtimes, {}
        for runtime in runtimes.values():
            if runtime.refill is not None:
                runtime.refill.cancel()
            while runtime.stems:
                self._drop(runtime.stems.popleft())
            children = list(runtime.zygote.children.values())
            for child in children:
                child.kill()
            for _ in range(200):
                if not runtime.zygote.children:
                    break
                await asyncio.sleep(0.01)
            await runtime.zygote.close()

    async def close(self) -> None:
        self._closed = True
        for sandbox in list(self._live):
            sandbox.destroy("WorkerClosed")
        await self._tasks.close()
        await self._end_zygotes()
        await asyncio.get_running_loop().run_in_executor(None, self._undertaker.shutdown)
        if self._groups is not None:
            self._groups.close()
        if self._staging is not None:
            with contextlib.suppress(OSError):
                self._staging.rmdir()
        shutil.rmtree(self._config.run_dir / "tmp", ignore_errors=True)
