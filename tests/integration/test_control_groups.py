"""Control groups that one sandbox has left and another gets: as if nobody had been there, or not at all."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lambent.infra.clock import SystemClock
from services.worker.sandbox import cgroups
from services.worker.sandbox.cgroups import Group, Groups, Weight

ROOT = Path(__file__).resolve().parents[2]
# Settings that count as well: of what is there now, set back by writing. The limit on memory comes with every environment.
_COUNTS = frozenset({
    "memory.max_usage_in_bytes", "memory.kmem.max_usage_in_bytes", "memory.memsw.max_usage_in_bytes",
    "memory.limit_in_bytes", "cpu.cfs_burst_us", "memory.peak", "memory.swap.peak", "memory.max", "cpu.max.burst",
})  # fmt: skip


@pytest.fixture
def groups() -> Iterator[Groups]:
    try:
        made = Groups(f"test-{os.getpid()}", 64, SystemClock().epoch())
    except OSError as error:
        pytest.skip(f"no control groups: {error}")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def renewing(groups: Groups) -> Groups:
    """Groups that can be used again."""
    if not groups.renews:
        pytest.skip("before Linux 6.12 no group of version 2 is used again")
    return groups


class Now(ThreadPoolExecutor):
    """Carries nothing out: what is not there is made by who wants it."""

    def submit(self, *_: object) -> None:  # type: ignore[override]
        """Forget it."""


def inside(group: Group, megabytes: int = 1) -> int:
    """A process in the group that has used so much memory and waits."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        for entry in group.entries:
            os.write(entry, b"0")
        memory = mmap.mmap(-1, megabytes << 20)
        for place in range(0, megabytes << 20, 4096):
            memory[place] = 1
        os.write(write, b".")
        signal.pause()
        os._exit(0)
    os.close(write)
    os.read(read, 1)
    os.close(read)
    return pid


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def settings(group: Group) -> dict[str, str]:
    """What every file of a group says that can be read and written."""
    found: dict[str, str] = {}
    for controller, place in group.folders.items():
        for path in Path(place).iterdir():
            readable = path.is_file() and path.stat().st_mode & 0o600 == 0o600
            if readable and path.name not in _COUNTS and not path.name.endswith(".pressure"):
                found[f"{controller}/{path.name}"] = path.read_text()
    return found


def folder(group: Group) -> str:
    return group.folders["memory"]


def number(group: Group, controller: str, name: str) -> int:
    """The first of what a file of a group says."""
    return int(Path(group.folders[controller], name).read_text().split()[0])


def taken(groups: Groups, count: int = 3) -> list[str]:
    """The folders of the next groups that are given out."""
    thread = Now(1)
    return [folder(groups.take(thread)) for _ in range(count)]


def test_a_group_is_what_it_was(renewing: Groups) -> None:
    thread = Now(1)
    fresh, used = renewing.take(thread), renewing.take(thread)
    used.limit_memory(128)
    used.weigh(Weight.ORDINARY)
    pid = inside(used, 64)
    used.shut()
    used.limit_cpu(0.07)
    if used.freezes:
        used.freeze(frozen=True)
    peak = used.peak_memory_kb()
    assert peak >= 64 << 10
    end(pid)
    renewing.discard(used, again=True)

    again = renewing.take(thread)
    assert again is used
    assert settings(again) == settings(fresh)
    assert len(settings(again)) > 10
    assert again.peak_memory_kb() < cgroups._LEFT >> 10
    assert not again.out_of_memory()
    assert len(again.entries) == len(fresh.entries)

    # It takes the settings of whoever comes next, be they larger or smaller.
    for megabytes, cpus in ((256, 0.5), (128, 0.01), (512, 2.0)):
        again.limit_memory(megabytes)
        again.limit_cpu(cpus)
        assert number(again, "memory", again.names.memory_limit) == megabytes << 20
        assert number(again, "cpu", again.names.quota) == int(cpus * 100_000)
        assert number(again, "cpu", again.names.burst) == int(cpus * 100_000)
    pid = inside(again)
    end(pid)


def test_one_that_a_process_is_in_is_not_used_again(groups: Groups) -> None:
    used = groups.take(Now(1))
    pid = inside(used)
    groups.discard(used, again=True)
    assert folder(used) not in taken(groups)
    end(pid)
    groups.discard(groups.take(Now(1)))  # whoever comes next removes what could not be removed at once
    assert not os.path.exists(folder(used))


