"""What one tenant has set for Application Auto Scaling: scalable targets with their policies and scheduled actions.

Plain values, and the changes that may be made to them: each answers a new state, its revision one higher, or raises the
error that AWS's service gives. When a policy or an action moves a capacity is decided by the scheduler
(services/scheduler/core/autoscaling.py).
Source: https://docs.aws.amazon.com/autoscaling/application/APIReference/ and
https://docs.aws.amazon.com/lambda/latest/dg/provisioned-concurrency.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from lambent.domain.errors import AwsError
from lambent.domain.limits import Limits
from lambent.domain.names import LATEST
from lambent.domain.schedules import At, Rate, Schedule, ScheduleError, next_after, parse, zone_of

NAMESPACE = "lambda"
DIMENSION = "lambda:function:ProvisionedConcurrency"
# Which of the values that a metric has within one minute a policy looks at.
Statistic = Literal["Average", "Maximum"]


class Resource(NamedTuple):
    """What is scaled: the provisioned concurrency of a version or alias."""

    function_name: str
    qualifier: str

    @property
    def id(self) -> str:
        """As the API writes it."""
        return f"function:{self.function_name}:{self.qualifier}"

    @staticmethod
    def of(id: str) -> Resource:
        """The resource that is written so."""
        _, function_name, qualifier = id.split(":")
        return Resource(function_name, qualifier)


@dataclass(frozen=True, slots=True)
class Suspended:
    """What a target does not do for the time being."""

    dynamic_in: bool = False
    dynamic_out: bool = False
    scheduled: bool = False


@dataclass(frozen=True, slots=True)
class Tracking:
    """A target tracking configuration."""

    target_value: float  # share of the provisioned concurrency that is to be in use
    statistic: Statistic = "Average"
    customized: bool = False  # the metric was named by a CustomizedMetricSpecification
    scale_out_cooldown: int | None = None  # seconds; None: none was given, which is 0 for Lambda
    scale_in_cooldown: int | None = None
    disable_scale_in: bool | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """A scaling policy."""

    name: str
    id: str  # uuid; in its ARN and its alarms' names
    created: float  # epoch seconds
    tracking: Tracking


@dataclass(frozen=True, slots=True)
class Action:
    """A scheduled action."""

    name: str
    id: str  # uuid; in its ARN
    created: float  # epoch seconds
    schedule: str
    timezone: str | None  # None: UTC
    start: float | None  # epoch seconds before which it does not happen
    end: float | None  # epoch seconds after which it does not happen
    minimum: int | None  # the target's new bounds; None: as they are
    maximum: int | None
    since: float  # epoch seconds: what was due until then has happened, or does not count


@dataclass(frozen=True, slots=True)
class Target:
    """A scalable target."""

    id: str
    created: float  # epoch seconds
    minimum: int
    maximum: int
    role: str | None = None  # None: the service-linked role
    suspended: Suspended = Suspended()
    tags: Mapping[str, str] = field(default_factory=dict)
    policies: Mapping[str, Policy] = field(default_factory=dict)  # by name
    actions: Mapping[str, Action] = field(default_factory=dict)  # by name

    def within(self, capacity: int) -> int:
        """A capacity moved into the target's bounds."""
        return max(self.minimum, min(capacity, self.maximum))


@dataclass(frozen=True, slots=True)
class ScalingState:
    """All that one tenant has set."""

    revision: int = 0
    targets: Mapping[str, Target] = field(default_factory=dict)  # by the resource's id

    @property
    def empty(self) -> bool:
        """Whether nothing is set."""
        return not self.targets

    def with_target(self, resource: Resource, target: Target | None) -> ScalingState:
        """The next state, in which a target is this one; None: it is gone."""
        targets = {key: each for key, each in self.targets.items() if key != resource.id}
        return ScalingState(
            self.revision + 1, targets if target is None else dict(sorted({**targets, resource.id: target}.items()))
        )


@dataclass(frozen=True, slots=True)
class NotScaled:
    """Why an alarm led to nothing."""

    code: str  # one of AWS's
    current: int


@dataclass(frozen=True, slots=True)
class Activity:
    """Something that was done about a capacity, or was not and why. Source: API_ScalingActivity."""

    id: str
    resource_id: str
    description: str
    cause: str
    started: float  # epoch seconds
    ended: float
    status: Literal["Successful", "Failed"]
    message: str
    not_scaled: NotScaled | None = None


