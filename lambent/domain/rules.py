"""EventBridge's rules: which functions run at set times, or when an event comes that has a pattern. What may be set,
and when a schedule is due.

A rule's record has its targets, and when it is due next: who changes it decides that anew, and so does the poller that
has acted on it.

Sources: https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutRule.html, API_PutTargets.html there, and
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-scheduled-rule-pattern.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

from lambent.domain import event_patterns, rule_inputs, schedules, turns
from lambent.domain.errors import AwsError
from lambent.domain.event_patterns import Filter
from lambent.domain.function_targets import no_function, no_letter_queue
from lambent.domain.limits import Limits
from lambent.domain.names import Tenant
from lambent.domain.rule_inputs import Event, Transformer
from lambent.domain.schedules import ScheduleError
from lambent.domain.turns import Turn, first_revision

ENABLED, DISABLED = "ENABLED", "DISABLED"
# The one bus there is.
BUS = "default"
_UTC = schedules.zone_of("UTC")


@dataclass(frozen=True, slots=True)
class RuleTarget:
    """A function that is told."""

    id: str  # unique in the rule
    arn: str
    role: str | None = None  # kept and told
    input: str | None = None  # JSON in place of the event
    input_path: str | None = None  # the part of the event that it is told
    transformer: Transformer | None = None  # how what it is told is written anew
    dead_letter_arn: str | None = None  # a queue that is told what this target could not be
    retries: int | None = None  # kept and told
    age_seconds: int | None = None  # how late it is told at most; None: a day


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule."""

    tenant: Tenant
    name: str
    schedule: str | None = None  # rate() or cron()
    pattern: str | None = None  # JSON; of schedule and pattern it has one at least
    state: str = ENABLED
    description: str | None = None
    role: str | None = None  # kept and told
    tags: Mapping[str, str] | None = None  # None: none
    targets: tuple[RuleTarget, ...] = ()  # by id
    anchor: int = 0  # epoch seconds from which a rate counts
    due: int | None = None  # epoch seconds at which its schedule is due next; None: never
    revision: int = 0  # of this record, one more at each change

    @property
    def arn(self) -> str:
        """arn:aws:events:REGION:ACCOUNT:rule/NAME."""
        return f"arn:aws:events:{self.tenant.region}:{self.tenant.account}:rule/{self.name}"

    @property
    def key(self) -> str:
        """Its name."""
        return self.name

    @property
    def enabled(self) -> bool:
        """Whether it acts."""
        return self.state != DISABLED

    def with_tags(self, tags: Mapping[str, str]) -> Rule:
        """The same with these tags."""
        return replace(self, tags=dict(tags) or None, revision=self.revision + 1)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What PutRule asks for. All of a rule but targets and tags is then as it says, and else as by default."""

    schedule: str | None
    pattern: str | None
    state: str | None
    description: str | None
    role: str | None


# Rules


def put(before: Rule | None, tenant: Tenant, name: str, wanted: Wanted, tags: Mapping[str, str], now: float) -> Rule:
    """The rule that is to be there. `before`: the one of that name. `tags`: of a new one. Raises ValidationException
    and InvalidEventPatternException."""
    if wanted.schedule is None and wanted.pattern is None:
        raise _invalid("Parameter(s) ScheduleExpression or EventPattern must be specified.")
    if wanted.schedule is not None:
        _schedule(wanted.schedule)
    if wanted.pattern is not None:
        filter_of(wanted.pattern)
    rule = before or Rule(tenant, name, tags=dict(tags) or None, revision=first_revision(now))
    after = replace(
        rule,
        schedule=wanted.schedule,
        pattern=wanted.pattern,
        state=wanted.state or ENABLED,
        description=wanted.description,
        role=wanted.role,
        revision=rule.revision + 1,
    )
    # One that is put again as it was goes on counting.
    same = before is not None and (before.schedule, before.enabled) == (after.schedule, after.enabled)
    return after if same else _begun(after, now)


def with_state(rule: Rule, state: str, now: float) -> Rule:
    """The rule enabled or disabled; itself where it is so already."""
    if rule.enabled == (state != DISABLED):
        return rule
    return _begun(replace(rule, state=state, revision=rule.revision + 1), now)


def turn(rule: Rule, now: float) -> Turn | None:
    """What an enabled rule's schedule asks for now; None: nothing yet."""
    if rule.due is None or rule.schedule is None or rule.due > now:
        return None
    return turns.turn(rule.due, now, partial(_after, rule))


def acted(rule: Rule, taken: Turn) -> Rule:
    """The rule after its turn."""
    return replace(rule, due=taken.next, revision=rule.revision + 1)


