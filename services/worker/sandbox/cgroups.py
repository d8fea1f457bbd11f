"""Limits on memory, processes and CPU: one control group a sandbox, made in advance, entered by the sandbox itself.

To make and to remove one takes the kernel longer than all else about a sandbox but its process. So one that a sandbox
has left goes to another where it can be made what it was (`Group.renew`).

Version 1 has a hierarchy for each controller, version 2 one for all. Where neither can be written, what the processes
of an environment use is sampled, and one that uses too much is killed; the level's report says so.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

_log = logging.getLogger(__name__)
_MOUNT = Path("/sys/fs/cgroup")
_CONTROLLERS = ("memory", "pids", "cpu")
_PROCESSES = "processes"  # of a container, where they have to leave its root
_MOVES = 3
_BESIDE = _MOUNT / "unified"  # where a machine that uses version 1 has version 2 as well
_ABANDONED_SECONDS = 60.0
_AHEAD = 16  # groups made in advance
_KEPT = 32  # groups at most that wait, those included that had a sandbox before
_LEFT = 4 << 20  # bytes that may be left in a group that gets another sandbox: the kernel's own, and pages of files
_PERIOD = 100_000  # µs; the kernel's default


@dataclass(frozen=True, slots=True)
class _Names:
    """What a version calls the files of a group."""

    version: int
    memory_limit: str
    memory_used: str
    memory_peak: str
    memory_killed: str  # has a line that counts the processes that were killed for their memory
    swap: str  # keeps the group's memory out of swap space, where there is any, if it says 0
    quota: str
    no_quota: str  # what `quota` says where there is none
    burst: str
    weight: str
    ordinary: int  # weight
    most: int  # weight


_VERSION_1 = _Names(
    1, "memory.limit_in_bytes", "memory.usage_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control",
    "memory.swappiness", "cpu.cfs_quota_us", "-1", "cpu.cfs_burst_us", "cpu.shares", 1024, 262_144,
)  # fmt: skip
_VERSION_2 = _Names(
    2, "memory.max", "memory.current", "memory.peak", "memory.events",
    "memory.swap.max", "cpu.max", f"max {_PERIOD}", "cpu.max.burst", "cpu.weight", 100, 10_000,
)  # fmt: skip


class Weight(Enum):
    """What a group weighs where processor time is short: what part of an ordinary weight."""

    ORDINARY = 1
    BEHIND = 10  # nobody waits for it
    LAST = 512  # it gets what nobody else wants


@dataclass(slots=True)
class Group:
    """The control group of one sandbox."""

    folders: dict[str, str]  # controller → folder; version 2 has one folder under each name
    names: _Names
    entries: list[int] = field(default_factory=list)  # of the files through which a process enters by writing "0"
    lent: bool = False  # function code has held `entries`, and may enter as long as the group exists
    _memory_mb: int = 0  # as written last; 0: no limit
    _weight: Weight | None = None  # None: the kernel's own
    _quota: int | None = None  # µs; None: none
    _burst: int = 0
    _frozen: bool = False
    _peak: int | None = None  # of version 2's file that counts anew since it was told to; None: it has not been

    def open(self) -> None:
        """Open `entries`."""
        for folder in sorted(set(self.folders.values())):
            self.entries.append(os.open(f"{folder}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC))

    def shut(self) -> None:
        """Close `entries`: nobody else is to enter."""
        while self.entries:
            os.close(self.entries.pop())

    def renew(self) -> bool:
        """Make it what it was before a sandbox was in it, for the next one; False: that cannot be.

        What the worker has written is set back here, but for the limit on memory, which comes with every environment;
        nobody else can have written: where groups are used again, a sandbox sees no file of its own. What the kernel
        has counted is nothing by now (processes), is set back (the most memory used; version 2 can since Linux 6.12),
        or makes the group unfit (processes killed for memory, memory that is still in use). Raises OSError where that
        cannot be done.
        """
        names, cpu = self.names, self.folders["cpu"]
        if self.lent or self._number("pids", "pids.current") or self.out_of_memory():
            return False
        if self._number("memory", names.memory_used) > _LEFT:
            return False
        self.forget_peak()
        if self._frozen:
            self.freeze(frozen=False)
        if self._quota is not None:
            self._quota = None
            _write(f"{cpu}/{names.quota}", names.no_quota)
        self.weigh(Weight.BEHIND)
        self.open()
        return True

    def forget_peak(self) -> None:
        """Count the most memory used anew. Raises OSError where that cannot be done (version 2 before Linux 6.12)."""
        peak = f"{self.folders['memory']}/{self.names.memory_peak}"
        if self.names.version == 1:
            _write(peak, "0")
            return
        if self._peak is None:
            self._peak = os.open(peak, os.O_RDWR | os.O_CLOEXEC)
        os.write(self._peak, b"0")

    def _number(self, controller: str, name: str) -> int:
        return int(_read(f"{self.folders[controller]}/{name}"))

    def weigh(self, weight: Weight) -> None:
        """Set its weight."""
        if weight is self._weight:
            return
        self._weight = weight
        names = self.names
        _write(f"{self.folders['cpu']}/{names.weight}", str(max(1, names.ordinary // weight.value)))

    def limit_memory(self, memory_mb: int) -> None:
        """What the processes of the group may use together."""
        if memory_mb == self._memory_mb:
            return
        self._memory_mb = memory_mb
        _write(f"{self.folders['memory']}/{self.names.memory_limit}", str(memory_mb * 1024 * 1024))

    def limit_cpu(self, cpus: float) -> None:
        """How much processor time the group gets; what it leaves in one period it may use in the next."""
        quota = max(1000, int(cpus * _PERIOD))
        names, folder = self.names, self.folders["cpu"]
        if self._burst > quota:  # no group has a burst beyond its quota
            self._burst = 0
            _write(f"{folder}/{names.burst}", "0")
        self._quota = quota
        _write(f"{folder}/{names.quota}", str(quota))  # version 2 has the kernel's period with it, which stays
        if self._burst != quota:
            with contextlib.suppress(OSError):  # kernels before 5.14 know no burst
                _write(f"{folder}/{names.burst}", str(quota))
                self._burst = quota

    @property
    def freezes(self) -> bool:
        """Whether `freeze` can be had: version 1's own freezer is not used, as what it has frozen cannot be killed."""
        return "freezer" in self.folders

    def freeze(self, *, frozen: bool) -> None:
        """Give the processes of the group no processor time, or let them go on."""
        self._frozen = frozen
        _write(f"{self.folders['freezer']}/cgroup.freeze", "1" if frozen else "0")

    def peak_memory_kb(self) -> int:
        """Most memory that the group has used so far; 0: not known."""
        try:
            if self._peak is not None:
                return int(os.pread(self._peak, 64, 0)) >> 10
            return self._number("memory", self.names.memory_peak) >> 10
        except (OSError, ValueError):  # kernels before 5.19 keep none in version 2
            return 0

    def out_of_memory(self) -> bool:
        """Whether the kernel has killed a process of the group for its memory."""
        try:
            text = _read(f"{self.folders['memory']}/{self.names.memory_killed}")
        except OSError:
            return False
        return any(line.startswith(b"oom_kill ") and line.split()[1] != b"0" for line in text.splitlines())

    def kill(self) -> None:
        """Kill every process in the group."""
        for pid in self._members():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def remove(self) -> bool:
        """Remove the folders; False: a process is still on its way out, try again later."""
        peak, self._peak = self._peak, None
        if peak is not None:
            os.close(peak)
        for folder in set(self.folders.values()):
            try:
                os.rmdir(folder)
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno == errno.EBUSY:
                    return False
                raise
        return True

    def _members(self) -> list[int]:
        try:
            text = Path(self.folders["pids"], "cgroup.procs").read_text(encoding="ascii")
        except OSError:
            return []
        return [int(line) for line in text.split() if line != "0"]


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 4096)  # more than any of the files here has that is read so
    finally:
        os.close(descriptor)


