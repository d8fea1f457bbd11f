"""EventBridge Scheduler through AWS's own clients: functions that are told something at set times."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.conftest import service
from tests.e2e.conftest import OTHER_KEY, OTHER_SECRET
from tests.e2e.harness import Cluster, code_blocks, error_of, eventually
from tests.e2e.reading import ACCOUNT, CODE, QUEUES, make_queue, plain, reading_cluster
from tests.e2e.test_rules import FUNCTION, ROOT, TELLS, told

ROLE = "arn:aws:iam::000000000000:role/r"
OFF = {"Mode": "OFF"}
SCHEDULE = "arn:aws:scheduler:us-east-1:000000000000:schedule"


def target(name: str, **members: Any) -> dict[str, Any]:
    return {"Arn": f"{FUNCTION}:{name}", "RoleArn": ROLE, **members}


def soon(seconds: float = 5.0) -> str:
    """An expression of a time that comes."""
    return f"at({datetime.now(UTC) + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S})"


def test_a_schedule_is_made_read_changed_and_deleted(cluster: Cluster) -> None:
    scheduler = cluster.client("scheduler")
    cluster.create("scheduled", CODE)
    end = datetime(2090, 1, 1, tzinfo=UTC)
    full = {
        "Name": "full", "ScheduleExpression": "cron(0 9 ? * MON-FRI *)", "ScheduleExpressionTimezone": "Europe/Berlin",
        "EndDate": end, "FlexibleTimeWindow": {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 15}, "State": "DISABLED",
        "Description": "d", "ActionAfterCompletion": "DELETE",
        "Target": target(
            "scheduled", Input='{"a": 1}', RetryPolicy={"MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 0},
            DeadLetterConfig={"Arn": "arn:aws:sqs:us-east-1:000000000000:letters"},
        ),
    }  # fmt: skip
    assert scheduler.create_schedule(**full)["ScheduleArn"] == f"{SCHEDULE}/default/full"
    found = plain(scheduler.get_schedule(Name="full"))
    created, modified = found.pop("CreationDate"), found.pop("LastModificationDate")
    assert found == {**full, "Arn": f"{SCHEDULE}/default/full", "GroupName": "default"}
    assert created == modified
    bare = {
        "Name": "full",
        "ScheduleExpression": "rate(1 hour)",
        "FlexibleTimeWindow": OFF,
        "Target": target("scheduled"),
    }
    scheduler.update_schedule(**bare)
    found = plain(scheduler.get_schedule(Name="full", GroupName="default"))
    assert (found["State"], found["ScheduleExpressionTimezone"], found["ActionAfterCompletion"]) == (
        "ENABLED",
        "UTC",
        "NONE",
    )
    assert not {"EndDate", "Description"} & found.keys()
    assert found["Target"]["RetryPolicy"] == {"MaximumEventAgeInSeconds": 86400, "MaximumRetryAttempts": 185}
    assert found["LastModificationDate"] > created
    assert error_of(scheduler.create_schedule, **bare) == (409, "ConflictException", "Schedule full already exists.")
    scheduler.delete_schedule(Name="full")
    assert error_of(scheduler.get_schedule, Name="full") == (
        404, "ResourceNotFoundException", "Schedule full does not exist.",
    )  # fmt: skip
    assert error_of(scheduler.delete_schedule, Name="full")[:2] == (404, "ResourceNotFoundException")
    assert error_of(scheduler.update_schedule, **bare)[:2] == (404, "ResourceNotFoundException")


def test_a_request_that_is_sent_again_is_answered_as_before(cluster: Cluster) -> None:
    scheduler = cluster.client("scheduler")
    request = {
        "Name": "again", "ScheduleExpression": "rate(1 hour)", "FlexibleTimeWindow": OFF, "Target": target("nothing"),
        "ClientToken": "a-token",
    }  # fmt: skip
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: scheduler.create_schedule(**request)["ScheduleArn"], range(8)))
    assert set(answers) == {f"{SCHEDULE}/default/again"}
    assert error_of(scheduler.create_schedule, **{**request, "ClientToken": "another"})[1] == "ConflictException"
    scheduler.delete_schedule(Name="again")


def test_a_function_is_told_once_at_the_time(cluster: Cluster) -> None:
    scheduler = cluster.client("scheduler")
    cluster.create("told-once", TELLS)
    for name, action, said in (
        ("stays", "NONE", {}),
        ("goes", "DELETE", {"Input": '{"id": "<aws.scheduler.execution-id>"}'}),
    ):
        scheduler.create_schedule(
            Name=name, ScheduleExpression=soon(), FlexibleTimeWindow=OFF, Target=target("told-once", **said),
            ActionAfterCompletion=action,
        )  # fmt: skip
    due = scheduler.get_schedule(Name="stays")["ScheduleExpression"][3:-1]
    eventually(lambda: len(told(cluster, "told-once")) == 2)
    eventually(lambda: [each["Name"] for each in scheduler.list_schedules()["Schedules"]] == ["stays"])
    [event] = [each for each in told(cluster, "told-once") if "source" in each]
    assert (event["source"], event["time"], event["detail"]) == ("aws.scheduler", f"{due}Z", "{}")
    assert event["resources"] == [f"{SCHEDULE}/default/stays"]
    [other] = [each for each in told(cluster, "told-once") if "source" not in each]
    assert other["id"] != event["id"]
    scheduler.delete_schedule(Name="stays")


def test_groups_hold_schedules_and_take_them_along(cluster: Cluster) -> None:
    scheduler = cluster.client("scheduler")
    arn = scheduler.create_schedule_group(Name="shop", Tags=[{"Key": "team", "Value": "x"}])["ScheduleGroupArn"]
    assert error_of(scheduler.create_schedule_group, Name="shop")[1] == "ConflictException"
    assert error_of(scheduler.create_schedule_group, Name="default")[1] == "ConflictException"
    assert [each["Name"] for each in scheduler.list_schedule_groups()["ScheduleGroups"]] == ["default", "shop"]
    assert scheduler.get_schedule_group(Name="default")["State"] == "ACTIVE"
    for group in ("default", "shop"):
        for number in range(5):
            scheduler.create_schedule(
                Name=f"of-{number}", GroupName=group, ScheduleExpression="rate(1 day)", FlexibleTimeWindow=OFF,
                State="DISABLED" if number == 0 else "ENABLED", Target=target("nothing"),
            )  # fmt: skip

    def listed(**arguments: Any) -> list[list[str]]:
        pages = scheduler.get_paginator("list_schedules").paginate(PaginationConfig={"PageSize": 2}, **arguments)
        return [[f"{each['GroupName']}/{each['Name']}" for each in page["Schedules"]] for page in pages]

    assert listed(GroupName="shop") == [["shop/of-0", "shop/of-1"], ["shop/of-2", "shop/of-3"], ["shop/of-4"]]
    assert listed(GroupName="shop", State="ENABLED") == [["shop/of-1", "shop/of-2"], ["shop/of-3", "shop/of-4"]]
    assert listed(NamePrefix="of-4") == [["default/of-4", "shop/of-4"]]
    assert sum(len(page) for page in listed()) == 10
    scheduler.tag_resource(ResourceArn=arn, Tags=[{"Key": "stage", "Value": "y"}])
    scheduler.untag_resource(ResourceArn=arn, TagKeys=["team"])
    assert scheduler.list_tags_for_resource(ResourceArn=arn)["Tags"] == [{"Key": "stage", "Value": "y"}]
    default = arn.replace("shop", "default")
    scheduler.tag_resource(ResourceArn=default, Tags=[{"Key": "a", "Value": "b"}])
    assert scheduler.list_tags_for_resource(ResourceArn=default)["Tags"] == [{"Key": "a", "Value": "b"}]
    assert [each["Name"] for each in scheduler.list_schedule_groups()["ScheduleGroups"]] == ["default", "shop"]
    scheduler.delete_schedule_group(Name="shop")
    assert error_of(scheduler.list_schedules, GroupName="shop")[:2] == (404, "ResourceNotFoundException")
    assert len(scheduler.list_schedules()["Schedules"]) == 5
    assert error_of(scheduler.delete_schedule_group, Name="default")[1] == "ValidationException"
    for number in range(5):
        scheduler.delete_schedule(Name=f"of-{number}")


def test_bad_requests_are_told_what_is_wrong_with_them(cluster: Cluster) -> None:
    scheduler = cluster.client("scheduler", validation=False)
    good = {"Name": "bad", "ScheduleExpression": "rate(1 hour)", "FlexibleTimeWindow": OFF, "Target": target("nothing")}
    for change in (
        {"ScheduleExpression": "hourly"}, {"ScheduleExpressionTimezone": "Mars"}, {"FlexibleTimeWindow": {"Mode": "FLEXIBLE"}},
        {"FlexibleTimeWindow": {"Mode": "OFF", "MaximumWindowInMinutes": 5}}, {"Target": target("nothing", Input="x")},
        {"Target": {"Arn": "arn:aws:sqs:us-east-1:000000000000:q", "RoleArn": ROLE}}, {"Target": {"Arn": f"{FUNCTION}:f"}},
        {"Name": "b d"}, {"State": "OFF"}, {"EndDate": datetime(2001, 1, 1, tzinfo=UTC)},
        {"KmsKeyArn": "arn:aws:kms:us-east-1:000000000000:key/k"},
    ):  # fmt: skip
        status, name, text = error_of(scheduler.create_schedule, **{**good, **change})
        assert (status, name) == (400, "ValidationException"), text
    status, name, text = error_of(scheduler.create_schedule, **good, GroupName="none")
    assert (status, name, text) == (404, "ResourceNotFoundException", "Schedule group none does not exist.")
    assert error_of(scheduler.list_schedules, NextToken="nothing")[1] == "ValidationException"
    assert scheduler.list_schedules(NamePrefix="bad")["Schedules"] == []


def test_requests_are_signed_for_the_service(cluster: Cluster) -> None:
    """One that is signed for another is none."""
    client = cluster.client("scheduler")
    client.meta.events.register("choose-signer.scheduler", lambda **_: "v4")
    client._request_signer._signing_name = "lambda"
    with pytest.raises(ClientError) as error:
        client.list_schedules()
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_schedules_are_their_accounts_own(cluster: Cluster) -> None:
    ours, theirs = cluster.client("scheduler"), cluster.client("scheduler", key=OTHER_KEY, secret=OTHER_SECRET)
    ours.create_schedule(
        Name="ours", ScheduleExpression="rate(1 hour)", FlexibleTimeWindow=OFF, Target=target("nothing")
    )
    assert error_of(theirs.get_schedule, Name="ours")[1] == "ResourceNotFoundException"
    assert theirs.list_schedules()["Schedules"] == []
    ours.delete_schedule(Name="ours")


def test_what_the_how_to_shows_of_schedules_is_done(cluster: Cluster) -> None:
    cluster.create("hello-schedules", TELLS)
    [script] = [
        each for each in code_blocks((ROOT / "docs/howto/schedules.md").read_text(), "sh") if "create-schedule" in each
    ]
    cluster.shell(
        script.replace("function:hello", "function:hello-schedules").replace("at(2030-01-01T09:00:00)", soon())
    )
    scheduler = cluster.client("scheduler")
    eventually(lambda: told(cluster, "hello-schedules"))
    assert scheduler.get_schedule(Name="workdays")["ScheduleExpressionTimezone"] == "Europe/Berlin"
    scheduler.delete_schedule(Name="workdays")


def test_what_a_function_cannot_be_told_goes_to_the_dead_letter_queue(moto: str, tmp_path: Path) -> None:
    make_queue(moto, "schedule-letters")
    queue = service(moto, "sqs").get_queue_url(QueueName="schedule-letters")["QueueUrl"]
    with reading_cluster(moto, tmp_path) as cluster:
        cluster.client("scheduler").create_schedule(
            Name="lost", ScheduleExpression=soon(), FlexibleTimeWindow=OFF,
            Target={
                "Arn": f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:gone", "RoleArn": f"arn:aws:iam::{ACCOUNT}:role/r",
                "Input": '{"n": 1}', "DeadLetterConfig": {"Arn": f"{QUEUES}:schedule-letters"},
            },
        )  # fmt: skip

        def received() -> list[Any]:
            answer = service(moto, "sqs").receive_message(
                QueueUrl=queue, MessageAttributeNames=["All"], WaitTimeSeconds=1
            )
            return list(answer.get("Messages", []))

        [letter] = eventually(received)
    assert json.loads(letter["Body"]) == {"n": 1}
    assert letter["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "NO_RESOURCE"
    assert letter["MessageAttributes"]["SCHEDULE_ARN"]["StringValue"].endswith(":schedule/default/lost")


def test_many_are_told_at_one_time(cluster: Cluster) -> None:
    scheduler = cluster.client("scheduler")
    cluster.create("of-many", TELLS)
    at, count = soon(20), 150

    def make(number: int) -> None:
        scheduler.create_schedule(
            Name=f"many-{number}", ScheduleExpression=at, FlexibleTimeWindow=OFF, ActionAfterCompletion="DELETE",
            Target=target("of-many", Input=json.dumps({"n": number})),
        )  # fmt: skip

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make, range(count)))
    eventually(lambda: len(told(cluster, "of-many")) == count, seconds=60.0)
    assert sorted(event["n"] for event in told(cluster, "of-many")) == list(range(count))
    eventually(lambda: not scheduler.list_schedules(NamePrefix="many-")["Schedules"])
