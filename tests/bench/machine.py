"""What the kernel says about processes and memory, and how processes are pinned."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path

_PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024
_TICK = 1.0 / os.sysconf("SC_CLK_TCK")


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor time that the processes, and those of their children that have been waited for, have used."""
    total = 0.0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(int(field) for field in fields[11:15]) * _TICK
    return total


def run_seconds(pids: Iterable[int]) -> float:
    """Processor time of the threads of the processes by the scheduler's clock, which counts nanoseconds, not ticks."""
    total = 0
    for pid in pids:
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):
                total += int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()[0])
        except OSError:
            continue
    return total / 1e9


def descendants(pid: int) -> list[int]:
    """Processes below one, itself left out."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        try:
            threads = os.listdir(f"/proc/{parent}/task")
        except OSError:
            continue
        for thread in threads:
            try:
                children = Path(f"/proc/{parent}/task/{thread}/children").read_text().split()
            except OSError:
                continue
            found += [int(child) for child in children]
            waiting += [int(child) for child in children]
    return found


def available_kib() -> int:
    """Memory that the kernel could give out now.

    MemAvailable leaves out what each core keeps on lists of its own after it has freed much, on recent kernels hundreds
    of MiB for quite a while: without it, a second measurement would find that memory costs nothing.
    """
    available = 0
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1])
    pages, on_lists = 0, False
    for line in Path("/proc/zoneinfo").read_text().splitlines():
        on_lists = line.strip() == "pagesets" or (on_lists and not line.startswith("Node"))
        if on_lists and line.strip().startswith("count:"):
            pages += int(line.split()[1])
    return available + pages * _PAGE_KIB


def cores() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0))


def pin(pids: Iterable[int], core: int) -> None:
    """Every thread of the processes on one core."""
    for pid in pids:
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):
                os.sched_setaffinity(int(thread), {core})
        except OSError:
            continue


def unpin(pids: Iterable[int]) -> None:
    """Every thread of the processes on any core again."""
    everywhere = set(range(os.cpu_count() or 1))
    for pid in pids:
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):
                os.sched_setaffinity(int(thread), everywhere)
        except OSError:
            continue


def end(process: subprocess.Popen[bytes], seconds: float = 10.0) -> None:
    """End a process that we started, kindly first."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
