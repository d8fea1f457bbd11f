"""A warmed-up interpreter from which sandboxes are forked: `python -I -S zygote.py FD CONFIG`.

One thread, no buffered output, no logging: whatever it held would exist again in every child. FD is a SOCK_SEQPACKET
socket to the worker for the notes that wire.py lists:

    FORK     with guest end of the channel, write end of the output pipe, then the cgroup.procs files to enter

CONFIG is JSON: level, network (the profile's name), staging (empty folder to build the root on), packages (the worker's
unpacked packages), prefixes (folders that the interpreter needs), folders (others that functions see), mounted (those
that a claim may have mounted, by number), guest (the one that this is in), runtime (folder or null), users [first id,
how many]. The child then waits for a CLAIM frame on its channel:

    {"package": folder name, "opt": folder name or null, "tmp_mb": n, "uid": n or null, "descriptors": n,
     "processes": n or null, "tmp": folder, "task": folder, "layers": folder or null, "joins": bool, "launcher": bool,
     "snapshot": bool, "image": bool, "mounted": {"number": n, "path": place inside, "group": n or null} or null}

`tmp`, `task` and `layers` name host folders and matter where a sandbox has no file system of its own. A claim that
joins brings the mount namespace of a sandbox that has died, so that its /tmp lives on; that of a snapshot brings the
socket on which it is told to fork (snapshot.py). For what it forks, the zygote makes a sandbox (pause.py):

    PAUSE    {"snapshot": its id, "users": [its user, the environment's] or null, "claim": as above} with guest end of
             the channel, write end of the output pipe, one end of a socket to what the snapshot forks, then
             cgroup.procs files; answered as a fork is
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import sys
from typing import Any, Dict, List, Optional, Tuple

_HERE = os.path.dirname(os.path.abspath(__file__))


sys.path.insert(0, _HERE)
_load = importlib.import_module("loading").load
sys.path.pop(0)
del sys.modules["loading"]

# What AWS's own runtime has imported when it imports the handler. Everything else that is warmed up here is dropped
# again where the function brings a module of that name (see runtime.py).
_WARM = """
    json logging datetime decimal traceback re importlib uuid hashlib base64 random math time urllib.parse collections
    functools dataclasses enum typing threading contextlib itertools operator copy string io tempfile calendar locale
    linecache numbers queue types warnings weakref heapq bisect abc inspect
