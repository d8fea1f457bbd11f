"""Reserved and provisioned concurrency on running functions, row by row of AWS's table of how they go together.

Source: https://docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html#comparing-reserved-provisioned
"""

from __future__ import annotations

import json
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.conftest import free_port
from tests.e2e.harness import Cluster, error_of, zipped

LIMIT = 12
METRICS = free_port(4)
CODE = (
    "import os, time\n"
    "KIND = os.environ['AWS_LAMBDA_INITIALIZATION_TYPE']\n"
    "def handler(event, context):\n"
    "    time.sleep(event.get('s', 0))\n"
    "    return [KIND, context.function_version]\n"
)
THROTTLED = {"Code": "TooManyRequestsException", "Message": "Rate Exceeded."}
UNRESERVED, RESERVED = "ConcurrentInvocationLimitExceeded", "ReservedFunctionConcurrentInvocationLimitExceeded"


@pytest.fixture(scope="module")
def small() -> Any:
    """A cluster of twelve executions, of which two must stay unreserved."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory(prefix="li-", dir="/tmp") as folder:
        cluster = Cluster(
            Path(folder) / "data", "--no-examples", LAMBENT_LIMITS_CONCURRENT_EXECUTIONS=str(LIMIT),
            LAMBENT_LIMITS_UNRESERVED_MINIMUM="2", LAMBENT_TELEMETRY_PROMETHEUS=f"127.0.0.1:{METRICS}",
        ).start()  # fmt: skip
        yield cluster
        cluster.stop()


def eventually(look: Callable[[], Any], wanted: Callable[[Any], bool], seconds: float = 20.0) -> Any:
    """What `look` answers once it is as wanted; the last answer when time is up."""
    pause = threading.Event()
    for _ in range(int(seconds / 0.05)):
        seen = look()
        if wanted(seen):
            return seen
        pause.wait(0.05)
    raise AssertionError(f"not seen in {seconds} s; last: {seen}")


def published(cluster: Cluster, name: str, **configuration: Any) -> str:
    """A function with version 1 and an alias `live` on it."""
    cluster.create(name, zipped({"app.py": CODE}), Timeout=30, **configuration)
    cluster.client().publish_version(FunctionName=name)
    cluster.client().create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    return name


def provision(cluster: Cluster, name: str, executions: int, qualifier: str = "live") -> None:
    """Put provisioned concurrency, and wait until it is READY."""
    put = cluster.client().put_provisioned_concurrency_config(
        FunctionName=name, Qualifier=qualifier, ProvisionedConcurrentExecutions=executions
    )
    assert (put["Status"], put["RequestedProvisionedConcurrentExecutions"]) == ("IN_PROGRESS", executions)
    ready(cluster, name, executions, qualifier)


def ready(cluster: Cluster, name: str, executions: int, qualifier: str = "live") -> Any:
    """Wait until provisioned concurrency is READY."""
    return eventually(
        lambda: cluster.client().get_provisioned_concurrency_config(FunctionName=name, Qualifier=qualifier),
        lambda seen: seen["Status"] == "READY" and seen["AllocatedProvisionedConcurrentExecutions"] == executions,
    )


def push(cluster: Cluster, name: str, calls: dict[str, int], seconds: float = 1.0) -> Counter[str]:
    """So many invocations of each qualifier at once; how they were served: kind and version, or the throttle's reason."""

    def call(qualifier: str) -> str:
        try:
            answer = cluster.client().invoke(FunctionName=name, Qualifier=qualifier, Payload=json.dumps({"s": seconds}))
        except ClientError as error:
            told = error.response["Error"]
            return f"{qualifier} {error.response['Reason']}" if told == THROTTLED else str(told)
        kind, version = json.loads(answer["Payload"].read())
        assert answer["ExecutedVersion"] == version
        return f"{qualifier} {kind}"

    wanted = [qualifier for qualifier, number in calls.items() for _ in range(number)]
    with ThreadPoolExecutor(len(wanted)) as threads:
        return Counter(threads.map(call, wanted))


def test_without_any_setting_everything_comes_from_the_unreserved_pool(small: Cluster) -> None:
    name = published(small, "row1")
    seen = push(small, name, {"live": 8, "$LATEST": 8})
    assert seen["live on-demand"] + seen["$LATEST on-demand"] == LIMIT
    assert seen[f"live {UNRESERVED}"] + seen[f"$LATEST {UNRESERVED}"] == 4
    small.client().delete_function(FunctionName=name)


