"""The few system calls that the standard library lacks, through ctypes. Failures are OSErrors that say what failed."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import array
import ctypes
import fcntl
import mmap
import os
import platform
import socket
import struct
import sys
from typing import Any, Callable, List, Sequence, Tuple

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

_SYS_PIDFD_OPEN = 434  # the same number on every architecture
_MACHINE = platform.machine()
_SYS_PIVOT_ROOT = {"x86_64": 155}.get(_MACHINE, 41)
_SYS_CLONE = {"x86_64": 56}.get(_MACHINE, 220)
_CLONE_PARENT = 0x00008000
_SYS_CAPSET = {"x86_64": 126}.get(_MACHINE, 91)
_SYS_SECCOMP = {"x86_64": 317}.get(_MACHINE, 277)
_SECCOMP_SET_MODE_FILTER = 1
_SECCOMP_SPEC_ALLOW = 4  # no price on every branch: the sandbox reads nothing but its own memory
_KEPT = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY  # the flags of a mount that may not be taken from it
MAP_FIXED = 0x10
_MREMAP_MAYMOVE, _MREMAP_FIXED, _MAP_FAILED = 1, 2, ctypes.c_void_p(-1).value
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1

_Socket: Any = _socket.socket
_SOL_SOCKET, _SCM_RIGHTS, _CLOSED_BY_EXEC = _socket.SOL_SOCKET, _socket.SCM_RIGHTS, _socket.MSG_CMSG_CLOEXEC

# Made once: every ctypes array type is a class of its own, and what a sandbox makes for itself is memory of its own.
_NO_CAPABILITIES = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0)), ctypes.create_string_buffer(24)

_libc = ctypes.CDLL(None, use_errno=True)
_held = ctypes.PyDLL(None, use_errno=True)  # the same, with the interpreter's lock held throughout a call
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_libc.prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)
_libc.setns.argtypes = (ctypes.c_int, ctypes.c_int)
_libc.unshare.argtypes = (ctypes.c_int,)
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_libc.mremap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.mmap.restype = _libc.mremap.restype = _libc.pthread_self.restype = ctypes.c_void_p


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _plain_fork() -> Any:
    # Python's own fork runs hooks in the child that make locks new, seed `random`, and so write to half a megabyte
    # that would otherwise stay shared. A process with one thread holds no lock that another thread would have to let
    # go of, and `random` is seeded when a sandbox becomes a function. Known to hold for these versions.
    if sys.version_info[:2] > (3, 12):
        return os.fork
    function = _held.fork  # with the interpreter's lock held: nothing else may run in between
    function.argtypes = ()
    return function


# fork(2) for a process with a single thread; answers as os.fork does, -1 where it fails.
fork = _plain_fork()


def fork_sibling() -> int:
    """fork for a process with a single thread whose child is to be its parent's: that waits for it in its place."""
    return _check(_held.syscall(_SYS_CLONE, _CLONE_PARENT | _signal.SIGCHLD, 0, 0, 0, 0), "clone")


def unshare(flags: int) -> None:
    """Leave the namespaces named by `flags` for new ones."""
    _check(_libc.unshare(flags), f"unshare {flags:#x}")


def setns(descriptor: int, kind: int) -> None:
    """Enter the namespace behind the descriptor."""
    _check(_libc.setns(descriptor, kind), "setns")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """mount(2)."""
    result = _libc.mount(source.encode(), target.encode(), kind.encode() or None, flags, data.encode() or None)
    _check(result, f"mount {source} on {target}")


def kept_flags(path: str) -> int:
    """The flags of the mount at `path` that stay with whatever is made of it, as user namespaces demand."""
    return os.statvfs(path).f_flag & _KEPT


def bind(source: str, target: str, *, read_only: bool = True, flags: int = 0, kept: int = -1) -> None:
    """Make `source` visible at `target`. `kept`: its `kept_flags`, where they are known."""
    mount(source, target, "", MS_BIND)
    if read_only or flags:
        kept = kept_flags(target) if kept < 0 else kept
        mount("none", target, "", MS_REMOUNT | MS_BIND | kept | flags | (MS_RDONLY if read_only else 0))


def unmount(target: str) -> None:
    """Detach what is mounted at `target`."""
    _check(_libc.umount2(target.encode(), MNT_DETACH), f"umount {target}")


def pivot_root_here() -> None:
    """Make the current directory, a mount point, the root; what was the root is gone from view."""
    _check(_libc.syscall(_SYS_PIVOT_ROOT, b".", b"."), "pivot_root")
    unmount(".")
    os.chdir("/")