def _begun(rule: Rule, now: float) -> Rule:
    if rule.schedule is None or not rule.enabled:
        return replace(rule, due=None)
    schedule = _schedule(rule.schedule)
    anchor = int(now) + schedule.seconds if isinstance(schedule, schedules.Rate) else 0
    return replace(rule, anchor=anchor, due=schedules.next_after(schedule, now, _UTC, anchor))


def _after(rule: Rule, instant: int) -> int | None:
    assert rule.schedule is not None
    return schedules.next_after(_schedule(rule.schedule), instant, _UTC, rule.anchor)


@lru_cache(maxsize=1024)
def _schedule(expression: str) -> schedules.Rate | schedules.Cron:
    try:
        schedule = schedules.parse(expression)
    except ScheduleError as error:
        raise _invalid(f"Parameter ScheduleExpression is not valid. Reason: {error}.") from None
    if isinstance(schedule, schedules.At):
        raise _invalid("Parameter ScheduleExpression is not valid. Reason: rules have rate() and cron() only.")
    return schedule


@lru_cache(maxsize=1024)
def filter_of(pattern: str) -> Filter:
    """Whether an event has a pattern. Raises InvalidEventPatternException."""
    try:
        return event_patterns.for_bus(pattern)
    except AwsError as error:
        text = f"Event pattern is not valid. Reason: {error.message}"
        raise AwsError("InvalidEventPatternException", text) from None


def matching(found: Iterable[Rule], event: Event) -> list[tuple[Rule, Event]]:
    """Those of the rules that an event is for, each with it."""
    return [
        (rule, event)
        for rule in found
        if rule.enabled and rule.pattern is not None and filter_of(rule.pattern)(event.record)
    ]


# Targets


def with_targets(rule: Rule, added: Sequence[RuleTarget], limits: Limits) -> Rule:
    """The rule with these, each in place of the one with its id. Raises ValidationException, LimitExceededException."""
    ids = [target.id for target in added]
    for id in sorted(set(ids)):
        if ids.count(id) > 1:
            raise _invalid(f"Target {id} is there more than once.")
    for target in added:
        _check(rule, target)
    targets = {target.id: target for target in (*rule.targets, *added)}
    if len(targets) > limits.rule_targets:
        raise AwsError("LimitExceededException", "The requested resource exceeds the maximum number allowed.")
    return replace(rule, targets=tuple(targets[id] for id in sorted(targets)), revision=rule.revision + 1)


def without_targets(rule: Rule, ids: Sequence[str]) -> Rule:
    """The rule without those that it has of these; itself where it has none."""
    left = tuple(target for target in rule.targets if target.id not in ids)
    return rule if left == rule.targets else replace(rule, targets=left, revision=rule.revision + 1)


def _check(rule: Rule, target: RuleTarget) -> None:
    if (problem := no_function(target.arn, rule.tenant)) is not None:
        raise _invalid(f"Provided Arn of target {target.id} is not valid. Reason: {problem}")
    if target.dead_letter_arn is not None and (problem := no_letter_queue(target.dead_letter_arn)) is not None:
        raise _invalid(f"DeadLetterConfig of target {target.id} is not valid. Reason: {problem}")
    said = [each for each in (target.input, target.input_path, target.transformer) if each is not None]
    if len(said) > 1:
        raise _invalid(f"Only one of Input, InputPath, or InputTransformer must be provided for target {target.id}.")
    problem = rule_inputs.problem(target.input, target.input_path, target.transformer)
    if problem is not None:
        raise _invalid(f"{problem} for target {target.id}.")


# Names


def bus_arn(tenant: Tenant) -> str:
    """The one bus's."""
    return f"arn:aws:events:{tenant.region}:{tenant.account}:event-bus/{BUS}"


def check_bus(name: str, tenant: Tenant) -> None:
    """Whether a bus is the one there is; `name`: empty, its name or its ARN. Raises ResourceNotFoundException."""
    if name not in ("", BUS, bus_arn(tenant)):
        raise AwsError("ResourceNotFoundException", f"Event bus {name.rpartition('/')[2]} does not exist.")


def name_of(arn: str, tenant: Tenant) -> str:
    """The name of the rule that an ARN means. Raises ResourceNotFoundException for what can be no rule's."""
    prefix = Rule(tenant, "").arn
    if not arn.startswith(prefix):
        raise AwsError("ResourceNotFoundException", f"Rule {arn} does not exist.")
    return arn.removeprefix(prefix).removeprefix(f"{BUS}/")


def missing(name: str) -> AwsError:
    """There is no rule of that name."""
    return AwsError("ResourceNotFoundException", f"Rule {name} does not exist on EventBus {BUS}.")


def _invalid(text: str) -> AwsError:
    return AwsError("ValidationException", text)
