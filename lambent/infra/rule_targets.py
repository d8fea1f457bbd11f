"""Tells the targets of EventBridge's rules, and counts."""

from __future__ import annotations

import uuid
from collections import Counter
from functools import partial

from lambent.domain import rule_inputs
from lambent.domain.names import Tenant, parse
from lambent.domain.rule_inputs import Event
from lambent.domain.rules import Rule, RuleTarget
from lambent.infra.telemetry import Telemetry, by_function
from lambent.infra.telling import Teller, Telling


class RuleTargets:
    """Those of all rules."""

    def __init__(self, teller: Teller, telemetry: Telemetry) -> None:
        self._teller = teller
        self._triggered: Counter[tuple[Tenant, str]] = Counter()
        self._invoked: Counter[tuple[Tenant, str]] = Counter()
        self._failed: Counter[tuple[Tenant, str]] = Counter()
        for name, counts in (
            ("triggeredrules", self._triggered), ("invocations", self._invoked), ("failedinvocations", self._failed),
        ):  # fmt: skip
            telemetry.observe(f"aws.events.{name}", partial(by_function, counts, "RuleName"))

    def now(self) -> float:
        """The time that events go by, epoch seconds."""
        return self._teller.now()

    async def tell(self, told: list[tuple[Rule, Event]], *, once: bool = False) -> None:
        """Tell the targets of rules, all of one tenant. `once`: whoever says the same again tells nobody. Raises
        ServiceUnavailableException: then it is not known who was told."""
        rules, tellings = [], []
        for rule, event in told:
            for target in rule.targets:
                rules.append(rule)
                tellings.append(_telling(rule, target, event, once))
        if tellings:
            answers = await self._teller.tell(told[0][0].tenant, tellings)
            for rule, answer in zip(rules, answers, strict=True):
                (self._invoked if answer else self._failed)[rule.tenant, rule.name] += 1
        for rule, _ in told:
            self._triggered[rule.tenant, rule.name] += 1


def _telling(rule: Rule, target: RuleTarget, event: Event, once: bool) -> Telling:
    """What one of them is told."""
    return Telling(
        ref=parse(target.arn, None, rule.tenant),
        request_id=str(uuid.uuid5(uuid.UUID(event.id), f"{rule.name}:{target.id}")),
        body=rule_inputs.payload(event, (rule.arn, rule.name), target.input, target.input_path, target.transformer),
        since=event.ingested,
        age_seconds=target.age_seconds,
        token=f"{rule.name} {target.id} {event.id}" if once else None,
        trace=event.trace,
        dead_letter_arn=target.dead_letter_arn,
        letter=event.text.encode(),
        attributes={"RULE_ARN": rule.arn, "TARGET_ARN": target.arn},
    )
