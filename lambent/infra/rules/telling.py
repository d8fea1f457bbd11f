"""Tells targets of rules: an event of its own in the queue of each function, and what could not be told to the target's
dead-letter queue."""

from __future__ import annotations

import logging
import uuid
from collections import Counter
from dataclasses import dataclass, field

from lambent.domain import rule_inputs, tenancy
from lambent.domain.names import FunctionRef, Tenant
from lambent.domain.rule_inputs import Event
from lambent.domain.rules import MOST_AGE, Rule, RuleTarget
from lambent.infra.functions.directory import FunctionDirectory
from lambent.infra.queue.port import EventQueue, Item, Terms, Token
from lambent.infra.queue.records import DELIVERIES, Delivery, encode
from lambent.infra.queue.records import Event as QueuedEvent
from lambent.infra.telemetry import Telemetry, by_function

_log = logging.getLogger(__name__)

SCHEDULED = "Scheduled Event"
_SOURCE = "aws.events"


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a target cannot be told, in EventBridge's words."""

    code: str
    message: str
    exhausted: str = ""  # what of its retry policy has run out


@dataclass(slots=True)
class _Gathered:
    """What is to be queued for one tenant."""

    items: list[Item] = field(default_factory=list)
    terms: dict[str, Terms] = field(default_factory=dict)


def scheduled(rule: Rule, at: int) -> Event:
    """The event of a schedule that is due. It has the same id whoever makes it."""
    return Event(
        id=str(uuid.uuid5(uuid.NAMESPACE_URL, f"{rule.arn}@{at}")),
        source=_SOURCE,
        detail_type=SCHEDULED,
        account=rule.tenant.account,
        region=rule.tenant.region,
        time=at,
        resources=(rule.arn,),
        detail="{}",
        ingested=at,
    )


class RuleTargets:
    """Tells them."""

    def __init__(
        self, queue: EventQueue, directory: FunctionDirectory, telemetry: Telemetry, dedup_seconds: float
    ) -> None:
        """`dedup_seconds`: how long it is remembered that a target was told that a schedule was due."""
        self._queue = queue
        self._directory = directory
        self._dedup_seconds = dedup_seconds
        self._triggered: Counter[tuple[Tenant, str]] = Counter()
        self._invoked: Counter[tuple[Tenant, str]] = Counter()
        self._failed: Counter[tuple[Tenant, str]] = Counter()
        for name, counts in (
            ("triggeredrules", self._triggered), ("invocations", self._invoked), ("failedinvocations", self._failed),
        ):  # fmt: skip
            telemetry.observe(f"aws.events.{name}", lambda counts=counts: by_function(counts, "RuleName"))  # type: ignore[misc]

    def now(self) -> float:
        """The time that events go by, epoch seconds."""
        return self._queue.now()

    async def tell(self, told: list[tuple[Rule, Event]], *, once: bool = False) -> None:
        """Tell the targets of rules, all of one tenant. `once`: whoever says the same again tells nobody. Raises
        ServiceUnavailableException: then it is not known who was told."""
        now, gathered = self.now(), _Gathered()
        counts: list[tuple[Counter[tuple[Tenant, str]], Rule]] = []
        for rule, event in told:
            counts.append((self._triggered, rule))
            for target in rule.targets:
                failed = await self._add(rule, target, event, now, once, gathered)
                counts.append((self._failed if failed else self._invoked, rule))
        if gathered.items:
            await self._queue.append(told[0][0].tenant, gathered.items, now, gathered.terms)
        for counter, rule in counts:
            counter[rule.tenant, rule.name] += 1

    async def _add(
        self, rule: Rule, target: RuleTarget, event: Event, now: float, once: bool, gathered: _Gathered
    ) -> bool:
        """Whether it cannot be told. Raises ServiceUnavailableException."""
        request_id = str(uuid.uuid5(uuid.UUID(event.id), f"{rule.name}:{target.id}"))
        token = Token(f"{rule.name} {target.id} {event.id}", now + self._dedup_seconds) if once else None
        ref = target.ref(rule.tenant)
        body = rule_inputs.payload(
            event, (rule.arn, rule.name), target.input, target.input_path, target.transformer
        )  # fmt: skip
        failure = await self._obstacle(ref, target, event, now)
        if failure is None:
            item = Item(ref.name, request_id, encode(QueuedEvent(now, ref.qualifier, event.trace), body))
        else:
            _log.warning(
                "a target of a rule cannot be told",
                extra={"rule": rule.arn, "target": ref.arn, "detail": failure.message},
            )
            if target.dead_letter_arn is None:
                return True
            attributes = _attributes(rule, target, failure)
            delivery = Delivery("DeadLetter", ref.name, ref.arn, request_id, failure.code, now, attributes)
            item = Item(f"{DELIVERIES}{target.dead_letter_arn}", request_id, encode(delivery, event.text.encode()))
        gathered.items.append(item)
        if token is not None:
            gathered.terms[request_id] = Terms(token=token)
        return failure is not None

    async def _obstacle(self, ref: FunctionRef, target: RuleTarget, event: Event, now: float) -> _Failure | None:
        age = MOST_AGE if target.age_seconds is None else target.age_seconds
        if now - event.ingested > age:
            text = f"The event is older than {age} seconds."
            return _Failure("TIMEOUT", text, "MaximumEventAgeInSeconds")
        known = await self._directory.find(ref.tenant, ref.name, ref.qualifier)
        if known is None:
            return _Failure("NO_RESOURCE", f"Function not found: {ref.arn}")
        if known.record.configuration.isolated:
            return _Failure("INVALID_PARAMETER", tenancy.MISSING)
        return None


def _attributes(rule: Rule, target: RuleTarget, failure: _Failure) -> dict[str, tuple[str, str]]:
    """Of a dead letter. Source: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html"""
    said = {
        "RULE_ARN": rule.arn,
        "TARGET_ARN": target.arn,
        "ERROR_CODE": failure.code,
        "ERROR_MESSAGE": failure.message,
        "EXHAUSTED_RETRY_CONDITION": failure.exhausted,
    }
    return {name: ("String", text) for name, text in said.items() if text}
