"""The sandbox that an environment restored from a snapshot comes to live in, made by the zygote, which still may.

A snapshot is a sandbox (snapshot.py): it has lost every right, so what it forks cannot make namespaces of its own. The
zygote makes them for it: a process that pauses in a user namespace of the snapshot's user, with pid, mount and IPC
namespaces, control groups and limits like any other sandbox's. It hands a descriptor of itself to the process that the
snapshot has forked, over a socket that the worker gave to both. The owner of a user namespace may enter it: that and no
right is what the other one has. The pid namespace lies within the snapshot's, as only such a one can be entered.

While it lives, so does the sandbox: it is the first process of the pid namespace and reaps what is orphaned there.
"""

from __future__ import annotations

import importlib
import os
import signal
import socket
from typing import Any, Dict, List

kernel: Any = importlib.import_module("_lambent_kernel")
roots: Any = importlib.import_module("_lambent_roots")

_SECONDS = 1.0  # for what its child does on the way: well under a millisecond, on a machine with nothing else to do


def namespaces(network: str) -> int:
    """The namespaces that a restored sandbox has of its own, as clone's flags. `network`: the profile's name."""
    own: int = kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS | kernel.CLONE_NEWIPC | kernel.CLONE_NEWPID
    return own if network == "full" else own | kernel.CLONE_NEWNET


def fork(zygote: Any, snapshot: int, message: Dict[str, Any], descriptors: List[int]) -> int:
    """Make one beneath the process `snapshot`; answers its pid. Called in the zygote. Raises OSError."""
    ours, theirs = socket.socketpair()
    within = os.open("/proc/%d/ns/pid" % snapshot, os.O_RDONLY | os.O_CLOEXEC)
    pid = -1
    try:
        kernel.setns(within, kernel.CLONE_NEWPID)
        pid = kernel.fork()
        if pid < 0:
            raise OSError("fork: no process can be had")
    finally:
        if pid != 0:
            kernel.setns(zygote.own_pids, kernel.CLONE_NEWPID)
            theirs.close()
            os.close(within)
    if pid == 0:
        code = 1
        try:
            kernel.default_signals()
            code = _lay(zygote, theirs, message, descriptors)
        except OSError as error:
            os.write(2, (str(error) + "\n").encode())
            theirs.send(str(error).encode())
        finally:
            os._exit(code)
    ours.settimeout(_SECONDS)
    try:
        return _midwife(ours, pid, message)
    except socket.timeout:  # before Python 3.10 it is no TimeoutError
        # The snapshot's user may stop what is its own: whoever does, ends. Every other sandbox waits meanwhile.
        os.kill(snapshot, signal.SIGKILL)
        raise OSError("the sandbox was not made in time") from None
    finally:
        ours.close()
        os.kill(pid, signal.SIGKILL)  # it may be stopped; nothing is left for it to do
        os.waitpid(pid, 0)


def _midwife(peer: socket.socket, pid: int, message: Dict[str, Any]) -> int:
    """What only the zygote can do for its child: say which users its user namespace has."""
    _hear(peer, b"map")
    with open("/proc/%d/setgroups" % pid, "w", encoding="ascii") as file:
        file.write("deny")
    # Those of the snapshot and of the environment, at a level where sandboxes have users of their own.
    users = [0] if message["users"] is None else sorted(set(message["users"]))
    lines = "".join("%d %d 1\n" % (user, user) for user in users)
    for name in ("uid_map", "gid_map"):
        with open("/proc/%d/%s" % (pid, name), "w", encoding="ascii") as file:
            file.write(lines)
    peer.send(b"go")
    descriptors = _hear(peer, b"born")
    with open("/proc/self/fdinfo/%d" % descriptors[0], encoding="ascii") as file:
        born = next(int(line.split()[1]) for line in file if line.startswith("Pid:"))
    os.close(descriptors[0])
    return born


def _hear(peer: socket.socket, expected: bytes) -> List[int]:
    found: List[int]
    data, found = kernel.receive(peer, 256)
    if data != expected:
        raise OSError(data.decode(errors="replace") or "the process that pauses has ended")
    return found


def _lay(zygote: Any, peer: socket.socket, message: Dict[str, Any], descriptors: List[int]) -> int:
    """What makes the namespaces; answers the exit status of the process that it has become by then."""
    channel, output, bridge, *groups = descriptors
    for group in groups:
        os.write(group, b"0")
    os.dup2(output, 1)
    os.dup2(output, 2)
    # What the zygote has open, the line to the worker above all, is out of reach before the snapshot's user can be.
    before = 2
    for kept in sorted((channel, output, bridge, peer.fileno())):
        os.closerange(before + 1, kept)
        before = kept
    os.closerange(before + 1, 1 << 16)
    # Files are laid out with the zygote's rights, and so that whoever comes into the user namespace cannot undo it.
    kernel.unshare(kernel.CLONE_NEWNS)
    roots.furnish(zygote.config, message["claim"], zygote.packages_flags)
    if message["users"] is not None:
        snapshot = message["users"][0]
        os.setresgid(snapshot, snapshot, snapshot)
        os.setresuid(snapshot, snapshot, snapshot)
    network = zygote.config["network"]
    kernel.unshare(namespaces(network))
    peer.send(b"map")
    _hear(peer, b"go")
    pid = kernel.fork_sibling()
    if pid:
        handle = kernel.pidfd_open(pid)
        kernel.send(peer, b"born", [handle])
        return 0
    peer.close()
    if network == "loopback":
        kernel.raise_loopback()
    roots.mount_proc()
    own = kernel.pidfd_open(os.getpid())
    other = socket.socket(fileno=bridge)
    kernel.drop_capabilities()
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    kernel.install(zygote.filter)
    # Else nobody may enter who has no right. From here on the snapshot, whose user namespace this is, may also write to
    # this process's memory: nothing that it could take over may be left by then.
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
    kernel.send(other, b"enter", [own, channel, output])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for descriptor in (channel, output, 1, 2):
        os.close(descriptor)  # what ends with the environment must not live on here
    other.recv(1)  # its end: the copy is in, and no more is to come
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    os.closerange(0, 1024)
    while True:
        signal.pause()
