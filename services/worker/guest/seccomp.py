"""The system calls that no function needs and a kernel is broken into through, denied: a seccomp filter, made here.

A deny list in the way of container engines' default profile. What is listed answers EPERM, as if a right were missing;
clone3 answers ENOSYS, so that C libraries fall back to clone, whose flags a filter can see; another architecture's
calls, and x32's, end the process. The filter is classic BPF: a binary search over call numbers, so that the kernel,
which looks at every number once when it is installed, is quick about it. Source: seccomp(2), and the kernel's tables
of system calls (arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h).
"""

from __future__ import annotations

import errno
import struct
from typing import Dict, List, Optional, Tuple

# name: (number on x86_64, number on aarch64); None: the architecture has no such call.
DENIED: Dict[str, Tuple[Optional[int], Optional[int]]] = {
    # Other views of the file system
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "statmount": (457, 457),
    "listmount": (458, 458),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "sysfs": (139, None),
    "ustat": (136, None),
    "uselib": (134, None),
    # Namespaces
    "unshare": (272, 97),
    "setns": (308, 268),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    # Other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # Programs and keys in the kernel, and parts of it that are broken into often
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "nfsservctl": (180, 42),
    "_sysctl": (156, None),
    "modify_ldt": (154, None),
    "create_module": (174, None),
    "init_module": (175, 105),
    "delete_module": (176, 106),
    "get_kernel_syms": (177, None),
    "query_module": (178, None),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    # The machine
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "iopl": (172, None),
    "ioperm": (173, None),
}
# Where a sandbox has no namespaces of its own: what is made with these outlives it and is open to others.
_LASTING: Dict[str, Tuple[Optional[int], Optional[int]]] = {
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
}
# What is looked at more closely.
_CLONE, _CLONE3, _PERSONALITY, _SOCKET, _PRLIMIT = (56, 220), (435, 435), (135, 92), (41, 198), (302, 261)
_NEW_NAMESPACES = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_PERSONALITIES = (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)  # PER_LINUX, PER_LINUX32, either with UNAME26, and the question
_NETLINK = 16
UNIX, INET, INET6 = 1, 2, 10
FAMILIES = (UNIX, INET, INET6, _NETLINK)  # of sockets; any other is not there

# machine: (place in the pairs above, AUDIT_ARCH_*, first number of a second set of calls)
_MACHINES: Dict[str, Tuple[int, int, Optional[int]]] = {
    "x86_64": (0, 0xC000003E, 0x40000000),
    "aarch64": (1, 0xC00000B7, None),
}

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # BPF_LD|W|ABS, JEQ, JGE, JSET, RET
# Offsets in struct seccomp_data; the last two of the low halves of the first two arguments.
_NUMBER, _ARCH, _ARGUMENT, _SECOND = 0, 4, 16, 24
_KILL, _ALLOW, _FAIL = 0x80000000, 0x7FFF0000, 0x00050000  # SECCOMP_RET_*

Program = List[Tuple[int, int, int, int]]  # code, jump if true, jump if false, constant


def program(machine: str, *, families: Tuple[int, ...] = FAMILIES, apart: bool = True, joined: int = 0) -> bytes:
    """The filter as an array of `struct sock_filter`.

    `families`: what sockets may be made of. `apart`: the sandbox has namespaces, and so neither IPC nor processes in
    common with others. `joined`: the one set of namespaces that `setns` may name; 0: none. Raises KeyError for a
    machine that is not known.
    """
    place, arch, second_set = _MACHINES[machine]
    denied = dict(DENIED) if apart else dict(DENIED, **_LASTING)
    answers: Dict[int, Program] = {}
    for numbers in denied.values():
        number = numbers[place]
        if number is not None:
            answers[number] = _fail(errno.EPERM)
    answers[_CLONE3[place]] = _fail(errno.ENOSYS)
    answers[_CLONE[place]] = [
        (_LOAD, 0, 0, _ARGUMENT),
        (_ANY_BIT, 0, 1, _NEW_NAMESPACES),
        *_fail(errno.EPERM),
        *_allow(),
    ]
    answers[_PERSONALITY[place]] = _only(_PERSONALITIES, errno.EPERM)
    answers[_SOCKET[place]] = _only(families, errno.EAFNOSUPPORT)
    if joined:
        answers[DENIED["setns"][place] or 0] = _only((joined,), errno.EPERM, _SECOND)
    if not apart:
        answers[_PRLIMIT[place]] = _only((0,), errno.EPERM)  # no limits but one's own
    made: Program = [(_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, arch), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, _NUMBER)]
    if second_set is not None:
        made += [(_AT_LEAST, 0, 1, second_set), (_RETURN, 0, 0, _KILL)]
    made += _search(_intervals(answers))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in made)


def _fail(number: int) -> Program:
    return [(_RETURN, 0, 0, _FAIL | number)]


def _allow() -> Program:
    return [(_RETURN, 0, 0, _ALLOW)]


def _only(values: Tuple[int, ...], number: int, argument: int = _ARGUMENT) -> Program:
    """Allow these as an argument, the first unless another is named; answer an error for any other."""
    tests = [(_EQUAL, len(values) - place, 0, value) for place, value in enumerate(values)]
    return [(_LOAD, 0, 0, argument), *tests, *_fail(number), *_allow()]


def _intervals(answers: Dict[int, Program]) -> List[Tuple[int, Program]]:
    """(first number, what is answered from there on), in order and with neighbours of one answer as one."""
    found: List[Tuple[int, Program]] = [(0, _allow())]
    for number in sorted(answers):
        for first, answer in ((number, answers[number]), (number + 1, _allow())):
            if found[-1][0] == first:
                found.pop()
            if not found or found[-1][1] != answer:
                found.append((first, answer))
    return found


def _search(intervals: List[Tuple[int, Program]]) -> Program:
    if len(intervals) == 1:
        return intervals[0][1]
    middle = len(intervals) // 2
    below, above = _search(intervals[:middle]), _search(intervals[middle:])
    assert len(below) < 256, "a conditional jump reaches 255 instructions"
    return [(_AT_LEAST, len(below), 0, intervals[middle][0]), *below, *above]