def test_provisioned_first_then_spillover_to_the_unreserved_pool(small: Cluster) -> None:
    name = published(small, "row2")
    provision(small, name, 3)
    account = small.client().get_account_settings()["AccountLimit"]
    assert account["UnreservedConcurrentExecutions"] == LIMIT - 3
    assert push(small, name, {"live": 5}) == {"live provisioned-concurrency": 3, "live on-demand": 2}
    with urllib.request.urlopen(f"http://127.0.0.1:{METRICS}/metrics") as page:
        counts = [line for line in page.read().decode().splitlines() if 'FunctionName="row2"' in line]
    for metric, number in (("invocations", 3), ("spilloverinvocations", 2)):
        [count] = [line for line in counts if line.startswith(f"aws_lambda_provisionedconcurrency{metric}_total")]
        assert float(count.rpartition(" ")[2]) == number
    # Others have what is not claimed, and no more.
    seen = push(small, name, {"$LATEST": LIMIT})
    assert seen == {"$LATEST on-demand": LIMIT - 3, f"$LATEST {UNRESERVED}": 3}
    # Direct traffic to the version is served by the same environments as the alias's.
    assert push(small, name, {"1": 2}) == {"1 provisioned-concurrency": 2}
    small.client().delete_function(FunctionName=name)


def test_more_reserved_than_provisioned_leaves_the_difference(small: Cluster) -> None:
    name = published(small, "row3")
    small.client().put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=5)
    provision(small, name, 3)
    assert push(small, name, {"live": 7}) == {
        "live provisioned-concurrency": 3, "live on-demand": 2, f"live {RESERVED}": 2,
    }  # fmt: skip
    assert push(small, name, {"$LATEST": 4}) == {"$LATEST on-demand": 2, f"$LATEST {RESERVED}": 2}
    small.client().delete_function(FunctionName=name)


def test_all_reserved_provisioned_throttles_everything_else(small: Cluster) -> None:
    name = published(small, "row4")
    small.client().put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=3)
    provision(small, name, 3)
    assert push(small, name, {"live": 5}) == {"live provisioned-concurrency": 3, f"live {RESERVED}": 2}
    assert push(small, name, {"$LATEST": 2}) == {f"$LATEST {RESERVED}": 2}
    small.client().delete_function(FunctionName=name)


def test_nothing_reserved_stops_the_function_and_its_deletion_starts_it_again(small: Cluster) -> None:
    name = published(small, "row5")
    assert push(small, name, {"live": 1}, 0) == {"live on-demand": 1}
    small.client().put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    assert push(small, name, {"live": 2, "$LATEST": 2}, 0) == {f"live {RESERVED}": 2, f"$LATEST {RESERVED}": 2}
    small.client().delete_function_concurrency(FunctionName=name)
    assert push(small, name, {"live": 1}, 0) == {"live on-demand": 1}
    small.client().delete_function(FunctionName=name)


def test_a_reserve_is_a_guarantee_that_others_cannot_take(small: Cluster) -> None:
    client = small.client()
    mine, other = published(small, "kept"), published(small, "greedy")
    client.put_function_concurrency(FunctionName=mine, ReservedConcurrentExecutions=4)
    assert client.get_function(FunctionName=mine)["Concurrency"] == {"ReservedConcurrentExecutions": 4}
    with ThreadPoolExecutor(2) as threads:
        greedy = threads.submit(push, small, other, {"live": LIMIT}, 2.0)
        kept = threads.submit(push, small, mine, {"live": 4}, 1.0)
        assert kept.result() == {"live on-demand": 4}
        assert greedy.result() == {"live on-demand": LIMIT - 4, f"live {UNRESERVED}": 4}
    for name in (mine, other):
        client.delete_function(FunctionName=name)


def test_a_resize_keeps_the_environments_that_remain(small: Cluster) -> None:
    code = CODE.replace("[KIND, context.function_version]", "[KIND, context.log_stream_name]")
    small.create("resized", zipped({"app.py": code}), Timeout=30)
    small.client().publish_version(FunctionName="resized")

    def streams(number: int) -> set[str]:
        def call(_: int) -> str:
            answer = small.client().invoke(FunctionName="resized", Qualifier="1", Payload=b'{"s": 0.5}')
            kind, stream = json.loads(answer["Payload"].read())
            assert kind == "provisioned-concurrency"
            return str(stream)

        with ThreadPoolExecutor(number) as threads:
            return set(threads.map(call, range(number)))

    provision(small, "resized", 2, "1")
    first = streams(2)
    provision(small, "resized", 4, "1")
    more = streams(4)
    assert len(first) == 2
    assert first < more
    provision(small, "resized", 2, "1")
    assert streams(2) < more
    small.client().delete_function(FunctionName="resized")


