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
_V1 = ("memory", "pids", "cpu")
_BESIDE = _MOUNT / "unified"  # where a machine that uses version 1 has version 2 as well
_ABANDONED_SECONDS = 60.0
_AHEAD = 16  # groups made in advance
_KEPT = 32  # groups at most that wait, those included that had a sandbox before
_LEFT = 4 << 20  # bytes that may be left in a group that gets another sandbox: the kernel's own, and pages of files
_PERIOD = 100_000  # µs; the kernel's default
# By whether it is version 2: a group's file for its weight, an ordinary one, the most.
_ORDINARY = {True: ("cpu.weight", 100, 10_000), False: ("cpu.shares", 1024, 262_144)}


class Weight(Enum):
    """What a group weighs where processor time is short: what part of an ordinary weight."""

    ORDINARY = 1
    BEHIND = 10  # nobody waits for it
    LAST = 512  # it gets what nobody else wants


@dataclass(slots=True)
class Group:
    """The control group of one sandbox."""

    folders: dict[str, str]  # controller → folder; version 2 has one folder under each name
    unified: bool
    entries: list[int] = field(default_factory=list)  # of the files through which a process enters by writing "0"
    lent: bool = False  # function code has held `entries`, and may enter as long as the group exists
    _memory_mb: int = 0  # as written last; 0: no limit
    _weight: Weight | None = None  # None: the kernel's own
    _quota: int | None = None  # µs; None: none
    _burst: int = 0
    _frozen: bool = False

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
        has counted is nothing by now (processes), is set back (the most memory used), or makes the group unfit
        (processes killed for memory, memory that is still in use). Version 2 keeps a peak of memory that cannot be set
        back for good.
        """
        if self.unified or self.lent or self._number("pids", "pids.current") or self.out_of_memory():
            return False
        if self._number("memory", "memory.usage_in_bytes") > _LEFT:
            return False
        _write(f"{self.folders['memory']}/memory.max_usage_in_bytes", "0")
        if self._frozen:
            self.freeze(frozen=False)
        if self._quota is not None:
            self._quota = None
            _write(f"{self.folders['cpu']}/cpu.cfs_quota_us", "-1")
        self.weigh(Weight.BEHIND)
        self.open()
        return True

    def _number(self, controller: str, name: str) -> int:
        return int(_read(f"{self.folders[controller]}/{name}"))

    def weigh(self, weight: Weight) -> None:
        """Set its weight."""
        if weight is self._weight:
            return
        self._weight = weight
        name, ordinary, _ = _ORDINARY[self.unified]
        _write(f"{self.folders['cpu']}/{name}", str(max(1, ordinary // weight.value)))

    def limit_memory(self, memory_mb: int) -> None:
        """What the processes of the group may use together."""
        if memory_mb == self._memory_mb:
            return
        self._memory_mb = memory_mb
        name = "memory.max" if self.unified else "memory.limit_in_bytes"
        _write(f"{self.folders['memory']}/{name}", str(memory_mb * 1024 * 1024))

    def limit_cpu(self, cpus: float) -> None:
        """How much processor time the group gets; what it leaves in one period it may use in the next."""
        quota = max(1000, int(cpus * _PERIOD))
        folder = self.folders["cpu"]
        if self._burst > quota:  # no group has a burst beyond its quota
            self._burst = 0
            _write(f"{folder}/cpu.cfs_burst_us", "0")
        self._quota = quota
        if self.unified:
            _write(f"{folder}/cpu.max", f"{quota} {_PERIOD}")
        else:
            _write(f"{folder}/cpu.cfs_quota_us", str(quota))
        if self._burst != quota:
            with contextlib.suppress(OSError):  # kernels before 5.14 know no burst
                _write(f"{folder}/cpu.max.burst" if self.unified else f"{folder}/cpu.cfs_burst_us", str(quota))
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
        name = "memory.peak" if self.unified else "memory.max_usage_in_bytes"
        try:
            return self._number("memory", name) >> 10
        except (OSError, ValueError):  # kernels before 5.19 keep none in version 2
            return 0

    def out_of_memory(self) -> bool:
        """Whether the kernel has killed a process of the group for its memory."""
        name = "memory.events" if self.unified else "memory.oom_control"
        try:
            text = _read(f"{self.folders['memory']}/{name}")
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
        self.unified = not (_MOUNT / "memory" / "memory.limit_in_bytes").exists()
        if self.unified:
            home = str(_MOUNT / "lambent" / worker)
            self._homes = dict.fromkeys((*_V1, "freezer"), home)
            os.makedirs(home, exist_ok=True)
            for folder in (_MOUNT, _MOUNT / "lambent", Path(home)):
                _write(str(folder / "cgroup.subtree_control"), "+memory +pids +cpu")
        else:
            self._homes = {name: str(_MOUNT / name / "lambent" / worker) for name in _V1}
            for home in self._homes.values():
                os.makedirs(home, exist_ok=True)
            with contextlib.suppress(OSError):
                os.makedirs(_BESIDE / "lambent" / worker, exist_ok=True)
                if (_BESIDE / "lambent" / worker / "cgroup.freeze").exists():
                    self._homes["freezer"] = str(_BESIDE / "lambent" / worker)
        self._weigh(len(os.sched_getaffinity(0)))
        self._clear()
        self._sweep()
        self._made.append(self._make())  # a machine that forbids it says so here

    def _weigh(self, cores: int) -> None:
        """Have all groups together weigh as much on each core as one process beside them.

        The kernel divides the weight of a group among the cores that its processes want. With the ordinary one all
        functions of this worker would weigh less than the worker: who invokes one of them would wait for it longer than
        for everything else together, and longer still while others start.
        """
        name, ordinary, most = _ORDINARY[self.unified]
        home = self._homes["cpu"]
        for folder in (os.path.dirname(home), home):
            with contextlib.suppress(OSError):
                _write(f"{folder}/{name}", str(min(cores * ordinary, most)))

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
        group = Group(folders, self.unified)
        for folder in sorted(set(folders.values())):
            os.mkdir(folder)
        _write(f"{folders['pids']}/pids.max", self._processes)
        group.weigh(Weight.BEHIND)
        group.open()
        return group

    def discard(self, group: Group, *, again: bool = False) -> None:
        """Remove a group whose processes have ended or are about to. `again`: the next sandbox may have it, where it is
        fit for that: nothing that was in it could write to it."""
        with contextlib.suppress(OSError, ValueError):
            if again and len(self._made) < _KEPT and group.renew():
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
            group = Group({name: f"{home}/{number}" for name, home in self._homes.items()}, self.unified)
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
