"""The snapshot of a function: a sandbox whose init phase has ended and which forks instead of serving.

What it forks goes on in a sandbox of its own (pause.py) and is told there whose environment it is. Commands come on a
SOCK_SEQPACKET socket, as the notes that wire.py lists: FORK, with one end of a socket to the process that pauses, then
cgroup.procs files; answered by FORKED and ENDED.

What the init phase leaves behind is looked at before anything is forked: a thread would be missing in every copy; a
socket, a file position or a mapping would be one and the same in all of them.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import random
import resource
import select
import shutil
import signal
import socket
import struct
import sys
import threading
from typing import Any, Dict, List, Optional

wire: Any = importlib.import_module("_lambent_wire")
kernel: Any = importlib.import_module("_lambent_kernel")
runtime: Any = importlib.import_module("_lambent_runtime")

_HOOKS = "snapshot_restore_py"
_SPARE = 16 << 20  # bytes that a snapshot's limit of memory leaves when there is an image of it
_BIRTH = struct.Struct("<iq")  # id, pid
# Devices without a state: to share one open is to share nothing.
_DEVICES = frozenset({"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"})


def unshareable(own: List[int]) -> Optional[str]:
    """Why this process cannot be forked into environments: a reason, a colon and what was found; None: it can.

    `own`: descriptors that are not the function's.
    """
    tasks = len(os.listdir("/proc/self/task"))
    if tasks > 1:
        names = sorted(thread.name for thread in threading.enumerate() if thread is not threading.main_thread())
        return "Threads: %d beside the main one%s" % (tasks - 1, " (%s)" % ", ".join(names) if names else "")
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return "ChildProcesses: the init phase has started one"
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink("/proc/self/fd/" + name)
        except OSError:
            continue  # the one that lists them
        if int(name) in own or target in _DEVICES or os.path.isdir(target):
            continue
        if target.startswith("socket:"):
            return "OpenSockets: descriptor %s" % name
        return "OpenFiles: descriptor %s, %s" % (name, target)
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        for line in file:
            fields = line.split(None, 5)
            if "w" in fields[1] and "s" in fields[1]:
                return "SharedMemory: %s" % (fields[5].strip() if len(fields) > 5 else "anonymous")
    return None


def reseed() -> None:
    """New states for what must not be the same in two environments."""
    random.seed()
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()
    ssl = sys.modules.get("ssl")
    if ssl is not None:
        ssl.RAND_add(os.urandom(32), 32.0)
    uuid: Any = sys.modules.get("uuid")
    if uuid is not None:
        uuid._last_timestamp = None
    tempfile: Any = sys.modules.get("tempfile")
    if tempfile is not None:
        tempfile._name_sequence = None  # names of files are drawn from a generator of its own


def _hooks(getter: str, kind: str, latest_first: bool = False) -> None:
    """Call what the function has registered; what it raises becomes AWS's error of that kind."""
    module = sys.modules.get(_HOOKS)
    registered = list(getattr(module, getter, list)())
    for function, arguments, named in reversed(registered) if latest_first else registered:
        try:
            function(*arguments, **named)
        except Exception as error:
            _, text, trace = runtime.describe(error)
            raise runtime.Fault(kind, text, trace) from error


