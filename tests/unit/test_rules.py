"""EventBridge's rules by themselves: what may be set, when schedules are due, what targets are told."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from lambent.domain import rule_inputs, rules
from lambent.domain.errors import AwsError
from lambent.domain.limits import Limits
from lambent.domain.rule_inputs import Event, Transformer
from lambent.domain.rules import DISABLED, ENABLED, Rule, RuleTarget, Wanted
from lambent.domain.turns import Turn
from tests.records import ONE

FUNCTION = "arn:aws:lambda:us-east-1:000000000001:function:f"
LIMITS = Limits()


def epoch(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


NOW = epoch("2026-05-01T10:20:30")


def put(
    schedule: str | None = None, pattern: str | None = None, before: Rule | None = None, now: float = NOW, **wanted: Any
) -> Rule:
    members = {"state": None, "description": None, "role": None, **wanted}
    return rules.put(before, ONE, "r", Wanted(schedule, pattern, **members), {}, now)


def refused(call: Any) -> str:
    with pytest.raises(AwsError) as error:
        call()
    return f"{error.value.name}: {error.value.message}"


# When schedules are due


def test_a_rate_counts_from_when_the_rule_was_made_and_a_cron_line_says_the_minute() -> None:
    assert put("rate(5 minutes)").due == NOW + 300
    assert put("cron(0 12 * * ? *)").due == epoch("2026-05-01T12:00:00")
    assert put(pattern='{"source": ["a"]}').due is None
    assert put("rate(1 hour)", state=DISABLED).due is None
    assert put("cron(0 12 1 1 ? 1999)").due is None


def test_a_rule_that_is_put_again_as_it_was_goes_on_counting() -> None:
    rule = put("rate(5 minutes)")
    again = put("rate(5 minutes)", before=rule, now=NOW + 100, description="new")
    assert (again.due, again.description, again.revision) == (rule.due, "new", rule.revision + 1)
    assert put("rate(6 minutes)", before=rule, now=NOW + 100).due == NOW + 460
    assert put(pattern='{"a": [1]}', before=rule).due is None
    off = rules.with_state(rule, DISABLED, NOW)
    assert (off.due, off.enabled) == (None, False)
    assert rules.with_state(off, DISABLED, NOW) is off
    assert rules.with_state(off, ENABLED, NOW + 1000).due == NOW + 1300


def test_of_a_rule_that_is_put_again_targets_and_tags_stay_and_all_else_is_as_it_says() -> None:
    rule = put("rate(1 hour)", description="d", role="arn:r", state=DISABLED)
    rule = rules.with_targets(rule, [RuleTarget("1", FUNCTION)], LIMITS).with_tags({"a": "b"})
    again = rules.put(rule, ONE, "r", Wanted("rate(2 hours)", None, None, None, None), {"c": "d"}, NOW)
    assert (again.targets, again.tags) == (rule.targets, {"a": "b"})
    assert (again.description, again.role, again.state) == (None, None, ENABLED)


@pytest.mark.parametrize(
    "schedule", ["rate(1 minute)", "rate(7 minutes)", "cron(0/5 * * * ? *)", "cron(0 9 ? * MON *)"]
)
def test_of_the_times_that_were_missed_the_last_one_counts(schedule: str) -> None:
    rule = put(schedule)
    assert rules.turn(rule, (rule.due or 0) - 0.1) is None
    times = [rule.due or 0]
    while len(times) < 30:
        taken = rules.turn(rule, times[-1])
        assert taken is not None
        assert taken.at == times[-1]
        times.append(taken.next or 0)
        rule = rules.acted(rule, taken)
    rule = put(schedule)
    for missed in (0, 1, 2, 5, 28):
        taken = rules.turn(rule, times[missed] + 0.5)
        assert taken == Turn(times[missed], times[missed + 1])


def test_the_last_time_of_all_is_acted_on_and_nothing_follows() -> None:
    rule = put("cron(0/30 10 1 5 ? 2026)")
    assert rules.turn(rule, NOW + 1e7) == Turn(epoch("2026-05-01T10:30:00"), None)
    assert rules.acted(rule, Turn(0, None)).due is None


@pytest.mark.parametrize(
    ("schedule", "says"),
    [
        ("rate(1 minutes)", "singular for 1"), ("rate(0 minutes)", "positive"), ("every day", "neither"),
        ("cron(0 12 * * ?)", "six fields"), ("cron(0 12 * * * *)", "must be ?"), ("cron(61 * * * ? *)", "61"),
        ("at(2030-01-01T00:00:00)", "only"),
    ],
)  # fmt: skip
def test_what_is_no_schedule_of_a_rule_is_refused(schedule: str, says: str) -> None:
    text = refused(lambda: put(schedule))
    assert text.startswith("ValidationException: Parameter ScheduleExpression is not valid.")
    assert says in text


def test_a_rule_says_when_it_acts() -> None:
    assert refused(put) == "ValidationException: Parameter(s) ScheduleExpression or EventPattern must be specified."
    for pattern in ("", "{}", "[]", '{"a": "b"}', '{"a": [{"cidr": "x"}]}', "{"):
        assert refused(lambda pattern=pattern: put(pattern=pattern)).startswith("InvalidEventPatternException: ")


# Targets


def test_targets_are_added_replaced_and_taken_away() -> None:
    rule = rules.with_targets(
        put("rate(1 hour)"), [RuleTarget("b", FUNCTION), RuleTarget("a", f"{FUNCTION}:1")], LIMITS
    )
    assert [target.id for target in rule.targets] == ["a", "b"]
    rule = rules.with_targets(rule, [RuleTarget("b", FUNCTION, input="1")], LIMITS)
    assert [(target.id, target.input) for target in rule.targets] == [("a", None), ("b", "1")]
    assert rules.without_targets(rule, ["x"]) is rule
    assert [target.id for target in rules.without_targets(rule, ["a", "x"]).targets] == ["b"]
    more = [RuleTarget(str(number), FUNCTION) for number in range(4)]
    assert refused(lambda: rules.with_targets(rule, more, LIMITS)).startswith("LimitExceededException: ")


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ({"arn": "arn:aws:sqs:us-east-1:000000000001:q"}, "only functions"),
        ({"arn": "f"}, "only functions"),
        ({"arn": "arn:aws:lambda:us-east-1:000000000001:layer:l:1"}, "only functions"),
        ({"arn": "arn:aws:lambda:us-east-1:000000000002:function:f"}, "another account or region"),
        ({"arn": "arn:aws:lambda:eu-west-1:000000000001:function:f"}, "another account or region"),
        ({"arn": "arn:aws:lambda:us-east-1:000000000001:function:f f"}, "regular expression"),
        ({"input": "{"}, "JSON syntax error"),
        ({"input": "1", "input_path": "$"}, "Only one of"),
        ({"input_path": "detail"}, "Invalid InputPath"),
        ({"input_path": "$.a[x]"}, "Invalid InputPath"),
        ({"transformer": Transformer({"a": "$."}, "<a>")}, "Invalid InputPath"),
        ({"transformer": Transformer({}, "<b>")}, "<b>"),
        ({"transformer": Transformer({"a": "$.a"}, "told <a>")}, "a text stands in quotes"),
        ({"transformer": Transformer({"aws.x": "$.a"}, "1")}, "reserved"),
        ({"dead_letter_arn": "arn:aws:sns:us-east-1:000000000001:t"}, "standard SQS queue"),
        ({"dead_letter_arn": "arn:aws:sqs:us-east-1:000000000001:q.fifo"}, "standard SQS queue"),
    ],
)
def test_what_can_be_no_target_is_refused(target: dict[str, Any], says: str) -> None:
    wanted = dataclasses.replace(RuleTarget("one", FUNCTION), **target)
    text = refused(lambda: rules.with_targets(put("rate(1 hour)"), [wanted], LIMITS))
    assert text.startswith("ValidationException: ")
    assert says in text
    assert "one" in text


def test_an_id_is_there_once() -> None:
    twice = [RuleTarget("1", FUNCTION), RuleTarget("1", f"{FUNCTION}:2")]
    assert "more than once" in refused(lambda: rules.with_targets(put("rate(1 hour)"), twice, LIMITS))


# What they are told

EVENT = Event(
    "7bf73129-1428-4cd3-a780-95db273d1602", "shop", "Order \"placed\"", ONE.account, ONE.region, NOW, ("arn:x", "arn:y"),
    '{"id": 5.0, "what": {"name": "a \\"b\\"", "tags": ["x", 2]}, "none": null}', NOW + 2,
)  # fmt: skip


def told(own: str | None = None, path: str | None = None, transformer: Transformer | None = None) -> str:
    assert rule_inputs.problem(own, path, transformer) is None
    return rule_inputs.payload(EVENT, ("arn:rule", "r"), own, path, transformer).decode()


def test_an_event_is_told_as_eventbridge_tells_it_its_detail_as_it_came() -> None:
    assert told() == (
        '{"version":"0","id":"7bf73129-1428-4cd3-a780-95db273d1602","detail-type":"Order \\"placed\\"","source":"shop",'
        '"account":"000000000001","time":"2026-05-01T10:20:30Z","region":"us-east-1","resources":["arn:x","arn:y"],'
        f'"detail":{EVENT.detail}}}'
    )


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("$.detail.id", 5.0), ("$.detail-type", 'Order "placed"'), ("$.resources[1]", "arn:y"),
        ("$.detail.what.tags[1]", 2), ("$.resources[2]", None), ("$.detail.no.where", None), ("$.detail.id.x", None),
        ("$.detail.none", None), ("$.time[0]", None), ("$.detail.what", {"name": 'a "b"', "tags": ["x", 2]}),
    ],
)  # fmt: skip
def test_a_part_of_it_is_told(path: str, part: Any) -> None:
    assert json.loads(told(path=path)) == part


def test_a_text_of_its_own_is_told_as_it_was_given() -> None:
    assert told(own='{"a":  1.50}') == '{"a":  1.50}'


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ('{"name": <name>, "n": <id>, "t": <tags>}', '{"name": "a \\"b\\"", "n": 5.0, "t": ["x",2]}'),
        ('"<name> has <id>"', '"a \\"b\\" has 5.0"'),
        ('"no <nothing>."', '"no ."'),
        ('{"n": <nothing>}', '{"n": null}'),
        ('"tags: <tags>"', '"tags: [\\"x\\",2]"'),
        ('{"a \\" <id>": "<id>", "b": <id>}', '{"a \\" 5.0": "5.0", "b": 5.0}'),
        ('{"a\\\\": <id>}', '{"a\\\\": 5.0}'),
        ('"<aws.events.rule-name> <aws.events.rule-arn> <aws.events.event.ingestion-time>"', '"r arn:rule 2026-05-01T10:20:32Z"'),
    ],
)  # fmt: skip
def test_a_template_is_filled_with_parts(template: str, text: str) -> None:
    paths = {"name": "$.detail.what.name", "id": "$.detail.id", "tags": "$.detail.what.tags", "nothing": "$.detail.x"}
    assert told(transformer=Transformer(paths, template)) == text
    json.loads(text)


def test_a_template_can_have_the_whole_event() -> None:
    whole = json.loads(
        told(transformer=Transformer({}, '{"all": <aws.events.event.json>, "head": <aws.events.event>}'))
    )
    assert whole["all"] == json.loads(EVENT.text)
    assert whole["head"] == {name: each for name, each in whole["all"].items() if name != "detail"}


# Names


def test_there_is_one_bus() -> None:
    for name in ("", "default", "arn:aws:events:us-east-1:000000000001:event-bus/default"):
        rules.check_bus(name, ONE)
    for name in ("mine", "arn:aws:events:us-east-1:000000000002:event-bus/default"):
        assert refused(lambda name=name: rules.check_bus(name, ONE)).startswith("ResourceNotFoundException: Event bus")


def test_rules_have_arns() -> None:
    arn = put("rate(1 hour)").arn
    assert arn == "arn:aws:events:us-east-1:000000000001:rule/r"
    assert rules.name_of(arn, ONE) == rules.name_of(arn.replace("rule/", "rule/default/"), ONE) == "r"
    assert refused(lambda: rules.name_of(arn.replace("1:rule", "2:rule"), ONE)).startswith("ResourceNotFoundException")
