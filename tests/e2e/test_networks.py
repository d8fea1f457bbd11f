"""VpcConfig through boto3: what may be named, what is shown, and a function that falls asleep and is woken."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import ROLE, Cluster, error_of, eventually, zipped

IDLE = 2.0  # seconds, two weeks on AWS
INSIDE = {"SubnetIds": ["subnet-0a", "subnet-0b"], "SecurityGroupIds": ["sg-0a"]}
DETACHED = {"SubnetIds": [], "SecurityGroupIds": [], "VpcId": "", "Ipv6AllowedForDualStack": False}
HELLO = zipped({"app.py": "def handler(event, context):\n    return event\n"})


@pytest.fixture(scope="module")
def networked() -> Iterator[Cluster]:
    """A cluster with two subnets and a group, in which functions are idle soon."""
    with tempfile.TemporaryDirectory(prefix="ln-", dir="/tmp") as folder:
        cluster = Cluster(
            Path(folder) / "data", "--no-examples",
            LAMBENT_VPC_SUBNETS="subnet-0a=vpc-1,subnet-0b=vpc-1", LAMBENT_VPC_SECURITY_GROUPS="sg-0a=vpc-1",
            LAMBENT_LIMITS_IDLE_NETWORK_SECONDS=str(IDLE), LAMBENT_LIMITS_ASYNC_BACKOFF_SECONDS="0.1",
        )  # fmt: skip
        yield cluster.start()
        cluster.stop()


def state(client: Any, name: str) -> tuple[str, str | None]:
    found = client.get_function_configuration(FunctionName=name)
    return found["State"], found.get("StateReasonCode")


def test_a_function_is_attached_moved_and_detached(networked: Cluster) -> None:
    client = networked.client()
    networked.create("moves", HELLO, VpcConfig=INSIDE)
    shown = client.get_function_configuration(FunctionName="moves")["VpcConfig"]
    assert shown == INSIDE | {"VpcId": "vpc-1", "Ipv6AllowedForDualStack": False}
    assert json.load(client.invoke(FunctionName="moves", Payload=b"1")["Payload"]) == 1
    version = client.publish_version(FunctionName="moves")
    assert version["VpcConfig"] == shown

    networked.update("moves", Description="another")
    assert client.get_function_configuration(FunctionName="moves")["VpcConfig"] == shown
    networked.update("moves", VpcConfig={"SubnetIds": ["subnet-0b"], "SecurityGroupIds": ["sg-0a"]})
    assert client.get_function_configuration(FunctionName="moves")["VpcConfig"]["SubnetIds"] == ["subnet-0b"]
    networked.update("moves", VpcConfig={"SubnetIds": [], "SecurityGroupIds": []})
    assert client.get_function_configuration(FunctionName="moves")["VpcConfig"] == DETACHED
    assert client.get_function_configuration(FunctionName="moves", Qualifier="1")["VpcConfig"] == shown
    networked.create("never", HELLO)
    assert "VpcConfig" not in client.get_function_configuration(FunctionName="never")


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"SubnetIds": ["subnet-9"], "SecurityGroupIds": ["sg-0a"]}, "The subnet ID 'subnet-9' does not exist"),
        ({"SubnetIds": ["subnet-0a"], "SecurityGroupIds": ["sg-9"]}, "The security group 'sg-9' does not exist"),
        ({"SubnetIds": ["subnet-0a"]}, "SubnetIds and SecurityIds must coexist or be both empty list."),
    ],
    ids=["subnet", "group", "one-alone"],
)
def test_what_does_not_exist_is_refused_and_nothing_is_made(networked: Cluster, wrong: Any, text: str) -> None:
    client = networked.client()
    status, name, message = error_of(
        client.create_function, FunctionName="wrong", Runtime="python3.11", Role=ROLE, Handler="app.handler",
        Code={"ZipFile": HELLO}, VpcConfig=wrong,
    )  # fmt: skip
    assert (status, name) == (400, "InvalidParameterValueException")
    assert text in message
    assert error_of(client.get_function, FunctionName="wrong")[1] == "ResourceNotFoundException"


def test_an_idle_function_is_inactive_and_the_next_invocation_brings_it_back(networked: Cluster) -> None:
    client = networked.client()
    networked.create("sleeps", HELLO, VpcConfig=INSIDE)
    networked.create("wakeful", HELLO)
    number = client.publish_version(FunctionName="sleeps")["Version"]
    eventually(lambda: state(client, "sleeps") == ("Inactive", "Idle"))
    assert state(client, "sleeps:1") == ("Inactive", "Idle")
    assert state(client, "wakeful") == ("Active", None)
    before = client.get_function_configuration(FunctionName="sleeps")

    status, name, message = error_of(client.invoke, FunctionName=f"sleeps:{number}", Payload=b"1")
    assert (status, name) == (409, "ResourceConflictException")
    assert message.endswith("The function is currently in the following state: Pending")
    client.get_waiter("function_active_v2").wait(
        FunctionName="sleeps", WaiterConfig={"Delay": 0.05, "MaxAttempts": 200}
    )  # fmt: skip
    assert json.load(client.invoke(FunctionName=f"sleeps:{number}", Payload=b"1")["Payload"]) == 1
    assert json.load(client.invoke(FunctionName="sleeps", Payload=b"2")["Payload"]) == 2
    after = client.get_function_configuration(FunctionName="sleeps")
    assert after["RevisionId"] != before["RevisionId"]
    assert after["LastModified"] == before["LastModified"]


def test_a_change_of_an_inactive_function_brings_it_back_too(networked: Cluster) -> None:
    client = networked.client()
    networked.create("changes", HELLO, VpcConfig=INSIDE)
    eventually(lambda: state(client, "changes")[0] == "Inactive")
    client.update_function_configuration(FunctionName="changes", Description="woken")
    client.get_waiter("function_updated_v2").wait(
        FunctionName="changes", WaiterConfig={"Delay": 0.05, "MaxAttempts": 200}
    )  # fmt: skip
    assert json.load(client.invoke(FunctionName="changes", Payload=b"3")["Payload"]) == 3