"""
for _name in _WARM.split():
    __import__(_name)
# What AWS's runtime brings along for functions.
_load("bootstraps/python/snapshot_restore_py", "snapshot_restore_py")

# What every sandbox runs comes last, side by side.
packing = _load("packing")
packing.fill()
wire = _load("wire")
kernel = _load("kernel")
image = _load("image")
counts = _load("counts")
roots = _load("roots")
pause = _load("pause")
seccomp = _load("seccomp")
landlock = _load("landlock")
documents = _load("documents")
guestlogs = _load("guestlogs")
runtime = _load("runtime")
launcher = _load("launcher")
snapshot = _load("snapshot")
precompile = _load("precompile")
stage = _load("stage")


_ORDINARY = os.sched_param(0)
_ASIDE = frozenset({"namespaces", "user-namespace"})  # levels with a file system and a process tree of their own
_LOCKED_BYTES = 64 * 1024  # of memory that a function may lock, as on AWS


_CLIENT = os.path.join(_HERE, "client.py")
with open(_CLIENT, encoding="utf-8") as _file:
    _client_code = compile(_file.read(), _CLIENT, "exec")


def load_client() -> Any:
    """The module client.py, compiled here and run where it is needed: the file is out of sight of a sandbox."""
    module = type(sys)("_lambent_client")
    exec(_client_code, module.__dict__)
    return module


class Zygote:
    """The loop that forks, reaps and reports."""

    def __init__(self, control: socket.socket, config: Dict[str, Any]) -> None:
        self.control = control
        self.config = config
        self.isolated = config["level"] in _ASIDE
        self.filter = system_call_filter(config)
        joined = pause.namespaces(config["network"]) if self.isolated else 0
        self.snapshot_filter = system_call_filter(config, joined)
        self.children: Dict[int, int] = {}  # pid → id
        self.packages_flags = kernel.kept_flags(roots.PACKAGES) if self.isolated else 0
        self.own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC) if self.isolated else -1

    def run(self) -> None:
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(self.control.fileno(), select.POLLIN)
        poll.register(wake_read, select.POLLIN)
        going = True
        while going:
            try:
                for descriptor, _ in poll.poll():
                    if descriptor == wake_read:
                        os.read(wake_read, 4096)
                        self.reap()
                    else:
                        going = self.command((wake_read, wake_write))
            except ConnectionError:  # the worker went while it was told something
                going = False
        self.end()

    def reap(self) -> None:
        while self.children:
            try:
                # Looked at before it is reaped: until then its number, and that of its group, is nobody else's.
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            if not self.isolated:
                with contextlib.suppress(OSError):  # nothing is left of the group
                    os.killpg(found.si_pid, signal.SIGKILL)
            pid, status = os.waitpid(found.si_pid, 0)
            number = self.children.pop(pid, None)
            if not self.isolated:
                self.kill_orphans()
            if number is not None:
                self.control.send(wire.NOTE.pack(wire.ENDED, number, status))

    def kill_orphans(self) -> None:
        """Kill what dead sandboxes have left that is in no pid namespace: it has become this process's child."""
        with contextlib.suppress(FileNotFoundError):  # a kernel without such lists
            with open("/proc/self/task/%d/children" % os.getpid(), encoding="ascii") as file:
                found = [int(text) for text in file.read().split()]
            for pid in found:
                if pid not in self.children:
                    os.kill(pid, signal.SIGKILL)  # its number is its own until it is waited for

    def end(self) -> None:
        """The worker is gone: so is everything that came from here, and what that has left in turn."""
        for pid in self.children:
            os.kill(pid, signal.SIGKILL)
        self.children.clear()
        with contextlib.suppress(ChildProcessError):
            while True:
                if not self.isolated:
                    self.kill_orphans()
                os.waitpid(-1, 0)

    def command(self, wake: Tuple[int, int]) -> bool:
        data, descriptors = kernel.receive(self.control, 65536)
        if not data:
            return False  # the worker is gone
        kind, number, value = wire.NOTE.unpack_from(data)
        try:
            if kind == wire.PAUSE:
                message = json.loads(data[wire.NOTE.size :])
                of = next((pid for pid, known in self.children.items() if known == message["snapshot"]), None)
                if of is None:
                    raise OSError("the snapshot has ended")
                pid = pause.fork(self, of, message, descriptors)
            else:
                pid = self.fork(number, descriptors, wake, value > 0)
        except OSError as error:
            self.control.send(wire.NOTE.pack(wire.ENDED, number, 1 << 8) + str(error).encode())
        else:
            self.children[pid] = number
            handle = kernel.pidfd_open(pid)
            kernel.send(self.control, wire.NOTE.pack(wire.FORKED, number, 0), (handle,))
            os.close(handle)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def fork(self, number: int, descriptors: List[int], wake: Tuple[int, int], calm: bool) -> int:
        if self.isolated:
            # The next child starts a pid namespace as its first process, without a fork of its own.
            kernel.unshare(kernel.CLONE_NEWPID)
        pid: int = -1
        try:
            pid = kernel.fork()
            if pid < 0:
                raise OSError("fork: no process can be had")
        finally:
            if pid != 0 and self.isolated:
                kernel.setns(self.own_pids, kernel.CLONE_NEWPID)
        if pid != 0:
            return pid
        code = 1
        try:
            kernel.default_signals()
            for descriptor in wake:
                os.close(descriptor)
            if self.own_pids >= 0:
                os.close(self.own_pids)
            code = Stem(self, number, descriptors, calm).run()
        except BaseException:
            runtime.report_crash()
        finally:
            os._exit(code)
        return 0


