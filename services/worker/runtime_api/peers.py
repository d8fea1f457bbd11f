"""Whose socket is at the other end of a connection over loopback: asked of the kernel by its socket diagnosis.

Sandboxes that share the machine's network could otherwise reach each other's Runtime API, since a port is all that
tells one from another. Source: sock_diag(7).
"""

from __future__ import annotations

import socket
import struct

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBBI")
_PORTS = struct.Struct("!HH")
_UID_AT = 4 + 48 + 12  # in the answer, behind four bytes, the socket's identity and three counters
_NO_COOKIE = b"\xff" * 8


def owner(peer: tuple[str, int], own: tuple[str, int]) -> int | None:
    """User id of the process that made the socket `peer` which is connected to our socket `own`; None: not known."""
    identity = _PORTS.pack(peer[1], own[1])
    identity += socket.inet_aton(peer[0]).ljust(16, b"\0") + socket.inet_aton(own[0]).ljust(16, b"\0")
    identity += bytes(4) + _NO_COOKIE
    body = _REQUEST.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF) + identity
    head = _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as kernel:
            kernel.setblocking(False)  # it answers at once
            kernel.send(head + body)
            answer = kernel.recv(4096)
    except OSError:
        return _listed(peer, own)
    if len(answer) < _HEADER.size + _UID_AT + 4 or _HEADER.unpack_from(answer)[1] != _SOCK_DIAG_BY_FAMILY:
        return _listed(peer, own)
    uid: int = struct.unpack_from("=I", answer, _HEADER.size + _UID_AT)[0]
    return uid


def _listed(peer: tuple[str, int], own: tuple[str, int]) -> int | None:
    """The same from the kernel's table as text, where it answers no diagnosis."""
    wanted = [_hex(*peer), _hex(*own)]
    try:
        with open("/proc/net/tcp", encoding="ascii") as file:
            for line in file:
                fields = line.split()
                if fields[1:3] == wanted:
                    return int(fields[7])
    except OSError:
        pass
    return None


def _hex(address: str, port: int) -> str:
    return f"{int.from_bytes(socket.inet_aton(address), 'little'):08X}:{port:04X}"
