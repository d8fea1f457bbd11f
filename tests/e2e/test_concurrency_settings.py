"""What may be set of reserved and provisioned concurrency, through AWS's own client, in AWS's words and order.

What comes of it in the scheduler is not looked at here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.harness import ROLE, Cluster, error_of, zipped

# Regions of their own, so that no other test takes anything from these accounts' concurrency.
PACKAGE = zipped({"app.py": "def handler(event, context):\n    return 1\n"})
QUALIFIED = (
    "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. "
    "Please specify either a function name or an unqualified function ARN."
)
FLOOR = "decreases account's UnreservedConcurrentExecution below its minimum value of [100]."
NONE_SET = (
    404, "ProvisionedConcurrencyConfigNotFoundException",
    "No Provisioned Concurrency Config found for this function",
)  # fmt: skip


class Account:
    """An account in a region that only this module uses."""

    def __init__(self, cluster: Cluster, region: str) -> None:
        self.client = cluster.client(region=region, validation=False)
        self.arn = f"arn:aws:lambda:{region}:000000000000:function:"

    def create(self, name: str, versions: int = 0) -> str:
        """A function with versions 1 to `versions`."""
        client = self.client
        client.create_function(
            FunctionName=name, Runtime="python3.11", Role=ROLE, Handler="app.handler", Code={"ZipFile": PACKAGE}
        )
        self.wait("function_active_v2", name)
        for number in range(versions):
            client.update_function_configuration(FunctionName=name, Timeout=number + 1)
            self.wait("function_updated_v2", name)
            client.publish_version(FunctionName=name)
        return name

    def wait(self, waiter: str, name: str) -> None:
        self.client.get_waiter(waiter).wait(FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 200})

    def reserve(self, name: str, executions: int) -> Any:
        return self.client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=executions)

    def provision(self, name: str, qualifier: str, executions: int) -> Any:
        return self.client.put_provisioned_concurrency_config(
            FunctionName=name, Qualifier=qualifier, ProvisionedConcurrentExecutions=executions
        )

    def alias(self, name: str, alias: str, version: str, **weights: float) -> None:
        routing = {"AdditionalVersionWeights": {key.strip("_"): share for key, share in weights.items()}}
        self.client.create_alias(FunctionName=name, Name=alias, FunctionVersion=version, RoutingConfig=routing)

    def unreserved(self) -> int:
        limit: int = self.client.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"]
        return limit

    def refused(self, call: Any, *arguments: Any) -> tuple[int, str, str]:
        return error_of(lambda: call(*arguments))


@pytest.fixture
def account(cluster: Cluster) -> Iterator[Account]:
    """Empty at first, and again afterwards."""
    made = Account(cluster, "ap-south-1")
    yield made
    for function in made.client.list_functions()["Functions"]:
        made.client.delete_function(FunctionName=function["FunctionName"])
    assert made.unreserved() == 1000


def invalid(text: str) -> tuple[int, str, str]:
    return (400, "InvalidParameterValueException", text)


def conflict(text: str) -> tuple[int, str, str]:
    return (409, "ResourceConflictException", text)


def test_reserved_concurrency_is_set_shown_and_given_back(account: Account) -> None:
    client, name = account.client, account.create("f")
    assert "ReservedConcurrentExecutions" not in client.get_function_concurrency(FunctionName=name)
    assert "Concurrency" not in client.get_function(FunctionName=name)
    for executions in (0, 900, 7):
        assert account.reserve(name, executions)["ReservedConcurrentExecutions"] == executions
        assert client.get_function_concurrency(FunctionName=name)["ReservedConcurrentExecutions"] == executions
        shown = client.get_function(FunctionName=name)["Concurrency"]
        assert shown == {"ReservedConcurrentExecutions": executions}
        assert account.unreserved() == 1000 - executions
    for _ in range(2):
        assert client.delete_function_concurrency(FunctionName=name)["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert "ReservedConcurrentExecutions" not in client.get_function_concurrency(FunctionName=name)
    limits = client.get_account_settings()["AccountLimit"]
    assert limits == {
        "TotalCodeSize": 80530636800, "CodeSizeUnzipped": 262144000, "CodeSizeZipped": 52428800,
        "ConcurrentExecutions": 1000, "UnreservedConcurrentExecutions": 1000,
    }  # fmt: skip


def test_reserved_concurrency_that_cannot_be(account: Account) -> None:
    name = account.create("f", versions=1)
    other = account.create("g")
    account.reserve(other, 500)
    for qualified in (f"{name}:1", f"{name}:$LATEST", account.arn + f"{name}:any"):
        assert account.refused(account.reserve, qualified, 5) == invalid(QUALIFIED)
    assert account.refused(account.reserve, "nobody", 5) == (
        404, "ResourceNotFoundException", f"Function not found: {account.arn}nobody",
    )  # fmt: skip
    assert account.refused(account.reserve, name, -1)[:2] == (400, "ValidationException")
    assert account.refused(account.reserve, name, 401) == invalid(
        f"Specified ReservedConcurrentExecutions for function {FLOOR}"
    )
    account.reserve(name, 400)
    account.provision(name, "1", 10)
    assert account.refused(account.reserve, name, 9) == invalid(
        " ReservedConcurrentExecutions  9 should not be lower than function's total provisioned concurrency [10]."
    )
    account.reserve(name, 10)
    # What it had is given back before the floor is looked at.
    account.reserve(name, 400)
    assert account.unreserved() == 100


def test_provisioned_concurrency_is_set_listed_and_given_back(account: Account) -> None:
    client, name = account.client, account.create("f", versions=2)
    account.alias(name, "live", "2")
    put = account.provision(name, "live", 20)
    assert put.pop("ResponseMetadata")["HTTPStatusCode"] == 202
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+0000", put.pop("LastModified"))
    assert put == {
        "RequestedProvisionedConcurrentExecutions": 20, "AvailableProvisionedConcurrentExecutions": 0,
        "AllocatedProvisionedConcurrentExecutions": 0, "Status": "IN_PROGRESS",
    }  # fmt: skip
    account.provision(name, "1", 30)
    assert account.unreserved() == 950
    got = client.get_provisioned_concurrency_config(FunctionName=name, Qualifier="live")
    assert got["RequestedProvisionedConcurrentExecutions"] == 20
    assert got["Status"] in ("IN_PROGRESS", "READY")
    pages = client.get_paginator("list_provisioned_concurrency_configs").paginate(
        FunctionName=name, PaginationConfig={"PageSize": 1}
    )
    listed = [config for page in pages for config in page["ProvisionedConcurrencyConfigs"]]
    assert [(c["FunctionArn"], c["RequestedProvisionedConcurrentExecutions"]) for c in listed] == [
        (f"{account.arn}{name}:1", 30), (f"{account.arn}{name}:live", 20),
    ]  # fmt: skip
    # Reserved concurrency has it within: it is not counted twice.
    account.reserve(name, 60)
    assert account.unreserved() == 940
    for _ in range(2):
        client.delete_provisioned_concurrency_config(FunctionName=name, Qualifier="1")
    assert error_of(client.get_provisioned_concurrency_config, FunctionName=name, Qualifier="1") == NONE_SET
    # With the alias goes its configuration, with the version its own.
    client.delete_alias(FunctionName=name, Name="live")
    account.provision(name, "1", 5)
    client.delete_function(FunctionName=name, Qualifier="1")
    assert client.list_provisioned_concurrency_configs(FunctionName=name)["ProvisionedConcurrencyConfigs"] == []
    assert account.reserve(name, 0)


def test_provisioned_concurrency_needs_what_is_published(account: Account) -> None:
    client, name = account.client, account.create("f", versions=1)
    unpublished = invalid("Provisioned Concurrency Configs cannot be applied to unpublished function versions.")
    account.alias(name, "next", "$LATEST")
    assert account.refused(account.provision, name, "$LATEST", 1) == unpublished
    assert account.refused(account.provision, name, "next", 1) == unpublished
    for call in (client.get_provisioned_concurrency_config, client.delete_provisioned_concurrency_config):
        assert error_of(call, FunctionName=name, Qualifier="$LATEST") == invalid(
            "The function resource provided must be an alias or a published version."
        )
        assert error_of(call, FunctionName=name, Qualifier="nobody") == (
            404, "ResourceNotFoundException", f"Cannot find alias arn: {account.arn}{name}:nobody",
        )  # fmt: skip
    assert (
        account.refused(account.provision, name, "nobody", 1)[2] == f"Cannot find alias arn: {account.arn}{name}:nobody"
    )
    assert account.refused(account.provision, name, "7", 1)[2] == f"Function not found: {account.arn}{name}:7"
    assert account.refused(account.provision, "nobody", "1", 1)[2] == f"Function not found: {account.arn}nobody"
    assert account.refused(account.provision, name, "1", 0) == (
        400, "ValidationException",
        "1 validation error detected: Value '0' at 'provisionedConcurrentExecutions' failed to satisfy constraint: "
        "Member must have value greater than or equal to 1",
    )  # fmt: skip
    assert error_of(client.get_provisioned_concurrency_config, FunctionName=name, Qualifier="1") == NONE_SET


def test_a_version_is_provisioned_once(account: Account) -> None:
    client, name = account.client, account.create("f", versions=2)
    covered = conflict(
        "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version"
    )
    account.alias(name, "live", "1")
    account.alias(name, "beta", "1")
    account.provision(name, "1", 1)
    assert account.refused(account.provision, name, "live", 1) == covered
    client.delete_provisioned_concurrency_config(FunctionName=name, Qualifier="1")
    account.provision(name, "live", 1)
    assert account.refused(account.provision, name, "1", 1) == conflict(
        "Version is pointed by a Provisioned Concurrency alias"
    )
    assert account.refused(account.provision, name, "beta", 1) == covered
    # Nor does an alias come to a version that has it by being moved.
    account.provision(name, "2", 1)
    assert error_of(client.update_alias, FunctionName=name, Name="live", FunctionVersion="2") == covered
    assert error_of(client.update_alias, FunctionName=name, Name="live", FunctionVersion="$LATEST") == invalid(
        "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
    )
    assert client.get_alias(FunctionName=name, Name="live")["FunctionVersion"] == "1"
    client.delete_provisioned_concurrency_config(FunctionName=name, Qualifier="2")
    client.update_alias(FunctionName=name, Name="live", FunctionVersion="2")
    # While an alias has weights, its provisioned concurrency is not changed.
    account.alias(name, "both", "1", _2=0.5)
    client.delete_provisioned_concurrency_config(FunctionName=name, Qualifier="live")
    assert account.refused(account.provision, name, "both", 1) == conflict(
        "Invalid alias configuration for Provisioned Concurrency"
    )


def test_provisioned_concurrency_keeps_within_what_there_is(account: Account) -> None:
    name, other = account.create("f", versions=2), account.create("g")
    account.reserve(name, 10)
    account.provision(name, "1", 6)
    assert account.refused(account.provision, name, "2", 5) == invalid(
        "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function"
    )
    account.provision(name, "2", 4)
    account.client.delete_function_concurrency(FunctionName=name)
    account.reserve(other, 500)
    assert account.unreserved() == 490
    assert account.refused(account.provision, name, "1", 497) == invalid(
        "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [496]."
    )
    assert account.refused(account.provision, name, "1", 397) == invalid(
        f"Specified ConcurrentExecutions for function {FLOOR}"
    )
    account.provision(name, "1", 396)
    assert account.unreserved() == 100
    assert account.refused(account.reserve, other, 501) == invalid(
        f"Specified ReservedConcurrentExecutions for function {FLOOR}"
    )


def test_what_a_function_had_goes_with_it(account: Account) -> None:
    name = account.create("f", versions=1)
    account.reserve(name, 50)
    account.provision(name, "1", 5)
    account.client.delete_function(FunctionName=name)
    assert account.unreserved() == 1000
    account.create(name, versions=1)
    assert "ReservedConcurrentExecutions" not in account.client.get_function_concurrency(FunctionName=name)
    assert account.client.list_provisioned_concurrency_configs(FunctionName=name)["ProvisionedConcurrencyConfigs"] == []