class Stem:
    """A child that has done all it can before it knows whose sandbox it will be."""

    def __init__(self, zygote: Zygote, number: int, descriptors: List[int], calm: bool) -> None:
        self.control = zygote.control
        self.calm = calm
        self.config = zygote.config
        self.filter = zygote.filter
        self.snapshot_filter = zygote.snapshot_filter
        self.number = number
        self.isolated = zygote.isolated
        self.packages_flags = zygote.packages_flags
        self.rules: Any = None  # Landlock's, at the level that has them
        channel, self.output = descriptors[:2]
        self.groups = descriptors[2:]
        self.channel = kernel.stream_socket(channel)

    def run(self) -> int:
        os.dup2(self.output, 1)
        os.dup2(self.output, 2)
        os.close(self.output)
        for group in self.groups:
            os.write(group, b"0")
            os.close(group)
        if self.isolated:
            network = self.config["network"]
            apart = kernel.CLONE_NEWNS | kernel.CLONE_NEWIPC
            kernel.unshare(apart if network == "full" else apart | kernel.CLONE_NEWNET)
            if network == "loopback":
                kernel.raise_loopback()
            roots.mount_proc()
            namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            kernel.send(self.control, wire.NOTE.pack(wire.PREPARED, self.number, 0), (namespace,))
            os.close(namespace)
        else:
            os.setsid()
            kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)  # nothing that it starts is out of sight while it lives
            if self.config["level"] == "landlock":
                self.rules = landlock.Ruleset()
                seen = [*self.config["prefixes"], *self.config["folders"]]
                self.rules.read(roots.readable(seen))
                self.rules.read(filter(None, (self.config["guest"], self.config["runtime"])))
                self.rules.write(roots.devices())
            self.control.send(wire.NOTE.pack(wire.PREPARED, self.number, 0))
        self.control.close()
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        if self.calm and runtime._server.image is not None:
            runtime._server.image.copy_ahead()
        claim = self.await_claim()
        if claim is None:
            return 0
        self.settle(claim)
        code: int
        if claim["launcher"]:
            code = launcher.serve(self.channel, load_client)
        elif claim["snapshot"]:
            code = snapshot.serve(self.channel, claim["brought"], pause.namespaces(self.config["network"]), self.filter)
        else:
            code = runtime.serve(self.channel)
        return code

    def await_claim(self) -> Optional[Dict[str, Any]]:
        head = b""
        descriptors: List[int] = []
        while len(head) < wire.HEAD.size:
            data, more = kernel.receive(self.channel, wire.HEAD.size - len(head))
            if not data:
                return None
            head += data
            descriptors += more
        kind, length, _ = wire.HEAD.unpack(head)
        body = b""
        while len(body) < length:
            data = self.channel.recv(length - len(body))
            if not data:
                return None
            body += data
        if kind != wire.CLAIM:
            return None
        claim: Dict[str, Any] = documents.parse(body)
        brought = descriptors[0] if descriptors else None
        claim["namespace"] = brought if claim["joins"] else None
        claim["brought"] = brought
        return claim

    def settle(self, claim: Dict[str, Any]) -> None:
        """Become the sandbox that the claim describes, and lose every right to be another."""
        limit = claim["descriptors"]
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        if self.isolated:
            self.settle_aside(claim)
        else:
            os.environ["TMPDIR"] = claim["tmp"]
            os.chdir(claim["task"])
        kernel.drop_capabilities()
        if self.rules is not None:
            self.rules.read(filter(None, (claim["task"], claim["layers"])))
            self.rules.write([claim["tmp"]])
            self.rules.restrict()
        # The kernel forgets these two whenever the user changes.
        kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        kernel.install(self.snapshot_filter if claim["snapshot"] else self.filter)

    def settle_aside(self, claim: Dict[str, Any]) -> None:
        """The file system and the user of a sandbox that has its own."""
        fresh = claim["namespace"] is None
        if not fresh:
            kernel.setns(claim["namespace"], kernel.CLONE_NEWNS)
            os.close(claim["namespace"])
            kernel.unmount("/proc")
            roots.mount_proc()
            fresh = os.path.ismount(roots.PACKAGES)  # its process ended before it had settled
        if fresh:
            roots.furnish(self.config, claim, self.packages_flags)
        os.chdir("/" if claim["image"] else "/var/task")
        uid = claim["uid"]
        if uid is not None:
            most = claim["processes"]
            if most is not None:
                # Counted for the user, which is this sandbox's own, unless another worker here uses the same ids: no
                # control group would count those.
                resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
            group = uid
            if claim["mounted"] is not None and claim["mounted"]["group"] is not None:
                # What one environment writes there, others may change that are not the same user.
                group = claim["mounted"]["group"]
                os.umask(0o002)
            os.setresgid(group, group, group)
            os.setresuid(uid, uid, uid)


