"""A function calls its own cluster with what it finds in its environment, as it would call AWS."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest
from botocore.config import Config

from lambent.infra.layout import layout
from lambent.infra.session_credentials import SessionKeys, Statement
from tests.e2e.conftest import OTHER_KEY, OTHER_SECRET
from tests.e2e.harness import ROLE, Cluster, error_of, zipped

SOURCE = """
import json, os

def credentials(event, context):
    return [os.environ["AWS_" + name] for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN")]

def call(event, context):
    import boto3
    answer = boto3.client("lambda").invoke(FunctionName=event["function"], Payload=json.dumps(event["payload"]))
    groups = boto3.client("logs").describe_log_groups(logGroupNamePrefix=context.log_group_name)["logGroups"]
    targets = boto3.client("application-autoscaling").describe_scalable_targets(ServiceNamespace="lambda")
    return [json.loads(answer["Payload"].read()), [group["logGroupName"] for group in groups],
            "ScalableTargets" in targets]

def echo(event, context):
    return event
"""
UNKNOWN = (403, "UnrecognizedClientException", "The security token included in the request is invalid.")


@pytest.fixture(scope="module")
def functions(cluster: Cluster) -> list[str]:
    package = zipped({"app.py": SOURCE})
    return [
        cluster.create(f"session-{name}", package, Handler=f"app.{name}", Timeout=30, MemorySize=1769)
        for name in ("credentials", "call", "echo")
    ]


def as_function(url: str, key_id: str, secret: str, token: str, service: str = "lambda") -> Any:
    """A client with temporary credentials."""
    return boto3.client(
        service, endpoint_url=url, aws_access_key_id=key_id, aws_secret_access_key=secret, aws_session_token=token,
        region_name="us-east-1", config=Config(retries={"total_max_attempts": 1}),
    )  # fmt: skip


def credentials_of(cluster: Cluster, function: str) -> tuple[str, str, str]:
    key_id, secret, token = json.loads(cluster.client().invoke(FunctionName=function)["Payload"].read())
    return key_id, secret, token


def test_a_function_calls_its_cluster_without_any_configuration(cluster: Cluster, functions: list[str]) -> None:
    event = json.dumps({"function": "session-echo", "payload": {"n": 1}})
    answer = cluster.client().invoke(FunctionName="session-call", Payload=event)
    assert "FunctionError" not in answer
    assert json.loads(answer["Payload"].read()) == [{"n": 1}, ["/aws/lambda/session-call"], True]


def test_credentials_that_are_not_good(cluster: Cluster, functions: list[str]) -> None:
    key_id, secret, token = credentials_of(cluster, "session-credentials")
    assert as_function(cluster.url, key_id, secret, token).get_function(FunctionName="session-echo")
    altered = token[:-1] + ("A" if token[-1] != "A" else "B")
    assert error_of(as_function(cluster.url, key_id, secret, altered).list_functions) == UNKNOWN
    logs = as_function(cluster.url, key_id, secret, altered, "logs")
    assert error_of(logs.describe_log_groups) == (400, *UNKNOWN[1:])

    statement = Statement("000000000000", "us-east-1", ROLE, "session-echo", 1_700_000_000, "1")
    made = SessionKeys(layout(str(cluster.data)).session_key()).issue(statement)
    expired = as_function(cluster.url, made.key_id, made.secret, made.token)
    text = "The security token included in the request is expired"
    assert error_of(expired.list_functions) == (403, "ExpiredTokenException", text)
    made = SessionKeys(b"the key of another cluster").issue(statement)
    foreign = as_function(cluster.url, made.key_id, made.secret, made.token)
    assert error_of(foreign.list_functions) == UNKNOWN


def test_a_function_is_of_its_own_account(cluster: Cluster, functions: list[str]) -> None:
    other = cluster.client(key=OTHER_KEY, secret=OTHER_SECRET)
    mine = as_function(cluster.url, *credentials_of(cluster, "session-credentials"))
    arn = "arn:aws:lambda:us-east-1:111111111111:function:any"
    assert error_of(mine.get_function, FunctionName=arn)[:2] == (403, "AccessDeniedException")
    assert error_of(other.get_function, FunctionName="session-echo")[:2] == (404, "ResourceNotFoundException")


def test_an_operator_may_leave_functions_without_any_right(cluster: Cluster, functions: list[str]) -> None:
    url = cluster.another_frontend({'credentials = "full"': 'credentials = "none"'})
    session = credentials_of(cluster, "session-credentials")
    why = (
        "User: arn:aws:sts::000000000000:assumed-role/any/session-credentials is not authorized to perform: "
        "lambda:InvokeFunction because no identity-based policy allows the lambda:InvokeFunction action"
    )
    refused = (403, "AccessDeniedException", why)
    client = as_function(url, *session)
    assert error_of(client.invoke, FunctionName="session-echo") == refused
    assert error_of(client.invoke_with_response_stream, FunctionName="session-echo") == refused
    logs = as_function(url, *session, "logs")
    assert error_of(logs.describe_log_groups)[1] == "AccessDeniedException"
    who = as_function(url, *session, "sts").get_caller_identity()
    assert who["Arn"] == "arn:aws:sts::000000000000:assumed-role/any/session-credentials", "that needs no right"
    assert cluster.client(url=url).invoke(FunctionName="session-echo")["StatusCode"] == 200
