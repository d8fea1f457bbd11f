"""Tells functions of times and events: by an asynchronous event in the queue of each, and what could not be told to a
dead-letter queue."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lambent.domain import tenancy
from lambent.domain.names import FunctionRef, Tenant
from lambent.infra.functions.directory import FunctionDirectory
from lambent.infra.queue.port import EventQueue, Item, Terms, Token
from lambent.infra.queue.records import DELIVERIES, Delivery, Event, encode

_log = logging.getLogger(__name__)

# How late a function is told where nothing says it, in seconds; and how often it would be tried, which is told only.
MOST_AGE, MOST_RETRIES = 86_400, 185


@dataclass(frozen=True, slots=True)
class Telling:
    """What one function is to be told."""

    ref: FunctionRef
    request_id: str  # a UUID
    body: bytes  # JSON
    since: float  # epoch seconds at which it could first be told
    age_seconds: int | None  # how late it is told at most; None: MOST_AGE
    token: str | None  # who comes with the same again tells nobody; None: nobody does
    trace: str = ""  # X-Amzn-Trace-Id of what it follows from; empty: nothing
    dead_letter_arn: str | None = None  # the queue that is told what the function could not be
    letter: bytes = b""  # what that is told
    attributes: Mapping[str, str] = field(default_factory=dict)  # of the letter, beside why it was written


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a function cannot be told, in EventBridge's words."""

    code: str
    message: str
    exhausted: str = ""  # what of its retry policy has run out


class Teller:
    """Queues what there is to tell."""

    def __init__(self, queue: EventQueue, directory: FunctionDirectory, dedup_seconds: float) -> None:
        """`dedup_seconds`: how long it is remembered by a token that a function was told."""
        self._queue = queue
        self._directory = directory
        self._dedup_seconds = dedup_seconds

    def now(self) -> float:
        """The time that events go by, epoch seconds."""
        return self._queue.now()

    async def tell(self, tenant: Tenant, tellings: Sequence[Telling]) -> list[bool]:
        """Tell functions of one tenant, all in one step; answers of each whether it could be. Raises
        ServiceUnavailableException: then it is not known who was told."""
        now, items, terms = self.now(), [], {}
        answers = []
        for telling in tellings:
            failure = await self._obstacle(telling, now)
            answers.append(failure is None)
            item = _event(telling, now) if failure is None else _letter(telling, failure, now)
            if item is None:
                continue
            items.append(item)
            if telling.token is not None:
                terms[item.id] = Terms(token=Token(telling.token, now + self._dedup_seconds))
        if items:
            await self._queue.append(tenant, items, now, terms)
        return answers

    async def _obstacle(self, telling: Telling, now: float) -> _Failure | None:
        age = MOST_AGE if telling.age_seconds is None else telling.age_seconds
        if now - telling.since > age:
            return _Failure("TIMEOUT", f"The event is older than {age} seconds.", "MaximumEventAgeInSeconds")
        ref = telling.ref
        known = await self._directory.find(ref.tenant, ref.name, ref.qualifier)
        if known is None:
            return _Failure("NO_RESOURCE", f"Function not found: {ref.arn}")
        if known.record.configuration.isolated:
            return _Failure("INVALID_PARAMETER", tenancy.MISSING)
        return None


def _event(telling: Telling, now: float) -> Item:
    """What the function is told by."""
    event = Event(now, telling.ref.qualifier, telling.trace)
    return Item(telling.ref.name, telling.request_id, encode(event, telling.body))


def _letter(telling: Telling, failure: _Failure, now: float) -> Item | None:
    """What the dead-letter queue is told; None: there is none.

    Source: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
    """
    arn = telling.ref.arn
    _log.warning("a function cannot be told", extra={"function": arn, "detail": failure.message, **telling.attributes})
    if telling.dead_letter_arn is None:
        return None
    said = {
        **telling.attributes,
        "ERROR_CODE": failure.code,
        "ERROR_MESSAGE": failure.message,
        "EXHAUSTED_RETRY_CONDITION": failure.exhausted,
    }
    attributes = {name: ("String", text) for name, text in said.items() if text}
    delivery = Delivery("DeadLetter", telling.ref.name, arn, telling.request_id, failure.code, now, attributes)
    return Item(f"{DELIVERIES}{telling.dead_letter_arn}", telling.request_id, encode(delivery, telling.letter))