def test_an_alias_that_moves_takes_its_provisioned_concurrency_along(small: Cluster) -> None:
    client = small.client()
    name = published(small, "moved")
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=2)
    provision(small, name, 2)
    small.update(name, Description="two")
    client.publish_version(FunctionName=name)
    client.update_alias(FunctionName=name, Name="live", FunctionVersion="2")
    ready(small, name, 2)
    answer = client.invoke(FunctionName=name, Qualifier="live", Payload=b"{}")
    assert json.loads(answer["Payload"].read()) == ["provisioned-concurrency", "2"]
    # The old version has nothing left, and the reserve no room for it.
    assert push(small, name, {"1": 1}, 0) == {f"1 {RESERVED}": 1}
    client.delete_function(FunctionName=name)


def test_an_alias_with_weights_splits_its_provisioned_concurrency(small: Cluster) -> None:
    """It is put while the alias has one version; then both serve from environments that were ready before anyone asked."""
    name, client = published(small, "weighted"), small.client()
    provision(small, name, 4)
    small.update(name, Description="second")
    client.publish_version(FunctionName=name)
    client.update_alias(FunctionName=name, Name="live", RoutingConfig={"AdditionalVersionWeights": {"2": 0.5}})
    ready(small, name, 4)
    seen: Counter[tuple[str, str]] = Counter()
    for _ in range(24):
        answer = client.invoke(FunctionName=name, Qualifier="live", Payload=b"{}")
        kind, version = json.loads(answer["Payload"].read())
        assert answer["ExecutedVersion"] == version
        seen[kind, version] += 1
    # Chance lets one version have none of 24 less than once in eight million runs.
    assert set(seen) == {("provisioned-concurrency", "1"), ("provisioned-concurrency", "2")}, seen
    again = error_of(
        client.put_provisioned_concurrency_config,
        FunctionName=name,
        Qualifier="live",
        ProvisionedConcurrentExecutions=5,
    )
    assert again == (409, "ResourceConflictException", "Invalid alias configuration for Provisioned Concurrency")
    client.delete_function(FunctionName=name)


def test_an_init_that_fails_fails_the_allocation_with_its_reason(small: Cluster) -> None:
    client = small.client()
    small.create("broken", zipped({"app.py": "raise RuntimeError('not today')\n"}))
    client.publish_version(FunctionName="broken")
    client.put_provisioned_concurrency_config(FunctionName="broken", Qualifier="1", ProvisionedConcurrentExecutions=2)
    seen = eventually(
        lambda: client.get_provisioned_concurrency_config(FunctionName="broken", Qualifier="1"),
        lambda status: status["Status"] == "FAILED",
    )
    assert seen["StatusReason"] == "FUNCTION_ERROR_INIT_FAILURE"
    assert seen["AllocatedProvisionedConcurrentExecutions"] == 0
    [listed] = client.list_provisioned_concurrency_configs(FunctionName="broken")["ProvisionedConcurrencyConfigs"]
    assert listed["Status"] == "FAILED"
    client.delete_provisioned_concurrency_config(FunctionName="broken", Qualifier="1")
    status, error, _ = error_of(client.get_provisioned_concurrency_config, FunctionName="broken", Qualifier="1")
    assert (status, error) == (404, "ProvisionedConcurrencyConfigNotFoundException")
    client.delete_function(FunctionName="broken")


def test_lost_environments_are_replaced(small: Cluster) -> None:
    client = small.client()
    code = CODE.replace("    time.sleep", "    if event.get('die'):\n        os._exit(1)\n    time.sleep")
    small.create("mortal", zipped({"app.py": code}), Timeout=30)
    client.publish_version(FunctionName="mortal")
    provision(small, "mortal", 2, "1")
    for _ in range(2):
        assert client.invoke(FunctionName="mortal", Qualifier="1", Payload=b'{"die": true}')["FunctionError"]
    ready(small, "mortal", 2, "1")
    assert push(small, "mortal", {"1": 2}) == {"1 provisioned-concurrency": 2}
    client.delete_function(FunctionName="mortal")


def test_more_than_ten_requests_a_second_for_each_reserved_execution_are_throttled(small: Cluster) -> None:
    """Twenty at once and twenty a second for two executions, however short the function runs."""
    client = small.client()
    name = published(small, "hasty")
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=2)
    seen: Counter[str] = Counter()
    for _ in range(60):
        seen += push(small, name, {"$LATEST": 1}, 0)
        if seen["$LATEST ReservedFunctionInvocationRateLimitExceeded"]:
            break
    assert seen["$LATEST on-demand"] >= 20
    assert set(seen) == {"$LATEST on-demand", "$LATEST ReservedFunctionInvocationRateLimitExceeded"}
    client.delete_function(FunctionName=name)
