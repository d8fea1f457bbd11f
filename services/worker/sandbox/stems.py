"""Stems: forked children of one zygote that wait for their claim, kept ready in advance.

When none is left the fork is ordered and claimed at once; zygotes fork one at a time, which bounds a burst by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from services.worker.sandbox.cgroups import Group
from services.worker.sandbox.port import SandboxUnavailable
from services.worker.sandbox.zygotes import Child, Zygote

_log = logging.getLogger(__name__)

REFILL_DELAY = 0.004  # s; a claimed stem has its function to import, which a refill would compete with
_RETRY_DELAY = 1.0  # s
_MOST_PENDING = 2  # forks ordered ahead
# So many taken in so many seconds are a rush: what stems could do ahead would take processor time from starts.
_RUSH, _RUSH_SECONDS = 4, 0.05


@dataclass(slots=True)
class Stem:
    """One child and what the worker holds of it."""

    child: Child
    channel: socket.socket
    output: int
    group: Group | None


# Given the guest's end of the channel, the pipe for output and the files of a control group.
_Order = Callable[[socket.socket, int, list[int]], Child]


class Remains(Protocol):
    """Where groups come from, and where what is left of a child goes."""

    def new_group(self) -> Group | None: ...

    def bury(self, group: Group | None, *descriptors: int | None) -> None: ...


def is_calm(taken: Sequence[float], now: float) -> bool:
    """Whether stems are wanted so seldom that one may do things ahead. `taken`: when the last ones were taken."""
    return len(taken) < _RUSH or now - taken[-_RUSH] > _RUSH_SECONDS


class Stems:
    """The stems of one interpreter."""

    def __init__(
        self,
        interpreter: Path,
        config: dict[str, Any],
        count: int,
        remains: Remains,
        on_lost: Callable[[Stems], None],
    ) -> None:
        """`config`: the zygote's; `count`: kept ready; `on_lost` is called when the zygote has ended by itself."""
        self.interpreter = interpreter
        self.zygote = Zygote(interpreter, config, lambda _: on_lost(self))
        self._count = count
        self._remains = remains
        self._ready: deque[Stem] = deque()
        self._taken: deque[float] = deque(maxlen=_RUSH)
        self._refill_timer: asyncio.TimerHandle | None = None
        self._closed = False

    async def start(self) -> None:
        """Start the zygote and a first child, which tells whether the machine allows all that a sandbox needs. Raises
        SandboxUnavailable."""
        await self.zygote.start()
        ended: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        stem = self._order(self._fork(calm=True))
        stem.child.on_change = lambda child: None if ended.done() else ended.set_result(child.status)
        status = await ended
        stem.child.on_change = None
        if status is not None:
            said = ""
            with contextlib.suppress(BlockingIOError):
                said = os.read(stem.output, 65536).decode(errors="replace").strip().rpartition("\n")[2]
            self.drop(stem)
            raise SandboxUnavailable(said or "a first sandbox ended at once")
        self._ready.append(stem)
        self._refill()

    async def restart(self) -> None:
        """Start the zygote anew after it was lost."""
        while self._ready:
            self.drop(self._ready.popleft())
        await self.zygote.start()
        self._refill()

    def take(self) -> Stem:
        """One that lives, made now if none is ready. Raises OSError."""
        self._taken.append(asyncio.get_running_loop().time())
        while self._ready:
            stem = self._ready.popleft()
            if stem.child.status is None:
                self._refill_soon(REFILL_DELAY if self._ready else 0.0)
                return stem
            self.drop(stem)
        stem = self._order(self._fork(calm=False))
        self._refill_soon(0.0)
        return stem

    def drop(self, stem: Stem) -> None:
        """End a stem that was never claimed."""

        def ended(child: Child) -> None:
            if child.status is not None:
                self._remains.bury(stem.group, *child.forget())

        stem.child.on_change = ended
        stem.child.kill()
        stem.channel.close()
        os.close(stem.output)
        if stem.child.status is not None:
            ended(stem.child)

    async def close(self) -> None:
        """End every child and the zygote."""
        self._closed = True
        if self._refill_timer is not None:
            self._refill_timer.cancel()
        while self._ready:
            self.drop(self._ready.popleft())
        for child in list(self.zygote.children.values()):
            child.kill()
        for _ in range(200):
            if not self.zygote.children:
                break
            await asyncio.sleep(0.01)
        await self.zygote.close()

    def pause(
        self, snapshot: Child, claim: Mapping[str, Any], users: tuple[int, int] | None, bridge: socket.socket
    ) -> Stem:
        """A sandbox for what a snapshot forks, as `Zygote.pause` says. Raises OSError."""
        return self._order(
            lambda channel, output, groups: self.zygote.pause(
                snapshot, claim, users, channel, output, bridge, groups
            ),
            shut=False,
        )  # fmt: skip

    def _fork(self, *, calm: bool) -> _Order:
        return lambda channel, output, groups: self.zygote.fork(channel, output, groups, calm=calm)

    def _order(self, order: _Order, *, shut: bool = True) -> Stem:
        """Order one. `shut`: nothing else comes into its group."""
        host, guest = socket.socketpair()
        host.setblocking(False)
        read, write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(read, False)
        group = None
        try:
            group = self._remains.new_group()
            child = order(guest, write, [] if group is None else group.entries)
        except OSError:
            host.close()
            os.close(read)
            if group is not None:
                group.shut()
                self._remains.bury(group)
            raise
        finally:
            guest.close()
            os.close(write)
            if group is not None and shut:
                group.shut()
        return Stem(child, host, read, group)

    def _refill(self) -> None:
        self._refill_timer = None
        if self._closed:
            return
        while self._ready and self._ready[0].child.status is not None:
            self.drop(self._ready.popleft())
        pending = sum(1 for stem in self._ready if not stem.child.ready)
        while len(self._ready) < self._count and pending < _MOST_PENDING:
            try:
                calm = is_calm(self._taken, asyncio.get_running_loop().time())
                stem = self._order(self._fork(calm=calm))
            except OSError as error:
                cause = {"interpreter": str(self.interpreter), "cause": str(error)}
                _log.error("no sandbox could be made in advance", extra=cause)
                self._refill_soon(_RETRY_DELAY)
                return
            stem.child.on_change = lambda _: self._refill_soon(0.0)
            self._ready.append(stem)
            pending += 1

    def _refill_soon(self, delay: float) -> None:
        if self._refill_timer is None and not self._closed:
            self._refill_timer = asyncio.get_running_loop().call_later(delay, self._refill)