def system_call_filter(config: Dict[str, Any], joined: int = 0) -> Any:
    """What every sandbox puts on itself last. `joined`: as in seccomp.py, for a snapshot. Raises OSError."""
    families, isolated = seccomp.FAMILIES, config["level"] in _ASIDE
    if config["level"] == "landlock":
        # Landlock has no say about connecting to the socket files of others, the platform's among them.
        families = tuple(family for family in families if family != seccomp.UNIX)
    if config["network"] == "none" and not isolated:
        families = tuple(family for family in families if family not in (seccomp.INET, seccomp.INET6))
    machine = os.uname().machine
    try:
        instructions = seccomp.program(machine, families=families, apart=isolated, joined=joined)
    except KeyError:
        raise OSError("system calls of %s processors are not known to the filter" % machine) from None
    return kernel.seccomp_filter(instructions)


def renounce(config: Dict[str, Any]) -> None:
    """What every sandbox gives up and its zygote can do without: done once, it is nothing to do for each of them."""
    if config["level"] in _ASIDE:
        kernel.unshare(kernel.CLONE_NEWUTS)
        socket.sethostname("lambent")
    if config["level"] == "namespaces":
        os.setgroups([])
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.drop_bounding_set()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (_LOCKED_BYTES, _LOCKED_BYTES))
    # A function that is woken waits its turn like any other, but does not throw the worker that woke it off its core:
    # the worker then wakes all that it has work for in one go. A tenth of an invocation's processor time. Nor does the
    # zygote throw off whoever wanted another sandbox.
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, _ORDINARY)
    if os.getpriority(os.PRIO_PROCESS, 0) < 0:
        os.setpriority(os.PRIO_PROCESS, 0, 0)  # the worker's precedence is not the functions'


def main() -> int:
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    config: Dict[str, Any] = json.loads(sys.argv[2])
    if config["level"] in _ASIDE:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)  # it outlives its worker for as long as it takes to end the rest
    # Nobody else may read or trace the process that every sandbox comes from.
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0 if config["level"] == "namespaces" else 1)
    os.umask(0o022)
    sys.executable = os.path.realpath(sys.executable)
    sys.argv[:] = [""]
    made = image.make()
    played = stage.Stage(os.path.dirname(config["staging"]))
    try:
        if config["level"] == "user-namespace":
            inner = roots.enter_user_namespace()
            if inner:
                control.close()
                _, status = os.waitpid(inner, 0)
                return 0 if status == 0 else 1
            kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        if config["level"] in _ASIDE:
            roots.enter_root(config)
        elif config["level"] == "landlock" and landlock.version() < landlock.LEAST:
            raise OSError("needs Landlock in version %d (Linux 6.2)" % landlock.LEAST)
        renounce(config)
        zygote = Zygote(control, config)
    except OSError as error:
        control.send(wire.NOTE.pack(wire.FAILED, 0, 0) + str(error).encode())
        played.close()
        return 1
    packing.forget()
    played.rehearse()
    gc.collect()
    gc.disable()
    counts.settle()
    packing.fill()
    gc.freeze()
    if made is not None:
        runtime._server.image = made
        with contextlib.suppress(OSError):  # an image that was laid before does as well
            made.lay(large=False)
            played.show(made)
    played.close()
    if made is not None:
        with contextlib.suppress(OSError):
            made.lay()  # without the traces of that
    control.send(wire.NOTE.pack(wire.UP, 0, 0))
    zygote.run()
    return 0


if __name__ == "__main__":
    os._exit(main())
