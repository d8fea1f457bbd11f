"""Who leads, by a Lease object (coordination.k8s.io/v1) that is renewed.

What others read of it is as they expect: `spec.holderIdentity`, `leaseDurationSeconds`, `acquireTime`, `renewTime`,
`leaseTransitions`. Three annotations are ours: the term, the exact duration, as the spec has whole seconds only, and
where the leader listens.

Nobody compares clocks. A Lease has expired once *this* process has seen the same record, unchanged, for as long as it
lasts, by its own monotonic clock; whoever writes does so on the version that it has read, or not at all.

Nobody waits for the dead, either: a leader listens for as long as it leads, so an address that answered and where now
nobody listens, on a machine that says so, is a leader's that has ended.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from lambent.domain.clock import Clock
from lambent.domain.errors import AwsError
from lambent.infra.silence import listens
from services.scheduler.adapters.kubernetes_api import ApiAway, ApiRefused, KubernetesApi, Object
from services.scheduler.leadership import LOOKS

TERM, MILLISECONDS, ADDRESS = "lambent.dev/term", "lambent.dev/lease-milliseconds", "lambent.dev/address"
LEASES = "apis/coordination.k8s.io/v1 leases"


class LeaseElection:
    """An `Election` among the schedulers of one namespace."""

    def __init__(
        self, api: KubernetesApi, lease: str, name: str, seconds: float, clock: Clock, *, address: str = ""
    ) -> None:
        """`lease`: the object's name. `name`: unique among live schedulers. `seconds`: how long one leads unless it
        renews, and how long an answer may take. `address`: HOST:PORT where this one, and nobody else, listens now and
        until it leads no more; empty: others find out by time alone."""
        self._api = api
        self._lease = lease
        self._name = name
        self._seconds = seconds
        self._clock = clock
        self._address = address
        self._mine: Object = {}  # the Lease as this one last wrote or read it; meaningful while it leads
        self._last_term = 0  # the greatest that was met
        self._seen: tuple[str, str, str] | None = None  # another's record
        self._seen_at = -math.inf  # when it was first seen: monotonic seconds
        self._heard = ""  # holder whose address has answered here

    async def acquire(self) -> int | None:
        async with self._bounded():
            try:
                lease = await self._api.get(f"{LEASES}/{self._lease}")
            except ApiRefused as error:
                if error.status != 404:
                    raise
                lease = None
            if lease is None:
                fresh: Object = {"metadata": {"name": self._lease}, "spec": {}}
                return await self._begin(fresh, self._api.create, LEASES)
            self._last_term = max(self._last_term, _term_of(lease))
            if not (self._free(lease) or await self._ended(lease)):
                return None
            return await self._begin(lease, self._api.replace, f"{LEASES}/{self._lease}")

    def _free(self, lease: Object) -> bool:
        """Whether nobody leads by this Lease: it was given back, or is not renewed any more."""
        spec = lease.get("spec") or {}
        holder = str(spec.get("holderIdentity") or "")
        if not holder or holder == self._name:
            # Who asks does not lead: an own name there is from a leadership that is over.
            return True
        record = (holder, str(spec.get("renewTime")), str(_term_of(lease)))
        now = self._clock.monotonic()
        if record != self._seen:
            self._seen, self._seen_at = record, now
            return False
        return now >= self._seen_at + max(self._seconds, _duration_of(lease))

    async def _ended(self, lease: Object) -> bool:
        """Whether its holder's process is known to have ended.

        That an address refuses says so only where it answered before: a network's rules may refuse, too.
        """
        address, holder = str(_annotations(lease).get(ADDRESS, "")), str(lease["spec"]["holderIdentity"])
        if not address:
            return False
        if address == self._address:
            return True  # of a process before this one: a pod that was started again keeps its address
        found = await listens(address, self._seconds / LOOKS)
        if found:
            self._heard = holder
        return found is False and self._heard == holder

    async def _begin(self, lease: Object, write: Callable[[str, Object], Awaitable[Object]], path: str) -> int | None:
        term = max(int(self._clock.epoch() * 1000), self._last_term + 1)
        spec = lease.get("spec") or {}
        transitions = int(spec.get("leaseTransitions") or 0) + (lease["metadata"].get("resourceVersion") is not None)
        lease["spec"] = spec
        spec |= {"holderIdentity": self._name, "acquireTime": self._time(), "leaseTransitions": transitions}
        self._stamp(lease, term)
        try:
            self._mine = await write(path, lease)
        except ApiRefused as error:
            if error.status == 409:
                return None  # another was faster
            raise
        self._last_term, self._seen = term, None
        return term

    async def renew(self, term: int) -> bool:
        async with self._bounded():
            return await self._write_mine(term, leads=True)

    async def release(self, term: int) -> None:
        async with self._bounded():
            await self._write_mine(term, leads=False)

    async def _write_mine(self, term: int, *, leads: bool) -> bool:
        """Renew or give back the Lease under this term. False: it is not held under it."""
        path = f"{LEASES}/{self._lease}"
        lease = self._mine
        while True:
            spec = lease.get("spec") or {}
            if spec.get("holderIdentity") != self._name or _term_of(lease) != term:
                return False
            self._stamp(lease, term)
            if not leads:
                spec |= {"holderIdentity": "", "leaseDurationSeconds": 1}
            try:
                self._mine = await self._api.replace(path, lease)
                return True
            except ApiRefused as error:
                if error.status == 404:
                    return False
                if error.status != 409:
                    raise
            # Written meanwhile: by another leader, by somebody who keeps labels, or by a write of our own whose
            # answer was lost.
            try:
                lease = self._mine = await self._api.get(path)
            except ApiRefused as error:
                if error.status == 404:
                    return False
                raise

    def _stamp(self, lease: Object, term: int) -> None:
        lease["spec"] |= {"renewTime": self._time(), "leaseDurationSeconds": math.ceil(self._seconds)}
        annotations = lease["metadata"].setdefault("annotations", {})
        annotations |= {TERM: str(term), MILLISECONDS: str(int(self._seconds * 1000)), ADDRESS: self._address}

    def _time(self) -> str:
        """Now, as Kubernetes writes a MicroTime."""
        return datetime.fromtimestamp(self._clock.epoch(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    @asynccontextmanager
    async def _bounded(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._seconds):
                yield
        except (ApiRefused, ApiAway, TimeoutError) as error:
            raise AwsError(
                "ServiceUnavailableException", f"Who leads cannot be found out: {str(error) or 'no answer in time'}."
            ) from error


def _annotations(lease: Object) -> Object:
    found: Object = lease["metadata"].get("annotations") or {}
    return found


def _number(lease: Object, name: str) -> int:
    text = str(_annotations(lease).get(name, ""))
    return int(text) if text.isdecimal() else 0


def _term_of(lease: Object) -> int:
    return _number(lease, TERM)


def _duration_of(lease: Object) -> float:
    """For how long the holder leads after a renewal: seconds."""
    exact = _number(lease, MILLISECONDS)
    return exact / 1000 if exact else float((lease.get("spec") or {}).get("leaseDurationSeconds") or 0)
