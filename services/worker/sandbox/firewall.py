"""Keeps functions off what they must not reach: rules of the kernel's packet filter by the sandboxes' user ids.

With the network profile `full` a function reaches what its worker reaches, as on AWS. What of the platform listens on
TCP and is not public (an internal address of another machine, Redis, metrics), and what the settings name beside it
(the metadata of a cloud's machine, the API of the cluster around it), is refused to it here. The rules are in a table
of their own that the kernel takes down when the worker's socket closes, however it ends. They need
CAP_NET_ADMIN over the worker's network namespace, and a user id of its own for each sandbox (level `namespaces`).
Source of the wire format: the kernel's include/uapi/linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_NETLINK_NETFILTER = 12
_BATCH_BEGIN, _BATCH_END = 16, 17
_TABLE, _CHAIN, _RULE = 0x0A00, 0x0A03, 0x0A06  # NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEW*
_REQUEST, _ACKNOWLEDGE, _CREATE, _APPEND = 1, 4, 0x400, 0x800
_INET = 1  # NFPROTO_INET: IPv4 and IPv6
_OWNED = 2  # NFT_TABLE_F_OWNER: it goes with the socket that made it
_NESTED = 0x8000
_HOOK_OUTPUT = 3
_META_PROTOCOL, _META_USER, _META_FAMILY = 16, 10, 15  # l4proto, skuid, nfproto
_EQUAL, _NOT_LESS, _NOT_MORE = 0, 5, 3
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2
_REGISTER, _VERDICT = 1, 0
_FIB_TYPE, _FIB_DESTINATION, _LOCAL = 3, 2, 2
_RESET, _PROHIBITED = 1, 2  # NFT_REJECT_TCP_RST, NFT_REJECT_ICMPX_UNREACH
_IPV4, _IPV6, _TCP = 2, 10, 6


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What functions must not reach: a port, or everything, at addresses."""

    address: str | None  # IP address, or network with its prefix's length; None: any of this machine's own
    port: int | None  # of TCP; None: every port, and every protocol


class FirewallUnavailable(Exception):
    """The rules cannot be made here; the text says why."""


class Firewall:
    """The rules of one worker, in force until `close`."""

    def __init__(self, name: str, users: range, endpoints: Iterable[Endpoint]) -> None:
        """`users`: ids of the users that are refused. Raises FirewallUnavailable."""
        table = _text(1, name)
        hook = _nest(4, _number(1, _HOOK_OUTPUT) + _number(2, 0))
        messages = [
            (_TABLE, _CREATE, table + _number(2, _OWNED)),
            (_CHAIN, _CREATE, table + _text(3, "output") + hook + _text(7, "filter")),
        ]
        for endpoint in endpoints:
            rule = table + _text(2, "output") + _nest(4, b"".join(_expressions(users, endpoint)))
            messages.append((_RULE, _CREATE | _APPEND, rule))
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
            try:
                self._socket.bind((0, 0))
                self._socket.settimeout(5.0)
                self._commit(messages)
            except BaseException:
                self._socket.close()
                raise
        except OSError as error:
            raise FirewallUnavailable(error.strerror or str(error)) from error

    def _commit(self, messages: Sequence[tuple[int, int, bytes]]) -> None:
        batch = _message(_BATCH_BEGIN, _REQUEST, 0, 0, b"", 10)
        for number, (kind, flags, body) in enumerate(messages, 1):
            batch += _message(kind, _REQUEST | _ACKNOWLEDGE | flags, number, _INET, body, 0)
        batch += _message(_BATCH_END, _REQUEST, len(messages) + 1, 0, b"", 10)
        self._socket.send(batch)
        waiting = len(messages)
        while waiting:
            data = self._socket.recv(65536)
            while data:
                length, kind = struct.unpack_from("=IH", data)
                if kind == 2:  # NLMSG_ERROR, which also acknowledges
                    (failed,) = struct.unpack_from("=i", data, 16)
                    if failed:
                        raise OSError(-failed, os.strerror(-failed))
                    waiting -= 1
                data = data[(length + 3) & ~3 :]

    def close(self) -> None:
        """Take the rules down."""
        self._socket.close()