def _divide(folder: Path) -> None:
    """Have groups in a folder of version 2 limited. Raises OSError."""
    control = str(folder / "cgroup.subtree_control")
    try:
        _write(control, " ".join(f"+{name}" for name in _CONTROLLERS))
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        # The root that a container with a cgroup namespace of its own sees is a group like others: with processes in
        # it, it has no limited groups. So they go into one beside; those that nobody here sees cannot.
        beside = folder / _PROCESSES
        beside.mkdir(exist_ok=True)
        for _ in range(_MOVES):  # what has been forked meanwhile has to follow
            for pid in (folder / "cgroup.procs").read_text(encoding="ascii").split():
                with contextlib.suppress(ProcessLookupError):
                    _write(str(beside / "cgroup.procs"), pid)
        _write(control, " ".join(f"+{name}" for name in _CONTROLLERS))


class Groups:
    """The control groups of one worker, under `lambent/<worker>`."""

    def __init__(self, worker: str, processes: int, now: float) -> None:
        """`processes`: most processes and threads in one sandbox; `now`: epoch seconds, to know what was abandoned.

        Raises OSError where groups cannot be made.
        """
        self._now = now
        self._processes = str(processes)
        self._numbers = itertools.count(1)
        self._made: deque[Group] = deque()
        self._making = False
        self._closed = False
        self._leaving: list[Group] = []
        unified = not (_MOUNT / "memory" / _VERSION_1.memory_limit).exists()
        self.names = _VERSION_2 if unified else _VERSION_1
        if unified:
            home = str(_MOUNT / "lambent" / worker)
            self._homes = dict.fromkeys((*_CONTROLLERS, "freezer"), home)
            os.makedirs(home, exist_ok=True)
            for folder in (_MOUNT, _MOUNT / "lambent", Path(home)):
                _divide(folder)
        else:
            self._homes = {name: str(_MOUNT / name / "lambent" / worker) for name in _CONTROLLERS}
            for home in self._homes.values():
                os.makedirs(home, exist_ok=True)
            with contextlib.suppress(OSError):
                os.makedirs(_BESIDE / "lambent" / worker, exist_ok=True)
                if (_BESIDE / "lambent" / worker / "cgroup.freeze").exists():
                    self._homes["freezer"] = str(_BESIDE / "lambent" / worker)
        self._weigh(len(os.sched_getaffinity(0)))
        self._clear()
        self._sweep()
        first = self._make()  # a machine that forbids it says so here
        self._made.append(first)
        self.renews = True  # whether a group can be used again
        try:
            first.forget_peak()
        except OSError:
            self.renews = False

    def _weigh(self, cores: int) -> None:
        """Have all groups together weigh as much on each core as one process beside them.

        The kernel divides the weight of a group among the cores that its processes want. With the ordinary one all
        functions of this worker would weigh less than the worker: who invokes one of them would wait for it longer than
        for everything else together, and longer still while others start.
        """
        names = self.names
        home = self._homes["cpu"]
        for folder in (os.path.dirname(home), home, str(_MOUNT / _PROCESSES)):
            with contextlib.suppress(OSError):
                _write(f"{folder}/{names.weight}", str(min(cores * names.ordinary, names.most)))

    @property
    def version(self) -> int:
        """Of control groups: 1 or 2."""
        return self.names.version

    @property
    def freeze(self) -> bool:
        """Whether groups can be frozen."""
        return "freezer" in self._homes

    def take(self, thread: Executor) -> Group:
        """A new group with the limits that are the same for every function. Some are made in advance, by `thread`,
        which is one thread: the kernel takes its time, and the caller's loop has other things to do. Raises OSError."""
        try:
            group = self._made.popleft()
        except IndexError:
            group = self._make()
        if not self._making and len(self._made) < _AHEAD // 2:
            self._making = True
            thread.submit(self._stock)
        return group

    def _stock(self) -> None:
        try:
            while len(self._made) < _AHEAD and not self._closed:
                self._made.append(self._make())
        except OSError as error:
            _log.error("no control group could be made in advance", extra={"cause": str(error)})
        finally:
            self._making = False

    def _make(self) -> Group:
        number = next(self._numbers)
        folders = {name: f"{home}/{number}" for name, home in self._homes.items()}
        group = Group(folders, self.names)
        for folder in sorted(set(folders.values())):
            os.mkdir(folder)
        _write(f"{folders['pids']}/pids.max", self._processes)
        with contextlib.suppress(OSError):  # kernels without swap have no such file
            _write(f"{folders['memory']}/{self.names.swap}", "0")
        group.weigh(Weight.BEHIND)
        group.open()
        return group

    def discard(self, group: Group, *, again: bool = False) -> None:
        """Remove a group whose processes have ended or are about to. `again`: the next sandbox may have it, where it is
        fit for that: nothing that was in it could write to it."""
        with contextlib.suppress(OSError, ValueError):
            if again and self.renews and len(self._made) < _KEPT and group.renew():
                self._made.append(group)
                return
        self._leaving.append(group)
        self._leaving = [leaving for leaving in self._leaving if not leaving.remove()]

    def close(self) -> None:
        """Remove what is left, the worker's folder included. No thread makes groups any more."""
        self._closed = True
        while self._made:
            self._made.popleft().shut()
        self._clear()
        for home in set(self._homes.values()):
            with contextlib.suppress(OSError):
                os.rmdir(home)
            with contextlib.suppress(OSError):
                os.rmdir(os.path.dirname(home))  # goes only when no other worker is in it

    def _sweep(self) -> None:
        """Remove what workers have left that were killed: their processes are gone, and they will not come back for it.

        A worker that lives has sandboxes ready, so a folder without any process for a while is nobody's.
        """
        for home in set(self._homes.values()):
            for other in _folders(os.path.dirname(home)):
                place = os.path.join(os.path.dirname(home), other)
                groups = [os.path.join(place, number) for number in _folders(place)]
                with contextlib.suppress(OSError):
                    if place == home or self._now - os.stat(place).st_mtime < _ABANDONED_SECONDS:
                        continue
                    if any(Path(group, "cgroup.procs").read_text(encoding="ascii") for group in groups):
                        continue
                    for group in groups:
                        os.rmdir(group)
                    os.rmdir(place)

    def _clear(self) -> None:
        """Kill and remove what an earlier process of this worker, or this one, has left behind."""
        numbers = {entry for home in self._homes.values() for entry in _folders(home)}
        for number in numbers:
            group = Group({name: f"{home}/{number}" for name, home in self._homes.items()}, self.names)
            group.kill()
            for _ in range(1000):
                if group.remove():
                    break
                os.sched_yield()
        self._leaving.clear()


