"""ScalingService: Application Auto Scaling of provisioned concurrency.

What may be set is decided by lambent/domain/scaling.py; when it moves a capacity, by the scheduler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeVar, cast, get_args

from google.protobuf.timestamp_pb2 import Timestamp

from lambent.domain import scaling
from lambent.domain.clock import Clock, Ids
from lambent.domain.errors import AwsError
from lambent.domain.limits import Limits
from lambent.domain.names import Tenant
from lambent.domain.scaling import (
    DIMENSION,
    Plan,
    Registration,
    Resource,
    ScalingState,
    Statistic,
    Target,
    Tracking,
    invalid,
)
from lambent.infra.functions.port import FunctionStore
from lambent.v1 import scaling_service_pb2 as pb
from services.frontend.operations import paging
from services.frontend.operations.scaling_messages import (
    METRIC,
    METRIC_NAMESPACE,
    METRIC_TYPE,
    POLICY_TYPE,
    action_message,
    activity_message,
    alarm_messages,
    policy_message,
    target_message,
)
from services.frontend.scaling.port import ScalingStore
from services.frontend.scaling.scaler import Scaler
from services.frontend.scaling.settings import ScalingSettings
from services.frontend.transport.call import Call

LARGEST_PAGE = 50

T = TypeVar("T")


class Identified(Protocol):
    """A request about one scalable target."""

    @property
    def service_namespace(self) -> str: ...
    @property
    def resource_id(self) -> str: ...
    @property
    def scalable_dimension(self) -> str: ...


class Paged(Protocol):
    """A request of one page of what a tenant has."""

    @property
    def service_namespace(self) -> str: ...
    @property
    def scalable_dimension(self) -> str: ...
    @property
    def max_results(self) -> int: ...
    @property
    def next_token(self) -> str: ...


class ScalingOperations:
    """The operations of lambent.v1.ScalingService."""

    def __init__(
        self,
        *,
        functions: FunctionStore,
        store: ScalingStore,
        settings: ScalingSettings,
        scaler: Scaler,
        limits: Limits,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self._functions = functions
        self._store = store
        self._settings = settings
        self._scaler = scaler
        self._limits = limits
        self._clock = clock
        self._ids = ids

    # Targets

    async def register_scalable_target(
        self, request: pb.RegisterScalableTargetRequest, call: Call
    ) -> pb.RegisterScalableTargetResponse:
        """Register a target or change one; its capacity is moved within its bounds at once."""
        resource, tenant = _resource(request), call.tenant
        function = await self._functions.find(tenant, resource.function_name, resource.qualifier)
        if function is None or not function.stands_for(resource.qualifier):
            raise invalid(f"The resource {resource.id} does not exist")
        suspended = request.suspended_state
        given = Registration(
            _given(request, "min_capacity"),
            _given(request, "max_capacity"),
            request.role_arn or None,
            (
                _given(suspended, "dynamic_scaling_in_suspended"),
                _given(suspended, "dynamic_scaling_out_suspended"),
                _given(suspended, "scheduled_scaling_suspended"),
            ),
            dict(request.tags),
        )
        id, now = self._ids.uuid(), self._clock.epoch()
        _, after = await self._settings.edit(
            tenant, lambda state: scaling.register(state, resource, given, self._limits, id=id, now=now)
        )
        target = after.targets[resource.id]
        await self._scaler.keep_within(tenant, resource, target)
        return pb.RegisterScalableTargetResponse(
            scalable_target_arn=scaling.target_arn(tenant.region, tenant.account, target)
        )

    async def describe_scalable_targets(
        self, request: pb.DescribeScalableTargetsRequest, call: Call
    ) -> pb.DescribeScalableTargetsResponse:
        """One page, by resource."""
        state = await self._settings.read(call.tenant)
        wanted = set(request.resource_ids)
        found = [(key, each) for key, each in state.targets.items() if not wanted or key in wanted]
        page, token = _page(request, found, lambda item: item[0])
        response = pb.DescribeScalableTargetsResponse(next_token=token)
        for resource_id, target in page:
            response.scalable_targets.append(target_message(call.tenant, resource_id, target))
        return response

    async def deregister_scalable_target(
        self, request: pb.DeregisterScalableTargetRequest, call: Call
    ) -> pb.DeregisterScalableTargetResponse:
        """Forget a target with its policies and actions; its provisioned concurrency stays as it is."""
        resource = _resource(request)
        await self._settings.edit(call.tenant, lambda state: scaling.deregister(state, resource))
        return pb.DeregisterScalableTargetResponse()

    # Policies

    async def put_scaling_policy(self, request: pb.PutScalingPolicyRequest, call: Call) -> pb.PutScalingPolicyResponse:
        """Add or change a target tracking policy."""
        resource, tenant, name = _resource(request), call.tenant, request.policy_name
        if request.HasField("policy_type") and request.policy_type != POLICY_TYPE:
            raise invalid(f"The scalable dimension {DIMENSION} supports policies of the type {POLICY_TYPE} only")
        for other in ("step_scaling_policy_configuration", "predictive_scaling_policy_configuration"):
            if request.HasField(other):
                raise invalid(f"A policy of the type {POLICY_TYPE} takes a TargetTrackingScalingPolicyConfiguration")
        tracking = None
        if request.HasField("target_tracking_scaling_policy_configuration"):
            tracking = _tracking(resource, request.target_tracking_scaling_policy_configuration)
        id, now = self._ids.uuid(), self._clock.epoch()

        def decide(state: ScalingState) -> ScalingState:
            if not request.HasField("policy_type") and name not in scaling.target_of(state, resource).policies:
                raise invalid("PolicyType is required to create a scaling policy")
            return scaling.put_policy(state, resource, name, tracking, self._limits, id=id, now=now)

        _, after = await self._settings.edit(tenant, decide)
        policy = after.targets[resource.id].policies[name]
        response = pb.PutScalingPolicyResponse(
            policy_arn=scaling.policy_arn(tenant.region, tenant.account, resource, policy)
        )
        response.alarms.extend(alarm_messages(tenant, resource, policy))
        return response

    async def describe_scaling_policies(
        self, request: pb.DescribeScalingPoliciesRequest, call: Call
    ) -> pb.DescribeScalingPoliciesResponse:
        """One page, by resource and name."""
        state = await self._settings.read(call.tenant)
        found = _named(state, request.resource_id, request.policy_names, lambda target: target.policies)
        page, token = _page(request, found, lambda item: f"{item[0]}\n{item[1].name}")
        response = pb.DescribeScalingPoliciesResponse(next_token=token)
        for resource_id, policy in page:
            response.scaling_policies.append(policy_message(call.tenant, resource_id, policy))
        return response

    async def delete_scaling_policy(
        self, request: pb.DeleteScalingPolicyRequest, call: Call
    ) -> pb.DeleteScalingPolicyResponse:
        """Delete a policy with its alarms."""
        resource, name = _resource(request), request.policy_name
        await self._settings.edit(call.tenant, lambda state: scaling.delete_policy(state, resource, name))
        return pb.DeleteScalingPolicyResponse()

    # Scheduled actions

    async def put_scheduled_action(
        self, request: pb.PutScheduledActionRequest, call: Call
    ) -> pb.PutScheduledActionResponse:
        """Add or change a scheduled action."""
        resource, name = _resource(request), request.scheduled_action_name
        bounds = None
        if request.HasField("scalable_target_action"):
            given = request.scalable_target_action
            bounds = _given(given, "min_capacity"), _given(given, "max_capacity")
        plan = Plan(
            request.schedule or None,
            request.timezone or None,
            _epoch(request.start_time) if request.HasField("start_time") else None,
            _epoch(request.end_time) if request.HasField("end_time") else None,
            bounds,
        )
        id, now = self._ids.uuid(), self._clock.epoch()
        await self._settings.edit(
            call.tenant, lambda state: scaling.put_action(state, resource, name, plan, self._limits, id=id, now=now)
        )
        return pb.PutScheduledActionResponse()

    async def describe_scheduled_actions(
        self, request: pb.DescribeScheduledActionsRequest, call: Call
    ) -> pb.DescribeScheduledActionsResponse:
        """One page, by resource and name."""
        state = await self._settings.read(call.tenant)
        found = _named(state, request.resource_id, request.scheduled_action_names, lambda target: target.actions)
        page, token = _page(request, found, lambda item: f"{item[0]}\n{item[1].name}")
        response = pb.DescribeScheduledActionsResponse(next_token=token)
        for resource_id, action in page:
            response.scheduled_actions.append(action_message(call.tenant, resource_id, action))
        return response

    async def delete_scheduled_action(
        self, request: pb.DeleteScheduledActionRequest, call: Call
    ) -> pb.DeleteScheduledActionResponse:
        """Delete a scheduled action."""
        resource, name = _resource(request), request.scheduled_action_name
        await self._settings.edit(call.tenant, lambda state: scaling.delete_action(state, resource, name))
        return pb.DeleteScheduledActionResponse()

    # Activities

    async def describe_scaling_activities(
        self, request: pb.DescribeScalingActivitiesRequest, call: Call
    ) -> pb.DescribeScalingActivitiesResponse:
        """One page, the newest first, of the last six weeks."""
        oldest = self._clock.epoch() - self._limits.scaling_history_seconds
        found = [
            activity
            for activity in await self._store.activities(call.tenant)
            if activity.started >= oldest
            and (not request.HasField("resource_id") or activity.resource_id == request.resource_id)
            and (activity.not_scaled is None or request.include_not_scaled_activities)
        ]
        page, token = _page(request, found, lambda activity: activity.id, newest_first=True)
        state = await self._settings.read(call.tenant)
        response = pb.DescribeScalingActivitiesResponse(next_token=token)
        response.scaling_activities.extend(activity_message(each, state.targets.get(each.resource_id)) for each in page)
        return response

    # Tags of targets

    async def list_tags_for_resource(
        self, request: pb.ScalingServiceListTagsForResourceRequest, call: Call
    ) -> pb.ScalingServiceListTagsForResourceResponse:
        """The tags of a target."""
        state = await self._settings.read(call.tenant)
        resource = _tagged(state, call.tenant, request.resource_arn)
        return pb.ScalingServiceListTagsForResourceResponse(tags=state.targets[resource.id].tags)

    async def tag_resource(
        self, request: pb.ScalingServiceTagResourceRequest, call: Call
    ) -> pb.ScalingServiceTagResourceResponse:
        """Add tags to a target, or change them."""
        arn, tags = request.resource_arn, dict(request.tags)
        await self._settings.edit(
            call.tenant,
            lambda state: scaling.retag(state, _tagged(state, call.tenant, arn), tags, frozenset(), self._limits),
        )
        return pb.ScalingServiceTagResourceResponse()

    async def untag_resource(
        self, request: pb.ScalingServiceUntagResourceRequest, call: Call
    ) -> pb.ScalingServiceUntagResourceResponse:
        """Remove tags from a target."""
        arn, keys = request.resource_arn, frozenset(request.tag_keys)
        await self._settings.edit(
            call.tenant, lambda state: scaling.retag(state, _tagged(state, call.tenant, arn), {}, keys, self._limits)
        )
        return pb.ScalingServiceUntagResourceResponse()


# Requests


def _resource(request: Identified) -> Resource:
    return scaling.parse_resource(request.service_namespace, request.resource_id, request.scalable_dimension)


def _named(
    state: ScalingState, resource_id: str, names: Iterable[str], of: Callable[[Target], Mapping[str, T]]
) -> list[tuple[str, T]]:
    """What targets have of a kind, with the resource's id: of one resource and by these names, if any are given."""
    wanted = set(names)
    return [
        (key, item)
        for key, target in state.targets.items()
        if resource_id in ("", key)
        for name, item in of(target).items()
        if not wanted or name in wanted
    ]