def endpoints_of(host: str, port: int | None) -> list[Endpoint]:
    """A port at a host name, address or network as endpoints; those of this machine are refused at every address it
    has."""
    if "/" in host:
        return [Endpoint(host, port)]
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except OSError:
        return []
    made = set()
    for text in found:
        address = ipaddress.ip_address(str(text).partition("%")[0])
        made.add(
            Endpoint(
                None if address.is_loopback or address.is_unspecified or _own(str(address)) else str(address), port
            )
        )
    return sorted(made, key=str)


def _own(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError as error:
            return error.errno not in (errno.EADDRNOTAVAIL, errno.EINVAL)
    return True


def _expressions(users: range, endpoint: Endpoint) -> list[bytes]:
    """The parts of one rule, each of which must hold; the last refuses."""
    made = [
        _meta(_META_USER),
        # Compared as bytes in order, so numbers of the machine's order are turned first.
        _expression(
            "byteorder", _number(1, _REGISTER) + _number(2, _REGISTER) + _number(3, 1) + _number(4, 4) + _number(5, 4)
        ),
        _compare(_NOT_LESS, struct.pack(">I", users.start)),
        _compare(_NOT_MORE, struct.pack(">I", users.stop - 1)),
    ]
    if endpoint.port is not None:
        made.append(_meta(_META_PROTOCOL))
        made.append(_compare(_EQUAL, bytes([_TCP])))
        made.append(_load(_TRANSPORT_HEADER, 2, 2))
        made.append(_compare(_EQUAL, struct.pack(">H", endpoint.port)))
    if endpoint.address is None:
        made.append(_expression("fib", _number(1, _REGISTER) + _number(2, _FIB_TYPE) + _number(3, _FIB_DESTINATION)))
        made.append(_compare(_EQUAL, struct.pack("=I", _LOCAL)))
    else:
        network = ipaddress.ip_network(endpoint.address)
        address, mask = network.network_address.packed, network.netmask.packed
        made.append(_meta(_META_FAMILY))
        made.append(_compare(_EQUAL, bytes([_IPV4 if network.version == 4 else _IPV6])))
        made.append(_load(_NETWORK_HEADER, 16 if network.version == 4 else 24, len(address)))
        made.append(_masked(mask))
        made.append(_compare(_EQUAL, address))
    how, code = (_PROHIBITED, 3) if endpoint.port is None else (_RESET, 0)
    made.append(_expression("reject", _number(1, how) + _attribute(2, bytes([code]))))
    return made


def _masked(mask: bytes) -> bytes:
    length, nothing = _number(3, len(mask)), _nest(5, _attribute(1, bytes(len(mask))))
    registers = _number(1, _REGISTER) + _number(2, _REGISTER)
    return _expression("bitwise", registers + length + _nest(4, _attribute(1, mask)) + nothing)


def _meta(key: int) -> bytes:
    return _expression("meta", _number(1, _REGISTER) + _number(2, key))


def _load(base: int, offset: int, length: int) -> bytes:
    return _expression("payload", _number(1, _REGISTER) + _number(2, base) + _number(3, offset) + _number(4, length))


def _compare(operation: int, value: bytes) -> bytes:
    return _expression("cmp", _number(1, _REGISTER) + _number(2, operation) + _nest(3, _attribute(1, value)))


def _expression(name: str, body: bytes) -> bytes:
    return _nest(1, _text(1, name) + _nest(2, body))


def _attribute(kind: int, body: bytes) -> bytes:
    return struct.pack("=HH", len(body) + 4, kind) + body + bytes(-len(body) % 4)


def _nest(kind: int, body: bytes) -> bytes:
    return _attribute(kind | _NESTED, body)


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack(">I", value))


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, value.encode() + b"\0")


def _message(kind: int, flags: int, sequence: int, family: int, body: bytes, resource: int) -> bytes:
    head = struct.pack("=BBH", family, 0, socket.htons(resource))
    return struct.pack("=IHHII", 16 + len(head) + len(body), kind, flags, sequence, 0) + head + body