class Snapshot:
    """The process that forks."""

    def __init__(self, commands: int, joined: int, last_filter: Any) -> None:
        """`commands`: the socket; `joined`: the namespaces that a copy enters; `last_filter`: what it then puts on."""
        self.server = runtime._server
        self.commands = socket.socket(fileno=commands)
        self.joined = joined
        self.filter = last_filter
        self.births = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.forked: Dict[int, int] = {}  # pid → id
        self.midwives: Dict[int, int] = {}  # pid of what forks the copy → id
        self.ended: Dict[int, int] = {}  # pid → wait status, of those whose birth is not known yet

    def run(self) -> int:
        """Serve until the worker is gone; answers the exit status."""
        frame = self.server.read()
        if frame is None:
            return 0
        if not self.prepare(json.loads(frame[1])):
            return 1
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.wake[1], warn_on_full_buffer=False)
        poll = select.poll()
        for descriptor in (self.server.channel.fileno(), self.commands.fileno(), self.births[0], self.wake[0]):
            poll.register(descriptor, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == self.commands.fileno():
                    if not self.command():
                        return 0
                elif descriptor == self.server.channel.fileno():
                    return 0  # nothing comes there any more but its end
                elif descriptor == self.births[0]:
                    self.hear_births()
                else:
                    os.read(self.wake[0], 4096)
                    self.reap()

    def prepare(self, task: Dict[str, Any]) -> bool:
        """The init phase, and what comes before a snapshot."""
        server = self.server
        if not server.load(task):
            return False
        try:
            _hooks("get_before_snapshot", "Runtime.BeforeSnapshotError", latest_first=True)
        except Exception as error:
            server.refuse(error)
            return False
        gc.collect()
        own = [0, 1, 2, server.channel.fileno(), self.commands.fileno(), *self.births, *self.wake]
        reason = unshareable(own)
        if reason is not None:
            server.send(wire.UNSHAREABLE, reason.encode("utf-8", "replace")[:1024], b"")
            return False
        gc.freeze()
        self.lay_image()
        server.send(wire.READY, b"", b"")
        return True

    def lay_image(self) -> None:
        """Have copies share this process's memory as sandboxes share the zygote's, where its limit has room for twice
        as much."""
        image = self.server.image
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
        if image is not None:
            with contextlib.suppress(OSError):
                image.lay((int(self.server.static["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]) << 20) - used - _SPARE)

    def command(self) -> bool:
        data, descriptors = kernel.receive(self.commands, 65536)
        if not data:
            return False
        _, number, user = wire.NOTE.unpack_from(data)
        pid = kernel.fork()
        if pid == 0:
            code = 1
            try:
                self.become(number, None if user < 0 else user, descriptors)
                code = runtime.ended(self.server.run)
            except BaseException:
                runtime.report_crash()
            finally:
                os._exit(code)
        for descriptor in descriptors:
            os.close(descriptor)
        if pid < 0:
            self.commands.send(wire.NOTE.pack(wire.ENDED, number, 1 << 8) + b"fork: no process can be had")
        else:
            self.midwives[pid] = number
        return True

    def hear_births(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                number, pid = _BIRTH.unpack(os.read(self.births[0], _BIRTH.size))
                self.forked[pid] = number
                if pid in self.ended:
                    self.report(pid, self.ended.pop(pid))

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            number = self.midwives.pop(pid, None)
            if number is None:
                self.hear_births()
                self.report(pid, status)
            elif status:
                self.commands.send(wire.NOTE.pack(wire.ENDED, number, status) + b"the snapshot cannot be restored")

    def report(self, pid: int, status: int) -> None:
        number = self.forked.pop(pid, None)
        if number is None:
            self.ended[pid] = status
        else:
            self.commands.send(wire.NOTE.pack(wire.ENDED, number, status))

    # In the process that is forked

    def become(self, number: int, user: Optional[int], descriptors: List[int]) -> None:
        """Leave for the sandbox that was made for this copy; returns in the process that is to serve there."""
        kernel.default_signals()
        bridge, *groups = descriptors
        for group in groups:
            os.write(group, b"0")
            os.close(group)
        peer = socket.socket(fileno=bridge)
        data, received = kernel.receive(peer, 16)
        if data != b"enter":
            raise OSError("the sandbox to restore into has ended")
        target, channel, output = received
        files = os.open("/tmp", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        kernel.setns(target, self.joined)
        os.chdir("/var/task")
        pid = os.fork()
        if pid:
            self.commands.setblocking(True)
            handle = kernel.pidfd_open(pid)
            kernel.send(self.commands, wire.NOTE.pack(wire.FORKED, number, 0), (handle,))
            os.write(self.births[1], _BIRTH.pack(number, pid))
            os._exit(0)
        copy_files(files, user)
        if user is not None:
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
        kernel.drop_bounding_set()
        kernel.drop_capabilities()
        kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
        kernel.install(self.filter)
        os.dup2(output, 1)
        os.dup2(output, 2)
        peer.close()
        self.commands.close()
        self.server.channel.close()
        for descriptor in (target, output, files, *self.births, *self.wake):
            os.close(descriptor)
        self.server.channel = kernel.stream_socket(channel)
        self.server.restore = self.restore

    def restore(self, task: Dict[str, Any]) -> bool:
        """An environment's own begins: variables, random states, the function's hooks."""
        self.server.take_environ(task["environ"])
        reseed()
        try:
            _hooks("get_after_restore", "Runtime.AfterRestoreError")
        except Exception as error:
            self.server.refuse(error)
            return False
        self.server.send(wire.READY, b"", b"")
        return True


def copy_files(folder: int, user: Optional[int]) -> None:
    """Fill /tmp with what the init phase has left in the snapshot's: folders, files and links, nothing else."""
    for name in os.listdir(folder):
        source, place = "/proc/self/fd/%d/%s" % (folder, name), "/tmp/" + name
        if os.path.isdir(source) and not os.path.islink(source):
            shutil.copytree(source, place, symlinks=True, copy_function=_copy_file)
        else:
            _copy_file(source, place)
    if user is not None:
        for path, folders, files in os.walk("/tmp"):
            for name in folders + files:
                os.chown(os.path.join(path, name), user, user, follow_symlinks=False)


def _copy_file(source: str, place: str) -> None:
    if os.path.islink(source) or os.path.isfile(source):
        shutil.copy2(source, place, follow_symlinks=False)


def serve(channel: socket.socket, commands: int, joined: int, last_filter: Any) -> int:
    """Serve as a function's snapshot until the worker is gone; answers the exit status."""
    snapshot = Snapshot(commands, joined, last_filter)
    snapshot.server.channel = channel
    code: int = runtime.ended(snapshot.run)
    return code
