"""EventBridge's rules through AWS's own clients: functions that run at set times and on events."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import service
from tests.e2e.conftest import OTHER_KEY, OTHER_SECRET
from tests.e2e.harness import Cluster, code_blocks, error_of, eventually, printed, zipped
from tests.e2e.reading import ACCOUNT, CODE, QUEUES, make_queue, reading_cluster

ROOT = Path(__file__).resolve().parents[2]
# Prints what it is told.
TELLS = zipped({"app.py": "import json\n\ndef handler(event, context):\n    print('told', json.dumps(event))\n"})
FUNCTION = "arn:aws:lambda:us-east-1:000000000000:function"
RULE = "arn:aws:events:us-east-1:000000000000:rule"


def told(cluster: Cluster, name: str) -> list[Any]:
    """What a function was told, in the order in which it ran."""
    lines = printed(cluster.client("logs"), f"/aws/lambda/{name}", "told")
    return [json.loads(line.partition("told ")[2]) for line in lines if "told " in line]


@pytest.fixture(scope="module")
def minutely(cluster: Cluster) -> Iterator[str]:
    """A function that runs at every full minute, from before the other tests on."""
    cluster.create("each-minute", TELLS)
    events = cluster.client("events")
    events.put_rule(Name="each-minute", ScheduleExpression="cron(* * * * ? *)", Description="the minute")
    added = events.put_targets(Rule="each-minute", Targets=[{"Id": "1", "Arn": f"{FUNCTION}:each-minute"}])
    assert (added["FailedEntryCount"], added["FailedEntries"]) == (0, [])
    yield "each-minute"
    events.remove_targets(Rule="each-minute", Ids=["1"])
    events.delete_rule(Name="each-minute")


def test_a_rule_is_put_listed_changed_and_deleted(cluster: Cluster, minutely: str) -> None:
    events = cluster.client("events")
    cluster.create("ruled", TELLS)
    target = {
        "Id": "one", "Arn": f"{FUNCTION}:ruled", "Input": '{"a": 1}', "RoleArn": "arn:aws:iam::000000000000:role/r",
        "RetryPolicy": {"MaximumRetryAttempts": 2, "MaximumEventAgeInSeconds": 60},
        "DeadLetterConfig": {"Arn": "arn:aws:sqs:us-east-1:000000000000:letters"},
    }  # fmt: skip
    transformed = {
        "Id": "two", "Arn": f"{FUNCTION}:ruled:$LATEST",
        "InputTransformer": {"InputPathsMap": {"when": "$.time"}, "InputTemplate": '{"at": <when>}'},
    }  # fmt: skip
    arn = events.put_rule(Name="ruled", ScheduleExpression="rate(1 hour)", Tags=[{"Key": "team", "Value": "x"}])[
        "RuleArn"
    ]
    assert arn == f"{RULE}/ruled"
    events.put_targets(Rule="ruled", Targets=[transformed, target])
    assert events.list_targets_by_rule(Rule="ruled")["Targets"] == [target, transformed]
    assert events.list_rule_names_by_target(TargetArn=f"{FUNCTION}:ruled")["RuleNames"] == ["ruled"]
    described = events.describe_rule(Name="ruled", EventBusName="default")
    wanted = {
        "Name": "ruled", "Arn": arn, "ScheduleExpression": "rate(1 hour)", "State": "ENABLED", "EventBusName": "default",
        "CreatedBy": "000000000000",
    }  # fmt: skip
    assert {name: each for name, each in described.items() if name != "ResponseMetadata"} == wanted
    events.put_rule(Name="ruled", EventPattern='{"source": ["x"]}', State="DISABLED", Description="d")
    described = events.describe_rule(Name="ruled")
    assert (described["State"], described["Description"], described["EventPattern"]) == (
        "DISABLED",
        "d",
        '{"source": ["x"]}',
    )
    assert "ScheduleExpression" not in described
    assert len(events.list_targets_by_rule(Rule="ruled")["Targets"]) == 2
    events.enable_rule(Name="ruled")
    assert events.describe_rule(Name="ruled")["State"] == "ENABLED"
    assert [rule["Name"] for rule in events.list_rules(NamePrefix="rul")["Rules"]] == ["ruled"]
    events.tag_resource(ResourceARN=arn, Tags=[{"Key": "stage", "Value": ""}])
    events.untag_resource(ResourceARN=arn, TagKeys=["team", "none"])
    assert events.list_tags_for_resource(ResourceARN=arn)["Tags"] == [{"Key": "stage", "Value": ""}]
    removed = events.remove_targets(Rule="ruled", Ids=["one", "three"])
    assert [(entry["TargetId"], entry["ErrorCode"]) for entry in removed["FailedEntries"]] == [
        ("three", "ResourceNotFoundException")
    ]
    assert error_of(events.delete_rule, Name="ruled")[1:] == (
        "ValidationException", "Rule can't be deleted since it has targets.",
    )  # fmt: skip
    events.remove_targets(Rule="ruled", Ids=["two"])
    events.delete_rule(Name="ruled")
    events.delete_rule(Name="ruled")
    assert error_of(events.describe_rule, Name="ruled") == (
        400, "ResourceNotFoundException", "Rule ruled does not exist on EventBus default.",
    )  # fmt: skip


def test_lists_come_in_pages(cluster: Cluster) -> None:
    events = cluster.client("events")
    names = [f"page-{number}" for number in range(5)]
    for name in reversed(names):
        events.put_rule(Name=name, EventPattern='{"source": ["nobody"]}')
    pages = events.get_paginator("list_rules").paginate(NamePrefix="page-", PaginationConfig={"PageSize": 2})
    assert [[rule["Name"] for rule in page["Rules"]] for page in pages] == [names[:2], names[2:4], names[4:]]
    assert error_of(events.list_rules, NextToken="nothing")[1] == "ValidationException"
    for name in names:
        events.delete_rule(Name=name)


def test_bad_requests_are_told_what_is_wrong(cluster: Cluster) -> None:
    events = cluster.client("events", validation=False)
    cluster.create("target-of-none", CODE)
    for arguments, name in (
        ({"Name": "bad"}, "ValidationException"),
        ({"Name": "b d", "ScheduleExpression": "rate(1 hour)"}, "ValidationException"),
        ({"Name": "bad", "ScheduleExpression": "hourly"}, "ValidationException"),
        ({"Name": "bad", "EventPattern": "{}"}, "InvalidEventPatternException"),
        ({"Name": "bad", "EventPattern": '{"a": [1]}', "EventBusName": "mine"}, "ResourceNotFoundException"),
        ({"Name": "bad", "EventPattern": '{"a": [1]}', "Tags": [{"Key": "aws:x", "Value": ""}]}, "ValidationException"),
    ):
        status, error, text = error_of(events.put_rule, **arguments)
        assert (status, error) == (400, name), text
    target = {"Id": "1", "Arn": f"{FUNCTION}:target-of-none"}
    assert error_of(events.put_targets, Rule="bad", Targets=[target])[1] == "ResourceNotFoundException"
    events.put_rule(Name="good", EventPattern='{"a": [1]}')
    status, error, text = error_of(
        events.put_targets, Rule="good", Targets=[target, {"Id": "2", "Arn": "arn:aws:sqs:us-east-1:000000000000:q"}]
    )
    assert (status, error) == (400, "ValidationException")
    assert "only functions" in text
    assert events.list_targets_by_rule(Rule="good")["Targets"] == [], "all of them or none"
    events.delete_rule(Name="good")


def test_an_event_comes_to_the_targets_of_the_rules_whose_pattern_it_has(cluster: Cluster) -> None:
    events = cluster.client("events")
    cluster.create("on-event", TELLS)
    events.put_rule(
        Name="on-event", EventPattern='{"source": ["shop"], "detail": {"total": [{"numeric": [">", 100]}]}}'
    )
    events.put_rule(Name="on-event-off", EventPattern='{"source": ["shop"]}', State="DISABLED")
    whole = {"Id": "1", "Arn": f"{FUNCTION}:on-event"}
    template = '{"what": "<thing> of <aws.events.rule-name>", "total": <total>}'
    paths = {"thing": "$.detail.thing", "total": "$.detail.total"}
    written = {**whole, "Id": "2", "InputTransformer": {"InputPathsMap": paths, "InputTemplate": template}}
    events.put_targets(Rule="on-event", Targets=[whole, written])
    events.put_targets(Rule="on-event-off", Targets=[whole])
    when = datetime(2026, 5, 1, 10, 20, 30, tzinfo=UTC)
    entries = [
        {"Source": "shop", "DetailType": "order", "Detail": '{"thing": "pear", "total": 120}', "Time": when, "Resources": ["arn:x"]},
        {"Source": "shop", "DetailType": "order", "Detail": '{"thing": "plum", "total": 7}'},
        {"Source": "shop", "DetailType": "order", "Detail": "pear"},
        {"Source": "aws.shop", "DetailType": "order", "Detail": "{}"},
        {"Source": "shop", "Detail": "{}"},
    ]  # fmt: skip
    answer = events.put_events(Entries=entries)
    assert answer["FailedEntryCount"] == 3
    codes = [entry.get("ErrorCode") for entry in answer["Entries"]]
    assert codes == [None, None, "MalformedDetail", "NotAuthorizedForSourceException", "InvalidArgument"]
    eventually(lambda: len(told(cluster, "on-event")) >= 2)
    [event] = [each for each in told(cluster, "on-event") if "detail" in each]
    assert event == {
        "version": "0", "id": answer["Entries"][0]["EventId"], "detail-type": "order", "source": "shop",
        "account": "000000000000", "time": "2026-05-01T10:20:30Z", "region": "us-east-1", "resources": ["arn:x"],
        "detail": {"thing": "pear", "total": 120},
    }  # fmt: skip
    assert [each for each in told(cluster, "on-event") if "what" in each] == [
        {"what": "pear of on-event", "total": 120}
    ]
    assert len(told(cluster, "on-event")) == 2
    matched = events.test_event_pattern(EventPattern='{"source": ["shop"]}', Event=json.dumps(event))
    assert matched["Result"] is True
    large = {"Source": "shop", "DetailType": "order", "Detail": json.dumps({"x": "y" * 200_000})}
    assert error_of(events.put_events, Entries=[large, large])[1] == "ValidationException"


def test_what_came_of_an_event_comes_to_rules_where_the_bus_is_its_destination(cluster: Cluster) -> None:
    events, client = cluster.client("events"), cluster.client()
    cluster.create("after-it", TELLS)
    cluster.create("before-it", CODE)
    bus = "arn:aws:events:us-east-1:000000000000:event-bus/default"
    client.put_function_event_invoke_config(
        FunctionName="before-it", DestinationConfig={"OnSuccess": {"Destination": bus}}
    )
    pattern = {"source": ["lambda"], "resources": [{"prefix": f"{FUNCTION}:before-it"}]}
    events.put_rule(Name="after-it", EventPattern=json.dumps(pattern))
    events.put_targets(Rule="after-it", Targets=[{"Id": "1", "Arn": f"{FUNCTION}:after-it"}])
    client.invoke(FunctionName="before-it", InvocationType="Event", Payload=b'{"n": 1}')
    [event] = eventually(lambda: told(cluster, "after-it"))
    assert event["detail-type"] == "Lambda Function Invocation Result - Success"
    assert (event["resources"][0], event["detail"]["responsePayload"]) == (bus, {"n": 1})


def test_a_detail_that_is_nested_too_deeply_is_malformed_and_any_other_is_told(cluster: Cluster) -> None:
    events = cluster.client("events")
    cluster.create("on-deep", TELLS)
    events.put_rule(Name="on-deep", EventPattern='{"source": ["deep"]}')
    targets = [
        {"Id": "1", "Arn": f"{FUNCTION}:on-deep"},
        {"Id": "2", "Arn": f"{FUNCTION}:on-deep", "InputPath": "$.detail"},
    ]
    events.put_targets(Rule="on-deep", Targets=targets)
    codes = []
    for depth in (100, *range(800, 1010, 6)):
        detail = '{"a":' * depth + "1" + "}" * depth
        [entry] = events.put_events(Entries=[{"Source": "deep", "DetailType": "d", "Detail": detail}])["Entries"]
        codes.append(entry.get("ErrorCode"))
    assert codes[0] is None
    assert codes[-1] == "MalformedDetail"
    assert set(codes) == {None, "MalformedDetail"}


def test_functions_put_events(cluster: Cluster) -> None:
    events = cluster.client("events")
    cluster.create("put-by-it", TELLS)
    code = (
        "import boto3\n\ndef handler(event, context):\n    entry = {'Source': 'a-function', 'DetailType': 'd', 'Detail': '{}'}\n"
        "    return boto3.client('events').put_events(Entries=[entry])['FailedEntryCount']\n"
    )
    cluster.create("putting", zipped({"app.py": code}), Timeout=30, MemorySize=512)
    events.put_rule(Name="put-by-it", EventPattern='{"source": ["a-function"]}')
    events.put_targets(Rule="put-by-it", Targets=[{"Id": "1", "Arn": f"{FUNCTION}:put-by-it"}])
    assert cluster.client().invoke(FunctionName="putting")["Payload"].read() == b"0"
    [event] = eventually(lambda: told(cluster, "put-by-it"))
    assert event["source"] == "a-function"


def test_rules_are_their_accounts_own(cluster: Cluster) -> None:
    ours, theirs = cluster.client("events"), cluster.client("events", key=OTHER_KEY, secret=OTHER_SECRET)
    ours.put_rule(Name="private", EventPattern='{"source": ["both"]}')
    assert error_of(theirs.describe_rule, Name="private")[1] == "ResourceNotFoundException"
    assert theirs.list_rules()["Rules"] == []
    assert error_of(theirs.list_tags_for_resource, ResourceARN=f"{RULE}/private")[1] == "ResourceNotFoundException"
    assert (
        error_of(cluster.client("events", region="eu-west-1").describe_rule, Name="private")[1]
        == "ResourceNotFoundException"
    )
    ours.delete_rule(Name="private")


def test_what_the_how_to_shows_is_done(cluster: Cluster) -> None:
    cluster.create("hello-rules", TELLS)
    scripts = code_blocks((ROOT / "docs/howto/rules.md").read_text(), "sh")
    for script in scripts:
        cluster.shell(script.replace("function:hello", "function:hello-rules"))
    assert eventually(lambda: told(cluster, "hello-rules")) == [{"name": "pear", "total": 120}]
    names = [rule["Name"] for rule in cluster.client("events").list_rules()["Rules"]]
    assert "orders" in names
    assert "nightly" not in names


def test_what_cannot_be_told_goes_to_the_targets_dead_letter_queue(moto: str, tmp_path: Path) -> None:
    make_queue(moto, "rule-letters")
    queue = service(moto, "sqs").get_queue_url(QueueName="rule-letters")["QueueUrl"]
    with reading_cluster(moto, tmp_path) as cluster:
        events = cluster.client("events")
        events.put_rule(Name="lost", EventPattern='{"source": ["shop"]}')
        target = {
            "Id": "1", "Arn": f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:gone",
            "DeadLetterConfig": {"Arn": f"{QUEUES}:rule-letters"},
        }  # fmt: skip
        events.put_targets(Rule="lost", Targets=[target])
        events.put_events(Entries=[{"Source": "shop", "DetailType": "order", "Detail": "{}"}])

        def received() -> list[Any]:
            answer = service(moto, "sqs").receive_message(
                QueueUrl=queue, MessageAttributeNames=["All"], WaitTimeSeconds=1
            )
            return list(answer.get("Messages", []))

        [letter] = eventually(received)
    assert json.loads(letter["Body"])["source"] == "shop"
    attributes = {name: each["StringValue"] for name, each in letter["MessageAttributes"].items()}
    assert attributes["ERROR_CODE"] == "NO_RESOURCE"
    assert attributes["TARGET_ARN"] == target["Arn"]


def test_a_function_runs_at_each_full_minute(cluster: Cluster, minutely: str) -> None:
    eventually(lambda: told(cluster, minutely), seconds=75.0)
    events = told(cluster, minutely)
    assert {(event["source"], event["detail-type"]) for event in events} == {("aws.events", "Scheduled Event")}
    assert events[0]["resources"] == [f"{RULE}/each-minute"]
    times = [event["time"] for event in events]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:00Z", time) for time in times)
    assert sorted(set(times)) == times, "each minute once"
