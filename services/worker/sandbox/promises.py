"""What each isolation level withstands: one table, which docs/reference/isolation.md shows and the escape suite tries.

A level that is not named in a row does not withstand what the row says. The suite runs an attack at every level that
claims to withstand it, and knows no attack that has no row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PROCESS, LANDLOCK, USER_NAMESPACE, NAMESPACES = "process", "landlock", "user-namespace", "namespaces"
LEVELS = (PROCESS, LANDLOCK, USER_NAMESPACE, NAMESPACES)  # weakest first
ASIDE = frozenset({USER_NAMESPACE, NAMESPACES})  # levels with a file system and a process tree of their own

_ALL = frozenset(LEVELS)
_CONFINED = _ALL - {PROCESS}


@dataclass(frozen=True, slots=True)
class Promise:
    """One row."""

    attack: str  # what the function tries
    held_by: frozenset[str]  # levels
    means: str  # what stands against it


PROMISES: Mapping[str, Promise] = {
    "memory": Promise("read another environment's memory", _CONFINED, "pid namespace; Landlock's domain"),
    "shared_memory": Promise("write to memory that sandboxes share", _ALL, "a file in memory, sealed, open to no one"),
    "variables": Promise("read another environment's variables", _CONFINED, "pid namespace; Landlock's domain"),
    "files": Promise("read another environment's `/tmp`", _CONFINED, "mount namespace; Landlock"),
    "platform_files": Promise("read the platform's files, keys and tokens", _CONFINED, "mount namespace; Landlock"),
    "platform_sockets": Promise(
        "connect to the platform's socket files", _CONFINED, "mount namespace; no Unix sockets but pairs (seccomp)"
    ),
    "packages": Promise("change its own or another function's package", _CONFINED, "read-only mounts; Landlock"),
    "system_files": Promise("write anywhere but to `/tmp`", _CONFINED, "read-only mounts; Landlock"),
    "siblings": Promise("kill other environments or the worker", _CONFINED, "pid namespace; Landlock from Linux 6.12"),
    "devices": Promise("open the machine's disks, memory and kernel log", _CONFINED, "a /dev of five nodes; Landlock"),
    "groups": Promise("change its control group's limits", _CONFINED, "no /sys; Landlock"),
    "others_limits": Promise("change another process's resource limits", _ALL, "pid namespace; seccomp"),
    "own_limits": Promise("raise its own resource limits", _ALL, "no capability"),
    "trace": Promise("trace a process (`ptrace`, `process_vm_readv`, `pidfd_getfd`)", _ALL, "seccomp"),
    "mount": Promise("mount anything, or change its root", _ALL, "no capability; seccomp"),
    "new_namespaces": Promise("make or enter namespaces (`unshare`, `clone`, `setns`)", _ALL, "seccomp"),
    "kernel": Promise(
        "load programs into the kernel (`bpf`, modules, `kexec`), use its keys, `io_uring`, `userfaultfd`",
        _ALL,
        "seccomp",
    ),
    "raw_sockets": Promise("open raw, packet or other unusual sockets", _ALL, "no capability; seccomp"),
    "device_nodes": Promise("make device nodes", _ALL, "no capability"),
    "privileges": Promise("gain rights through a setuid program", _ALL, "no new privileges; nosuid mounts"),
    "lasting_ipc": Promise("leave shared memory or queues behind", _ALL, "IPC namespace; seccomp"),
    "memory_hog": Promise("use more memory than it has", _ALL, "control group; sampling"),
    "fork_bomb": Promise("start more than 1,024 processes and threads", _ALL, "control group; rlimit; sampling"),
    "tmp_hog": Promise("write more to `/tmp` than it has", ASIDE, "a tmpfs of that size"),
    "orphan": Promise("leave a process behind when it is stopped", _ALL, "pid namespace; a reaper"),
}
