"""Accounts and regions see nothing of each other."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError

from tests.e2e.conftest import OTHER_KEY, OTHER_SECRET
from tests.e2e.harness import ROLE, Cluster, error_of, zipped


def package(says: str) -> bytes:
    return zipped({"app.py": f"def handler(event, context):\n    return [{says!r}, context.invoked_function_arn]\n"})


def test_one_name_in_two_accounts_and_two_regions_is_three_functions(cluster: Cluster) -> None:
    clients = {
        "root": cluster.client(),
        "other": cluster.client(key=OTHER_KEY, secret=OTHER_SECRET),
        "region": cluster.client(region="ap-northeast-1"),
    }
    for says, client in clients.items():
        client.create_function(
            FunctionName="shared",
            Runtime="python3.11",
            Role=ROLE,
            Handler="app.handler",
            Code={"ZipFile": package(says)},
        )
        client.get_waiter("function_active_v2").wait(
            FunctionName="shared", WaiterConfig={"Delay": 0.05, "MaxAttempts": 200}
        )
    for says, client in clients.items():
        said, arn = json.loads(client.invoke(FunctionName="shared")["Payload"].read())
        assert said == says
        assert arn == client.get_function_configuration(FunctionName="shared")["FunctionArn"]
    assert [f["FunctionName"] for f in clients["other"].list_functions()["Functions"]] == ["shared"]
    clients["other"].delete_function(FunctionName="shared")
    assert json.loads(clients["root"].invoke(FunctionName="shared")["Payload"].read())[0] == "root"
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        clients["other"].invoke(FunctionName="shared")


def test_callers_are_told_who_they_are(cluster: Cluster) -> None:
    root = cluster.client("sts").get_caller_identity()
    assert (root["UserId"], root["Account"], root["Arn"]) == (
        "000000000000", "000000000000", "arn:aws:iam::000000000000:root",
    )  # fmt: skip
    other = cluster.client("sts", key=OTHER_KEY, secret=OTHER_SECRET).get_caller_identity()
    assert (other["Account"], other["Arn"]) == ("111111111111", f"arn:aws:iam::111111111111:user/{OTHER_KEY}")
    assert other["UserId"] == OTHER_KEY
    said = cluster.aws("sts", "get-caller-identity")
    assert json.loads(said.stdout)["Account"] == "000000000000", said.stderr
    unknown = cluster.client("sts", key="AKIDNOBODY").get_caller_identity
    assert error_of(unknown)[:2] == (403, "InvalidClientTokenId")
    assert error_of(cluster.client("sts").get_session_token)[:2] == (400, "InvalidAction")


def test_another_accounts_function_by_its_arn_is_denied_whether_it_exists_or_not(cluster: Cluster) -> None:
    other = cluster.client(key=OTHER_KEY, secret=OTHER_SECRET)
    answers = []
    for name in ("shared", "no-such-function"):
        with pytest.raises(ClientError) as caught:
            other.get_function(FunctionName=f"arn:aws:lambda:us-east-1:000000000000:function:{name}")
        answers.append(caught.value.response["Error"])
    assert answers[0] == answers[1]
    assert answers[0]["Code"] == "AccessDeniedException"
