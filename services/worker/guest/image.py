"""The zygote's memory as an image, or a snapshot's: what a sandbox has written to and left as it was, it can give back.

Reference counts are writes, so a sandbox soon has copies of its own of pages that say what the zygote's say. Shared as
plain memory after a fork, they stay copies; shared as a private mapping of a file, the kernel drops a copy when it is
told to and shows the file again. So the zygote moves what it may write to into a file in memory before it forks, and a
sandbox that has been idle for a while compares its copies with that file.

Between the comparison of a page and its drop nobody may write to it. There is one thread, no signal is delivered, and
the interpreter, which writes whenever it runs, does not run meanwhile: a few instructions of machine code work through
a list of *steps*, system calls each of which is made only if two pieces of memory are equal, but for counts that do not
matter (counts.py). Where there is no such code for the machine, or the kernel lets nobody have any, there is no image,
and sandboxes keep what they have copied.
"""

from __future__ import annotations

import ctypes
import fcntl
import importlib
import mmap
import os
import platform
import socket
import struct
import sys
from _signal import (  # type: ignore[import-not-found] # the standard library's make enums of what they answer
    SIG_BLOCK,
    SIG_SETMASK,
    pthread_sigmask,
    valid_signals,
)
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

kernel: Any = importlib.import_module("_lambent_kernel")

# A step: number and six arguments of a system call; where two pieces of memory begin and their length in eighths of
# bytes, 0 for a call that is always made. What the call answers takes the number's place.
_STEP = struct.Struct("=10q")
# The upper half of a count of references that does not matter (counts.py): two such words are equal, whatever their
# lower halves say. Of no address, no digits of an int, no character and no common float.
RAISED = 0x1EE9F6B3


class Machine(NamedTuple):
    """What depends on the processor."""

    pwrite: int
    mmap: int
    madvise: int
    # run(steps, count): machine code, and as an assembler reads it.
    code: Tuple[Tuple[str, str], ...]


MACHINES: Dict[str, Machine] = {
    "x86_64": Machine(
        18, 9, 28,
        (
            ("53", "push %rbx"),
            ("55", "push %rbp"),
            ("4889fb", "mov %rdi, %rbx"),
            ("4889f5", "mov %rsi, %rbp"),
            ("4885ed", "next: test %rbp, %rbp"),
            ("7456", "jz done"),
            ("488b7338", "mov 56(%rbx), %rsi"),
            ("488b7b40", "mov 64(%rbx), %rdi"),
            ("488b4b48", "mov 72(%rbx), %rcx"),
            ("4839c9", "cmp %rcx, %rcx"),  # nothing to compare is equal
            ("f348a7", "compare: repe cmpsq"),
            ("7419", "je call"),
            ("488b46f8", "mov -8(%rsi), %rax"),
            ("483347f8", "xor -8(%rdi), %rax"),
            ("48c1e820", "shr $32, %rax"),
            ("752b", "jne skip"),
            ("817efcb3f6e91e", "cmpl $0x1ee9f6b3, -4(%rsi)"),  # RAISED: counts are equal
            ("74e4", "je compare"),
            ("eb20", "jmp skip"),
            ("488b03", "call: mov (%rbx), %rax"),
            ("488b7b08", "mov 8(%rbx), %rdi"),
            ("488b7310", "mov 16(%rbx), %rsi"),
            ("488b5318", "mov 24(%rbx), %rdx"),
            ("4c8b5320", "mov 32(%rbx), %r10"),
            ("4c8b4328", "mov 40(%rbx), %r8"),
            ("4c8b4b30", "mov 48(%rbx), %r9"),
            ("0f05", "syscall"),
            ("488903", "mov %rax, (%rbx)"),
            ("4883c350", "skip: add $80, %rbx"),
            ("48ffcd", "dec %rbp"),
            ("eba5", "jmp next"),
            ("5d", "done: pop %rbp"),
            ("5b", "pop %rbx"),
            ("c3", "ret"),
        ),
    ),
    "aarch64": Machine(
        68, 222, 233,
        (
            ("c10300b4", "next: cbz x1, done"),
            ("09a843a9", "ldp x9, x10, [x0, #56]"),
            ("0b2440f9", "ldr x11, [x0, #72]"),
            ("cb0100b4", "compare: cbz x11, call"),
            ("2c8540f8", "ldr x12, [x9], #8"),
            ("4d8540f8", "ldr x13, [x10], #8"),
            ("6b0500d1", "sub x11, x11, #1"),
            ("9f010deb", "cmp x12, x13"),
            ("60ffff54", "b.eq compare"),
            ("8d010dca", "eor x13, x12, x13"),
            ("ff834deb", "cmp xzr, x13, lsr #32"),
            ("01020054", "b.ne skip"),
            ("6dd69e52", "mov w13, #0xf6b3"),
            ("2ddda372", "movk w13, #0x1ee9, lsl #16"),
            ("bf814ceb", "cmp x13, x12, lsr #32"),
            ("80feff54", "b.eq compare"),
            ("0b000014", "b skip"),
            ("ee0300aa", "call: mov x14, x0"),
            ("ef0301aa", "mov x15, x1"),
            ("c80140f9", "ldr x8, [x14]"),
            ("c49542a9", "ldp x4, x5, [x14, #40]"),
            ("c28d41a9", "ldp x2, x3, [x14, #24]"),
            ("c08540a9", "ldp x0, x1, [x14, #8]"),
            ("010000d4", "svc #0"),
            ("c00100f9", "str x0, [x14]"),
            ("e0030eaa", "mov x0, x14"),
            ("e1030faa", "mov x1, x15"),
            ("00400191", "skip: add x0, x0, #80"),
            ("210400d1", "sub x1, x1, #1"),
            ("e3ffff17", "b next"),
            ("c0035fd6", "done: ret"),
        ),
    ),
}  # fmt: skip

