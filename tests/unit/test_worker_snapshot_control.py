"""The line to a snapshot: what may come late is heard, what cannot be true ends it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.worker.guest import wire
from services.worker.sandbox.zygotes import Child, Control, SnapshotControl


class Line:
    """One, with the snapshot's end of it and the processes of this test."""

    def __init__(self) -> None:
        self.lost: list[Control] = []
        self.control = SnapshotControl(self.lost.append)
        ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.attach(ours)
        self.processes: list[subprocess.Popen[bytes]] = []

    def order(self) -> Child:
        one, other = socket.socketpair()
        with one, other:
            return self.control.fork(None, one, [])

    def process(self, source: str) -> int:
        """A descriptor of a new one."""
        started = subprocess.Popen([sys.executable, "-I", "-S", "-c", source], stdin=subprocess.PIPE)
        self.processes.append(started)
        return os.pidfd_open(started.pid)

    def tell(self, kind: int, number: int, value: int = 0, descriptors: tuple[int, ...] = ()) -> None:
        """As the snapshot does; the descriptors are closed here."""
        socket.send_fds(self.theirs, [wire.NOTE.pack(kind, number, value)], descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        self.control._readable()

    def close(self) -> None:
        self.control.hang_up()
        self.theirs.close()
        for process in self.processes:
            process.communicate()


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    made = Line()
    yield made
    made.close()


async def test_a_copy_is_known_by_its_process(line: Line) -> None:
    child = line.order()
    line.tell(wire.FORKED, child.number, descriptors=(line.process("input()"),))
    assert child.pid == line.processes[0].pid
    assert not line.lost


async def test_a_copy_that_ends_before_its_birth_is_read_leaves_the_snapshot_as_it_is(line: Line) -> None:
    child = line.order()
    handle = line.process("")
    line.processes[0].communicate()
    line.tell(wire.FORKED, child.number, descriptors=(handle,))
    assert (child.pid, child.status) == (None, None)
    line.tell(wire.ENDED, child.number, 1 << 8)
    assert child.status == 1 << 8
    assert not line.lost
    assert line.order().number == child.number + 1


@pytest.mark.parametrize("lie", ["no process", "nothing", "two", "twice", "a status too large", "PREPARED"])
async def test_what_cannot_be_true_ends_the_line_and_every_copy(line: Line, lie: str) -> None:
    child = line.order()
    number = child.number
    if lie == "no process":
        line.tell(wire.FORKED, number, descriptors=(os.open(Path.cwd(), os.O_RDONLY),))
    elif lie == "nothing":
        line.tell(wire.FORKED, number)
    elif lie == "two":
        line.tell(wire.FORKED, number, descriptors=(line.process(""), line.process("")))
    elif lie == "twice":
        line.tell(wire.FORKED, number, descriptors=(line.process("input()"),))
        line.tell(wire.FORKED, number, descriptors=(line.process("input()"),))
    elif lie == "PREPARED":
        line.tell(wire.PREPARED, number)
    else:
        line.tell(wire.ENDED, number, 1 << 16)
    assert line.lost == [line.control]
    assert child.status is not None
    with pytest.raises(ConnectionError):
        line.order()
