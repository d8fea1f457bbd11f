"""The system call filter: what the assembled program answers is what the table says, for every call of both machines."""

from __future__ import annotations

import errno
import re
import struct
from pathlib import Path

import pytest

from services.worker.guest import seccomp

KILL, ALLOW = 0x80000000, 0x7FFF0000
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


def answer(program: bytes, number: int, argument: int = 0, architecture: int = 0xC000003E, *, second: int = 0) -> int:
    """Run a filter as the kernel does, on one call with its first two arguments."""
    data = struct.pack("<IIQ6Q", number, architecture, 0, argument, second, 0, 0, 0, 0)
    instructions = list(struct.iter_unpack("=HBBI", program))
    accumulator, place = 0, 0
    while True:
        code, yes, no, constant = instructions[place]
        place += 1
        if code == 0x06:
            return int(constant)
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, constant)
        else:
            holds = {0x15: accumulator == constant, 0x35: accumulator >= constant, 0x45: bool(accumulator & constant)}
            place += yes if holds[code] else no


def fails(number: int) -> int:
    return 0x00050000 | number


@pytest.mark.parametrize(("place", "machine"), [*enumerate(ARCHITECTURES)])
@pytest.mark.parametrize("apart", [True, False])
def test_every_call_gets_the_answer_of_the_table(place: int, machine: str, apart: bool) -> None:
    program = seccomp.program(machine, apart=apart)
    architecture = ARCHITECTURES[machine]
    denied = {pair[place] for pair in seccomp.DENIED.values()}
    if not apart:
        denied |= {pair[place] for pair in seccomp._LASTING.values()}
    assert None in denied or machine == "x86_64"
    for number in range(600):
        expected = ALLOW
        if number in denied:
            expected = fails(errno.EPERM)
        elif number == 435:
            expected = fails(errno.ENOSYS)
        elif number == seccomp._SOCKET[place]:
            expected = fails(errno.EAFNOSUPPORT)  # family 0
        assert answer(program, number, 0, architecture) == expected, number
    other = ARCHITECTURES["aarch64" if machine == "x86_64" else "x86_64"]
    assert answer(program, 0, 0, other) == KILL
    assert (answer(program, 0x40000000, 0, architecture) == KILL) == (machine == "x86_64")


def test_arguments_decide_where_a_call_has_good_uses() -> None:
    program = seccomp.program("x86_64")
    for flag in (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert answer(program, 56, flag | 17) == fails(errno.EPERM)
    assert answer(program, 56, 0x003D0F00) == ALLOW  # what a thread is made with
    assert [answer(program, 135, kind) == ALLOW for kind in (0, 8, 0x20008, 0xFFFFFFFF, 0x0040000)] == [True] * 4 + [
        False
    ]
    for family in range(50):
        assert (answer(program, 41, family) == ALLOW) == (family in seccomp.FAMILIES)
    alone = seccomp.program("x86_64", families=(seccomp.INET,), apart=False)
    assert answer(alone, 41, seccomp.UNIX) == fails(errno.EAFNOSUPPORT)
    assert (answer(alone, 302, 0), answer(alone, 302, 7)) == (ALLOW, fails(errno.EPERM))


@pytest.mark.parametrize(("place", "machine"), [*enumerate(HEADERS)])
def test_the_numbers_are_the_kernels(place: int, machine: str) -> None:
    if not HEADERS[machine].exists():
        pytest.skip("needs the kernel's headers")
    text = HEADERS[machine].read_text()
    known = {name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", text)}
    looked = 0
    for name, pair in {**seccomp.DENIED, **seccomp._LASTING}.items():
        if name in known:
            looked += 1
            assert pair[place] == known[name], name
    assert looked > 50


def test_a_machine_that_is_not_known_has_no_filter() -> None:
    with pytest.raises(KeyError):
        seccomp.program("m68k")


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_a_snapshot_may_enter_one_set_of_namespaces_and_nothing_else(machine: str) -> None:
    joined = 0x3C020000
    made = {which: seccomp.program(machine, joined=which) for which in (0, joined)}
    place = list(ARCHITECTURES).index(machine)
    setns = seccomp.DENIED["setns"][place]
    assert setns is not None
    arch = ARCHITECTURES[machine]
    assert answer(made[joined], setns, 3, arch, second=joined) == ALLOW
    for other in (0, joined & ~0x20000, joined | 0x40000000, 0x20000):
        assert answer(made[joined], setns, joined, arch, second=other) == fails(errno.EPERM)
    assert answer(made[0], setns, 3, arch, second=joined) == fails(errno.EPERM)
    for name, numbers in seccomp.DENIED.items():
        number = numbers[place]
        if number is not None and name != "setns":
            assert answer(made[joined], number, 0, arch, second=joined) == fails(errno.EPERM), name
