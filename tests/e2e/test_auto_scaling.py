"""Application Auto Scaling through AWS's own client: what may be set, and that it moves provisioned concurrency.

The alarms' minute is a second here: a setting of the cluster.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from lambent.v1 import scaling_service_pb2 as pb
from lambent.v1 import scaling_service_pb2_grpc as pb_grpc
from tests.e2e.harness import ROLE, Cluster, error_of, eventually, over_and_over, zipped

PERIOD = 1.0
SLEEPER = zipped(
    {"app.py": "import time\ndef handler(event, context):\n    time.sleep(event.get('seconds', 0))\n    return 1\n"}
)
UNSUPPORTED = (400, "ValidationException", "Unsupported service namespace, resource type or scalable dimension")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="la-", dir="/tmp") as folder:
        settings = {"LAMBENT_TIMING_ALARM_PERIOD_SECONDS": str(PERIOD)}
        made = Cluster(Path(folder) / "data", **settings).start()
        yield made
        made.stop()


class Account:
    """A region that one test has for itself, with function f, its version 1 and its alias live."""

    def __init__(self, cluster: Cluster, region: str) -> None:
        self.cluster, self.region = cluster, region
        self.functions = cluster.client(region=region, validation=False)
        self.scaling = cluster.client("application-autoscaling", region=region, validation=False)
        self.functions.create_function(
            FunctionName="f", Runtime="python3.11", Role=ROLE, Handler="app.handler", Code={"ZipFile": SLEEPER}
        )
        waiter = self.functions.get_waiter("function_active_v2")
        waiter.wait(FunctionName="f", WaiterConfig={"Delay": 0.05, "MaxAttempts": 200})
        self.functions.publish_version(FunctionName="f")
        self.functions.create_alias(FunctionName="f", Name="live", FunctionVersion="1")

    @staticmethod
    def ids(resource: str = "function:f:live") -> dict[str, str]:
        return {
            "ServiceNamespace": "lambda",
            "ResourceId": resource,
            "ScalableDimension": "lambda:function:ProvisionedConcurrency",
        }

    def register(self, minimum: int, maximum: int, **other: Any) -> Any:
        return self.scaling.register_scalable_target(**self.ids(), MinCapacity=minimum, MaxCapacity=maximum, **other)[
            "ScalableTargetARN"
        ]

    def track(self, target: float = 0.5, name: str = "track", **other: Any) -> Any:
        configuration = {
            "TargetValue": target,
            "PredefinedMetricSpecification": {"PredefinedMetricType": "LambdaProvisionedConcurrencyUtilization"},
            **other,
        }
        return self.scaling.put_scaling_policy(
            **self.ids(), PolicyName=name, PolicyType="TargetTrackingScaling",
            TargetTrackingScalingPolicyConfiguration=configuration,
        )  # fmt: skip

    def schedule(self, schedule: str, name: str = "act", minimum: int | None = 2, **other: Any) -> Any:
        bounds = {} if minimum is None else {"ScalableTargetAction": {"MinCapacity": minimum}}
        return self.scaling.put_scheduled_action(
            **self.ids(), ScheduledActionName=name, Schedule=schedule, **bounds, **other
        )

    def capacity(self) -> int:
        found = self.functions.list_provisioned_concurrency_configs(FunctionName="f")
        configurations = found["ProvisionedConcurrencyConfigs"]
        return configurations[0]["RequestedProvisionedConcurrentExecutions"] if configurations else 0

    def ready(self) -> bool:
        found = self.functions.get_provisioned_concurrency_config(FunctionName="f", Qualifier="live")
        return bool(found["Status"] == "READY")

    def activities(self, **other: Any) -> list[Any]:
        found = self.scaling.describe_scaling_activities(ServiceNamespace="lambda", **other)
        return list(found["ScalingActivities"])


def test_registering_moves_the_capacity_into_the_bounds(cluster: Cluster) -> None:
    account = Account(cluster, "as-register-1")
    arn = account.register(2, 5, Tags={"team": "a"})
    assert arn.startswith("arn:aws:application-autoscaling:as-register-1:000000000000:scalable-target/")
    assert account.capacity() == 2
    account.scaling.register_scalable_target(**account.ids(), MaxCapacity=3, MinCapacity=3)
    assert account.capacity() == 3
    account.functions.put_provisioned_concurrency_config(
        FunctionName="f", Qualifier="live", ProvisionedConcurrentExecutions=9
    )
    account.scaling.register_scalable_target(**account.ids(), MaxCapacity=4)
    assert account.capacity() == 4
    account.scaling.register_scalable_target(**account.ids(), MinCapacity=0, MaxCapacity=0)
    assert account.capacity() == 0
    (target,) = account.scaling.describe_scalable_targets(ServiceNamespace="lambda")["ScalableTargets"]
    created = target.pop("CreationTime")
    assert abs((datetime.now(UTC) - created).total_seconds()) < 300
    assert target == {
        **account.ids(), "MinCapacity": 0, "MaxCapacity": 0, "ScalableTargetARN": arn,
        "RoleARN": "arn:aws:iam::000000000000:role/aws-service-role/lambda.application-autoscaling.amazonaws.com/"
        "AWSServiceRoleForApplicationAutoScaling_LambdaConcurrency",
        "SuspendedState": {
            "DynamicScalingInSuspended": False, "DynamicScalingOutSuspended": False,
            "ScheduledScalingSuspended": False,
        },
    }  # fmt: skip
    assert account.scaling.list_tags_for_resource(ResourceARN=arn)["Tags"] == {"team": "a"}
    account.scaling.tag_resource(ResourceARN=arn, Tags={"stage": "b"})
    account.scaling.untag_resource(ResourceARN=arn, TagKeys=["team"])
    assert account.scaling.list_tags_for_resource(ResourceARN=arn)["Tags"] == {"stage": "b"}
    causes = [(each["StatusCode"], each["Cause"]) for each in account.activities()]
    assert causes == [
        ("Successful", "maximum capacity was set to 0"),
        ("Successful", "maximum capacity was set to 4"),
        ("Successful", "minimum capacity was set to 3"),
        ("Successful", "minimum capacity was set to 2"),
    ]
    account.track()
    account.schedule("rate(1 day)")
    account.scaling.deregister_scalable_target(**account.ids())
    assert account.scaling.describe_scaling_policies(ServiceNamespace="lambda")["ScalingPolicies"] == []
    assert account.scaling.describe_scheduled_actions(ServiceNamespace="lambda")["ScheduledActions"] == []


def test_what_cannot_be_provisioned_is_a_failed_activity(cluster: Cluster) -> None:
    account = Account(cluster, "as-failed-1")
    account.functions.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=5)
    account.register(6, 9)
    assert account.capacity() == 0
    (activity,) = account.activities()
    assert activity["StatusCode"] == "Failed"
    assert activity["Description"] == "Setting desired concurrency to 6."
    assert "should not be greater than the reservedConcurrentExecution" in activity["StatusMessage"]


def test_use_above_the_target_scales_out_and_use_below_it_scales_in(cluster: Cluster) -> None:
    account = Account(cluster, "as-track-1")
    account.register(2, 6)
    eventually(account.ready, 60.0)
    policy = account.track(0.5, ScaleInCooldown=0)
    assert [alarm["AlarmName"].split("-Alarm")[1][:4] for alarm in policy["Alarms"]] == ["High", "Low-"]
    client = cluster.client(region=account.region)

    def call(seconds: float) -> None:
        answer = client.invoke(FunctionName="f", Qualifier="live", Payload=json.dumps({"seconds": seconds}))
        assert answer["Payload"].read()
        assert answer["StatusCode"] == 200

    with over_and_over(*[partial(call, 0.2)] * 2):
        eventually(lambda: account.capacity() == 4, 60.0)
    eventually(account.ready, 60.0)
    newest = account.activities()[0]
    high = policy["Alarms"][0]["AlarmName"]
    assert newest["Cause"] == f"monitor alarm {high} in state ALARM triggered policy track"
    assert newest["Description"] == "Setting desired concurrency to 4."
    with over_and_over(partial(call, 0.1)):
        # One of four at a time is half of the target; of three it is two thirds, and one in two is the target itself.
        eventually(lambda: account.capacity() == 3, 60.0)


def test_a_scheduled_action_happens_when_it_is_due(cluster: Cluster) -> None:
    account = Account(cluster, "as-schedule-1")
    account.register(1, 8)
    at = datetime.now(UTC) + timedelta(seconds=3)
    account.schedule(f"at({at:%Y-%m-%dT%H:%M:%S})", minimum=3)
    account.scaling.put_scheduled_action(
        **account.ids(), ScheduledActionName="later", Schedule="cron(0 9 ? * MON-FRI *)", Timezone="Europe/Berlin",
        ScalableTargetAction={"MinCapacity": 5, "MaxCapacity": 7},
    )  # fmt: skip
    eventually(lambda: account.capacity() == 3, 60.0)
    (target,) = account.scaling.describe_scalable_targets(ServiceNamespace="lambda")["ScalableTargets"]
    assert (target["MinCapacity"], target["MaxCapacity"]) == (3, 8)
    eventually(lambda: len(account.activities()) == 3, 60.0)
    assert [each["Cause"] for each in account.activities()] == [
        "minimum capacity was set to 3",
        "scheduled action name act was triggered",
        "minimum capacity was set to 1",
    ]
    found = account.scaling.describe_scheduled_actions(ServiceNamespace="lambda", MaxResults=1)
    assert [each["ScheduledActionName"] for each in found["ScheduledActions"]] == ["act"]
    found = account.scaling.describe_scheduled_actions(ServiceNamespace="lambda", NextToken=found["NextToken"])
    (later,) = found["ScheduledActions"]
    assert (later["Timezone"], later["ScalableTargetAction"]) == ("Europe/Berlin", {"MinCapacity": 5, "MaxCapacity": 7})


def test_what_is_set_outlives_the_scheduler(cluster: Cluster) -> None:
    account = Account(cluster, "as-restart-1")
    account.register(1, 8)
    at = datetime.now(UTC) + timedelta(seconds=4)
    account.schedule(f"at({at:%Y-%m-%dT%H:%M:%S})", minimum=4)
    os.kill(cluster.pid("scheduler"), signal.SIGKILL)
    eventually(lambda: account.capacity() == 4, 60.0)
    assert [each["Cause"] for each in account.activities()].count("scheduled action name act was triggered") == 1


def test_every_wrong_setting_is_refused_in_the_services_words(cluster: Cluster) -> None:
    account = Account(cluster, "as-errors-1")
    scaling, ids = account.scaling, account.ids()
    missing = "service namespace: lambda, resource ID: function:f:live, scalable dimension: " + ids["ScalableDimension"]

    def register(**arguments: Any) -> tuple[int, str, str]:
        return error_of(scaling.register_scalable_target, **{**ids, **arguments})

    assert register(MinCapacity=1)[1] == "ValidationException"
    assert register(MinCapacity=5, MaxCapacity=4)[2] == "Maximum capacity cannot be less than minimum capacity"
    assert register(MinCapacity=-1, MaxCapacity=4)[1] == "ValidationException"
    assert register(ServiceNamespace="ecs", MinCapacity=1, MaxCapacity=4) == UNSUPPORTED
    assert register(ScalableDimension="ecs:service:DesiredCount", MinCapacity=1, MaxCapacity=4) == UNSUPPORTED
    assert "failed to satisfy constraint" in register(ServiceNamespace="nothing", MinCapacity=1, MaxCapacity=4)[2]
    for resource in ("function:f:$LATEST", "function:f", "f:live", "function:f:live:1", "function::live"):
        assert register(ResourceId=resource, MinCapacity=1, MaxCapacity=4)[1] == "ValidationException"
    for resource in ("function:f:none", "function:f:7", "function:none:live"):
        assert register(ResourceId=resource, MinCapacity=1, MaxCapacity=4) == (
            400, "ValidationException", f"The resource {resource} does not exist",
        )  # fmt: skip
    assert error_of(scaling.deregister_scalable_target, **ids) == (
        400, "ObjectNotFoundException", f"No scalable target found for {missing}",
    )  # fmt: skip
    for call in (account.track, lambda: account.schedule("rate(1 day)")):
        assert error_of(call)[1:] == ("ObjectNotFoundException", f"No scalable target registered for {missing}")
    assert scaling.describe_scalable_targets(ServiceNamespace="lambda")["ScalableTargets"] == []

    account.register(1, 4)
    assert error_of(account.track, target=0.0)[1] == "ValidationException"
    assert error_of(account.track, target=1.5)[1] == "ValidationException"
    assert error_of(account.track, ScaleInCooldown=-1)[1] == "ValidationException"
    wrong: list[dict[str, Any]] = [
        {"PolicyType": "StepScaling", "StepScalingPolicyConfiguration": {}},
        {"PolicyType": "TargetTrackingScaling"},
        {"PolicyType": "TargetTrackingScaling", "TargetTrackingScalingPolicyConfiguration": {"TargetValue": 0.5}},
        {
            "PolicyType": "TargetTrackingScaling",
            "TargetTrackingScalingPolicyConfiguration": {
                "TargetValue": 0.5,
                "PredefinedMetricSpecification": {"PredefinedMetricType": "ECSServiceAverageCPUUtilization"},
            },
        },
        {
            "PolicyType": "TargetTrackingScaling",
            "TargetTrackingScalingPolicyConfiguration": {
                "TargetValue": 0.5,
                "CustomizedMetricSpecification": {"MetricName": "Mine", "Namespace": "My", "Statistic": "Average"},
            },
        },
    ]
    for arguments in wrong:
        assert error_of(scaling.put_scaling_policy, **ids, PolicyName="p", **arguments)[:2] == (
            400, "ValidationException",
        )  # fmt: skip
    for schedule in ("cron(0 0 30 2 ? *)", "cron(0 10 * * *)", "at(2020-01-01T00:00:00)", "rate(0 minutes)", "daily"):
        error = error_of(account.schedule, schedule=schedule)
        assert error[1] == "ValidationException"
        assert schedule in error[2]
    assert error_of(account.schedule, schedule="rate(1 day)", Timezone="Mars/Olympus")[1] == "ValidationException"
    assert error_of(account.schedule, schedule="rate(1 day)", minimum=None)[1] == "ValidationException"
    past = datetime.now(UTC) - timedelta(days=1)
    assert error_of(account.schedule, schedule="rate(1 day)", EndTime=past)[1] == "ValidationException"
    assert error_of(scaling.delete_scaling_policy, **ids, PolicyName="p")[1] == "ObjectNotFoundException"
    assert error_of(scaling.delete_scheduled_action, **ids, ScheduledActionName="a")[1] == "ObjectNotFoundException"
    assert error_of(
        scaling.describe_scalable_targets, ServiceNamespace="lambda", NextToken="no token"
    )[1] == "InvalidNextTokenException"  # fmt: skip
    arn = f"arn:aws:application-autoscaling:{account.region}:000000000000:scalable-target/none"
    assert error_of(scaling.list_tags_for_resource, ResourceARN=arn)[1] == "ResourceNotFoundException"
    assert scaling.describe_scaling_policies(ServiceNamespace="lambda")["ScalingPolicies"] == []
    assert scaling.describe_scheduled_actions(ServiceNamespace="lambda")["ScheduledActions"] == []


def test_policies_are_shown_as_they_were_given(cluster: Cluster) -> None:
    account = Account(cluster, "as-policies-1")
    account.register(1, 4)
    account.track(0.7, "a", ScaleOutCooldown=0, DisableScaleIn=True)
    customized = {
        "TargetValue": 0.6,
        "CustomizedMetricSpecification": {
            "Namespace": "AWS/Lambda", "MetricName": "ProvisionedConcurrencyUtilization", "Statistic": "Maximum",
            "Dimensions": [{"Name": "FunctionName", "Value": "f"}, {"Name": "Resource", "Value": "f:live"}],
        },
    }  # fmt: skip
    account.scaling.put_scaling_policy(
        **account.ids(), PolicyName="b", PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration=customized,
    )  # fmt: skip
    pages = account.scaling.get_paginator("describe_scaling_policies").paginate(
        ServiceNamespace="lambda", PaginationConfig={"PageSize": 1}
    )
    found = {each["PolicyName"]: each for page in pages for each in page["ScalingPolicies"]}
    assert found["a"]["TargetTrackingScalingPolicyConfiguration"] == {
        "TargetValue": 0.7, "ScaleOutCooldown": 0, "DisableScaleIn": True,
        "PredefinedMetricSpecification": {"PredefinedMetricType": "LambdaProvisionedConcurrencyUtilization"},
    }  # fmt: skip
    assert len(found["a"]["Alarms"]) == 1
    assert found["b"]["TargetTrackingScalingPolicyConfiguration"] == customized
    assert found["b"]["PolicyARN"].startswith("arn:aws:autoscaling:as-policies-1:000000000000:scalingPolicy:")
    assert found["b"]["PolicyARN"].endswith(":resource/lambda/function:f:live:policyName/b")


def test_the_same_operations_are_served_over_grpc(cluster: Cluster) -> None:
    account = Account(cluster, "as-grpc-1")
    arn = account.register(1, 4)
    token = cluster.lambent("token", "--region", account.region).stdout.strip()
    with grpc.insecure_channel(cluster.grpc) as channel:
        stub = pb_grpc.ScalingServiceStub(channel)
        answer = stub.DescribeScalableTargets(
            pb.DescribeScalableTargetsRequest(service_namespace="lambda"),
            metadata=(("authorization", f"Bearer {token}"),),
        )
    assert [target.scalable_target_arn for target in answer.scalable_targets] == [arn]


def test_the_aws_command_line_registers_and_describes(cluster: Cluster) -> None:
    Account(cluster, "us-east-1")
    ids = [
        "--service-namespace", "lambda", "--resource-id", "function:f:live",
        "--scalable-dimension", "lambda:function:ProvisionedConcurrency",
    ]  # fmt: skip
    done = cluster.aws(
        "application-autoscaling", "register-scalable-target", *ids, "--min-capacity", "1", "--max-capacity", "2"
    )
    assert done.returncode == 0, done.stderr
    done = cluster.aws("application-autoscaling", "describe-scalable-targets", "--service-namespace", "lambda")
    assert json.loads(done.stdout)["ScalableTargets"][0]["MaxCapacity"] == 2
