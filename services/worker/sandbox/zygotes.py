"""What forks, as the worker sees it: zygotes, started by exec, and snapshots; told to fork, heard about their children.

The control socket keeps message boundaries (SOCK_SEQPACKET) and carries descriptors, which loop transports cannot; it
is read when the loop says that there is something. No message waits for another.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import struct
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.worker.guest import wire
from services.worker.sandbox.port import SandboxUnavailable

_log = logging.getLogger(__name__)
_PROGRAM = Path(__file__).resolve().parent.parent / "guest" / "zygote.py"
_NO_PROCESS = 0  # as the kernel has it in a descriptor of a process outside our pid namespace
_ASK = "import sys, json; print(json.dumps([sys.base_prefix, sys.base_exec_prefix, sys.version_info[:2] >= (3, 8)]))"


@dataclass(slots=True)
class Child:
    """What is known of one forked process."""

    number: int
    handle: int | None = None  # pidfd
    namespace: int | None = None  # its mount namespace, kept so that a later process can join it
    ready: bool = False
    doomed: bool = False  # to be killed as soon as its handle is known
    status: int | None = None  # wait status, once it has ended
    on_change: Callable[[Child], None] | None = None  # called once it is ready, and once it has ended
    _pid: int | None = None

    @property
    def pid(self) -> int | None:
        """Its process id as this machine counts; None: not known yet, or any more."""
        if self._pid is None and self.handle is not None:
            found = _pid_of(self.handle)
            self._pid = found if found > 0 else None
        return self._pid

    def kill(self) -> None:
        """Kill it, and with it everything in its pid namespace."""
        if self.status is not None:
            return
        if self.handle is None:
            self.doomed = True
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.handle, signal.SIGKILL)

    def forget(self) -> tuple[int | None, int | None]:
        """Hand out the descriptors, to be closed; the mount namespace, and with it /tmp, goes when nothing holds it."""
        descriptors = self.handle, self.namespace
        self.handle = self.namespace = None
        return descriptors


class Control:
    """The line to a process that forks: orders out, news of the children in."""

    def __init__(self, on_lost: Callable[[Control], None]) -> None:
        """`on_lost` is called when the process has ended without being asked to; its children have been killed."""
        self._on_lost = on_lost
        self._socket: socket.socket | None = None
        self._next = 0
        self._closed = False
        self._backlog: list[tuple[bytes, list[int]]] = []
        self.children: dict[int, Child] = {}

    @property
    def closed(self) -> bool:
        """Whether nothing can be ordered any more."""
        return self._closed

    def attach(self, control: socket.socket) -> None:
        """Speak over this socket from now on; it is closed with the line."""
        control.setblocking(False)
        self._socket = control
        asyncio.get_running_loop().add_reader(control.fileno(), self._readable)
        self._flush()

    def order(self, kind: int, value: int, text: bytes, descriptors: Sequence[int]) -> Child:
        """Order one child by a note as guest/wire.py has them. While the process is being replaced, orders wait for the
        next one. Raises ConnectionError where there will be none."""
        if self._closed:
            raise ConnectionError("the zygote is closed")
        self._next += 1
        child = Child(self._next)
        self.children[child.number] = child
        data = wire.NOTE.pack(kind, child.number, value) + text
        if self._socket is None or self._backlog or not self._sent(self._socket, data, descriptors):
            self._backlog.append((data, [os.dup(number) for number in descriptors]))
            self._flush()
        return child

    def _sent(self, control: socket.socket, message: bytes, descriptors: Sequence[int]) -> bool:
        """Send now; False: the socket takes nothing at the moment."""
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        try:
            control.sendmsg([message], ancillary)
        except BlockingIOError:
            return False
        except OSError:
            pass  # it has ended; what was ordered is told so when the socket reports it
        return True

    def _flush(self) -> None:
        control = self._socket
        while self._backlog and control is not None:
            message, descriptors = self._backlog[0]
            if not self._sent(control, message, descriptors):
                asyncio.get_running_loop().add_writer(control.fileno(), self._flush)
                return
            del self._backlog[0]
            for descriptor in descriptors:
                os.close(descriptor)
        if control is not None:
            asyncio.get_running_loop().remove_writer(control.fileno())

    def _readable(self) -> None:
        control = self._socket
        for _ in range(64):
            if control is None or control.fileno() < 0:
                return
            try:
                data, descriptors, _, _ = socket.recv_fds(control, 65536, 4, socket.MSG_CMSG_CLOEXEC)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                data, descriptors = b"", []
            if not data:
                self._lost()
                return
            self._heard(data, descriptors)

    def _heard(self, data: bytes, descriptors: list[int]) -> None:
        kind, number, value = wire.NOTE.unpack_from(data)
        self._note(kind, number, value, data[wire.NOTE.size :], descriptors)

    def _note(self, kind: int, number: int, value: int, text: bytes, descriptors: list[int]) -> None:
        child = self.children.get(number)
        if child is None or child.status is not None:
            for descriptor in descriptors:
                os.close(descriptor)
            if child is None or kind != wire.ENDED:
                return
        if kind == wire.FORKED:
            child.handle = descriptors[0]
            if child.doomed:
                child.kill()
        elif kind == wire.PREPARED:
            child.namespace = descriptors[0] if descriptors else None
            child.ready = True
            if child.on_change is not None:
                child.on_change(child)
        elif kind == wire.ENDED:
            if text:
                _log.error("sandbox not forked", extra={"cause": text.decode(errors="replace")})
            self._ended(child, value)

    def _ended(self, child: Child, status: int) -> None:
        child.status = status
        self.children.pop(child.number, None)
        if child.on_change is not None:
            child.on_change(child)

    def _lost(self) -> None:
        """The process has ended: what it forked is killed through its own handle, whatever it asked the kernel for."""
        self._detach()
        for child in list(self.children.values()):
            child.kill()
            self._ended(child, signal.SIGKILL)
        self._on_lost(self)

    def _detach(self) -> None:
        control, self._socket = self._socket, None
        if control is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(control.fileno())
            loop.remove_writer(control.fileno())
            control.close()
        for _, descriptors in self._backlog:
            for descriptor in descriptors:
                os.close(descriptor)
        self._backlog.clear()

    def hang_up(self) -> None:
        """End the line; the children have been killed, or are in what follows. Harmless when it has ended."""
        self._closed = True
        self._detach()
        for child in list(self.children.values()):
            self._ended(child, signal.SIGKILL)


class Zygote(Control):
    """A zygote of one interpreter at one isolation level."""

    def __init__(self, interpreter: Path, config: dict[str, Any], on_lost: Callable[[Control], None]) -> None:
        super().__init__(on_lost)
        self._interpreter = interpreter
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None
        self._up: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Start the process and wait until it can fork. Raises SandboxUnavailable with what the machine said."""
        loop = asyncio.get_running_loop()
        await self._reap()  # the one before, where this is a second start
        prefix, exec_prefix, new_enough = await loop.run_in_executor(None, _ask, self._interpreter)
        if not new_enough:
            raise SandboxUnavailable(f"the interpreter {self._interpreter} is older than Python 3.8")
        self._spawn(sorted({prefix, exec_prefix}))
        self._up = loop.create_future()
        await self._up

    def _spawn(self, prefixes: list[str]) -> None:
        binary = os.path.dirname(os.path.dirname(os.path.realpath(self._interpreter)))
        config = {**self._config, "prefixes": sorted({*prefixes, binary})}
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [str(self._interpreter), "-I", "-S", str(_PROGRAM), str(theirs.fileno()), json.dumps(config)]
        # Started on the loop's thread: the kernel ends the zygote when the thread that made it ends.
        self._process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], env=_environ(), stdin=subprocess.DEVNULL, start_new_session=True
        )
        theirs.close()
        self.attach(control)

    def fork(self, channel: socket.socket, output: int, groups: list[int], *, calm: bool) -> Child:
        """Order one child; it can be claimed through its channel at once. `calm`: it will hardly be."""
        return self.order(wire.FORK, int(calm), b"", (channel.fileno(), output, *groups))

    def pause(
        self, snapshot: Child, claim: Mapping[str, Any], users: tuple[int, int] | None, channel: socket.socket,
        output: int, bridge: socket.socket, groups: list[int],
    ) -> Child:  # fmt: skip
        """Order a sandbox for what a snapshot forks, which is a child of this zygote; services/worker/guest/pause.py.

        `users`: the snapshot's and the environment's, where sandboxes have users of their own.
        """
        text = json.dumps({"snapshot": snapshot.number, "users": users, "claim": claim}).encode()
        return self.order(wire.PAUSE, -1, text, (channel.fileno(), output, bridge.fileno(), *groups))

    def _note(self, kind: int, number: int, value: int, text: bytes, descriptors: list[int]) -> None:
        if kind not in (wire.UP, wire.FAILED):
            super()._note(kind, number, value, text, descriptors)
        elif self._up is not None and not self._up.done():
            if kind == wire.UP:
                self._up.set_result(None)
            else:
                self._up.set_exception(SandboxUnavailable(text.decode(errors="replace")))

    def _lost(self) -> None:
        if self._up is not None and not self._up.done():
            self._up.set_exception(SandboxUnavailable(f"the zygote of {self._interpreter} ended at start"))
        super()._lost()

    async def close(self) -> None:
        """End the process; its children must have been killed before. Harmless when it has ended."""
        self.hang_up()
        await self._reap()

    async def _reap(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await asyncio.get_running_loop().run_in_executor(None, process.wait)


class SnapshotControl(Control):
    """The line to a snapshot, where a function's code has run: nothing it says is believed."""

    def fork(self, user: int | None, bridge: socket.socket, groups: list[int]) -> Child:
        """Order a copy, which goes into the sandbox at the other end of `bridge` and becomes `user` there."""
        return self.order(wire.FORK, -1 if user is None else user, b"", (bridge.fileno(), *groups))

    def _lost(self) -> None:
        self._closed = True  # there is no next one, for which orders could wait
        super()._lost()

    def _heard(self, data: bytes, descriptors: list[int]) -> None:
        try:
            kind, number, value = wire.NOTE.unpack_from(data)
            child = self.children.get(number)
            sound = kind == wire.ENDED and value in range(1 << 16) and not descriptors
            if kind == wire.FORKED:
                # One whose function's hook fails at once may have ended before this is read.
                sound = len(descriptors) == 1 and _pid_of(descriptors[0]) != _NO_PROCESS
                sound = sound and (child is None or child.handle is None)
        except (struct.error, OSError, ValueError):
            sound = False
        if sound:
            self._note(kind, number, value, data[wire.NOTE.size :], descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)
        self._lost()


def _pid_of(handle: int) -> int:
    """The process behind a descriptor: -1 once it has ended, _NO_PROCESS where there is none that we can see."""
    # A zygote in a user namespace counts processes in its own way; the descriptor says how we count them.
    with open(f"/proc/self/fdinfo/{handle}", encoding="ascii") as file:
        for line in file:
            if line.startswith("Pid:"):
                return int(line.split()[1])
    return _NO_PROCESS


def _environ() -> dict[str, str]:
    # Nothing of the worker's own environment, which holds secrets, may be in a process that user code comes from.
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}


def _ask(interpreter: Path) -> tuple[str, str, bool]:
    try:
        # Not the loop's own way of starting processes: uvloop's forks, which gRPC's threads do not take well.
        out = subprocess.run(
            [str(interpreter), "-I", "-S", "-c", _ASK], env=_environ(), capture_output=True, check=True
        )
        prefix, exec_prefix, new_enough = json.loads(out.stdout)
    except (OSError, subprocess.CalledProcessError, ValueError):
        raise SandboxUnavailable(f"the interpreter {interpreter} does not run; check `interpreters`") from None
    return prefix, exec_prefix, new_enough
