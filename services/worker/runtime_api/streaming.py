"""A response on its way piece by piece: how much may be on its way, how fast it may go. Pure.

Source: https://docs.aws.amazon.com/lambda/latest/dg/configuration-response-streaming.html
"""

from __future__ import annotations

from lambent.domain.limits import Limits
from lambent.infra.frames import WINDOW


class ResponseStream:
    """One response. Times are monotonic seconds that the shell passes in."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.total = 0  # bytes
        self._outstanding = 0  # bytes that the caller has not taken; below 0: it takes more than has come
        self._slow_since: float | None = None  # when what is not paced had gone out; None: it has not

    @property
    def too_large(self) -> bool:
        """Whether more has come than a response may have."""
        return self.total > self._limits.streamed_response_bytes

    @property
    def full(self) -> bool:
        """Whether the caller has to take something before more is read."""
        return self._outstanding >= WINDOW

    def sent(self, size: int, now: float) -> float:
        """So many bytes have gone out; answers how many seconds nothing more may."""
        self.total += size
        self._outstanding += size
        over = self.total - self._limits.streamed_free_bytes
        if over <= 0:
            return 0.0
        if self._slow_since is None:
            self._slow_since = now
        return max(0.0, over / self._limits.streamed_bytes_per_second - (now - self._slow_since))

    def taken(self, size: int) -> None:
        """The caller has taken so many bytes."""
        self._outstanding -= size
