"""Scalable targets, policies, scheduled actions and activities, as the API shows them."""

from __future__ import annotations

from lambent.domain import scaling
from lambent.domain.names import Tenant
from lambent.domain.scaling import DIMENSION, NAMESPACE, Action, Activity, Policy, Resource, Target
from lambent.v1 import scaling_service_pb2 as pb
from services.frontend.operations.timestamps import timestamp

# The one policy type, predefined metric and metric that Lambda's provisioned concurrency is scaled by.
POLICY_TYPE = "TargetTrackingScaling"
METRIC_TYPE = "LambdaProvisionedConcurrencyUtilization"
METRIC_NAMESPACE, METRIC = "AWS/Lambda", "ProvisionedConcurrencyUtilization"


def target_message(tenant: Tenant, resource_id: str, target: Target) -> pb.ScalableTarget:
    """A target of a tenant."""
    suspended = target.suspended
    return pb.ScalableTarget(
        service_namespace=NAMESPACE,
        resource_id=resource_id,
        scalable_dimension=DIMENSION,
        min_capacity=target.minimum,
        max_capacity=target.maximum,
        role_arn=target.role or scaling.default_role(tenant.account),
        creation_time=timestamp(target.created),
        suspended_state=pb.SuspendedState(
            dynamic_scaling_in_suspended=suspended.dynamic_in,
            dynamic_scaling_out_suspended=suspended.dynamic_out,
            scheduled_scaling_suspended=suspended.scheduled,
        ),
        scalable_target_arn=scaling.target_arn(tenant.region, tenant.account, target),
    )


def alarm_messages(tenant: Tenant, resource: Resource, policy: Policy) -> list[pb.Alarm]:
    """The alarms of a policy; they have names, and nothing else that could be seen."""
    prefix = f"arn:aws:cloudwatch:{tenant.region}:{tenant.account}:alarm:"
    return [pb.Alarm(alarm_name=name, alarm_arn=prefix + name) for name in scaling.alarm_names(resource, policy)]


def policy_message(tenant: Tenant, resource_id: str, policy: Policy) -> pb.ScalingPolicy:
    """A policy, its configuration as it was given."""
    resource, tracking = Resource.of(resource_id), policy.tracking
    message = pb.ScalingPolicy(
        policy_arn=scaling.policy_arn(tenant.region, tenant.account, resource, policy),
        policy_name=policy.name,
        service_namespace=NAMESPACE,
        resource_id=resource_id,
        scalable_dimension=DIMENSION,
        policy_type=POLICY_TYPE,
        alarms=alarm_messages(tenant, resource, policy),
        creation_time=timestamp(policy.created),
    )
    configuration = message.target_tracking_scaling_policy_configuration
    configuration.target_value = tracking.target_value
    if tracking.customized:
        metric = configuration.customized_metric_specification
        metric.namespace, metric.metric_name, metric.statistic = METRIC_NAMESPACE, METRIC, tracking.statistic
        metric.dimensions.add(name="FunctionName", value=resource.function_name)
        metric.dimensions.add(name="Resource", value=f"{resource.function_name}:{resource.qualifier}")
    else:
        configuration.predefined_metric_specification.predefined_metric_type = METRIC_TYPE
    if tracking.scale_out_cooldown is not None:
        configuration.scale_out_cooldown = tracking.scale_out_cooldown
    if tracking.scale_in_cooldown is not None:
        configuration.scale_in_cooldown = tracking.scale_in_cooldown
    if tracking.disable_scale_in is not None:
        configuration.disable_scale_in = tracking.disable_scale_in
    return message


def action_message(tenant: Tenant, resource_id: str, action: Action) -> pb.ScheduledAction:
    """A scheduled action."""
    message = pb.ScheduledAction(
        scheduled_action_name=action.name,
        scheduled_action_arn=scaling.action_arn(tenant.region, tenant.account, Resource.of(resource_id), action),
        service_namespace=NAMESPACE,
        schedule=action.schedule,
        timezone=action.timezone,
        resource_id=resource_id,
        scalable_dimension=DIMENSION,
        creation_time=timestamp(action.created),
        scalable_target_action=pb.ScalableTargetAction(min_capacity=action.minimum, max_capacity=action.maximum),
    )
    if action.start is not None:
        message.start_time.CopyFrom(timestamp(action.start))
    if action.end is not None:
        message.end_time.CopyFrom(timestamp(action.end))
    return message


def activity_message(activity: Activity, target: Target | None) -> pb.ScalingActivity:
    """An activity. `target`: of its resource, if it is still registered."""
    message = pb.ScalingActivity(
        activity_id=activity.id,
        service_namespace=NAMESPACE,
        resource_id=activity.resource_id,
        scalable_dimension=DIMENSION,
        description=activity.description,
        cause=activity.cause,
        start_time=timestamp(activity.started),
        end_time=timestamp(activity.ended),
        status_code=activity.status,
        status_message=activity.message,
    )
    if activity.not_scaled is not None:
        reason = message.not_scaled_reasons.add(
            code=activity.not_scaled.code, current_capacity=activity.not_scaled.current
        )
        if target is not None:
            reason.min_capacity, reason.max_capacity = target.minimum, target.maximum
    return message
