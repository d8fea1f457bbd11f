"""Why a request was throttled or started cold, and what is in use, as a user asks for it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.e2e.harness import Cluster, zipped

CODE = "def handler(event, context):\n    return 1\n"


def test_a_throttle_and_a_cold_start_are_explained(cluster: Cluster) -> None:
    client = cluster.client()
    cluster.create("explained", zipped({"app.py": CODE}))
    cold = client.invoke(FunctionName="explained")["ResponseMetadata"]["RequestId"]
    client.put_function_concurrency(FunctionName="explained", ReservedConcurrentExecutions=0)
    with pytest.raises(ClientError) as caught:
        client.invoke(FunctionName="explained")
    throttled = caught.value.response["ResponseMetadata"]["RequestId"]
    said = cluster.lambent("explain", throttled)
    assert said.returncode == 0, said.stderr
    assert "Refused: ReservedFunctionConcurrentInvocationLimitExceeded" in said.stdout
    assert "What would have admitted it: One execution less of this function, or a higher reserved" in said.stdout
    assert re.search(r"^function reserved +0 *$", said.stdout, re.MULTILINE)
    [started] = json.loads(cluster.lambent("explain", cold, "--output", "json").stdout)
    assert (started["Outcome"], started["Reason"]) == ("Started", "Cold")
    assert started["Because"] == "No environment of this version had been started before."
    numbers = {each["Name"]: int(each["Value"]) for each in started["Numbers"]}
    assert numbers["account limit"] == 1000
    assert numbers["function on demand"] == 1
    both = json.loads(cluster.lambent("explain", "explained", "--output", "json").stdout)
    assert [each["RequestId"] for each in both] == [throttled, cold]
    client.delete_function(FunctionName="explained")


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("12345678-1234-1234-1234-123456789012", "Nothing was decided about request 12345678-1234-"),
        ("not a name", "failed to satisfy constraint"),
    ],
)
def test_what_cannot_be_explained_gets_one_line(cluster: Cluster, what: str, text: str) -> None:
    said = cluster.lambent("explain", what)
    assert said.returncode == 1
    assert text in said.stderr
    assert "Traceback" not in said.stderr


def test_top_shows_what_is_in_use(cluster: Cluster) -> None:
    client = cluster.client()
    cluster.create("seen", zipped({"app.py": CODE}))
    client.put_function_concurrency(FunctionName="seen", ReservedConcurrentExecutions=7)
    version = client.publish_version(FunctionName="seen")["Version"]
    client.put_provisioned_concurrency_config(FunctionName="seen", Qualifier=version, ProvisionedConcurrentExecutions=2)
    shown: dict[str, Any] = json.loads(cluster.lambent("top", "--output", "json").stdout)
    assert shown["Limit"] == 1000
    assert shown["Unreserved"] <= 993
    [mine] = [each for each in shown["Functions"] if each["FunctionName"] == "seen"]
    assert mine["Reserved"] == 7
    [config] = [each for each in shown["ProvisionedConfigs"] if each["FunctionName"] == "seen"]
    assert (config["Qualifier"], config["Requested"]) == (version, 2)
    table = cluster.lambent("top").stdout
    assert table.startswith("executions ")
    assert f"seen:{version}" in table
    client.delete_function(FunctionName="seen")