def parse_resource(namespace: str, resource_id: str, dimension: str) -> Resource:
    """What the three identifiers name. Raises ValidationException."""
    check_kind(namespace, dimension)
    parts = resource_id.split(":")
    if len(parts) != 3 or parts[0] != "function" or not all(parts):
        raise invalid(
            f"Unsupported resource ID {resource_id}: provisioned concurrency is scaled by function:NAME:ALIAS or "
            "function:NAME:VERSION"
        )
    if parts[2] == LATEST:
        raise invalid(f"Unsupported resource ID {resource_id}: {LATEST} cannot have provisioned concurrency")
    return Resource(parts[1], parts[2])


def check_kind(namespace: str, dimension: str | None) -> None:
    """Refuse what is not Lambda's provisioned concurrency."""
    if namespace != NAMESPACE or dimension not in (None, DIMENSION):
        raise invalid("Unsupported service namespace, resource type or scalable dimension")


def invalid(message: str) -> AwsError:
    """A request that cannot be met, whenever it comes."""
    return AwsError("ValidationException", message)


def _ids(resource: Resource) -> str:
    return f"service namespace: {NAMESPACE}, resource ID: {resource.id}, scalable dimension: {DIMENSION}"


# Targets


def target_of(state: ScalingState, resource: Resource, what: str = "found") -> Target:
    """A target that is registered. Raises ObjectNotFoundException; `what`: that it is not."""
    target = state.targets.get(resource.id)
    if target is None:
        raise AwsError("ObjectNotFoundException", f"No scalable target {what} for {_ids(resource)}")
    return target


@dataclass(frozen=True, slots=True)
class Registration:
    """What RegisterScalableTarget gives. None: not given, so it stays as it is."""

    minimum: int | None
    maximum: int | None
    role: str | None
    suspended: tuple[bool | None, bool | None, bool | None]  # as the fields of Suspended
    tags: Mapping[str, str]


def register(
    state: ScalingState, resource: Resource, given: Registration, limits: Limits, *, id: str, now: float
) -> ScalingState:
    """Register a target, or change one. `id`: of a new one."""
    target = state.targets.get(resource.id)
    if target is None:
        if given.minimum is None or given.maximum is None:
            raise invalid("MinCapacity and MaxCapacity are required to register a new scalable target")
        if len(state.targets) >= limits.scalable_targets:
            raise _too_many("scalable targets", limits.scalable_targets)
        target = Target(id, now, given.minimum, given.maximum, tags=dict(given.tags))
    elif given.tags:
        raise invalid("Tags can only be given when a scalable target is registered; change them by TagResource")
    minimum = target.minimum if given.minimum is None else given.minimum
    maximum = target.maximum if given.maximum is None else given.maximum
    _check_bounds(minimum, maximum)
    _check_tags(target.tags, limits)
    before, asked = target.suspended, given.suspended
    suspended = Suspended(
        before.dynamic_in if asked[0] is None else asked[0],
        before.dynamic_out if asked[1] is None else asked[1],
        before.scheduled if asked[2] is None else asked[2],
    )
    actions = target.actions
    if before.scheduled and not suspended.scheduled:
        # What would have happened while they were suspended is not done afterwards.
        actions = {name: replace(action, since=max(action.since, now)) for name, action in actions.items()}
    changed = replace(
        target, minimum=minimum, maximum=maximum, role=given.role or target.role, suspended=suspended, actions=actions
    )
    return state.with_target(resource, changed)


def deregister(state: ScalingState, resource: Resource) -> ScalingState:
    """Forget a target with its policies and actions."""
    target_of(state, resource)
    return state.with_target(resource, None)


def resource_with_id(state: ScalingState, target_id: str) -> Resource:
    """The resource of the target with this id. Raises ResourceNotFoundException."""
    for resource_id, target in state.targets.items():
        if target.id == target_id:
            return Resource.of(resource_id)
    raise AwsError("ResourceNotFoundException", f"No scalable target has the ID {target_id}")


