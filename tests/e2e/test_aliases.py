"""Aliases through AWS's own client: pointing, weights, and each thing that cannot be."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.e2e.harness import Cluster, error_of, zipped

CODE = "def handler(event, context):\n    return context.invoked_function_arn\n"
ARN = "arn:aws:lambda:us-east-1:000000000000:function:"


def published(cluster: Cluster, name: str, versions: int) -> str:
    cluster.create(name, zipped({"app.py": CODE}))
    for number in range(versions):
        cluster.update(name, Timeout=number + 1)
        cluster.client().publish_version(FunctionName=name)
    return name


@pytest.fixture(scope="module")
def function(cluster: Cluster) -> str:
    """Versions 1 to 3, and an alias `taken` of version 1."""
    name = published(cluster, "aliased", 3)
    cluster.client().create_alias(FunctionName=name, Name="taken", FunctionVersion="1")
    return name


def test_an_alias_is_made_moved_and_forgotten(cluster: Cluster) -> None:
    client, name = cluster.client(), published(cluster, "moves", 2)
    before = client.get_function_configuration(FunctionName=name)["RevisionId"]
    made = client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    assert made.pop("ResponseMetadata")["HTTPStatusCode"] == 201
    revision = made.pop("RevisionId")
    assert made == {"AliasArn": f"{ARN}{name}:live", "Name": "live", "FunctionVersion": "1", "Description": ""}
    assert client.get_function_configuration(FunctionName=name)["RevisionId"] == before
    answer = client.invoke(FunctionName=name, Qualifier="live")
    assert (answer["ExecutedVersion"], answer["Payload"].read()) == ("1", f'"{ARN}{name}:live"'.encode())
    shown = client.get_function_configuration(FunctionName=f"{name}:live")
    assert (shown["Version"], shown["FunctionArn"]) == ("1", f"{ARN}{name}:live")
    moved = client.update_alias(
        FunctionName=name, Name="live", FunctionVersion="2", Description="two", RevisionId=revision
    )
    assert (moved["FunctionVersion"], moved["Description"]) == ("2", "two")
    assert client.invoke(FunctionName=f"{name}:live")["ExecutedVersion"] == "2"
    assert error_of(client.update_alias, FunctionName=name, Name="live", RevisionId=revision)[:2] == (
        412, "PreconditionFailedException",
    )  # fmt: skip
    client.update_alias(FunctionName=name, Name="live", FunctionVersion="$LATEST")
    assert client.invoke(FunctionName=name, Qualifier="live")["ExecutedVersion"] == "$LATEST"
    assert client.get_alias(FunctionName=name, Name="live")["FunctionVersion"] == "$LATEST"
    for _ in range(2):
        assert client.delete_alias(FunctionName=name, Name="live")["ResponseMetadata"]["HTTPStatusCode"] == 204
    for call in (client.invoke, client.get_function):
        assert error_of(call, FunctionName=name, Qualifier="live") == (
            404, "ResourceNotFoundException", f"Function not found: {ARN}{name}:live",
        )  # fmt: skip


def test_aliases_are_listed_by_name_and_by_version(cluster: Cluster) -> None:
    client, name = cluster.client(), published(cluster, "many", 2)
    for number, alias in enumerate(("d", "a", "c", "b", "B")):
        client.create_alias(FunctionName=name, Name=alias, FunctionVersion=str(1 + number % 2))
    pages = client.get_paginator("list_aliases").paginate(FunctionName=name, PaginationConfig={"PageSize": 2})
    assert [[alias["Name"] for alias in page["Aliases"]] for page in pages] == [["B", "a"], ["b", "c"], ["d"]]
    listed = client.list_aliases(FunctionName=name, FunctionVersion="2")["Aliases"]
    assert [alias["Name"] for alias in listed] == ["a", "b"]


def test_weights_share_the_requests(cluster: Cluster) -> None:
    client, name = cluster.client(), published(cluster, "weighted", 2)
    routing = {"AdditionalVersionWeights": {"2": 0.5}}
    made = client.create_alias(FunctionName=name, Name="live", FunctionVersion="1", RoutingConfig=routing)
    assert made["RoutingConfig"] == routing
    ran = Counter(client.invoke(FunctionName=name, Qualifier="live")["ExecutedVersion"] for _ in range(64))
    assert set(ran) == {"1", "2"}  # all the same once in 2 ** 63 times
    # What is not sent stays; what is empty goes.
    assert client.update_alias(FunctionName=name, Name="live", Description="x")["RoutingConfig"] == routing
    for share, only in ((1.0, "2"), (0.0, "1")):
        client.update_alias(FunctionName=name, Name="live", RoutingConfig={"AdditionalVersionWeights": {"2": share}})
        assert {client.invoke(FunctionName=name, Qualifier="live")["ExecutedVersion"] for _ in range(8)} == {only}
    assert "RoutingConfig" not in client.update_alias(FunctionName=name, Name="live", RoutingConfig={})
    assert "RoutingConfig" not in client.get_alias(FunctionName=name, Name="live")
    # A version that takes only a share of an alias is in use as well.
    client.update_alias(FunctionName=name, Name="live", RoutingConfig=routing)
    assert error_of(client.delete_function, FunctionName=name, Qualifier="2")[:2] == (409, "ResourceConflictException")


KEYS = (
    "1 validation error detected: Value '{{$LATEST=0.5}}' at 'routingConfig.additionalVersionWeights' failed to satisfy "
    "constraint: Map keys must satisfy constraint: [Member must have length less than or equal to 1024, Member must have "
    "length greater than or equal to 1, Member must satisfy regular expression pattern: [0-9]+, Member must not be null]"
)
SHARES = (
    "1 validation error detected: Value '{{2=1.5}}' at 'routingConfig.additionalVersionWeights' failed to satisfy "
    "constraint: Map value must satisfy constraint: [Member must have value less than or equal to 1.0, Member must have "
    "value greater than or equal to 0.0, Member must not be null]"
)


@pytest.mark.parametrize(
    ("changes", "status", "code", "text"),
    [
        ({"Weights": {"2": 0.1, "3": 0.1}}, 400, "InvalidParameterValueException", "Number of items in AdditionalVersionWeights cannot be greater than 1"),
        ({"FunctionVersion": "$LATEST", "Weights": {"2": 0.1}}, 400, "InvalidParameterValueException", "$LATEST is not supported for an alias pointing to more than 1 version"),
        ({"Weights": {"$LATEST": 0.5}}, 400, "ValidationException", KEYS),
        ({"Weights": {"2": 1.5}}, 400, "ValidationException", SHARES),
        ({"Weights": {"1": 0.5}}, 400, "InvalidParameterValueException", "Invalid function version 1. Function version 1 is already included in routing configuration."),
        ({"FunctionVersion": "9"}, 404, "ResourceNotFoundException", "Function not found: {arn}:9"),
        ({"Weights": {"9": 0.5}}, 404, "ResourceNotFoundException", "Function not found: {arn}:9"),
        ({"Weights": {"99": 0.5}}, 404, "ResourceNotFoundException", "Function not found: {arn}:99"),
        ({"Name": "taken"}, 409, "ResourceConflictException", "Alias already exists: {arn}:taken"),
        ({"Name": "42"}, 400, "ValidationException", "1 validation error detected: Value '42' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: (?!^[0-9]+$)([a-zA-Z0-9-_]+)"),
        ({"FunctionVersion": "taken"}, 400, "ValidationException", "1 validation error detected: Value 'taken' at 'functionVersion' failed to satisfy constraint: Member must satisfy regular expression pattern: (\\$LATEST(\\.PUBLISHED)?|[0-9]+)"),
        ({"FunctionVersion": "$LATEST.PUBLISHED"}, 404, "ResourceNotFoundException", "Function not found: {arn}:$LATEST.PUBLISHED"),
        ({"FunctionName": "nobody"}, 404, "ResourceNotFoundException", "Function not found: " + ARN + "nobody"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else None,
)  # fmt: skip
def test_aliases_that_cannot_be_leave_nothing(
    cluster: Cluster, function: str, changes: dict[str, Any], status: int, code: str, text: str
) -> None:
    client = cluster.client()
    arguments = {"FunctionName": function, "Name": "refused", "FunctionVersion": "1"} | changes
    weights = arguments.pop("Weights", None)
    if weights is not None:
        arguments["RoutingConfig"] = {"AdditionalVersionWeights": weights}
    assert error_of(client.create_alias, **arguments) == (status, code, text.format(arn=ARN + function))
    assert [alias["Name"] for alias in client.list_aliases(FunctionName=function)["Aliases"]] == ["taken"]
    if arguments["FunctionName"] == function and arguments["Name"] == "refused":
        before = client.get_alias(FunctionName=function, Name="taken")
        got = error_of(client.update_alias, **(arguments | {"Name": "taken"}))
        assert got == (status, code, text.format(arn=ARN + function))
        after = client.get_alias(FunctionName=function, Name="taken")
        assert {k: v for k, v in after.items() if k != "ResponseMetadata"} == {
            k: v for k, v in before.items() if k != "ResponseMetadata"
        }


def test_versions_have_numbers_of_two_digits_too(cluster: Cluster) -> None:
    client, name = cluster.client(), published(cluster, "many-versions", 11)
    weights = {"AdditionalVersionWeights": {"11": 1.0}}
    client.create_alias(FunctionName=name, Name="new", FunctionVersion="10", RoutingConfig=weights)
    assert client.invoke(FunctionName=name, Qualifier="new")["ExecutedVersion"] == "11"
    client.update_alias(FunctionName=name, Name="new", RoutingConfig={"AdditionalVersionWeights": {"9": 0.0}})
    assert client.invoke(FunctionName=name, Qualifier="new")["ExecutedVersion"] == "10"


def test_aliases_that_are_not_there(cluster: Cluster, function: str) -> None:
    client = cluster.client()
    missing = {"FunctionName": function, "Name": "nobody"}
    assert error_of(client.get_alias, **missing) == (
        404, "ResourceNotFoundException", f"Cannot find alias arn: {ARN}{function}:nobody",
    )  # fmt: skip
    assert error_of(client.update_alias, **missing) == (
        404, "ResourceNotFoundException", f"Alias not found: {ARN}{function}:nobody",
    )  # fmt: skip
    for call in (client.get_alias, client.update_alias, client.delete_alias):
        assert error_of(call, FunctionName="nobody", Name="x")[2] == f"Function not found: {ARN}nobody"


def test_the_versions_of_an_alias_agree_in_role_and_dead_letters(cluster: Cluster) -> None:
    client, name = cluster.client(), published(cluster, "agree", 1)
    cluster.update(name, Role="arn:aws:iam::000000000000:role/other")
    client.publish_version(FunctionName=name)
    code = error_of(
        client.create_alias, FunctionName=name, Name="live", FunctionVersion="1",
        RoutingConfig={"AdditionalVersionWeights": {"2": 0.5}},
    )[1]  # fmt: skip
    assert code == "InvalidParameterValueException"
