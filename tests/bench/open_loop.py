"""Open-loop load on the HTTP door: requests leave when they are due, whatever becomes of those before them.

A closed loop waits for an answer before it asks again, and so asks less just when answers are slow. Latencies count from
when a request was due. The generator spins, on a core of its own: a timer of the loop would be up to a millisecond late.
"""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack

from tests.bench.load import CONNECTIONS, Signed, answer_size


class _Peer:
    """One keep-alive connection, with at most one request under way."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due = 0.0  # when its request was
        self._answer = b""

    def take(self) -> bool:
        """Read what is there; whether the answer is whole. Raises RuntimeError where it is no good one."""
        data = self.socket.recv(65536)
        self._answer += data
        size = answer_size(self._answer)
        if data and (size is None or len(self._answer) < size):
            return False
        answer, self._answer = self._answer, b""
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(answer.decode(errors="replace") or "the frontend hung up")
        return True


def open_latencies(signed: Signed, rate: float, seconds: float) -> list[float]:
    """Microseconds of each of `rate` requests a second, evenly spaced, over 16 connections."""
    return _drive(signed, seconds, lambda number: number / rate)


def capacity(signed: Signed, seconds: float) -> float:
    """Requests a second if all connections always have one under way."""
    return len(_drive(signed, seconds, lambda number: 0.0)) / seconds


def _drive(signed: Signed, seconds: float, due: Callable[[int], float]) -> list[float]:
    """`due`: when a request of this number is, in seconds since the beginning."""
    host, _, port = signed.host.rpartition(":")
    raw, clock, taken, sent = signed.raw(), time.perf_counter, list[float](), 0
    with ExitStack() as stack:
        poll = stack.enter_context(select.epoll())
        peers: dict[int, _Peer] = {}
        for _ in range(CONNECTIONS):
            peer = _Peer((host, int(port)))
            stack.enter_context(peer.socket)
            peers[peer.socket.fileno()] = peer
            poll.register(peer.socket, select.EPOLLIN)
        idle = deque(peers.values())
        began = clock()
        while True:
            now = clock() - began
            while idle and now < seconds and due(sent) <= now:
                peer = idle.popleft()
                peer.due, sent = due(sent), sent + 1
                peer.socket.sendall(raw)
            if now >= seconds and len(idle) == len(peers):
                return taken
            for number, _ in poll.poll(0):
                peer = peers[number]
                if peer.take():
                    taken.append((clock() - began - peer.due) * 1e6)
                    idle.append(peer)