def retag(
    state: ScalingState, resource: Resource, added: Mapping[str, str], removed: frozenset[str], limits: Limits
) -> ScalingState:
    """Add and remove tags of a target."""
    target = target_of(state, resource)
    tags = {key: value for key, value in {**target.tags, **added}.items() if key not in removed}
    _check_tags(tags, limits)
    return state.with_target(resource, replace(target, tags=tags))


def _check_tags(tags: Mapping[str, str], limits: Limits) -> None:
    if len(tags) > limits.tags:
        raise AwsError("TooManyTagsException", f"A scalable target can have {limits.tags} tags at most")


def _check_bounds(minimum: int | None, maximum: int | None) -> None:
    if (minimum or 0) < 0 or (maximum or 0) < 0:
        raise invalid("Minimum and maximum capacity cannot be negative")
    if minimum is not None and maximum is not None and maximum < minimum:
        raise invalid("Maximum capacity cannot be less than minimum capacity")


def _too_many(what: str, most: int) -> AwsError:
    return AwsError("LimitExceededException", f"The limit of {most} {what} is reached")


# Policies


def put_policy(
    state: ScalingState,
    resource: Resource,
    name: str,
    tracking: Tracking | None,
    limits: Limits,
    *,
    id: str,
    now: float,
) -> ScalingState:
    """Add a policy, or change one. `tracking`: None leaves it as it is. `id`: of a new one."""
    target = target_of(state, resource, "registered")
    policy = target.policies.get(name)
    if policy is None:
        if tracking is None:
            raise invalid("A new scaling policy needs a TargetTrackingScalingPolicyConfiguration")
        if len(target.policies) >= limits.scaling_policies:
            raise _too_many("scaling policies of a scalable target", limits.scaling_policies)
        policy = Policy(name, id, now, tracking)
    if tracking is not None:
        _check_tracking(tracking)
        policy = replace(policy, tracking=tracking)
    return state.with_target(
        resource, replace(target, policies=dict(sorted({**target.policies, name: policy}.items())))
    )


def delete_policy(state: ScalingState, resource: Resource, name: str) -> ScalingState:
    """Delete a policy."""
    target = state.targets.get(resource.id)
    if target is None or name not in target.policies:
        raise AwsError("ObjectNotFoundException", f"No scaling policy found for {_ids(resource)}, policy name: {name}")
    rest = {key: policy for key, policy in target.policies.items() if key != name}
    return state.with_target(resource, replace(target, policies=rest))


def _check_tracking(tracking: Tracking) -> None:
    if not 0 < tracking.target_value <= 1:
        raise invalid("TargetValue must be a share of the provisioned concurrency: more than 0, and 1 at most")
    if (tracking.scale_out_cooldown or 0) < 0 or (tracking.scale_in_cooldown or 0) < 0:
        raise invalid("A cooldown cannot be negative")


# Scheduled actions


@dataclass(frozen=True, slots=True)
class Plan:
    """What PutScheduledAction gives."""

    schedule: str | None  # None: as it is
    timezone: str | None
    start: float | None  # epoch seconds; None: none, also where there was one
    end: float | None
    bounds: tuple[int | None, int | None] | None  # None: as they are


def put_action(
    state: ScalingState, resource: Resource, name: str, plan: Plan, limits: Limits, *, id: str, now: float
) -> ScalingState:
    """Add a scheduled action, or change one. `id`: of a new one."""
    target = target_of(state, resource, "registered")
    before = target.actions.get(name)
    if before is None:
        if plan.schedule is None or plan.bounds is None:
            raise invalid("A new scheduled action needs a Schedule and a ScalableTargetAction")
        if len(target.actions) >= limits.scheduled_actions:
            raise _too_many("scheduled actions of a scalable target", limits.scheduled_actions)
        before = Action(name, id, now, plan.schedule, plan.timezone, None, None, None, None, now)
    minimum, maximum = (before.minimum, before.maximum) if plan.bounds is None else plan.bounds
    if minimum is None and maximum is None:
        raise invalid("A scheduled action needs a minimum or a maximum capacity")
    _check_bounds(minimum, maximum)
    action = replace(
        before,
        schedule=plan.schedule or before.schedule,
        timezone=plan.timezone or before.timezone,
        start=plan.start,
        end=plan.end,
        minimum=minimum,
        maximum=maximum,
        since=now,
    )
    _check_times(action, now)
    return state.with_target(resource, replace(target, actions=dict(sorted({**target.actions, name: action}.items()))))


