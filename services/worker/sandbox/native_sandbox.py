"""One sandbox forked from a zygote: its processes, control group, temporary files and end. Host side."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from services.worker.sandbox.cgroups import Weight, continue_all, stop_all
from services.worker.sandbox.port import Exit, SandboxSpec
from services.worker.sandbox.stems import Stem
from services.worker.sandbox.zygotes import Child, SnapshotControl

if TYPE_CHECKING:
    from services.worker.sandbox.native import NativePool

_log = logging.getLogger(__name__)

_SHARE_DELAY = 0.005  # s
GUEST = Path(__file__).resolve().parent.parent / "guest"
GUEST_INSIDE = "/run/lambent/guest"


class NativeSandbox:
    """One claimed stem."""

    def __init__(
        self, pool: NativePool, spec: SandboxSpec, stem: Stem, namespace: int | None = None, tmp: Path | None = None,
        *, copy: Child | None = None, control: SnapshotControl | None = None,
    ) -> None:  # fmt: skip
        """`copy`: what a snapshot has forked for it; the stem's child pauses then. `control`: it is a snapshot."""
        self._pool = pool
        self.spec = spec
        self.stem = stem
        self.copy = copy
        self.control = control
        self._namespace = namespace  # joined, and kept for the next one; None: it has its own
        self._tmp = tmp
        self._exit: Exit | None = None
        self._waiters: list[asyncio.Future[Exit]] = []
        self._destroyed = False
        self._frozen = False
        self._buried = False
        self.over_limit = False  # found by the sampler, where there are no control groups
        stem.child.on_change = self._changed
        if copy is not None:
            copy.on_change = self._changed

    @property
    def pids(self) -> list[int]:
        """Its first processes, of which all others in it have come."""
        return [child.pid for child in (self.stem.child, self.copy) if child is not None and child.pid is not None]

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
        return f"{GUEST_INSIDE if self._pool.isolated else GUEST}/bootstraps"

    @property
    def launcher(self) -> bool:
        return self.spec.launcher

    @property
    def user(self) -> int | None:
        return self._pool.user_of(self.spec)

    @property
    def own_network(self) -> bool:
        return self._pool.own_network

    @property
    def ended(self) -> bool:
        return self._exit is not None or (self.control is not None and self.control.closed)

    def peak_memory_kb(self) -> int:
        return 0 if self.stem.group is None else self.stem.group.peak_memory_kb()

    def out_of_memory(self) -> bool:
        return self.over_limit or (self.stem.group is not None and self.stem.group.out_of_memory())

    def _changed(self, child: Child) -> None:
        if child.status is None:
            return
        if self._exit is None:
            status = child.status
            killed = os.WIFSIGNALED(status)
            memory = killed and not self._destroyed and self.out_of_memory()  # else it was ended by us
            self._exit = Exit(
                None if killed else os.WEXITSTATUS(status), os.WTERMSIG(status) if killed else None, memory
            )  # fmt: skip
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(self._exit)
            if self.copy is not None:
                self.kill()  # neither of the two is of use without the other
        if self._destroyed:
            self._gone()

    async def exited(self) -> Exit:
        if self._exit is not None:
            return self._exit
        waiter: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        return await waiter

    def wanted(self) -> None:
        if self.stem.group is not None and self._exit is None and not self._destroyed:
            with contextlib.suppress(OSError):  # it has just ended
                self.stem.group.weigh(Weight.ORDINARY)

    def initialised(self) -> None:
        # A little later, as the first invocation comes right after and the kernel takes its time.
        asyncio.get_running_loop().call_later(_SHARE_DELAY, self._limit_cpu)

    def _limit_cpu(self) -> None:
        if self.stem.group is not None and self._exit is None and not self._destroyed:
            with contextlib.suppress(OSError):  # it has just ended
                self.stem.group.limit_cpu(self.spec.cpu_share)
        if self.spec.background:
            self.wanted()

    def freeze(self) -> None:
        if not self._frozen and self._exit is None and not self._destroyed:
            self._frozen = True
            self._hold()

    def thaw(self) -> None:
        if self._frozen:
            self._frozen = False
            self._hold()

    def _hold(self) -> None:
        group = self.stem.group
        with contextlib.suppress(OSError):  # it has just ended
            if group is not None and group.freezes:
                group.freeze(frozen=self._frozen)
            else:
                for pid in self.pids:
                    (stop_all if self._frozen else continue_all)(pid)

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
        self._pool.released(self)
        self.kill()
        if self.control is not None:
            self.control.hang_up()
        os.close(self.stem.output)
        self._gone()

    def hand_over(self) -> tuple[int | None, Path | None]:
        """The mount namespace and the temporary folder become another sandbox's."""
        tmp, self._tmp = self._tmp, None
        namespace, self._namespace = self._namespace, None
        if namespace is None and self.stem.child.namespace is not None:
            namespace = os.dup(self.stem.child.namespace)
        return namespace, tmp

    def _gone(self) -> None:
        """Give back what it used, once nothing runs in it any more."""
        if self.stem.child.status is None or (self.copy is not None and self.copy.status is None) or self._buried:
            return
        self._buried = True
        self._pool.gone(self)
        if self.copy is not None:
            self._pool.bury(None, *self.copy.forget())
        self._pool.bury(self.stem.group, self._namespace, *self.stem.child.forget())
        self._namespace = None
        if self._tmp is not None:
            shutil.rmtree(self._tmp, ignore_errors=True)
