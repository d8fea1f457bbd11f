"""A peer that is gone without a word: a machine without power, a cable that is cut. Nobody says so on a connection that
waits for an answer, so the kernel is told to ask."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping

# Seconds without a word before it asks, between questions, and how many stay unanswered.
_IDLE, _BETWEEN, _QUESTIONS = 3, 1, 3
# The same as options of a TCP socket (tcp(7)).
KEEP_ALIVE: Mapping[int, int] = {
    socket.TCP_KEEPIDLE: _IDLE,
    socket.TCP_KEEPINTVL: _BETWEEN,
    socket.TCP_KEEPCNT: _QUESTIONS,
}
# How long what was sent may go unacknowledged: milliseconds.
_UNACKNOWLEDGED = 1000 * (_IDLE + _BETWEEN * _QUESTIONS)
# How long a connection may take to be made: seconds.
CONNECT_SECONDS = 3.0


async def listens(address: str, seconds: float) -> bool | None:
    """Whether a process listens at HOST:PORT. False: the machine there says that none does. None: nobody said
    anything within so many seconds."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except ConnectionRefusedError:
        return False
    except (OSError, ValueError):  # a timeout is one, too
        return None
    writer.transport.abort()
    return True


def notice(transport: asyncio.BaseTransport) -> None:
    """Have a TCP connection break within some six seconds of its peer's silence. Others are of this machine."""
    made = transport.get_extra_info("socket")
    if made is None or made.family not in (socket.AF_INET, socket.AF_INET6):
        return
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in {**KEEP_ALIVE, socket.TCP_USER_TIMEOUT: _UNACKNOWLEDGED}.items():
        made.setsockopt(socket.IPPROTO_TCP, option, value)
