"""Acts on what is due at set times: claims it, tells functions, and notes when it is due next.

A poller that is lost in between leaves a claim that ends; the next one tells functions the same again, and nobody is
told twice: what is queued for a function has the same id and token.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter
from functools import partial
from typing import Generic, Protocol

from lambent.domain import event_schedules, rules
from lambent.domain.errors import AwsError
from lambent.domain.event_schedules import Schedule
from lambent.domain.names import Tenant, parse
from lambent.domain.rule_inputs import Event
from lambent.domain.rules import Rule
from lambent.domain.turns import Turn
from lambent.infra.due.port import Claim, DueStore, R
from lambent.infra.rule_targets import RuleTargets
from lambent.infra.tasks import TaskOwner, every
from lambent.infra.telemetry import Telemetry, by_function
from lambent.infra.telling import Teller, Telling

_log = logging.getLogger(__name__)

# How often it is looked at what is due, for how many records at a time, and for how long they are claimed.
LOOK_SECONDS, LOOK_RECORDS, CLAIM_SECONDS = 1.0, 100, 30.0
# How many are acted on at once: each takes a connection to the store, of which a process has so many.
AT_ONCE = 16


class Kind(Protocol[R]):
    """What one kind of records is, and what is to be done about one."""

    def turn(self, record: R, now: float) -> Turn | None:
        """What it asks for now; None: nothing yet."""
        ...

    async def tell(self, record: R, at: int) -> None:
        """Tell whom it says that it is time. Raises ServiceUnavailableException."""
        ...

    def acted(self, record: R, taken: Turn) -> R | None:
        """The record after its turn; None: it ends with it."""
        ...


class Rules:
    """EventBridge's rules that have a schedule."""

    def __init__(self, targets: RuleTargets) -> None:
        self._targets = targets

    def turn(self, record: Rule, now: float) -> Turn | None:
        return rules.turn(record, now)

    async def tell(self, record: Rule, at: int) -> None:
        event = Event(
            id=_id(record.arn, at),
            source="aws.events",
            detail_type="Scheduled Event",
            account=record.tenant.account,
            region=record.tenant.region,
            time=at,
            resources=(record.arn,),
            detail="{}",
            ingested=at,
        )
        await self._targets.tell([(record, event)], once=True)

    def acted(self, record: Rule, taken: Turn) -> Rule:
        return rules.acted(record, taken)


class Schedules:
    """EventBridge Scheduler's."""

    def __init__(self, teller: Teller, telemetry: Telemetry) -> None:
        self._teller = teller
        self._attempts: Counter[tuple[Tenant, str]] = Counter()
        self._errors: Counter[tuple[Tenant, str]] = Counter()
        for name, counts in (("invocationattemptcount", self._attempts), ("targeterrorcount", self._errors)):
            telemetry.observe(f"aws.scheduler.{name}", partial(by_function, counts, "ScheduleGroup"))

    def turn(self, record: Schedule, now: float) -> Turn | None:
        return event_schedules.turn(record, now)

    async def tell(self, record: Schedule, at: int) -> None:
        execution = _id(record.arn, at)
        target = record.wanted.target
        body = event_schedules.body(record, at, execution)
        telling = Telling(
            ref=parse(target.arn, None, record.tenant),
            request_id=execution,
            body=body,
            since=at,
            age_seconds=target.age_seconds,
            token=f"{record.key} {execution}",
            dead_letter_arn=target.dead_letter_arn,
            letter=body,
            attributes={"SCHEDULE_ARN": record.arn, "TARGET_ARN": target.arn},
        )
        [told] = await self._teller.tell(record.tenant, [telling])
        self._attempts[record.tenant, record.group] += 1
        if not told:
            self._errors[record.tenant, record.group] += 1

    def acted(self, record: Schedule, taken: Turn) -> Schedule | None:
        return event_schedules.acted(record, taken)


def _id(arn: str, at: int) -> str:
    """Of a time of a rule's or a schedule's: the same whoever acts on it."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{arn}@{at}"))


class Timekeeper(Generic[R]):
    """Acts on the records of one kind, of all tenants, as far as this poller comes to claim them."""

    def __init__(self, store: DueStore[R], kind: Kind[R], teller: Teller) -> None:
        self._store = store
        self._kind = kind
        self._teller = teller
        self._tasks = TaskOwner("timekeeper")

    def start(self) -> None:
        """Begin to look."""
        self._tasks.start("look", every(LOOK_SECONDS, self._look, "what is due cannot be looked at"))

    async def stop(self) -> None:
        """Look no more. What is claimed is left to others."""
        await self._tasks.close()

    async def _look(self) -> None:
        try:
            while await self.act() == LOOK_RECORDS:
                pass
        except AwsError:
            raise
        except Exception:
            # A defect must not end the looking.
            _log.exception("looking at what is due failed")

    async def act(self) -> int:
        """Act on what is due now; answers how many there were to look at. Raises ServiceUnavailableException."""
        claims = await self._store.claim(self._teller.now(), CLAIM_SECONDS, LOOK_RECORDS)
        outcomes: list[BaseException | None] = []
        for at in range(0, len(claims), AT_ONCE):
            acts = (self._act(claim) for claim in claims[at : at + AT_ONCE])
            outcomes += await asyncio.gather(*acts, return_exceptions=True)
        away: AwsError | None = None
        for claim, outcome in zip(claims, outcomes, strict=True):
            if isinstance(outcome, AwsError):
                away = outcome
            elif isinstance(outcome, Exception):
                # A defect must not end it for all others.
                _log.error("acting on what is due failed", extra={"record": claim.key}, exc_info=outcome)
        if away is not None:
            raise away
        return len(claims)

    async def _act(self, claim: Claim) -> None:
        record = await self._store.get(claim.tenant, claim.key)
        now = self._teller.now()
        taken = None if record is None else self._kind.turn(record, now)
        if record is None or taken is None:
            await self._store.settle(claim, None if record is None else record.due)
            return
        await self._kind.tell(record, taken.at)
        after = self._kind.acted(record, taken)
        # Where somebody has changed it, it is looked at again at once; nobody is told twice.
        done = await self._store.replace(record, after, 0, claimed=True) == "done"
        await self._store.settle(claim, now if not done else None if after is None else after.due)
