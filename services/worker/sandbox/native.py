"""Sandboxes forked from zygotes: levels `namespaces`, `user-namespace`, `landlock` and `process`. Host side.

A stem is a forked child that waits for its claim; the pool keeps some for each runtime. `take` sends the claim down the
stem's own channel, so neither the zygote nor a round trip is on the path of a cold start (stems.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lambent.infra.clock import SystemClock
from lambent.infra.tasks import TaskOwner
from services.worker.guest import wire
from services.worker.sandbox.cgroups import Group, Groups, Weight, sampled
from services.worker.sandbox.firewall import Firewall, FirewallUnavailable, endpoints_of
from services.worker.sandbox.leaving import Leaving
from services.worker.sandbox.native_sandbox import GUEST, NativeSandbox
from services.worker.sandbox.port import Sandbox, SandboxSpec, SandboxUnavailable
from services.worker.sandbox.promises import ASIDE, LEVELS, NAMESPACES
from services.worker.sandbox.stems import Stem, Stems
from services.worker.sandbox.users import first_user_here
from services.worker.sandbox.zygotes import SnapshotControl

_log = logging.getLogger(__name__)

_WATCH_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class NativeConfig:
    """What a pool is made of."""

    worker_id: str
    packages: Path  # every package folder is below it
    run_dir: Path  # for temporary folders
    interpreters: Mapping[str, Path]  # runtime name → Python interpreter that its sandboxes are forked from
    runtime_dir: Path | None = None  # what functions find at /var/runtime; None: nothing
    folders: tuple[Path, ...] = ()  # further folders that functions see, read-only, at the same place
    mounted: tuple[Path, ...] = ()  # folders that sandboxes may have mounted, to be written to
    level: str = "auto"  # auto, or one of LEVELS
    minimum: str = "process"  # a weaker level is refused
    network: str = "full"  # or loopback, none
    unreachable: tuple[tuple[str, int | None], ...] = ()  # for functions; without port: all that is there
    stems: int = 4  # kept in advance for each runtime
    users: int = 1000  # how many user ids may be needed
    uid_base: int = 200_000
    processes: int = 1024
    descriptors: int = 1024
    control_groups: bool = True  # False: sample what is used, as where the machine has no control groups for us


class NativePool:
    """A SandboxPool over zygotes."""

    def __init__(self, config: NativeConfig) -> None:
        self._config = config
        # By interpreter: several runtime names may share one, and then share its zygote and stems.
        self._stems: dict[Path, Stems] = {}
        self._live: set[NativeSandbox] = set()
        self._leaving = Leaving()
        self._tasks = TaskOwner("sandboxes")
        self._groups: Groups | None = None
        self._firewall: Firewall | None = None
        self._level = ""
        self._uid_base = config.uid_base  # or what this user namespace has instead
        self._reason = ""
        self._staging: Path | None = None
        self._mounts: dict[Path, dict[str, int | None]] = {}  # by folder: how sandboxes know it; group None: their own
        self._closed = False
        # The kernel takes its time to make a control group, and to let go of one or of a mount namespace; the loop does
        # not wait for it.
        self._maker = ThreadPoolExecutor(1, "sandbox-groups")
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
        return self._level in ASIDE

    @property
    def runtime_root(self) -> str:
        """Where functions see the platform's SDKs."""
        folder = self._config.runtime_dir
        return "/var/runtime" if self.isolated or folder is None else str(folder)

    @property
    def own_network(self) -> bool:
        """Whether sandboxes have a network of their own."""
        return self.isolated and self._config.network != "full"

    def user_of(self, spec: SandboxSpec) -> int | None:
        """The user id that is this sandbox's alone; None: the level has no such thing."""
        return self._uid_base + spec.slot if self._level == NAMESPACES else None

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
            network = await asyncio.get_running_loop().run_in_executor(None, self._start_network)
            self._reason = "; ".join([*tried, limits, network])
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
                frozen = "frozen by control groups version 2" if self._groups.freeze else "stopped by signals"
                return f"limits by control groups version {self._groups.version}; {frozen} when idle"
            except OSError as error:
                cause = error.strerror or str(error)
        return (
            f"no control groups ({cause}): memory and processes are limited by sampling, CPU is not; "
            "stopped by signals when idle"
        )

    def _start_network(self) -> str:
        """Refuse to functions what they must not reach; answers what is in force."""
        config = self._config
        endpoints = [endpoint for host, port in config.unreachable for endpoint in endpoints_of(host, port)]
        if config.network != "full" or not endpoints:
            return f"network {config.network}"
        cause = "sandboxes have no users of their own"
        if self._level == NAMESPACES:
            users = range(self._uid_base, self._uid_base + config.users)
            try:
                self._firewall = Firewall(f"lambent-{config.worker_id}", users, endpoints)
                return "network full, but for what functions must not reach"
            except FirewallUnavailable as error:
                cause = str(error)
        return f"network full, also what functions must not reach ({cause})"

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
        config = self._config
        if level == NAMESPACES:
            if os.geteuid() != 0:
                raise SandboxUnavailable("needs root")
            first = first_user_here(config.uid_base, config.users)
            if first is None:
                raise SandboxUnavailable(f"needs {config.users} user ids, and this user namespace has fewer")
            self._uid_base = first
        if config.network == "loopback" and level not in ASIDE:
            raise SandboxUnavailable("the network profile loopback needs a level with namespaces")
        self._level = level
        # Functions that have users of their own are of a folder's group. Asked once: a server may not answer later.
        self._mounts = {
            folder: {"number": number, "group": (folder.stat().st_gid or None) if level == NAMESPACES else None}
            for number, folder in enumerate(config.mounted)
        }
        self._staging = config.run_dir / "root"
        self._staging.mkdir(exist_ok=True)
        common = {
            "level": level,
            "network": config.network,
            "staging": str(self._staging.resolve()),
            "packages": str(config.packages.resolve()),
            "users": [self._uid_base, config.users],
            "guest": str(GUEST),
            "runtime": None if config.runtime_dir is None else str(config.runtime_dir.resolve()),
            "folders": [str(folder) for folder in config.folders],
            "mounted": [str(folder) for folder in config.mounted],
        }
        for interpreter in dict.fromkeys(config.interpreters.values()):
            stems = self._stems[interpreter] = Stems(interpreter, common, config.stems, self, self._lost)
            await stems.start()

    # Sandboxes

    def take(self, spec: SandboxSpec) -> NativeSandbox:
        return self._claim(spec, None, None)

    def replace(self, old: NativeSandbox) -> NativeSandbox:
        """What `Sandbox.reset` does."""
        namespace, tmp = old.hand_over()
        old.destroy("reset")
        return self._claim(replace(old.spec, background=False), namespace, tmp)  # an invocation waits for it

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
        claim = {**self._claim_of(spec), "joins": namespace is not None, "tmp": str(tmp)}
        brought, control = namespace, None
        theirs: socket.socket | None = None
        if spec.snapshot:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            control = SnapshotControl(lambda _: None)  # its end is told by its channel
            control.attach(ours)
            brought = theirs.fileno()
        frame = wire.pack(wire.CLAIM, json.dumps(claim).encode())
        sandbox = NativeSandbox(self, spec, stem, namespace, tmp, control=control)
        with contextlib.suppress(OSError):  # it has just ended: `exited` tells
            socket.send_fds(stem.channel, [frame], [] if brought is None else [brought])
        if theirs is not None:
            theirs.close()
        self._live.add(sandbox)
        return sandbox

    @property
    def restores(self) -> bool:
        return self.isolated

    def restore(self, spec: SandboxSpec, snapshot: Sandbox) -> NativeSandbox:
        assert isinstance(snapshot, NativeSandbox)
        stems = self._stems_for(spec)
        if snapshot.control is None or snapshot.stem.child.status is not None:
            raise SandboxUnavailable("the snapshot has ended")
        user, owner = self.user_of(spec), self.user_of(snapshot.spec)
        users = None if user is None or owner is None else (owner, user)
        ours, theirs = socket.socketpair()
        stem = None
        try:
            stem = stems.pause(snapshot.stem.child, self._claim_of(spec), users, ours)
            group = stem.group
            self._prepare(group, spec)
            if group is not None:
                group.lent = True  # the snapshot is given the way in
            copy = snapshot.control.fork(user, theirs, [] if group is None else group.entries)
        except OSError as error:
            if stem is not None:
                stems.drop(stem)
            raise SandboxUnavailable(f"no sandbox could be made: {error}") from error
        finally:
            ours.close()
            theirs.close()
            if stem is not None and stem.group is not None:
                stem.group.shut()
        sandbox = NativeSandbox(self, spec, stem, copy=copy)
        self._live.add(sandbox)
        return sandbox

    def _claim_of(self, spec: SandboxSpec) -> dict[str, Any]:
        return {
            "package": self._below(spec.code),
            "opt": None if spec.opt is None else self._below(spec.opt),
            "tmp_mb": spec.ephemeral_storage_mb,
            "uid": self.user_of(spec),
            "launcher": spec.launcher,
            "descriptors": self._config.descriptors,
            "processes": self._config.processes if self._groups is None else None,
            "task": str(spec.code),
            "layers": None if spec.opt is None else str(spec.opt),
            "snapshot": spec.snapshot,
            "image": spec.image is not None,
            "mounted": None if spec.mounted is None else {**self._mounts[spec.mounted[0]], "path": spec.mounted[1]},
        }

    def _below(self, folder: Path) -> str:
        """A package folder as sandboxes know it. With `Path.relative_to` a start would take a twentieth longer here."""
        return str(folder).removeprefix(f"{self._config.packages}/")

    def _stems_for(self, spec: SandboxSpec) -> Stems:
        interpreter = self._config.interpreters.get(spec.runtime)
        stems = None if interpreter is None else self._stems.get(interpreter)
        if self._closed or stems is None:
            raise SandboxUnavailable(f"no interpreter for {spec.runtime} on this worker")
        return stems

    def _stem_for(self, spec: SandboxSpec) -> Stem:
        stems = self._stems_for(spec)
        stem = None
        try:
            stem = stems.take()
            self._prepare(stem.group, spec)
        except OSError as error:
            if stem is not None:
                stems.drop(stem)
            raise SandboxUnavailable(f"no sandbox could be made: {error}") from error
        return stem

    def _prepare(self, group: Group | None, spec: SandboxSpec) -> None:
        """Make a group that of this environment. Raises OSError."""
        if group is not None:
            group.limit_memory(spec.memory_mb)
            if not spec.background:
                group.weigh(Weight.ORDINARY)

    def new_group(self) -> Group | None:
        """The control group of a sandbox to come; None: there are none here. Raises OSError."""
        return None if self._groups is None else self._groups.take(self._maker)

    def released(self, sandbox: NativeSandbox) -> None:
        """The sandbox is about to be destroyed."""
        self._live.discard(sandbox)
        if sandbox.stem.group is not None:
            self._leaving.add(sandbox, sandbox.stem.group)

    def gone(self, sandbox: NativeSandbox) -> None:
        """Nothing runs in it any more."""
        self._leaving.gone(sandbox)

    def bury(self, group: Group | None, *descriptors: int | None) -> None:
        """Nothing is in the group any more, nobody needs the descriptors."""
        self._undertaker.submit(self._bury, group, descriptors)

    def _bury(self, group: Group | None, descriptors: tuple[int | None, ...]) -> None:
        for descriptor in descriptors:
            if descriptor is not None:
                os.close(descriptor)
        if group is not None and self._groups is not None:
            self._groups.discard(group, again=self.isolated)

    # Zygotes and the end

    def _lost(self, stems: Stems) -> None:
        if self._closed or not self._reason:
            return
        _log.error("zygote lost", extra={"interpreter": str(stems.interpreter)})
        self._tasks.start(f"restart-{stems.interpreter.name}", stems.restart())

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            for sandbox in list(self._live):
                if not (pids := sandbox.pids):
                    continue
                use = sampled(pids, sandbox.spec.memory_mb)
                if use.memory_mb > sandbox.spec.memory_mb:
                    sandbox.over_limit = True
                    sandbox.kill()
                elif use.tasks > self._config.processes:
                    sandbox.kill()

    async def _end_zygotes(self) -> None:
        every, self._stems = self._stems, {}
        for stems in every.values():
            await stems.close()

    async def close(self) -> None:
        self._closed = True
        for sandbox in list(self._live):
            sandbox.destroy("WorkerClosed")
        await self._tasks.close()
        await self._end_zygotes()
        loop = asyncio.get_running_loop()
        for thread in (self._maker, self._undertaker):
            await loop.run_in_executor(None, thread.shutdown)
        if self._groups is not None:
            self._groups.close()
        if self._firewall is not None:
            self._firewall.close()
        if self._staging is not None:
            with contextlib.suppress(OSError):
                self._staging.rmdir()
        shutil.rmtree(self._config.run_dir / "tmp", ignore_errors=True)