def _given(message: Any, member: str) -> Any:
    """A member's value; None: it is not there."""
    return getattr(message, member) if message.HasField(member) else None


def _tracking(resource: Resource, given: pb.TargetTrackingScalingPolicyConfiguration) -> Tracking:
    statistic: str = "Average"
    customized = given.HasField("customized_metric_specification")
    if customized == given.HasField("predefined_metric_specification"):
        raise invalid("One of PredefinedMetricSpecification and CustomizedMetricSpecification is needed, and only one")
    if customized:
        statistic = _statistic(resource, given.customized_metric_specification)
    elif given.predefined_metric_specification.predefined_metric_type != METRIC_TYPE:
        raise invalid(f"The scalable dimension {DIMENSION} has one predefined metric: {METRIC_TYPE}")
    return Tracking(
        given.target_value,
        cast(Statistic, statistic),
        customized,
        _given(given, "scale_out_cooldown"),
        _given(given, "scale_in_cooldown"),
        _given(given, "disable_scale_in"),
    )


def _statistic(resource: Resource, metric: pb.CustomizedMetricSpecification) -> str:
    """Of a customized metric, which can only be the predefined one by another statistic: there is no CloudWatch."""
    dimensions = {each.name: each.value for each in metric.dimensions}
    known = {
        "FunctionName": resource.function_name,
        "Resource": f"{resource.function_name}:{resource.qualifier}",
    }
    if (
        metric.metrics
        or (metric.namespace, metric.metric_name) != (METRIC_NAMESPACE, METRIC)
        or dimensions != known
        or metric.statistic not in get_args(Statistic)
    ):
        raise invalid(
            f"A customized metric can be {METRIC} of {METRIC_NAMESPACE}, by the dimensions FunctionName and Resource "
            f"of the target, with the statistic {' or '.join(get_args(Statistic))}"
        )
    return metric.statistic