def delete_action(state: ScalingState, resource: Resource, name: str) -> ScalingState:
    """Delete a scheduled action."""
    target = state.targets.get(resource.id)
    if target is None or name not in target.actions:
        raise AwsError(
            "ObjectNotFoundException", f"No scheduled action found for {_ids(resource)}, scheduled action name: {name}"
        )
    rest = {key: action for key, action in target.actions.items() if key != name}
    return state.with_target(resource, replace(target, actions=rest))


def _check_times(action: Action, now: float) -> None:
    try:
        parse(action.schedule)
        zone_of(action.timezone or "UTC")
    except ScheduleError as error:
        raise invalid(f"Schedule {action.schedule} is not valid: {error}") from None
    if action.end is not None and action.end <= max(now, action.start or 0.0):
        raise invalid("EndTime must be in the future and after StartTime")
    if next_due(action, now) is None:
        raise invalid(f"Schedule {action.schedule} has no time in the future")


def next_due(action: Action, after: float) -> int | None:
    """The first time after `after`, epoch seconds, at which an action is due; None: never again.

    One with a start time is due at it for the first time, unless it is for one time only.
    """
    schedule, zone = parse(action.schedule), zone_of(action.timezone or "UTC")
    due = next_after(schedule, max(after, (action.start or 0.0) - 1), zone, _anchor(action, schedule))
    if action.start is not None and after < action.start and not isinstance(schedule, At):
        due = int(action.start)
    return None if due is None or (action.end is not None and due > action.end) else due


def _anchor(action: Action, schedule: Schedule) -> float:
    """Where a rate counts from; without a start time the first is one interval after the action was created."""
    if action.start is not None:
        return action.start
    return action.created + (schedule.seconds if isinstance(schedule, Rate) else 0.0)


def fire(state: ScalingState, resource: Resource, name: str, due: int) -> ScalingState:
    """An action happens: the target's bounds are other ones. The same state if it is gone or has happened already."""
    target = state.targets.get(resource.id)
    action = None if target is None else target.actions.get(name)
    if target is None or action is None or due <= action.since:
        return state
    minimum = target.minimum if action.minimum is None else action.minimum
    maximum = target.maximum if action.maximum is None else action.maximum
    if minimum > maximum:
        # Only one of the two was given: the other gives way.
        minimum, maximum = (minimum, minimum) if action.maximum is None else (maximum, maximum)
    done = replace(action, since=float(due))
    return state.with_target(
        resource, replace(target, minimum=minimum, maximum=maximum, actions={**target.actions, name: done})
    )


# Names


def target_arn(region: str, account: str, target: Target) -> str:
    """ARN of a scalable target."""
    return f"arn:aws:application-autoscaling:{region}:{account}:scalable-target/{target.id}"


def policy_arn(region: str, account: str, resource: Resource, policy: Policy) -> str:
    """ARN of a scaling policy."""
    prefix = f"arn:aws:autoscaling:{region}:{account}:scalingPolicy"
    return f"{prefix}:{policy.id}:resource/{NAMESPACE}/{resource.id}:policyName/{policy.name}"


def action_arn(region: str, account: str, resource: Resource, action: Action) -> str:
    """ARN of a scheduled action."""
    prefix = f"arn:aws:autoscaling:{region}:{account}:scheduledAction"
    return f"{prefix}:{action.id}:resource/{NAMESPACE}/{resource.id}:scheduledActionName/{action.name}"


def alarm_names(resource: Resource, policy: Policy) -> tuple[str, ...]:
    """Names of a policy's alarms: that which scales out, and that which scales in unless it may not."""
    high, low = (f"TargetTracking-{resource.id}-Alarm{side}-{policy.id}" for side in ("High", "Low"))
    return (high,) if policy.tracking.disable_scale_in else (high, low)


def default_role(account: str) -> str:
    """The service-linked role that AWS shows where none was given."""
    return (
        f"arn:aws:iam::{account}:role/aws-service-role/lambda.application-autoscaling.amazonaws.com/"
        "AWSServiceRoleForApplicationAutoScaling_LambdaConcurrency"
    )