def test_one_in_which_memory_ran_out_is_not_used_again(groups: Groups) -> None:
    used = groups.take(Now(1))
    used.limit_memory(8)
    pid = os.fork()
    if pid == 0:
        for entry in used.entries:
            os.write(entry, b"0")
        memory = mmap.mmap(-1, 64 << 20)
        for place in range(0, 64 << 20, 4096):
            memory[place] = 1
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status)
    groups.discard(used, again=True)
    assert not os.path.exists(folder(used))
    assert folder(used) not in taken(groups)


def test_one_with_memory_left_is_not_used_again(groups: Groups, tmp_path: Path) -> None:
    used = groups.take(Now(1))
    pid = os.fork()
    if pid == 0:
        for entry in used.entries:
            os.write(entry, b"0")
        (tmp_path / "kept").write_bytes(bytes(16 << 20))  # in the page cache, on its account
        os._exit(0)
    os.waitpid(pid, 0)
    groups.discard(used, again=True)
    assert folder(used) not in taken(groups)


def test_one_that_function_code_can_enter_is_not_used_again(groups: Groups) -> None:
    used = groups.take(Now(1))
    used.lent = True
    groups.discard(used, again=True)
    assert not os.path.exists(folder(used))
    assert folder(used) not in taken(groups)


def test_no_more_are_kept_than_are_of_use(renewing: Groups) -> None:
    thread = Now(1)
    many = [renewing.take(thread) for _ in range(cgroups._KEPT + 5)]
    for group in many:
        group.shut()
        renewing.discard(group, again=True)
    assert sum(os.path.exists(folder(group)) for group in many) == cgroups._KEPT


def test_where_it_is_not_wanted_none_is_used_again(groups: Groups) -> None:
    used = groups.take(Now(1))
    groups.discard(used)
    assert not os.path.exists(folder(used))


def test_all_together_weigh_as_much_as_one_process_on_each_core(groups: Groups) -> None:
    group = groups.take(Now(1))
    home = Path(group.folders["cpu"]).parent
    for place in (home, home.parent):
        assert int((place / group.names.weight).read_text()) == group.names.ordinary * len(os.sched_getaffinity(0))


def test_no_memory_of_a_group_goes_to_swap_space(groups: Groups) -> None:
    group = groups.take(Now(1))
    if not Path(folder(group), group.names.swap).exists():
        pytest.skip("a kernel without swap space")
    assert number(group, "memory", group.names.swap) == 0


# What a container does that has a cgroup namespace of its own: the root that it sees is a group with processes in it.
CONTAINER = """
import ctypes, os, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
place = Path(sys.argv[1])
place.mkdir()
(place / "cgroup.procs").write_text("0")
libc = ctypes.CDLL(None, use_errno=True)
NEWNS, NEWCGROUP, REC, PRIVATE = 0x20000, 0x2000000, 0x4000, 0x40000
assert libc.unshare(NEWNS | NEWCGROUP) == 0
assert libc.mount(None, b"/", None, REC | PRIVATE, None) == 0
assert libc.umount2(b"/sys/fs/cgroup", 2) == 0
assert libc.mount(b"cgroup2", b"/sys/fs/cgroup", b"cgroup2", 0, None) == 0
from services.worker.sandbox.cgroups import Groups
groups = Groups("worker", 64, time.time())
with ThreadPoolExecutor(1) as thread:
    group = groups.take(thread)
group.limit_memory(64)
print(group.folders["memory"], Path(group.folders["memory"], "memory.max").read_text(), end="")
print(Path("/proc/self/cgroup").read_text(), end="")
groups.close()
"""


def test_a_container_whose_root_has_processes_has_groups_all_the_same(groups: Groups) -> None:
    if groups.version == 1:
        pytest.skip("version 1: groups with processes may have others in them")
    place = Path(folder(groups.take(Now(1)))).parents[2] / f"test-container-{os.getpid()}"
    try:
        command = [sys.executable, "-c", CONTAINER, str(place)]
        said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
        assert said.stdout == f"/sys/fs/cgroup/lambent/worker/1 {64 << 20}\n0::/processes\n", said.stderr
    finally:
        for each in (place / "processes", place):
            if each.exists():
                each.rmdir()