_PAGE = os.sysconf("SC_PAGE_SIZE")
_HUGE = 1 << 21  # bytes of a large page; where they are larger, there will be none
# MADV_POPULATE_READ, MADV_POPULATE_WRITE (Linux 5.14), MADV_COLLAPSE (6.1); what older kernels answer does not matter.
_POPULATE_READ, _POPULATE_WRITE, _COLLAPSE = 22, 23, 25
_NO_PROGRAM = 0x8  # MFD_NOEXEC_SEAL (Linux 6.3)
_ADD_SEALS, _SEALED = 1033, 0x1 | 0x2 | 0x4 | 0x8  # F_ADD_SEALS; F_SEAL_SEAL, SHRINK, GROW, WRITE
_KIB = 1024
_MOST = 256 * _KIB * _KIB  # bytes of a zygote
_MAPS, _ENTRIES, _STEPS, _AHEAD = 128 * _KIB, 256 * _KIB, 1024 * _KIB, 64 * _KIB  # bytes of scratch memory for each
_PASSING = _MAPS + _ENTRIES + _STEPS  # what is there for one use
# Of an entry in /proc/self/pagemap the highest byte: 0x80 there is a page, 0x40 it is swapped out, 0x20 it is the
# file's, 0x01 no other process has it. 1 stands for a copy, and for one that this process has made.
_COPIED = bytes(1 if entry & 0xE0 == 0x80 else 0 for entry in range(256))
_OWN = bytes(1 if entry & 0xE1 == 0x81 else 0 for entry in range(256))
_AT_ONCE = 16  # pages that are compared before the file's are let go of again: they count as the sandbox's memory
_ALONE = 3  # links of a folder of threads with one in it
_REHEARSALS = 2

_Call = Tuple[int, ...]  # a step's first numbers; the others are 0


class _Mapping(NamedTuple):
    """A private and writable one, as /proc/self/maps has it."""

    start: int
    end: int
    offset: int  # in its file
    device: bytes
    inode: bytes
    path: bytes