def _folders(home: str) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(home) if entry.is_dir()]
    except FileNotFoundError:
        return []


@dataclass(frozen=True, slots=True)
class Use:
    """What the processes of an environment use together."""

    memory_mb: int  # resident
    tasks: int  # processes and threads


def sampled(pids: Iterable[int], memory_mb: int) -> Use:
    """Use of processes and everything below them: how limits are kept where there are no control groups.

    What is cheap to read counts memory that processes share once for each; only where that comes to more than
    `memory_mb` it is looked at closely, and shared memory divided among those that share it.
    """
    tasks = 0
    own: dict[int, int] = {}  # process → bytes that it shares with no file
    page = os.sysconf("SC_PAGE_SIZE")
    for member in {member for pid in pids for member in family(pid)}:
        try:
            with open(f"/proc/{member}/statm", encoding="ascii") as file:
                fields = file.read().split()
            with open(f"/proc/{member}/stat", encoding="ascii", errors="replace") as file:
                tasks += int(file.read().rpartition(")")[2].split()[17])
        except OSError:
            continue
        own[member] = (int(fields[1]) - int(fields[2])) * page
    total = sum(own.values())
    if len(own) > 1 and total > memory_mb << 20:
        total = sum(min(size, _proportional(member, size)) for member, size in own.items())
    return Use(total >> 20, tasks)


def _proportional(pid: int, otherwise: int) -> int:
    """Bytes of a process's memory, of what it shares only its part; `otherwise` where that cannot be seen."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return otherwise


def stop_all(pid: int) -> None:
    """Stop a process and everything below it by signals.

    Weaker than a group's `freeze`: a process can have a timer send it SIGCONT.
    """
    stopped: set[int] = set()
    while found := [member for member in family(pid) if member not in stopped]:
        for member in found:  # with the signal on its way a process forks no more
            with contextlib.suppress(ProcessLookupError):
                os.kill(member, signal.SIGSTOP)
        stopped.update(found)


def continue_all(pid: int) -> None:
    """Let go on what `stop_all` has stopped."""
    for member in family(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(member, signal.SIGCONT)


def family(pid: int) -> Iterator[int]:
    """A process and everything below it."""
    waiting = [pid]
    while waiting:
        member = waiting.pop()
        yield member
        with contextlib.suppress(OSError), open(f"/proc/{member}/task/{member}/children", encoding="ascii") as file:
            waiting.extend(int(child) for child in file.read().split())
