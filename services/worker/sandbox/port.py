"""What the worker asks of a sandbox: a narrow verb set that every isolation level answers the same way.

Implementations: `namespaces` (our own, as root or in a user namespace), `landlock`, `process` (for laptops), `fake`
(tests). One contract suite runs over all of them. A sandbox is one guest process behind one socket, with its mounts,
limits and user; it is handed out by a pool that keeps some made in advance.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lambent.domain.images import Built


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """What one environment's sandbox must be like. That of an image, or one with a folder mounted, needs a level with
    file systems of its own."""

    environment_id: str
    slot: int  # number on this worker, from 0; the unprivileged user id is derived from it
    runtime: str  # runtime name; the pool chooses the interpreter
    code: Path  # unpacked package on the worker; read-only at /var/task inside
    memory_mb: int
    ephemeral_storage_mb: int  # size of /tmp
    cpu_share: float  # virtual CPUs
    opt: Path | None = None  # unpacked layers on the worker; read-only at /opt inside; None: there are none
    launcher: bool = False  # the guest is a launcher (guest/launcher.py), not the Python runtime
    program: bool = False  # the launcher starts the function's runtime as a program, whichever it is
    snapshot: bool = False  # its function's init phase is followed by `restore`s instead of invocations
    image: Built | None = None  # what the image says of itself whose root is `code`; None: it is a package
    mounted: tuple[Path, str] | None = None  # a folder on the worker, and where it is inside, to be written to
    background: bool = False  # nobody waits for its init phase, which yields to everything else where it can


@dataclass(frozen=True, slots=True)
class Exit:
    """How a sandbox's process ended."""

    status: int | None  # exit status, None if a signal ended it
    signal: int | None  # the signal, None if it exited
    out_of_memory: bool  # the memory limit ended it


class Sandbox(Protocol):
    """One live sandbox. Calls on one that is gone are harmless."""

    @property
    def channel(self) -> socket.socket:
        """Connected stream socket to the guest (services/worker/guest/wire.py says what travels). CLAIM has been sent.

        Whoever takes it closes it, since a loop's transport must not find its socket closed by somebody else.
        """
        ...

    @property
    def output(self) -> int:
        """Read end of a pipe that carries the guest's standard output and error; non-blocking; closed by `destroy`."""
        ...

    @property
    def task_root(self) -> str:
        """Where the function finds its package."""
        ...

    @property
    def opt_root(self) -> str:
        """Where the function finds its layers; nothing need be there if it has none."""
        ...

    @property
    def runtime_root(self) -> str:
        """Where the function finds the SDKs that come with the platform."""
        ...

    @property
    def bootstraps(self) -> str:
        """Where the folder services/worker/guest/bootstraps is seen inside."""
        ...

    @property
    def launcher(self) -> bool:
        """Whether the guest is a launcher."""
        ...

    @property
    def user(self) -> int | None:
        """User id of its processes, where no other sandbox has the same; None: it is shared."""
        ...

    @property
    def own_network(self) -> bool:
        """Whether its loopback interface is its own, so that nobody else reaches what listens inside."""
        ...

    @property
    def ended(self) -> bool:
        """Whether its process has ended, as far as that is known yet."""
        ...

    def peak_memory_kb(self) -> int:
        """Most memory that its processes have used together so far, as far as it is known."""
        ...

    def out_of_memory(self) -> bool:
        """Whether one of its processes was ended for the memory limit."""
        ...

    def wanted(self) -> None:
        """Somebody waits for what was made in the background: it yields to nothing any more."""
        ...

    def initialised(self) -> None:
        """The init phase has ended: the CPU share holds from now on. Before, there is none, as AWS has it."""
        ...

    def freeze(self) -> None:
        """Give everything inside no processor time until `thaw`. Harmless when it is frozen."""
        ...

    def thaw(self) -> None:
        """Let it go on. Harmless, and free, when it is not frozen; need not come before `kill` or `destroy`."""
        ...

    def kill(self) -> None:
        """Kill everything inside at once; /tmp stays for `reset`."""
        ...

    def reset(self) -> Sandbox:
        """Kill what runs inside and answer a fresh sandbox of the same environment in which /tmp is as it was left.

        This one is destroyed by it. Raises SandboxUnavailable.
        """
        ...

    def destroy(self, reason: str) -> None:
        """Kill everything inside at once and give back what it used. May be called again."""
        ...

    async def exited(self) -> Exit:
        """Wait until the guest's process has ended, by itself or not. May be asked again."""
        ...


class SandboxPool(Protocol):
    """Makes sandboxes of one isolation level."""

    @property
    def level(self) -> str:
        """Name of the isolation level in force: namespaces, user-namespace, landlock, process or fake."""
        ...

    @property
    def reason(self) -> str:
        """One line that says why it is this level, and what it lacks."""
        ...

    async def start(self) -> None:
        """Bring up the zygotes. Raises SandboxUnavailable with one line and a hint where the machine forbids it."""
        ...

    def take(self, spec: SandboxSpec) -> Sandbox:
        """A sandbox for one environment, made in advance where possible. Raises SandboxUnavailable."""
        ...

    @property
    def restores(self) -> bool:
        """Whether sandboxes of this level can be snapshots."""
        ...

    def restore(self, spec: SandboxSpec, snapshot: Sandbox) -> Sandbox:
        """A sandbox in which the process of `snapshot`, whose init phase has ended, goes on as a copy; what it left in
        its /tmp is there too. Raises SandboxUnavailable."""
        ...

    async def close(self) -> None:
        """End every sandbox and zygote, leaving no process, mount or cgroup behind."""
        ...


class SandboxUnavailable(Exception):
    """This level cannot be had on this machine; the text is one line with a hint."""
