"""One scheduler leads, the others stand by. A leader that cannot renew in time stops by its own clock, before anybody
else can begin: two never lead at once, whatever the network does (decision 11).
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from typing import Protocol

from lambent.domain.clock import Clock
from lambent.domain.errors import AwsError

_log = logging.getLogger(__name__)

# Share of the time for which a leader was confirmed in which it leads: its clock may run slower than the store's.
SAFE_SHARE = 0.8
# How often in that time it renews, and how often a standby looks.
RENEWALS = 4
LOOKS = 8


class Election(Protocol):
    """Where it is decided who leads. Every method raises ServiceUnavailableException while that is out of reach."""

    async def acquire(self) -> int | None:
        """Begin to lead if nobody does: the term, greater than all before it. None: another leads."""
        ...

    async def renew(self, term: int) -> bool:
        """Go on leading. False: another leads, or nobody does."""
        ...

    async def release(self, term: int) -> None:
        """End it, so that another need not wait."""
        ...


class Leadership:
    """One scheduler's part in it."""

    def __init__(
        self,
        election: Election,
        clock: Clock,
        seconds: float,
        lead: Callable[[int], None],
        step_down: Callable[[], None],
    ) -> None:
        """`seconds`: how long one leads unless it renews. `lead` is told the term."""
        self._election = election
        self._clock = clock
        self._seconds = seconds
        self._lead = lead
        self._step_down = step_down
        self._until = -math.inf  # monotonic seconds; leading is over then, unless it was renewed
        self._term = 0

    @property
    def leads(self) -> bool:
        """Whether this one leads at this instant. To be asked before anything is granted or sent."""
        return self._clock.monotonic() < self._until

    async def run(self) -> None:
        """Stand by, lead, stand by again, for ever."""
        while True:
            began = self._clock.monotonic()
            try:
                term = await self._election.acquire()
            except AwsError as error:
                _log.warning("nobody can be asked who leads", extra={"reason": str(error)})
                term = None
            except Exception:  # as below
                _log.exception("asking who leads failed")
                term = None
            if term is None:
                await asyncio.sleep(self._seconds / LOOKS)
                continue
            self._term, self._until = term, began + self._seconds * SAFE_SHARE
            if not self.leads:
                _log.warning("leadership came too late to be used", extra={"term": term})
                await self._give_back()
                continue
            _log.info("this scheduler leads", extra={"term": term})
            try:
                self._lead(term)
                await self._keep()
            except Exception:
                # Whatever goes wrong while it leads, it stands by again: a scheduler that does neither helps nobody.
                _log.exception("leading failed")
            self._until = -math.inf
            _log.warning("this scheduler leads no more", extra={"term": term})
            self._step_down()

    async def _keep(self) -> None:
        """Renew until that fails for too long, or another leads."""
        while self.leads:
            await asyncio.sleep(min(self._seconds / RENEWALS, self._until - self._clock.monotonic()))
            began = self._clock.monotonic()
            try:
                async with asyncio.timeout(self._until - began):
                    if not await self._election.renew(self._term):
                        return
            except (AwsError, TimeoutError) as error:
                _log.warning("leadership was not renewed", extra={"reason": repr(error)})
                continue
            self._until = began + self._seconds * SAFE_SHARE

    async def resign(self) -> None:
        """Lead no more, and let another begin at once."""
        if self.leads:
            self._until = -math.inf
            await self._give_back()

    async def _give_back(self) -> None:
        try:
            await self._election.release(self._term)
        except AwsError as error:
            _log.warning("leadership was not released; it ends by itself", extra={"reason": str(error)})


class Alone:
    """The `leads` of a scheduler without standby."""

    leads = True