def _page(
    request: Paged, items: list[T], key: Callable[[T], str], *, newest_first: bool = False
) -> tuple[list[T], str | None]:
    """`newest_first`: the keys have no order, a page begins behind the one that ended the page before."""
    scaling.check_kind(request.service_namespace, request.scalable_dimension or None)
    size = request.max_results if cast(Any, request).HasField("max_results") else LARGEST_PAGE
    if not 1 <= size <= LARGEST_PAGE:
        raise invalid(f"MaxResults must be between 1 and {LARGEST_PAGE}")
    if request.next_token:
        error = AwsError("InvalidNextTokenException", "The next token is not one of a page before")
        after = paging.key_of(request.next_token, error)
        if newest_first:
            position = next((number for number, each in enumerate(items) if key(each) == after), len(items) - 1)
            items = items[position + 1 :]
        else:
            items = [each for each in items if key(each) > after]
    return paging.page(items, key, size)


def _tagged(state: ScalingState, tenant: Tenant, arn: str) -> Resource:
    _, _, _, region, account, name = arn.split(":", 5)
    if (account, region) != tenant:
        raise AwsError("ResourceNotFoundException", f"There is no scalable target {arn}")
    return scaling.resource_with_id(state, name.partition("/")[2])


def _epoch(timestamp: Timestamp) -> float:
    return timestamp.seconds + timestamp.nanos / 1e9
