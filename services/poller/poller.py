"""Drains the queue: chooses, leases, runs, settles. The rules are `core.choice` and `lambent.domain.async_events`."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from lambent.domain.async_events import Condition, Decision, End, Outcome, RetryPolicy, decide, too_old
from lambent.domain.destinations import Ended
from lambent.domain.errors import AwsError
from lambent.domain.names import FunctionRef, Tenant
from lambent.infra import rpc
from lambent.infra.coalescing import Coalescer
from lambent.infra.functions.directory import Known
from lambent.infra.queue.port import Dead, Delayed, Done, EventQueue, Item, Leased, QueueKey, Settlement
from lambent.infra.queue.records import (
    DELIVERIES,
    Event,
    EventState,
    decode_delivery,
    decode_event,
    decode_state,
    encode,
)
from lambent.infra.tasks import TaskOwner
from lambent.infra.telemetry import Reading, Telemetry
from services.poller.attempts import Attempt, Attempts, Request
from services.poller.core.choice import LASTING_SECONDS, Choice, Effect, Visit
from services.poller.outbox import Outbox
from services.poller.sending import Deliveries

_log = logging.getLogger(__name__)

# How often the store is asked for queues whose announcement was missed or whose delay is over, how far ahead it is
# asked, and for how many of each tenant at a time.
LOOK_SECONDS, LOOK_AHEAD_SECONDS, LOOK_QUEUES = 0.5, 1.0, 1000
# Every how many looks the clock is set anew.
LOOKS_BETWEEN_CLOCKS = 100
# How long a visit waits that found the store away.
AWAY_SECONDS = 1.0
# Share of a lease after which it is renewed.
RENEW_SHARE = 1 / 3
# How long an event that has ended waits for others to be settled with it: that costs nobody anything, and takes a third
# of the commands, since leases grow with it.
SETTLE_SECONDS = 0.002
HELD_BACK = (Outcome.THROTTLED, Outcome.SYSTEM_ERROR)


@dataclass(slots=True)
class _Held:
    """An item that is leased here."""

    token: str  # of its lease
    visit: Visit[QueueKey]
    began: float = math.inf  # when it had an environment, by the queue's clock


class Poller:
    """Runs what is in the queues, until it is stopped."""

    def __init__(
        self,
        queue: EventQueue,
        attempts: Attempts,
        deliveries: Deliveries,
        outbox: Outbox,
        policy: RetryPolicy,
        telemetry: Telemetry,
        rng: random.Random,
        *,
        running: int,
        lease_seconds: float,
    ) -> None:
        """`policy`: of functions that set nothing. `running`: most events at once. `lease_seconds`: after which another
        may take over what this one holds."""
        self._queue = queue
        self._attempts = attempts
        self._deliveries = deliveries
        self._outbox = outbox
        self._policy = policy
        self._rng = rng
        self._lease_seconds = lease_seconds
        self._choice: Choice[QueueKey] = Choice(running)
        self._held: dict[tuple[QueueKey, str], _Held] = {}
        self._kick = asyncio.Event()
        self._settles: Coalescer[QueueKey, Settlement, bool] = Coalescer(
            "settle", self._settle_batch, _weight, SETTLE_SECONDS
        )
        self._reading = TaskOwner("poller")
        self._working = TaskOwner("events")
        self._dropped: Counter[tuple[Tenant, str, str]] = Counter()  # by function and condition
        self._ages = telemetry.histogram("aws.lambda.asynceventage")
        telemetry.observe("aws.lambda.asynceventsdropped", self._readings)

    async def start(self) -> None:
        """Begin to read. Raises ServiceUnavailableException."""
        await self._queue.synchronize()
        for name, loop in (
            ("choose", self._choose), ("listen", self._listen), ("look", self._look), ("notice", self._notice),
            ("renew", self._renew),
        ):  # fmt: skip
            self._reading.start(name, self._kept(name, loop))

    async def _kept(self, name: str, loop: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a loop for ever: a defect that ends it must not end the reading of queues."""
        while True:
            try:
                await loop()
            except Exception:
                _log.exception("the poller's loop %s failed and begins again", name)
            await asyncio.sleep(AWAY_SECONDS)

    async def stop(self, seconds: float) -> None:
        """Read no more, let what runs end, at most `seconds`; what does not is taken over by another poller."""
        # Leases are renewed for as long as anything runs.
        for task in self._reading.named("choose", "listen", "look", "notice"):
            task.cancel()
        # Twice: what a visit that was under way has leased runs too.
        if not await self._working.drain(seconds):
            await self._working.drain(seconds)
        await self._reading.close()
        await self._working.close()
        await self._settles.close()

    # Reading

    async def _choose(self) -> None:
        """Visit queues as their turns come."""
        loop = asyncio.get_running_loop()
        while True:
            self._kick.clear()
            now = self._queue.now()
            for visit in self._choice.pick(now):
                self._working.start("visit", self._visit(visit))
            at = self._choice.next_at()
            timer = None if at is None else loop.call_later(max(at - now, 0), self._kick.set)
            await self._kick.wait()
            if timer is not None:
                timer.cancel()

    async def _listen(self) -> None:
        """Hear of queues that were empty until now."""
        async for key in self._queue.wakes():
            self._wake(key, self._queue.now())

    async def _look(self) -> None:
        """Find what nobody announced: delays that are over, leases that ran out, announcements that were missed."""
        for looks in itertools.count(1):
            try:
                if looks % LOOKS_BETWEEN_CLOCKS == 0:
                    await self._queue.synchronize()
                for tenant in await self._queue.tenants():
                    before = self._queue.now() + LOOK_AHEAD_SECONDS
                    for name, at in await self._queue.due(tenant, before, LOOK_QUEUES):
                        self._wake(QueueKey(tenant, name), at)
            except AwsError as error:
                _log.warning("the queue cannot be read: %s", error.message)
            await asyncio.sleep(LOOK_SECONDS)

    def _wake(self, key: QueueKey, at: float) -> None:
        self._choice.wake(key, at, self._queue.now())
        self._kick.set()

    async def _visit(self, visit: Visit[QueueKey]) -> None:
        """Lease what may be leased of one queue, and run it."""
        key = visit.key
        now = self._queue.now()
        try:
            batch = await self._queue.lease(key, visit.count, now, now + self._lease_seconds)
        except AwsError as error:
            _log.warning("the queue cannot be read: %s", error.message)
            now = self._queue.now()
            self._choice.visited(visit, 0, now + AWAY_SECONDS, now)
        except Exception:
            # A defect must not end the visits to a queue.
            _log.exception("a visit to a queue failed")
            now = self._queue.now()
            self._choice.visited(visit, 0, now + AWAY_SECONDS, now)
        else:
            for item in batch.items:
                held = self._held[key, item.id] = _Held(item.token, visit)
                self._working.start(item.id, self._work(held, item))
            self._choice.visited(visit, len(batch.items), batch.next_due, self._queue.now(), batch.priority)
        self._kick.set()

    async def _notice(self) -> None:
        """Tell of what runs for long."""
        while True:
            await asyncio.sleep(LASTING_SECONDS)
            now = self._queue.now()
            visits = [item.visit for item in self._held.values() if item.began <= now - LASTING_SECONDS]
            if visits:
                self._choice.lasting(visits, now)
                self._kick.set()

    # Running

    async def _work(self, held: _Held, item: Leased) -> None:
        """One item from its lease to its settlement."""
        effect = Effect.HELD_BACK
        visit = held.visit
        try:
            try:
                settlement, effect = await self._run(held, item)
            except Exception:
                # A defect must not have it run again and again, as whoever leases it next would.
                _log.exception("an item of a queue could not be ended", extra={"request_id": item.id})
                settlement = self._broken(visit.key, item)
            await self._settle(visit.key, settlement)
            if isinstance(settlement.verdict, Delayed):
                self._wake(visit.key, settlement.verdict.until)
        finally:
            if self._held.get((visit.key, item.id)) is held:
                del self._held[visit.key, item.id]
            self._choice.ended(visit, effect, self._queue.now())
            self._kick.set()

    async def _run(self, held: _Held, item: Leased) -> tuple[Settlement, Effect]:
        """An attempt at an event or a delivery; answers what becomes of it, and what that says about its queue."""
        key = held.visit.key
        if key.name.startswith(DELIVERIES):
            verdict, held_back = await self._deliveries.run(key, item, self._queue.now())
            return Settlement(item.id, item.token, verdict), Effect.HELD_BACK if held_back else Effect.THROUGH
        event, payload = decode_event(item.value)
        before, response = decode_state(item.state)
        ref = FunctionRef(key.tenant, key.name, event.qualifier)
        found = await self._attempts.find(ref)
        policy = self._policy
        if isinstance(found, Known) and found.event_config is not None:
            policy = found.event_config.policy(policy)
        progress = before.progress(event.ready)
        attempt: Attempt | None = None
        decision: Decision | None = too_old(progress, policy, self._queue.now())
        if decision is None:
            attempt = await self._attempt(ref, found, held, item.id, event, payload)
            decision = decide(progress, attempt.outcome, policy, self._queue.now())
            if attempt.version is not None:
                response = attempt.response
        state = _after(before, attempt, decision)
        if not isinstance(decision, End):
            return Settlement(item.id, item.token, Delayed(decision.at, encode(state, response))), _effect(attempt)
        then: tuple[Item, ...] = ()
        if isinstance(found, Known):
            ended = Ended(
                key.tenant, key.name, event.qualifier, item.id, decision.condition, state.attempts, self._queue.now(),
                payload, state.version, state.error, response, state.detail,
            )  # fmt: skip
            ran = attempt is not None and attempt.trace
            then = self._outbox.of(ended, found, ran or event.trace)
        if decision.condition is Condition.SUCCESS:
            return Settlement(item.id, item.token, Done(), then), _effect(attempt)
        self._dropped[key.tenant, key.name, decision.condition] += 1
        _log.info(
            "event given up",
            extra={"function": ref.arn, "request_id": item.id, "reason": decision.condition, "detail": state.detail},
        )
        # That it was given up says nothing about whether others would be held back.
        return Settlement(item.id, item.token, Dead(encode(state, response)), then), Effect.THROUGH

    def _broken(self, key: QueueKey, item: Leased) -> Settlement:
        """What becomes of an item that a defect of ours stands against: it is tried again, less and less often, until
        it is too old. What cannot even be read is dead."""
        now = self._queue.now()
        try:
            before, response = decode_state(item.state)
            if key.name.startswith(DELIVERIES):
                ready = decode_delivery(item.value)[0].since
            else:
                ready = decode_event(item.value)[0].ready
        except Exception:
            return Settlement(item.id, item.token, Dead(item.state))
        decision = decide(before.progress(ready), Outcome.SYSTEM_ERROR, self._policy, now)
        state = encode(_after(before, Attempt(Outcome.SYSTEM_ERROR, "InternalError"), decision), response)
        verdict = Dead(state) if isinstance(decision, End) else Delayed(decision.at, state)
        return Settlement(item.id, item.token, verdict)

    async def _attempt(
        self, ref: FunctionRef, found: Known | Attempt, held: _Held, request_id: str, event: Event, payload: bytes
    ) -> Attempt:
        if isinstance(found, Attempt):
            return found
        if self._ages is not None:
            self._ages.record((self._queue.now() - event.ready) * 1000, {"FunctionName": ref.name})

        def begins() -> None:
            held.began = self._queue.now()

        return await self._attempts.run(ref, found, Request(request_id, event.trace), payload, begins, event.tenant_id)

    # Settling and renewing

    async def _settle(self, key: QueueKey, settlement: Settlement) -> None:
        """Say what became of an item, until the store has it or somebody else has the item."""
        for delay in rpc.delays(self._rng):
            try:
                if not await self._settles.submit(key, settlement):
                    _log.warning("an event was taken over before it ended", extra={"request_id": settlement.id})
                return
            except AwsError as error:
                _log.warning("an event cannot be settled: %s", error.message, extra={"request_id": settlement.id})
                await asyncio.sleep(delay)

    async def _settle_batch(self, key: QueueKey, settlements: Sequence[Settlement]) -> Sequence[bool]:
        settled = await self._queue.settle(key, settlements, self._queue.now())
        return [each.id in settled for each in settlements]

    async def _renew(self) -> None:
        """Hold on to what still runs."""
        while True:
            await asyncio.sleep(self._lease_seconds * RENEW_SHARE)
            by_queue: defaultdict[QueueKey, list[tuple[str, str]]] = defaultdict(list)
            for (key, id_), item in self._held.items():
                by_queue[key].append((id_, item.token))
            try:
                for key, held in by_queue.items():
                    await self._queue.renew(key, held, self._queue.now() + self._lease_seconds)
            except AwsError as error:
                _log.warning("leases cannot be renewed: %s", error.message)

    def _readings(self) -> list[Reading]:
        return [
            (
                {"FunctionName": name, "account": tenant.account, "region": tenant.region, "condition": condition},
                count,
            )
            for (tenant, name, condition), count in self._dropped.items()
        ]


def _after(before: EventState, attempt: Attempt | None, decision: Decision) -> EventState:
    """What is kept of an event after a decision; what the handler answered last stays until it answers again."""
    ran = attempt is not None and attempt.version is not None
    return EventState(
        decision.progress.attempts,
        decision.progress.deferrals,
        decision.condition if isinstance(decision, End) else decision.reason,
        before.detail if attempt is None else attempt.detail,
        attempt.version if attempt is not None and ran else before.version,
        attempt.error if attempt is not None and ran else before.error,
        before.since,
    )


def _effect(attempt: Attempt | None) -> Effect:
    """What an attempt says about its queue."""
    if attempt is None:
        return Effect.THROUGH
    if attempt.outcome in HELD_BACK:
        return Effect.HELD_BACK
    return Effect.SLOW if attempt.slow else Effect.THROUGH


def _weight(settlement: Settlement) -> int:
    verdict = settlement.verdict
    state = 0 if isinstance(verdict, Done) else len(verdict.state)
    return state + sum(len(item.value) for item in settlement.then)
