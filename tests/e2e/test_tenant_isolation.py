"""Functions that keep their callers' tenants apart, through boto3, the SDK and the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from lambent.client import Client
from lambent.domain.tenancy import MISSING, UNWANTED
from tests.e2e.effects import TELL, Effects, effects
from tests.e2e.harness import KEY, ROLE, ROOT, SECRET, Cluster, code_blocks, error_of, eventually, run, zipped

INVALID = (400, "InvalidParameterValueException")
TENANCY = {"TenancyConfig": {"TenantIsolationMode": "PER_TENANT"}}
# Answers how often the environment has run, and for whom.
COUNTS = zipped(
    {
        "app.py": "import os\nseen = []\n"
        "def handler(event, context):\n"
        "    seen.append(context.tenant_id)\n"
        "    open('/tmp/seen', 'a').write(str(context.tenant_id) + '\\n')\n"
        "    return {'seen': seen, 'kept': open('/tmp/seen').read().splitlines()}\n"
    }
)
TELLS = TELL + "def handler(event, context):\n    tell(context, f'{context.tenant_id}/{event}')\n"


@pytest.fixture(scope="module")
def counts(cluster: Cluster) -> str:
    return cluster.create("apart-counts", COUNTS, **TENANCY)


@pytest.fixture
def told() -> Iterator[Effects]:
    with effects() as made:
        yield made


def seen(client: Any, name: str, tenant_id: str, **arguments: Any) -> list[str]:
    """For whom an environment has run that runs for a tenant."""
    answer = client.invoke(FunctionName=name, TenantId=tenant_id, **arguments)
    assert "FunctionError" not in answer
    document = json.loads(answer["Payload"].read())
    assert document["seen"] == document["kept"]
    found: list[str] = document["seen"]
    return found


def test_what_is_set_is_shown_and_stays(cluster: Cluster, counts: str) -> None:
    client = cluster.client()
    shown = TENANCY["TenancyConfig"]
    assert client.get_function(FunctionName=counts)["Configuration"]["TenancyConfig"] == shown
    cluster.update(counts, Description="another")
    version = client.publish_version(FunctionName=counts)
    assert version["TenancyConfig"] == shown
    listed = {each["FunctionName"]: each for each in client.list_functions()["Functions"]}
    assert listed[counts]["TenancyConfig"] == shown
    cluster.create("not-apart", COUNTS)
    assert "TenancyConfig" not in client.get_function_configuration(FunctionName="not-apart")


def test_an_environment_serves_one_tenant_and_no_other(cluster: Cluster, counts: str) -> None:
    client = cluster.client()
    order = ["blue", "green", "blue", "a tenant: with/all=signs+-@_.", "green", "blue"]
    for place, tenant_id in enumerate(order):
        assert seen(client, counts, tenant_id) == [tenant_id] * order[: place + 1].count(tenant_id)
    version = client.publish_version(FunctionName=counts)["Version"]
    assert seen(client, counts, "blue", Qualifier=version) == ["blue"], "nor another version"
    client.create_alias(FunctionName=counts, Name="live", FunctionVersion=version)
    assert seen(client, counts, "blue", Qualifier="live") == ["blue"] * 2


def test_tenants_share_the_functions_concurrency(cluster: Cluster) -> None:
    client, name = cluster.client(), cluster.create("apart-one-at-a-time", COUNTS, **TENANCY)
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    for tenant_id in ("blue", "green", "blue", "red", "green"):
        assert set(seen(client, name, tenant_id)) == {tenant_id}


def test_a_new_package_is_every_tenants(cluster: Cluster) -> None:
    client, name = cluster.client(), cluster.create("apart-changes", COUNTS, **TENANCY)
    for tenant_id in ("blue", "green"):
        seen(client, name, tenant_id)
    again = zipped({"app.py": "def handler(event, context):\n    return context.tenant_id + ' again'\n"})
    client.update_function_code(FunctionName=name, ZipFile=again)
    cluster.updated(name)
    for tenant_id in ("blue", "green"):
        answer = client.invoke(FunctionName=name, TenantId=tenant_id)["Payload"].read()
        assert json.loads(answer) == f"{tenant_id} again"


def test_who_is_meant_has_to_be_said_where_it_counts(cluster: Cluster, counts: str) -> None:
    client = cluster.client(validation=False)
    cluster.create("no-tenants", COUNTS)
    for kind in ("RequestResponse", "Event", "DryRun"):
        missing = error_of(client.invoke, FunctionName=counts, InvocationType=kind)
        unwanted = error_of(client.invoke, FunctionName="no-tenants", InvocationType=kind, TenantId="blue")
        assert (missing, unwanted) == ((*INVALID, MISSING), (*INVALID, UNWANTED))
    assert error_of(client.invoke_with_response_stream, FunctionName=counts) == (*INVALID, MISSING)
    assert error_of(client.invoke_async, FunctionName=counts, InvokeArgs=b"{}") == (*INVALID, MISSING)
    for wrong in ("a,b", "x" * 257):
        refused = error_of(client.invoke, FunctionName=counts, TenantId=wrong)
        assert refused[:2] == (400, "ValidationException")
        assert "tenantId" in refused[2]


def test_an_event_is_its_tenants(cluster: Cluster, told: Effects) -> None:
    variables = {"Variables": {"PORT": str(told.port)}}
    name = cluster.create("apart-later", zipped({"app.py": TELLS}), Environment=variables, **TENANCY)
    client = cluster.client()
    for tenant_id in ("blue", "green", "blue"):
        client.invoke(FunctionName=name, TenantId=tenant_id, InvocationType="Event", Payload=b"1")
    with Client(cluster.grpc, access_key=KEY, secret_key=SECRET) as sdk:
        ids = [
            sdk.invoke_async(name, 2, dedup_token="once", tenant_id=tenant_id)
            for tenant_id in ("blue", "green", "blue")
        ]
    assert ids[0] == ids[2] != ids[1], "a token is its tenant's"
    told.settle({*ids}, 20.0)
    eventually(lambda: len(told.of()) == 5)
    assert sorted(what for _, what, _, _ in told.of()) == ["blue/1", "blue/1", "blue/2", "green/1", "green/2"]


def test_what_names_no_tenant_is_not_to_be_had(cluster: Cluster, counts: str) -> None:
    client = cluster.client()
    version = client.publish_version(FunctionName=counts)["Version"]
    queue = "arn:aws:sqs:us-east-1:000000000000:q"
    code = {"ZipFile": COUNTS}
    for what, call in (
        ("SnapStart", partial(
            client.create_function, FunctionName="apart-snap", Runtime="python3.11", Role=ROLE, Handler="app.handler", Code=code,
            SnapStart={"ApplyOn": "PublishedVersions"}, **TENANCY,
        )),
        ("SnapStart", partial(
            client.update_function_configuration, FunctionName=counts, SnapStart={"ApplyOn": "PublishedVersions"},
        )),
        ("Provisioned concurrency", partial(
            client.put_provisioned_concurrency_config, FunctionName=counts, Qualifier=version,
            ProvisionedConcurrentExecutions=1,
        )),
        ("A function URL", partial(client.create_function_url_config, FunctionName=counts, AuthType="NONE")),
        ("An event source mapping", partial(
            client.create_event_source_mapping, FunctionName=counts, EventSourceArn=queue,
        )),
    ):  # fmt: skip
        assert error_of(call) == (*INVALID, f"{what} is not supported for functions with tenant isolation.")


def test_the_page_is_run_as_it_stands(cluster: Cluster) -> None:
    blocks = code_blocks((ROOT / "docs/howto/tenant-isolation.md").read_text(), "sh")
    (cluster.data.parent / "app.zip").write_bytes(COUNTS)
    said = [run("bash", "-ec", f"cd {cluster.data.parent}\n{block}", env=cluster.environment) for block in blocks]
    assert [done.returncode for done in said] == [0] * len(blocks), [done.stderr for done in said]
    assert json.loads(said[-1].stdout.splitlines()[-1])["seen"] == ["green"]
