"""CloudWatch Logs through AWS's own clients, over what functions of this cluster wrote."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import Cluster, error_of, eventually, zipped

CODE = """\
import json
def handler(event, context):
    for line in event.get("lines", []):
        print(line)
    return context.log_stream_name
"""


ARN = "arn:aws:logs:us-east-1:000000000000:log-group:"


def invoke(client: Any, name: str, *lines: str) -> str:
    payload = json.dumps({"lines": lines}).encode()
    stream: str = json.loads(client.invoke(FunctionName=name, Payload=payload)["Payload"].read())
    return stream


def messages(answer: Any) -> list[str]:
    return [event["message"] for event in answer["events"]]


@pytest.fixture(scope="module")
def logged(cluster: Cluster) -> tuple[str, str]:
    """A function that has written, and its log stream."""
    name = cluster.create("wrote", zipped({"app.py": CODE}))
    client, logs = cluster.client(), cluster.client("logs")
    for number in range(3):
        lines = [f"line {number}", "", json.dumps({"level": "ERROR" if number else "INFO", "took": number})]
        stream = invoke(client, name, *lines)
    group = f"/aws/lambda/{name}"

    def written() -> bool:
        found = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
        return bool(found) and len(logs.filter_log_events(logGroupName=group)["events"]) == 19

    eventually(written)
    return group, stream


def test_groups_and_streams_are_described(cluster: Cluster, logged: tuple[str, str]) -> None:
    logs, (group, stream) = cluster.client("logs"), logged
    (found,) = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    arn = f"{ARN}{group}"
    assert (found["arn"], found["logGroupArn"], found["metricFilterCount"]) == (f"{arn}:*", arn, 0)
    assert "retentionInDays" not in found
    assert found["storedBytes"] > 0
    (described,) = logs.describe_log_streams(logGroupIdentifier=arn, orderBy="LastEventTime", descending=True)[
        "logStreams"
    ]
    assert (described["logStreamName"], described["arn"]) == (stream, f"{arn}:log-stream:{stream}")
    assert found["creationTime"] - 60_000 < described["firstEventTimestamp"] <= described["lastEventTimestamp"]


def test_a_stream_is_read_from_both_ends(cluster: Cluster, logged: tuple[str, str]) -> None:
    logs, (group, stream) = cluster.client("logs"), logged
    where = {"logGroupName": group, "logStreamName": stream}
    whole = messages(logs.get_log_events(**where, startFromHead=True))
    assert whole[0].startswith("INIT_START")
    assert [text.split()[0] for text in whole[1:3]] == ["START", "line"]
    assert whole[3] == "\n"
    first = logs.get_log_events(**where, startFromHead=True, limit=4)
    last = logs.get_log_events(**where, limit=4)
    assert (messages(first), messages(last)) == (whole[:4], whole[-4:])
    following = logs.get_log_events(**where, nextToken=first["nextForwardToken"], limit=4, startFromHead=True)
    before = logs.get_log_events(**where, nextToken=last["nextBackwardToken"], limit=4)
    assert (messages(following), messages(before)) == (whole[4:8], whole[-8:-4])
    end = logs.get_log_events(**where, nextToken=last["nextForwardToken"], startFromHead=True)
    assert (messages(end), end["nextForwardToken"]) == ([], last["nextForwardToken"])
    moment = logs.get_log_events(**where, startFromHead=True)["events"][-1]["timestamp"]
    assert "line 2\n" not in messages(logs.get_log_events(**where, endTime=moment))
    assert messages(logs.get_log_events(**where, startTime=moment + 1)) == []


def test_events_are_filtered_and_paged(cluster: Cluster, logged: tuple[str, str]) -> None:
    logs, (group, stream) = cluster.client("logs"), logged
    pages = list(logs.get_paginator("filter_log_events").paginate(logGroupName=group, PaginationConfig={"PageSize": 5}))
    found = [event for page in pages for event in page["events"]]
    assert [len(page["events"]) for page in pages] == [5, 5, 5, 4]
    assert len({event["eventId"] for event in found}) == 19
    assert {event["logStreamName"] for event in found} == {stream}

    def filtered(pattern: str, **more: Any) -> list[str]:
        return messages(logs.filter_log_events(logGroupName=group, filterPattern=pattern, **more))

    assert filtered('"line 1"') == ["line 1\n"]
    assert filtered('?"line 0" ?"line 2"') == ["line 0\n", "line 2\n"]
    assert filtered('{ $.level = "ERROR" && $.took > 1 }') == ['{"level": "ERROR", "took": 2}\n']
    assert filtered("line -1", logStreamNames=[stream], interleaved=True) == ["line 0\n", "line 2\n"]
    assert filtered("line", logStreamNamePrefix="1999") == []
    last = found[-1]["timestamp"]
    assert filtered("line", startTime=last, endTime=last) == ["line 2\n"]


def test_functions_may_share_a_group_and_are_told_apart(cluster: Cluster) -> None:
    client, logs = cluster.client(), cluster.client("logs")
    logs.create_log_group(logGroupName="shared/by#two")
    assert error_of(logs.create_log_group, logGroupName="shared/by#two")[1] == "ResourceAlreadyExistsException"
    for name in ("sharer1", "sharer2"):
        cluster.create(name, zipped({"app.py": CODE}), LoggingConfig={"LogGroup": "shared/by#two"})
        stream = invoke(client, name, f"of {name}")
        assert f"/{name}[$LATEST]" in stream
    sought = {"logGroupName": "shared/by#two", "filterPattern": '"of sharer"'}
    eventually(lambda: len(logs.filter_log_events(**sought)["events"]) == 2)
    assert sorted(messages(logs.filter_log_events(**sought))) == ["of sharer1\n", "of sharer2\n"]
    told = cluster.lambent("logs", "sharer1")
    assert "of sharer1" in told.stdout
    assert "of sharer2" not in told.stdout
    for days in (7, None):
        if days is None:
            logs.delete_retention_policy(logGroupName="shared/by#two")
        else:
            logs.put_retention_policy(logGroupName="shared/by#two", retentionInDays=days)
        (group,) = logs.describe_log_groups(logGroupNamePattern="by#two")["logGroups"]
        assert group.get("retentionInDays") == days
    logs.delete_log_group(logGroupName="shared/by#two")
    missing = (400, "ResourceNotFoundException", "The specified log group does not exist.")
    assert error_of(logs.filter_log_events, logGroupName="shared/by#two") == missing
    assert error_of(logs.delete_log_group, logGroupName="shared/by#two") == missing


def test_groups_have_tags(cluster: Cluster) -> None:
    logs, of = cluster.client("logs"), {"resourceArn": f"{ARN}tagged"}
    logs.create_log_group(logGroupName="tagged", tags={"team": "x", "größe": "1"})
    logs.tag_resource(**of, tags={"team": "y", "a": ""})
    logs.untag_resource(**of, tagKeys=["größe", "none"])
    assert logs.list_tags_for_resource(**of)["tags"] == {"team": "y", "a": ""}
    many = {f"t{number}": "" for number in range(49)}
    assert error_of(logs.tag_resource, **of, tags=many)[:2] == (400, "TooManyTagsException")
    missing = error_of(logs.list_tags_for_resource, resourceArn=f"{ARN}none")
    assert missing[1:] == ("ResourceNotFoundException", "The specified log group does not exist.")


def test_what_is_refused(cluster: Cluster, logged: tuple[str, str]) -> None:
    logs, (group, stream) = cluster.client("logs", validation=False), logged
    other = cluster.client("logs", key="LAMBENTOTHER", secret="the-secret-of-another-account")
    assert other.describe_log_groups()["logGroups"] == []
    assert error_of(other.filter_log_events, logGroupName=group)[1] == "ResourceNotFoundException"
    of_group = {"logGroupName": group}
    for call, arguments, name, says in (
        (logs.get_log_events, {**of_group, "logStreamName": "none"}, "ResourceNotFoundException", "The specified log stream does not exist."),
        (logs.get_log_events, {**of_group}, "InvalidParameterException", "1 validation error detected: Value null at 'logStreamName'"),
        (logs.get_log_events, {**of_group, "logStreamName": stream, "nextToken": "f/x/s"}, "InvalidParameterException", "nextToken is invalid"),
        (logs.filter_log_events, {}, "InvalidParameterException", "Exactly one of logGroupName and logGroupIdentifier"),
        (logs.filter_log_events, {**of_group, "limit": 10_001}, "InvalidParameterException", "1 validation error detected: Value '10001' at 'limit'"),
        (logs.filter_log_events, {**of_group, "filterPattern": "{ $.a }"}, "InvalidParameterException", "Invalid filter pattern"),
        (logs.filter_log_events, {**of_group, "logStreamNames": ["a"], "logStreamNamePrefix": "a"}, "InvalidParameterException", "mutually exclusive"),
        (logs.describe_log_streams, {**of_group, "orderBy": "LastEventTime", "logStreamNamePrefix": "a"}, "InvalidParameterException", "LastEventTime"),
        (logs.put_retention_policy, {**of_group, "retentionInDays": 2}, "InvalidParameterException", "'retentionInDays'"),
        (logs.create_log_group, {"logGroupName": "x", "kmsKeyId": "k"}, "InvalidParameterException", "not served yet"),
        (logs.create_log_group, {"logGroupName": "x", "tags": {"a;": "b"}}, "InvalidParameterException", "'tags'"),
        (logs.tag_resource, {"resourceArn": f"{ARN}{group}", "tags": {f"t{n}": "" for n in range(50)} | {"ü": ""}}, "InvalidParameterException", "'tags'"),
        (logs.describe_queries, {}, "UnknownOperationException", ""),
    ):  # fmt: skip
        status, got, text = error_of(call, **arguments)
        assert (status, got) == (400 if name != "UnknownOperationException" else status, name)
        assert says in text


def test_the_command_line_filters(cluster: Cluster, logged: tuple[str, str]) -> None:
    group, _ = logged
    done = cluster.aws(
        "logs", "filter-log-events", "--log-group-name", group, "--filter-pattern", '"line 2"', "--output", "json"
    )
    assert [event["message"] for event in json.loads(done.stdout)["events"]] == ["line 2\n"], done.stderr


def follow(client: Any, group: str, since: int) -> Any:
    """New events as version 2 of the AWS command line finds them (`aws logs tail --follow`)."""
    seen: set[str] = set()
    newest = since
    while True:
        for page in client.get_paginator("filter_log_events").paginate(
            logGroupName=group, startTime=newest, interleaved=True
        ):
            for event in page["events"]:
                if event["eventId"] not in seen:
                    seen.add(event["eventId"])
                    newest = event["timestamp"]
                    yield event["message"]


def test_a_log_is_followed(cluster: Cluster, logged: tuple[str, str]) -> None:
    group, _ = logged
    client, logs = cluster.client(), cluster.client("logs")
    since = int(datetime.now(UTC).timestamp() * 1000)
    wanted = [f"new {number}\n" for number in range(3)]
    invoke(client, "wrote", "new 0")
    found = (message for message in follow(logs, group, since) if message.startswith("new"))
    assert next(found) == wanted[0]
    for text in wanted[1:]:
        invoke(client, "wrote", text.strip())
        assert next(found) == text


def version_two() -> str | None:
    """The AWS command line that has `logs tail`, where one is installed: version 1 does not."""
    for folder in os.environ["PATH"].split(":"):
        path = shutil.which("aws", path=folder)
        # A launcher of Python's is version 1, as no package index has another.
        if path is not None and Path(path).parent != Path(sys.executable).parent:
            version = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
            if version.stdout.startswith("aws-cli/2"):
                return path
    return None


AWS = version_two()


@pytest.mark.skipif(AWS is None, reason="needs version 2 of the AWS command line")
def test_the_command_line_tails_and_follows(cluster: Cluster, logged: tuple[str, str]) -> None:
    group, _ = logged
    environment = cluster.environment
    command = ["timeout", "60", str(AWS), "logs", "tail", group, "--endpoint-url", cluster.url]
    shown = subprocess.run([*command, "--since", "1h"], env=environment, capture_output=True, text=True, check=False)
    assert "line 2" in shown.stdout, shown.stderr
    with subprocess.Popen([*command, "--follow"], env=environment, stdout=subprocess.PIPE, text=True) as tail:
        assert tail.stdout is not None
        invoke(cluster.client(), "wrote", "followed")
        assert any("followed" in line for line in tail.stdout)
        tail.terminate()