class Image:
    """Made in the zygote, by `make`, and anew in a snapshot; what a sandbox calls is `copy_ahead` and
    `give_back`."""

    def __init__(self, machine: Machine) -> None:
        """Raises OSError where the kernel gives out no memory that can be run."""
        self.machine = machine
        self.run = _runnable(b"".join(bytes.fromhex(digits) for digits, _ in machine.code))
        self.scratch = mmap.mmap(-1, _PASSING + _AHEAD, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.scratch.madvise(mmap.MADV_DONTDUMP)  # so that it is a mapping of its own, whatever lies beside it
        self.start = ctypes.addressof(ctypes.c_char.from_buffer(self.scratch))
        view = memoryview(self.scratch)
        self.maps, self.entries, self.steps = (
            view[:_MAPS],
            view[_MAPS : _MAPS + _ENTRIES],
            view[_PASSING - _STEPS : _PASSING],
        )
        self.ahead = 0  # steps at the end of the scratch memory
        self.signals = valid_signals()
        self.file = b"", b""  # device and inode as /proc/self/maps has them
        self.shown, self.size = 0, 0  # where the file is mapped to be read, and its size

    # In what forks

    def lay(self, most: int = _MOST, *, large: bool = True) -> None:
        """Move what this process may write to into a new file: all but its stack, and what the kernel writes to by
        itself (rseq), which is beside what a thread keeps for itself.

        `most`: bytes of the file. While it is made, the memory is there twice. `large`: in large pages, which takes a
        while. Raises OSError, where nothing has been moved.
        """
        machine, writable = self.machine, _memory_file()
        try:
            writes = self._written(writable, most)
            # Nobody can ever write to it: what is mapped is a file that has been opened to be read.
            readable = os.open("/proc/self/fd/%d" % writable, os.O_RDONLY | os.O_CLOEXEC)
            try:
                self._show(readable, os.fstat(readable).st_size, large)
                steps: List[_Call] = []
                both, place = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | kernel.MAP_FIXED
                for write in writes:
                    _, _, address, length, at = write
                    steps.append(write)
                    steps.append((machine.mmap, address, length, both, place, readable, at))
                    # What is in place when a process forks, its child finds in place.
                    steps.append((machine.madvise, address, length, _POPULATE_READ))
                self._work(steps)
            finally:
                os.close(readable)
            fcntl.fcntl(writable, _ADD_SEALS, _SEALED)
        finally:
            os.close(writable)

    def _written(self, writable: int, most: int) -> List[_Call]:
        """The calls that write what is to be moved to that file. They have been made once, for room: when it counts,
        nothing may fail, as what comes next would still be done. Raises OSError."""
        kept = self.start, kernel.thread_address()
        found = list(self._mappings())  # kept to the end: freed, it might take memory along that it tells of
        moved = [
            (each.start, each.end - each.start)
            for each in found
            if each.path != b"[stack]" and not any(each.start <= address < each.end for address in kept)
        ]
        size = -(-sum(length for _, length in moved) // _HUGE) * _HUGE
        if size > most:
            raise OSError("too much memory for an image")
        os.ftruncate(writable, size)
        writes: List[_Call] = []
        offset = 0
        for address, length in moved:
            writes.append((self.machine.pwrite, writable, address, length, offset))
            offset += length
        if self._work(writes) != [length for _, length in moved]:
            raise OSError("no memory for an image")
        return writes

    def _show(self, readable: int, size: int, large: bool) -> None:
        before, self.size = self.size, 0  # whatever fails here, nothing is compared with what is not there
        if before:
            kernel.unmap_memory(self.shown, before)
        place = kernel.reserve_memory(size, _HUGE)
        self.shown, self.size = kernel.map_memory(size, mmap.PROT_READ, mmap.MAP_SHARED, readable, place), size
        if large:
            # A fork copies, and an end lets go of, what lies in one large page at a third of the price.
            kernel.advise_memory(place, size, _COLLAPSE)
            kernel.advise_memory(place, size, mmap.MADV_DONTNEED)  # from here on it is the file that has them
        found = os.fstat(readable)
        self.file = b"%02x:%02x" % (os.major(found.st_dev), os.minor(found.st_dev)), b"%d" % found.st_ino

    def _work(self, calls: List[_Call]) -> List[int]:
        """Make these calls with nothing in between; answers what they answered."""
        for number, call in enumerate(calls):
            _STEP.pack_into(self.steps, number * _STEP.size, *call, *[0] * (10 - len(call)))
        held = pthread_sigmask(SIG_BLOCK, self.signals)
        self.run(self.start + _MAPS + _ENTRIES, len(calls))
        pthread_sigmask(SIG_SETMASK, held)
        return [_STEP.unpack_from(self.steps, number * _STEP.size)[0] for number in range(len(calls))]

    def learn(self, work: Callable[[], Any]) -> None:
        """Find out what `work` writes to, in a process that ends with it. Raises OSError."""
        near, far = socket.socketpair()
        pid = kernel.fork()
        if pid == 0:
            try:
                work()
                near.close()
                far.send(b"done")
                far.recv(1)  # until it has been looked at
            finally:
                os._exit(0)
        far.close()
        try:
            near.recv(16)
            pages = {address for address, _ in self._copies(_OWN, pid)}
        finally:
            near.close()
            if pid > 0:
                os.waitpid(pid, 0)
        place = memoryview(self.scratch)[_PASSING:]
        firsts = [each for each in pages if each - _PAGE not in pages]
        for number, first in enumerate(firsts[: _AHEAD // _STEP.size]):
            end = first + _PAGE
            while end in pages:
                end += _PAGE
            step = self.machine.madvise, first, end - first, _POPULATE_WRITE, 0, 0, 0, 0, 0, 0
            _STEP.pack_into(place, number * _STEP.size, *step)
            self.ahead = number + 1

    # In a sandbox

    def copy_ahead(self) -> None:
        """Copy now what will be written to, as far as has been learnt: nobody waits yet."""
        self.run(self.start + _PASSING, self.ahead)

    def give_back(self) -> None:
        """Let go of copies that say what the file says. Harmless where that cannot be done."""
        # With a second thread somebody might write between comparison and drop.
        if not self.size or os.stat("/proc/self/task").st_nlink != _ALONE:
            return
        held = pthread_sigmask(SIG_BLOCK, self.signals)
        try:
            place = kernel.reserve_memory(self.size + _PAGE)
            try:
                # Where no large page can be mapped: all of it would count as this process's memory.
                beside = place if place % _HUGE else place + _PAGE
                kernel.map_again(self.shown, self.size, beside)
                self.run(self.start + _MAPS + _ENTRIES, self._compare(beside))
            finally:
                kernel.unmap_memory(place, self.size + _PAGE)
        except OSError:
            pass  # the kernel does not show what there is
        finally:
            self.scratch.madvise(mmap.MADV_DONTNEED, 0, _PASSING)
            pthread_sigmask(SIG_SETMASK, held)

    def _compare(self, beside: int) -> int:
        """Write down the steps; answers how many. `beside`: where the file is mapped for it."""
        steps, advise, drop = self.steps, self.machine.madvise, mmap.MADV_DONTNEED
        count, most, words = 0, _STEPS // _STEP.size - 2, _PAGE // 8
        for at, offset in self._copies(_COPIED):
            if count > most:
                break
            _STEP.pack_into(steps, count * _STEP.size, advise, at, _PAGE, drop, 0, 0, 0, at, beside + offset, words)
            count += 1
            if count % _AT_ONCE == 0:
                _STEP.pack_into(steps, count * _STEP.size, advise, beside, self.size, drop, 0, 0, 0, 0, 0, 0)
                count += 1
        return count

    # In both

    def _copies(self, which: bytes, process: object = "self") -> Iterator[Tuple[int, int]]:
        """Addresses of pages that are no longer the file's, and where each is there. Raises OSError.

        `which`: 1 for the entries that are meant. `process`: this one or a child that has mapped nothing since.
        """
        descriptor = os.open("/proc/%s/pagemap" % process, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for each in self._mappings():
                if (each.device, each.inode) != self.file:
                    continue
                pages = min((each.end - each.start) // _PAGE, _ENTRIES // 8)
                length = os.preadv(descriptor, [self.entries[: pages * 8]], each.start // _PAGE * 8)
                copied = self.entries[7:length:8].tobytes().translate(which)
                page = copied.find(1)
                while page >= 0:
                    yield each.start + page * _PAGE, each.offset + page * _PAGE
                    page = copied.find(1, page + 1)
        finally:
            os.close(descriptor)

    def _mappings(self) -> Iterator[_Mapping]:
        """Those of this process that it alone writes to; without those that the scratch memory has no room for."""
        descriptor = os.open("/proc/self/maps", os.O_RDONLY | os.O_CLOEXEC)
        try:
            end = 0
            while end < _MAPS:
                length = os.readv(descriptor, [self.maps[end:]])
                if not length:
                    break
                end += length
        finally:
            os.close(descriptor)
        scratch = self.scratch
        scratch.seek(0)
        while scratch.tell() < end:
            line = scratch.readline()
            if b" rw-p " in line and line.endswith(b"\n"):
                place, _, offset, device, inode, *path = line.split(None, 5)
                start, _, stop = place.partition(b"-")
                yield _Mapping(
                    int(start, 16), int(stop, 16), int(offset, 16), device, inode, b"".join(path).strip()
                )  # fmt: skip


def make() -> Optional[Image]:
    """An image that has been laid and given back to often enough; None: there can be none here. What is to be shared
    has to be laid once more, when nothing is left to do before the first fork."""
    machine = MACHINES.get(platform.machine())
    if machine is None or sys.maxsize < 1 << 32:
        return None
    try:
        image = Image(machine)
        for _ in range(_REHEARSALS):
            image.lay(large=False)
            image.give_back()  # so that a sandbox that does it writes to what has been written to
    except OSError:
        return None
    return image


def _memory_file() -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create("lambent", flags | _NO_PROGRAM)
    except OSError:
        return os.memfd_create("lambent", flags)


def _runnable(code: bytes) -> Callable[[int, int], int]:
    """A function of an address and a number. It holds the interpreter's lock: no other thread runs meanwhile."""
    address = kernel.map_memory(_PAGE, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    ctypes.memmove(address, code, len(code))
    kernel.protect_memory(address, _PAGE, mmap.PROT_READ | mmap.PROT_EXEC)
    return ctypes.PYFUNCTYPE(ctypes.c_long, ctypes.c_void_p, ctypes.c_long)(address)
