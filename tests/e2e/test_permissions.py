"""One account invokes another's function where that one's policy lets it, and learns nothing otherwise."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.conftest import OTHER_KEY, OTHER_SECRET
from tests.e2e.harness import Cluster, error_of, eventually, printed, zipped

SOURCE = "def handler(event, context):\n    print('ran', event)\n    return [event, context.invoked_function_arn]\n"
OTHER = "111111111111"
USER = f"arn:aws:iam::{OTHER}:user/{OTHER_KEY}"
ARN = "arn:aws:lambda:us-east-1:000000000000:function:"


@pytest.fixture(scope="module")
def shared(cluster: Cluster) -> str:
    name = cluster.create("shared-out", zipped({"app.py": SOURCE}))
    client = cluster.client()
    client.publish_version(FunctionName=name)
    client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    return name


@pytest.fixture
def other(cluster: Cluster) -> Any:
    return cluster.client(key=OTHER_KEY, secret=OTHER_SECRET)


def test_a_policy_is_written_read_and_removed(cluster: Cluster, shared: str) -> None:
    client = cluster.client()
    of = {"FunctionName": shared, "Qualifier": "live"}
    assert error_of(client.get_policy, **of) == (
        404, "ResourceNotFoundException", "The resource you requested does not exist.",
    )  # fmt: skip
    sns = {
        "Action": "lambda:InvokeFunction",
        "Principal": "sns.amazonaws.com",
        "SourceArn": "arn:aws:sns:us-east-1:000000000000:t",
    }
    statement = json.loads(client.add_permission(**of, StatementId="sns", **sns)["Statement"])
    assert statement == {
        "Sid": "sns", "Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "lambda:InvokeFunction", "Resource": f"{ARN}{shared}:live",
        "Condition": {"ArnLike": {"AWS:SourceArn": "arn:aws:sns:us-east-1:000000000000:t"}},
    }  # fmt: skip
    assert error_of(client.add_permission, **of, StatementId="sns", **sns)[:2] == (409, "ResourceConflictException")
    revision = client.get_policy(**of)["RevisionId"]
    client.add_permission(**of, StatementId="all", Action="lambda:*", Principal="*", RevisionId=revision)
    found = client.get_policy(**of)
    assert [each["Sid"] for each in json.loads(found["Policy"])["Statement"]] == ["sns", "all"]
    assert found["RevisionId"] != revision
    stale = error_of(client.remove_permission, **of, StatementId="all", RevisionId=revision)
    assert stale[:2] == (412, "PreconditionFailedException")
    assert "GetPolicy" in stale[2]
    client.remove_permission(**of, StatementId="all", RevisionId=found["RevisionId"])
    client.remove_permission(**of, StatementId="sns")
    assert error_of(client.get_policy, **of)[0] == 404
    assert error_of(client.remove_permission, **of, StatementId="sns")[:2] == (404, "ResourceNotFoundException")


def test_policies_that_cannot_be(cluster: Cluster, shared: str) -> None:
    client = cluster.client()
    good = {"FunctionName": shared, "StatementId": "s", "Action": "lambda:InvokeFunction", "Principal": OTHER}
    for changed, expected in (
        ({"Qualifier": "$LATEST"}, (400, "InvalidParameterValueException")),
        ({"Principal": "nobody"}, (400, "InvalidParameterValueException")),
        ({"Action": "s3:GetObject"}, (400, "ValidationException")),
        ({"StatementId": "a b"}, (400, "ValidationException")),
        ({"SourceAccount": "12"}, (400, "ValidationException")),
        ({"FunctionName": "nobody"}, (404, "ResourceNotFoundException")),
        ({"Qualifier": "7"}, (404, "ResourceNotFoundException")),
        ({"Qualifier": "other"}, (404, "ResourceNotFoundException", f"Cannot find alias arn: {ARN}{shared}:other")),
        ({"RevisionId": "x"}, (412, "PreconditionFailedException")),
    ):
        assert error_of(client.add_permission, **{**good, **changed})[: len(expected)] == expected, changed
    assert error_of(client.get_policy, FunctionName=shared)[0] == 404, "nothing was kept"
    gone = error_of(client.remove_permission, FunctionName="nobody", StatementId="s")
    assert gone == (404, "ResourceNotFoundException", f"No policy found for: {ARN}nobody")


def test_another_account_invokes_what_it_was_allowed_and_nothing_else(
    cluster: Cluster, shared: str, other: Any
) -> None:
    client, arn = cluster.client(), f"{ARN}{shared}"
    denied = (
        403, "AccessDeniedException",
        f"User: {USER} is not authorized to perform: lambda:InvokeFunction on resource: {arn}:live "
        "because no resource-based policy allows the lambda:InvokeFunction action",
    )  # fmt: skip
    assert error_of(other.invoke, FunctionName=f"{arn}:live") == denied
    missing = error_of(other.invoke, FunctionName=f"{ARN}nobody:live")
    assert missing == (*denied[:2], denied[2].replace(shared, "nobody")), "that there is none is not told"
    client.add_permission(
        FunctionName=shared, Qualifier="live", StatementId="other", Action="lambda:InvokeFunction", Principal=OTHER
    )
    answer = other.invoke(FunctionName=f"{arn}:live", Payload=b'{"n": 1}')
    assert json.loads(answer["Payload"].read()) == [{"n": 1}, f"{arn}:live"]
    assert other.invoke(FunctionName=arn, Qualifier="live")["StatusCode"] == 200
    assert error_of(other.invoke, FunctionName=arn)[:2] == denied[:2], "the alias was meant, not the function"
    assert error_of(other.invoke, FunctionName=f"{arn}:1")[:2] == denied[:2]
    assert error_of(other.invoke, FunctionName=f"{arn}:$LATEST")[:2] == denied[:2]
    for look in (other.get_function, other.delete_function, other.get_policy):
        assert error_of(look, FunctionName=f"{arn}:live")[:2] == denied[:2]
    stream = other.invoke_with_response_stream(FunctionName=f"{arn}:live", Payload=b"7")
    assert "InvokeComplete" in list(stream["EventStream"])[-1]
    assert other.invoke(FunctionName=f"{arn}:live", InvocationType="Event", Payload=b'"later"')["StatusCode"] == 202
    logs = cluster.client("logs")
    eventually(lambda: printed(logs, f"/aws/lambda/{shared}", "later"))
    theirs = cluster.client("logs", key=OTHER_KEY, secret=OTHER_SECRET)
    assert not theirs.describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{shared}")["logGroups"]
    client.remove_permission(FunctionName=shared, Qualifier="live", StatementId="other")
    assert error_of(other.invoke, FunctionName=f"{arn}:live") == denied


def test_another_account_queues_by_the_deprecated_operation_where_that_is_allowed(
    cluster: Cluster, shared: str, other: Any
) -> None:
    client, arn = cluster.client(), f"{ARN}{shared}"
    action = {"FunctionName": shared, "StatementId": "old", "Principal": OTHER}
    client.add_permission(**action, Action="lambda:InvokeFunction")
    denied = error_of(other.invoke_async, FunctionName=arn, InvokeArgs=b"1")
    assert denied[:2] == (403, "AccessDeniedException")
    assert denied[2].endswith(
        f"lambda:InvokeAsync on resource: {arn} because no resource-based policy allows the lambda:InvokeAsync action"
    )
    missing = error_of(other.invoke_async, FunctionName=f"{ARN}nobody", InvokeArgs=b"1")
    assert missing == (*denied[:2], denied[2].replace(shared, "nobody"))
    client.remove_permission(FunctionName=shared, StatementId="old")
    client.add_permission(**action, Action="lambda:InvokeAsync")
    assert other.invoke_async(FunctionName=arn, InvokeArgs=b"1")["Status"] == 202
    assert error_of(other.invoke, FunctionName=arn)[:2] == denied[:2]
    client.remove_permission(FunctionName=shared, StatementId="old")


def test_a_policy_goes_with_the_alias_it_is_for(cluster: Cluster, shared: str, other: Any) -> None:
    client, arn = cluster.client(), f"{ARN}{shared}:brief"
    client.create_alias(FunctionName=shared, Name="brief", FunctionVersion="1")
    client.add_permission(
        FunctionName=shared, Qualifier="brief", StatementId="s", Action="lambda:InvokeFunction", Principal=USER
    )
    assert other.invoke(FunctionName=arn)["StatusCode"] == 200
    client.delete_alias(FunctionName=shared, Name="brief")
    assert error_of(other.invoke, FunctionName=arn)[:2] == (403, "AccessDeniedException")
    client.create_alias(FunctionName=shared, Name="brief", FunctionVersion="1")
    assert error_of(other.invoke, FunctionName=arn)[:2] == (403, "AccessDeniedException")
    assert error_of(client.get_policy, FunctionName=shared, Qualifier="brief")[0] == 404
