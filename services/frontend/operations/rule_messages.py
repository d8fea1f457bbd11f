"""EventBridge's rules and their targets, as the API shows them and as requests have them."""

from __future__ import annotations

from collections.abc import Iterable

from lambent.domain.rule_inputs import Transformer
from lambent.domain.rules import BUS, Rule, RuleTarget, Wanted
from lambent.v1 import rule_service_pb2 as pb


def wanted(request: pb.PutRuleRequest) -> Wanted:
    """What PutRule asks for; empty texts count as absent."""
    return Wanted(
        schedule=request.schedule_expression or None,
        pattern=request.event_pattern or None,
        state=request.state or None,
        description=request.description or None,
        role=request.role_arn or None,
    )


def rule_message(rule: Rule) -> pb.Rule:
    """A rule in a list."""
    return pb.Rule(
        name=rule.name,
        arn=rule.arn,
        event_pattern=rule.pattern,
        state=rule.state,
        description=rule.description,
        schedule_expression=rule.schedule,
        role_arn=rule.role,
        event_bus_name=BUS,
    )


def described(rule: Rule) -> pb.DescribeRuleResponse:
    """A rule by itself."""
    listed = {field.name: value for field, value in rule_message(rule).ListFields()}
    return pb.DescribeRuleResponse(**listed, created_by=rule.tenant.account)


def target_of(message: pb.RuleTarget) -> RuleTarget:
    """A target that PutTargets adds; empty texts count as absent."""
    transformer = None
    if message.HasField("input_transformer"):
        given = message.input_transformer
        transformer = Transformer(dict(given.input_paths_map), given.input_template)
    policy = message.retry_policy
    return RuleTarget(
        id=message.id,
        arn=message.arn,
        role=message.role_arn or None,
        input=message.input or None,
        input_path=message.input_path or None,
        transformer=transformer,
        dead_letter_arn=message.dead_letter_config.arn or None,
        retries=policy.maximum_retry_attempts if policy.HasField("maximum_retry_attempts") else None,
        age_seconds=(
            policy.maximum_event_age_in_seconds if policy.HasField("maximum_event_age_in_seconds") else None
        ),
    )  # fmt: skip


def target_message(target: RuleTarget) -> pb.RuleTarget:
    """A target as it was given."""
    message = pb.RuleTarget(
        id=target.id, arn=target.arn, role_arn=target.role, input=target.input, input_path=target.input_path
    )
    if target.transformer is not None:
        message.input_transformer.input_paths_map.update(target.transformer.paths)
        message.input_transformer.input_template = target.transformer.template
    if target.dead_letter_arn is not None:
        message.dead_letter_config.arn = target.dead_letter_arn
    if target.retries is not None:
        message.retry_policy.maximum_retry_attempts = target.retries
    if target.age_seconds is not None:
        message.retry_policy.maximum_event_age_in_seconds = target.age_seconds
    return message


def tags_of(messages: Iterable[pb.RuleTag]) -> dict[str, str]:
    """Tags by key."""
    return {each.key: each.value for each in messages}
