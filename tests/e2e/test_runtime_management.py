"""When a version's runtime is to change is kept and shown, as tools set it."""

from __future__ import annotations

import pytest

from tests.e2e.harness import Cluster, error_of, zipped

ARN = "arn:aws:lambda:us-east-1:000000000000:function:managed"
PACKAGE = zipped({"app.py": "def handler(event, context):\n    return event\n"})


@pytest.fixture(scope="module")
def managed(cluster: Cluster) -> str:
    name = cluster.create("managed", PACKAGE)
    cluster.client().publish_version(FunctionName=name)
    return name


def test_it_is_of_each_version_by_itself(cluster: Cluster, managed: str) -> None:
    client = cluster.client()
    runtime = client.get_function_configuration(FunctionName=managed)["RuntimeVersionConfig"]["RuntimeVersionArn"]

    def shown(**qualifier: str) -> dict[str, str]:
        got = client.get_runtime_management_config(FunctionName=managed, **qualifier)
        del got["ResponseMetadata"]
        return dict(got)

    bare = {"UpdateRuntimeOn": "Auto", "FunctionArn": f"{ARN}:$LATEST"}
    assert shown() == shown(Qualifier="$LATEST") == bare
    assert shown(Qualifier="1") == bare | {"FunctionArn": f"{ARN}:1"}
    revision = client.get_function_configuration(FunctionName=managed)["RevisionId"]
    put = client.put_runtime_management_config(
        FunctionName=managed, Qualifier="1", UpdateRuntimeOn="Manual", RuntimeVersionArn=runtime
    )
    del put["ResponseMetadata"]
    assert put == shown(Qualifier="1")
    assert put == {"UpdateRuntimeOn": "Manual", "FunctionArn": f"{ARN}:1", "RuntimeVersionArn": runtime}
    assert shown() == bare
    client.put_runtime_management_config(FunctionName=managed, UpdateRuntimeOn="FunctionUpdate")
    assert shown()["UpdateRuntimeOn"] == "FunctionUpdate"
    assert client.get_function_configuration(FunctionName=managed)["RevisionId"] == revision
    # It goes with its version, whose number is never given again.
    client.delete_function(FunctionName=managed, Qualifier="1")
    assert error_of(client.get_runtime_management_config, FunctionName=managed, Qualifier="1")[0] == 404


def test_what_cannot_be_is_refused(cluster: Cluster, managed: str) -> None:
    client = cluster.client(validation=False)
    put = client.put_runtime_management_config
    invalid = (400, "InvalidParameterValueException")
    assert error_of(put, FunctionName=managed, UpdateRuntimeOn="Manual")[:2] == invalid
    arn = f"arn:aws:lambda:us-east-1::runtime:{'a' * 64}"
    assert error_of(put, FunctionName=managed, UpdateRuntimeOn="Auto", RuntimeVersionArn=arn)[:2] == invalid
    for wrong in ({"UpdateRuntimeOn": "Never"}, {}, {"UpdateRuntimeOn": "Manual", "RuntimeVersionArn": "arn"}):
        assert error_of(put, FunctionName=managed, **wrong)[:2] == (400, "ValidationException")
    client.create_alias(FunctionName=managed, Name="live", FunctionVersion="$LATEST")
    others = {"FunctionName": managed, "Qualifier": "9"}, {"FunctionName": f"{managed}:live"}
    for named in ({"FunctionName": "nobody"}, *others):
        assert error_of(put, UpdateRuntimeOn="Auto", **named)[:2] == (404, "ResourceNotFoundException")
        assert error_of(client.get_runtime_management_config, **named)[:2] == (404, "ResourceNotFoundException")
