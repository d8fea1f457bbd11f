"""The attacks of the escape suite, as a function's code: each answers None where it got nowhere, else what it got.

Runs inside sandboxes, so it stands alone. The event names the attacks and what an attacker could know:
{"attacks": [...], "pids": [...], "files": [...], "sockets": [...], "folders": [...], "groups": [...]}.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

SECRET = "a secret that nobody else may read"
os.environ["ATTACKED"] = SECRET
held = SECRET * 2  # in this process's memory
_libc = ctypes.CDLL(None, use_errno=True)


def handler(event: dict[str, Any], context: Any) -> dict[str, str | None]:
    return {name: attempt(globals()[name], event) for name in event["attacks"]}


def attempt(attack: Callable[[dict[str, Any]], str | None], event: dict[str, Any]) -> str | None:
    try:
        return attack(event)
    except OSError:
        return None


def first(attempts: list[Callable[[], Any]]) -> str | None:
    """The first of some attempts that does not fail."""
    for number, work in enumerate(attempts):
        try:
            got = work()
        except OSError:
            continue
        return f"attempt {number}: {got!r}"
    return None


def each(items: Iterable[Any], work: Callable[[Any], Any]) -> str | None:
    """The first of some things with which something can be done."""
    return first([partial(work, item) for item in items])


def call(name: str, *arguments: object) -> int:
    """A function of the C library; raises OSError where it answers -1."""
    ctypes.set_errno(0)
    result: int = getattr(_libc, name)(*arguments)
    if result == -1:
        raise OSError(ctypes.get_errno(), name)
    return result


def others(event: dict[str, Any]) -> list[int]:
    """Processes that are not ours: those that are known, and those that can be seen."""
    seen = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    # In a sandbox with a process tree of its own, the first one is its own, too.
    mine = {os.getpid(), os.getppid(), 1} if os.getppid() == 0 else {os.getpid()}
    return [pid for pid in dict.fromkeys([*event["pids"], *seen]) if pid not in mine and os.path.exists(f"/proc/{pid}")]


def read(path: str) -> str:
    with open(path, "rb") as file:
        return repr(file.read(64))


def memory(event: dict[str, Any]) -> str | None:
    return each(others(event), lambda pid: open(f"/proc/{pid}/mem", "rb").close())


def shared_memory(event: dict[str, Any]) -> str | None:
    """Every way that leads from a mapping back to what others see of it."""
    with open("/proc/self/maps", encoding="utf-8") as file:
        shown = [line.split() for line in file if "memfd:lambent" in line and " r--s " in line]
    if len(shown) != 1:
        return f"the zygote's memory is no image here: {shown}"
    place = shown[0][0]
    start, end = (int(text, 16) for text in place.split("-"))
    address, size, both = ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.PROT_READ | mmap.PROT_WRITE

    def by_file() -> int:
        descriptor = os.open("/proc/self/mem", os.O_RDWR)
        return os.pwrite(descriptor, b"attacked", start)

    def again() -> int:
        _libc.mremap.restype = ctypes.c_void_p
        second = _libc.mremap(address, ctypes.c_size_t(0), size, 1)  # MREMAP_MAYMOVE
        return call("mprotect", ctypes.c_void_p(second), size, both)

    return first([
        lambda: call("mprotect", address, size, both),
        by_file,
        again,
        lambda: os.open(f"/proc/self/map_files/{place}", os.O_RDWR),
    ])  # fmt: skip


def variables(event: dict[str, Any]) -> str | None:
    return each(others(event), lambda pid: read(f"/proc/{pid}/environ"))


def files(event: dict[str, Any]) -> str | None:
    return each(event["folders"], lambda path: os.listdir(path))


def platform_files(event: dict[str, Any]) -> str | None:
    return each([*event["files"], "/etc/shadow"], lambda path: read(path))


def platform_sockets(event: dict[str, Any]) -> str | None:
    return each(event["sockets"], lambda path: socket.socket(socket.AF_UNIX).connect(path))


def packages(event: dict[str, Any]) -> str | None:
    root = os.environ["LAMBDA_TASK_ROOT"]
    return first(
        [
            lambda: open(f"{root}/new", "w").close(),
            lambda: os.rename(f"{root}/attacks.py", f"{root}/gone.py"),
            lambda: os.listdir("/run/lambent/packages")[0] if os.listdir("/run/lambent/packages") else os.stat("/none"),
        ]
    )


def system_files(event: dict[str, Any]) -> str | None:
    places = ["/", "/usr", "/etc", "/var", "/var/task", "/opt", "/dev", "/run", "/root", "/dev/shm", "/proc/sys/kernel"]
    return each(places, lambda place: open(f"{place}/lambent-attack", "w").close())


def siblings(event: dict[str, Any]) -> str | None:
    return each(others(event), lambda pid: os.kill(pid, signal.SIGKILL))


def devices(event: dict[str, Any]) -> str | None:
    names = ["mem", "kmsg", "port", "vda", "sda", "nvme0n1", "kvm", "fuse", "net/tun", "loop-control", "tty", "ptmx"]
    paths = [f"/dev/{name}" for name in names] + [
        "/proc/kcore",
        "/proc/kmsg",
        "/proc/sysrq-trigger",
        "/proc/timer_list",
    ]
    got = [path for path in paths if each([path], lambda path: os.open(path, os.O_RDWR)) is not None]
    # What is masked is `null`, which takes everything and gives nothing.
    return next((path for path in got if os.stat(path).st_rdev != os.makedev(1, 3)), None)


def groups(event: dict[str, Any]) -> str | None:
    return each(event["groups"], lambda path: open(path, "w").write("-1"))


def others_limits(event: dict[str, Any]) -> str | None:
    return each(others(event), lambda pid: resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0)))


def own_limits(event: dict[str, Any]) -> str | None:
    def raised(which: int) -> None:
        soft, hard = resource.getrlimit(which)
        try:
            resource.setrlimit(which, (soft, hard + 1))
        except ValueError as error:
            raise PermissionError from error

    names = ("NOFILE", "CORE", "MEMLOCK")
    return each(names, lambda name: raised(getattr(resource, f"RLIMIT_{name}")))


def trace(event: dict[str, Any]) -> str | None:
    victim = subprocess.Popen(["/bin/sleep", "30"])
    try:
        piece = ctypes.create_string_buffer(8)
        vector = (ctypes.c_size_t * 2)(ctypes.addressof(piece), 8)
        handle = os.pidfd_open(victim.pid)
        return first(
            [
                lambda: call("ptrace", 16, victim.pid, None, None),  # PTRACE_ATTACH
                lambda: call("process_vm_readv", victim.pid, vector, 1, vector, 1, 0),
                lambda: call("syscall", 438, handle, 0, 0),  # pidfd_getfd
            ]
        )
    finally:
        victim.kill()
        victim.wait()


def mount(event: dict[str, Any]) -> str | None:
    return first(
        [
            lambda: call("mount", b"tmpfs", b"/tmp", b"tmpfs", 0, None),
            lambda: call("mount", b"none", b"/", None, 32 | 4096, None),  # everything writable again
            lambda: call("umount2", b"/proc/sys", 2),
            lambda: call("umount2", b"/var/task", 2),
            lambda: call("syscall", 430, b"tmpfs", 0),  # fsopen
            lambda: call("syscall", 428, -100, b"/", 1),  # open_tree
            lambda: call("chroot", b"/tmp"),
        ]
    )


def new_namespaces(event: dict[str, Any]) -> str | None:
    kinds = [0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000]
    handle = os.pidfd_open(os.getpid())
    clone = 56 if os.uname().machine == "x86_64" else 220

    def cloned(flags: int) -> int:
        pid = call("syscall", clone, flags | signal.SIGCHLD, 0, 0, 0, 0)
        if pid == 0:
            os._exit(0)
        return os.waitpid(pid, 0)[0]

    return first(
        [
            *(partial(call, "unshare", kind) for kind in kinds),
            *(partial(cloned, kind) for kind in kinds),
            lambda: cloned3(0x10000000),
            lambda: call("setns", handle, 0x10000000),
        ]
    )


def cloned3(flags: int) -> int:
    arguments = (ctypes.c_uint64 * 8)(flags, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)
    pid = call("syscall", 435, arguments, ctypes.sizeof(arguments))
    if pid == 0:
        os._exit(0)
    return os.waitpid(pid, 0)[0]


def kernel(event: dict[str, Any]) -> str | None:
    other = os.uname().machine == "x86_64"
    block = ctypes.create_string_buffer(256)
    return first(
        [
            lambda: call("syscall", 321 if other else 280, 5, block, 120),  # bpf
            lambda: call("syscall", 425, 8, block),  # io_uring_setup
            lambda: call("syscall", 323 if other else 282, 1),  # userfaultfd, of user faults alone
            lambda: call("syscall", 248 if other else 217, b"user", b"name", b"x", 1, -3),  # add_key
            lambda: call("syscall", 298 if other else 241, block, 0, -1, -1, 0),  # perf_event_open
            lambda: call("syscall", 313 if other else 273, 0, b"", 0),  # finit_module
            lambda: call("syscall", 169 if other else 142, 0xFEE1DEAD, 672274793, 0),  # reboot, with nothing to do
            lambda: call("personality", 0x0040000),  # no randomness of addresses
            lambda: call("syscall", 304 if other else 265, -100, block, 0),  # open_by_handle_at
        ]
    )


def raw_sockets(event: dict[str, Any]) -> str | None:
    wanted = [(2, 3, 1), (10, 3, 58), (17, 3, 768), (38, 5, 0), (40, 1, 0), (29, 3, 1), (21, 5, 0), (30, 5, 0)]
    return each(wanted, lambda one: socket.socket(*one))


def device_nodes(event: dict[str, Any]) -> str | None:
    folder = os.environ.get("TMPDIR", "/tmp")
    return first(
        [
            lambda: os.mknod(f"{folder}/memory", 0o20600, os.makedev(1, 1)),
            lambda: os.mknod(f"{folder}/disk", 0o60600, os.makedev(8, 0)),
        ]
    )


def privileges(event: dict[str, Any]) -> str | None:
    with open("/proc/self/status", encoding="ascii") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file)
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        if int(status[name], 16) and not (name == "CapBnd" and os.getuid()):
            return f"{name} {status[name]}"
    if (status["NoNewPrivs"], status["Seccomp"]) != ("1", "2"):
        return f"no new privileges {status['NoNewPrivs']}, seccomp {status['Seccomp']}"
    user = os.getuid()
    for program in ("/bin/su", "/usr/bin/su", "/usr/bin/mount", "/usr/bin/passwd", "/usr/bin/newgrp"):
        if os.path.exists(program) and os.stat(program).st_mode & 0o4000 and user:
            flags = os.statvfs(program).f_flag
            if not flags & os.ST_NOSUID and os.getpid() == 1:
                return f"{program} is on a mount that heeds setuid"
    return None


def lasting_ipc(event: dict[str, Any]) -> str | None:
    if os.readlink("/proc/self/ns/ipc") != event["ipc"]:
        return None  # it goes with the sandbox
    return first([lambda: call("shmget", 0, 4096, 0o1600), lambda: call("msgget", 0, 0o1600)])


def memory_hog(event: dict[str, Any]) -> str | None:
    kept = []
    for _ in range(1000):
        kept.append(b"x" * (4 << 20))
        time.sleep(0.001)
    return f"{len(kept) * 4} MB"


def fork_bomb(event: dict[str, Any]) -> str | None:
    """Answers once it is refused; where nothing refuses, it is killed."""
    children = []
    try:
        for _ in range(4 * event["processes"]):
            pid = os.fork()
            if pid == 0:
                signal.pause()
                os._exit(0)
            children.append(pid)
        time.sleep(1.0)
        return f"{len(children)} processes"
    except OSError:
        return None if len(children) < event["processes"] else f"{len(children)} processes"
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        for pid in children:
            os.waitpid(pid, 0)


def tmp_hog(event: dict[str, Any]) -> str | None:
    path = os.path.join(os.environ.get("TMPDIR", "/tmp"), "large")
    with open(path, "wb", buffering=0) as file:
        try:
            for _ in range(event["tmp_mb"]):
                file.write(b"x" * (1 << 20))
            file.write(b"x")
        except OSError:
            return None
        finally:
            os.unlink(path)
    return f"more than {event['tmp_mb']} MB"


def orphan(event: dict[str, Any]) -> str | None:
    """Leaves a process that has nothing to do with this one any more; whether it lives on is for others to see."""
    if os.fork() == 0:
        os.setsid()
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGCONT):
            signal.signal(number, signal.SIG_IGN)
        if os.fork() == 0:
            os.closerange(3, 256)
            os.execv("/bin/sleep", ["sleep", event["mark"]])
        os._exit(0)
    os.wait()
    sys.stdout.flush()
    return None
