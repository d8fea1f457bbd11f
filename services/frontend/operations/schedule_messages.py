"""EventBridge Scheduler's schedules and groups, as the API shows them and as requests have them."""

from __future__ import annotations

from lambent.domain.errors import AwsError
from lambent.domain.event_schedules import Group, Schedule, ScheduleTarget, Wanted
from lambent.infra.telling import MOST_AGE, MOST_RETRIES
from lambent.v1 import schedule_service_pb2 as pb
from services.frontend.operations.timestamps import timestamp

OFF, FLEXIBLE = "OFF", "FLEXIBLE"
ENABLED, DISABLED = "ENABLED", "DISABLED"
NONE, DELETE = "NONE", "DELETE"
_ACTIVE = "ACTIVE"


def wanted(request: pb.CreateScheduleRequest | pb.UpdateScheduleRequest) -> Wanted:
    """What a request asks for. Raises ValidationException."""
    if request.kms_key_arn:
        raise _invalid("KmsKeyArn is not served: schedules are not encrypted by keys here.")
    window = request.flexible_time_window
    if (window.mode == FLEXIBLE) != window.HasField("maximum_window_in_minutes"):
        raise _invalid("MaximumWindowInMinutes goes with the FlexibleTimeWindow mode FLEXIBLE, and only with it.")
    return Wanted(
        expression=request.schedule_expression,
        target=_target_of(request.target),
        zone=request.schedule_expression_timezone or "UTC",
        start=request.start_date.ToSeconds() if request.HasField("start_date") else None,
        end=request.end_date.ToSeconds() if request.HasField("end_date") else None,
        window_minutes=window.maximum_window_in_minutes or None,
        enabled=request.state != DISABLED,
        description=request.description or None,
        deletes=request.action_after_completion == DELETE,
        token=request.client_token,
    )


def _target_of(message: pb.ScheduleTarget) -> ScheduleTarget:
    policy = message.retry_policy
    retries = policy.maximum_retry_attempts if policy.HasField("maximum_retry_attempts") else None
    return ScheduleTarget(
        arn=message.arn,
        role=message.role_arn,
        input=message.input or None,
        dead_letter_arn=message.dead_letter_config.arn or None,
        retries=retries,
        age_seconds=policy.maximum_event_age_in_seconds or None,
    )


def _target_message(target: ScheduleTarget) -> pb.ScheduleTarget:
    message = pb.ScheduleTarget(arn=target.arn, role_arn=target.role, input=target.input)
    # What is not said is told as what it stands for, as AWS tells it.
    message.retry_policy.maximum_event_age_in_seconds = target.age_seconds or MOST_AGE
    message.retry_policy.maximum_retry_attempts = MOST_RETRIES if target.retries is None else target.retries
    if target.dead_letter_arn is not None:
        message.dead_letter_config.arn = target.dead_letter_arn
    return message


def schedule_message(schedule: Schedule) -> pb.GetScheduleResponse:
    """A schedule by itself."""
    said = schedule.wanted
    message = pb.GetScheduleResponse(
        name=schedule.name,
        group_name=schedule.group,
        arn=schedule.arn,
        schedule_expression=said.expression,
        schedule_expression_timezone=said.zone,
        flexible_time_window=pb.FlexibleTimeWindow(
            mode=OFF if said.window_minutes is None else FLEXIBLE, maximum_window_in_minutes=said.window_minutes
        ),
        state=_state(schedule),
        description=said.description,
        target=_target_message(said.target),
        action_after_completion=DELETE if said.deletes else NONE,
        creation_date=timestamp(schedule.created),
        last_modification_date=timestamp(schedule.modified),
    )
    if said.start is not None:
        message.start_date.FromSeconds(said.start)
    if said.end is not None:
        message.end_date.FromSeconds(said.end)
    return message


def summary(schedule: Schedule) -> pb.ScheduleSummary:
    """A schedule in a list."""
    return pb.ScheduleSummary(
        arn=schedule.arn,
        name=schedule.name,
        group_name=schedule.group,
        state=_state(schedule),
        creation_date=timestamp(schedule.created),
        last_modification_date=timestamp(schedule.modified),
        target=pb.ScheduleTargetSummary(arn=schedule.wanted.target.arn),
    )


def group_message(group: Group) -> pb.GetScheduleGroupResponse:
    """A group by itself."""
    created = timestamp(group.created)
    return pb.GetScheduleGroupResponse(
        arn=group.arn, name=group.name, state=_ACTIVE, creation_date=created, last_modification_date=created
    )


def group_summary(group: Group) -> pb.ScheduleGroupSummary:
    """A group in a list."""
    created = timestamp(group.created)
    return pb.ScheduleGroupSummary(
        arn=group.arn, name=group.name, state=_ACTIVE, creation_date=created, last_modification_date=created
    )


def _state(schedule: Schedule) -> str:
    return ENABLED if schedule.wanted.enabled else DISABLED


def _invalid(text: str) -> AwsError:
    return AwsError("ValidationException", text)