def map_memory(size: int, protection: int, flags: int, descriptor: int = -1, at: int = 0) -> int:
    """mmap(2) where there is room, or in place of what is mapped at `at`; answers the address."""
    return _address(_libc.mmap(at or None, size, protection, flags | (MAP_FIXED if at else 0), descriptor, 0), "mmap")


def reserve_memory(size: int, alignment: int = mmap.PAGESIZE) -> int:
    """Addresses that nothing else comes to; answers the first, a multiple of `alignment`."""
    around = map_memory(size + alignment, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    first = -(-around // alignment) * alignment
    for start, end in ((around, first), (first + size, around + size + alignment)):
        if start < end:
            unmap_memory(start, end - start)
    return first


def map_again(address: int, size: int, at: int) -> None:
    """A second mapping of what is mapped to be shared, in place of what is mapped at `at`."""
    _address(_libc.mremap(address, 0, size, _MREMAP_MAYMOVE | _MREMAP_FIXED, at), "mremap")


def advise_memory(address: int, size: int, advice: int) -> None:
    """madvise(2), whether or not the kernel takes the advice."""
    _libc.madvise(address, size, advice)


def unmap_memory(address: int, size: int) -> None:
    """munmap(2)."""
    _check(_libc.munmap(address, size), "munmap")


def protect_memory(address: int, size: int, protection: int) -> None:
    """mprotect(2)."""
    _check(_libc.mprotect(address, size, protection), "mprotect")


def thread_address() -> int:
    """Where the calling thread keeps what is its own alone."""
    return _address(_libc.pthread_self(), "pthread_self")


def _address(found: Any, what: str) -> int:
    if found is None or found == _MAP_FAILED:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return int(found)


def prctl(option: int, argument: int = 0, second: int = 0) -> None:
    """prctl(2)."""
    _check(_libc.prctl(option, argument, second, 0, 0), f"prctl {option}")


def drop_bounding_set() -> None:
    """No program started from here on can gain a capability."""
    for capability in range(64):
        if _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0:
            break  # beyond the last capability of this kernel
    _libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)


def drop_capabilities() -> None:
    """Give up every capability of this process."""
    _check(_libc.syscall(_SYS_CAPSET, *_NO_CAPABILITIES), "capset")


def seccomp_filter(instructions: bytes) -> Any:
    """A filter program (an array of `struct sock_filter`) in the form that the kernel takes it in."""
    array = ctypes.create_string_buffer(instructions, len(instructions))
    head = ctypes.create_string_buffer(struct.pack("@HP", len(instructions) // 8, ctypes.addressof(array)))
    return head, array  # kept together: the one points into the other


def install(seccomp: Any) -> None:
    """Put a filter that `seccomp_filter` made on this process and all that come of it; needs no right once no new
    privileges can be had."""
    _check(_libc.syscall(_SYS_SECCOMP, _SECCOMP_SET_MODE_FILTER, _SECCOMP_SPEC_ALLOW, seccomp[0]), "seccomp")


def raise_loopback() -> None:
    """Bring `lo` up in a new network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        fcntl.ioctl(probe, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


def send(peer: socket.socket, data: bytes, descriptors: Sequence[int] = ()) -> int:
    """Send a message with descriptors; answers how much of it went."""
    ancillary = [(_SOL_SOCKET, _SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    return peer.sendmsg([data], ancillary)


def receive(peer: socket.socket, size: int) -> Tuple[bytes, List[int]]:
    """At most `size` bytes and the descriptors that came with them."""
    data, ancillary, _, _ = peer.recvmsg(size, 1024, _CLOSED_BY_EXEC)
    descriptors: List[int] = []
    for level, kind, payload in ancillary:
        if level == _SOL_SOCKET and kind == _SCM_RIGHTS:
            whole = array.array("i")
            whole.frombytes(payload[: len(payload) - len(payload) % whole.itemsize])
            descriptors += whole
    return data, descriptors


def _pidfd_open(pid: int) -> int:
    return _check(_libc.syscall(_SYS_PIDFD_OPEN, pid, 0), "pidfd_open")


# A descriptor of a process, which no other process can ever take the place of.
pidfd_open: Callable[[int], int] = getattr(os, "pidfd_open", _pidfd_open)  # Python 3.8 has none


# What the standard library has in Python around these costs a sandbox a copy of many more pages than what is in C.


def default_signals() -> None:
    """What a process that notes the ends of its children through a descriptor has set up, undone in one of them."""
    _signal.set_wakeup_fd(-1)
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)


def stream_socket(descriptor: int) -> socket.socket:
    """The connected Unix stream socket behind a descriptor, as far as the methods go that are in C."""
    made: socket.socket = _Socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, descriptor)
    return made
