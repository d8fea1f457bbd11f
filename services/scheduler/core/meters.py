"""The request-rate rule: so many requests a second for each execution of a limit, whoever invokes.

Warm invocations do not pass through the scheduler, so callers hold *permissions*: the scheduler takes them from a
bucket when it hands them out, so that all callers together never start more requests than the bucket has given. What a
caller has not used is asked back when the bucket is empty, before anyone is refused.
Source: https://docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html ("requests per second")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.scheduler.core.buckets import Bucket, Rate

if TYPE_CHECKING:
    from services.scheduler.core.events import RateScope, Ticket
    from services.scheduler.core.ledger import Account, Function
    from services.scheduler.core.pools import Pool, Request

# Share of what is there that one wish may take: others come too.
LARGEST_SHARE = 4


class Meter:
    """The request rate of one limit: of a tenant's unreserved pool, a function's reserved or a version's provisioned
    concurrency."""

    __slots__ = ("_bucket", "asks", "holders", "pending", "requests", "round", "scope", "take_one", "whose")

    def __init__(self, whose: Account | Function | Pool, scope: RateScope, per_second: float) -> None:
        self.whose = whose
        self.scope = scope
        self._bucket = Bucket(Rate(per_second, per_second))
        self.take_one = self._bucket.take_one  # permission for one request
        self.holders: dict[str, None] = {}  # callers that were given permissions since they were asked for all of them
        self.round = 0
        self.pending: set[str] = set()  # callers that have not answered the round
        self.requests: dict[Ticket, Request] = {}  # wait for the end of the round
        self.asks: list[str] = []  # callers that wait for the end of the round

    def change(self, per_second: float) -> None:
        """Change the rate; what was given stays given."""
        self._bucket.change(Rate(per_second, per_second))

    def take_share(self, caller_id: str, wanted: int, now: float) -> int:
        """Take what a caller wants in advance, at most its share of what is there."""
        there = self._bucket.available(now)
        taken = self._bucket.take(min(wanted, max(1, there // LARGEST_SHARE)), now)
        if taken:
            self.holders[caller_id] = None
        return taken

    def put_back(self, permissions: int) -> None:
        """Take unused ones back."""
        self._bucket.put_back(permissions)

    def begin_round(self, besides: str) -> set[str]:
        """Ask every holder but the one that asks for what it has not used; empty: a round runs, or nobody holds any."""
        if self.pending:
            return set()
        self.pending = {caller_id for caller_id in self.holders if caller_id != besides}
        for caller_id in self.pending:
            # It gives back what it was given before this; what it gets from now on it holds after its answer too.
            del self.holders[caller_id]
        self.round += 1
        return self.pending

    def answered(self, caller_id: str, round: int | None) -> bool:
        """A caller gave permissions back. True: the round has ended with it.

        `round`: the one it answers; 0: none, it gave a part back of its own accord; None: it is gone with what it held.
        """
        if round is None:
            self.holders.pop(caller_id, None)
        if not self.pending or round not in (None, self.round):
            return False
        self.pending.discard(caller_id)
        return not self.pending

    def retry_after(self, now: float) -> float:
        """Seconds until it is worth asking again."""
        return max(0.0, self._bucket.next_at(now) - now)
