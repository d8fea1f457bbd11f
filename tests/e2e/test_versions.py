"""Versions through AWS's own client: publishing, reading, invoking and deleting them."""

from __future__ import annotations

import base64
import json
from typing import Any

from tests.e2e.harness import ROLE, Cluster, error_of, zipped

CODE = """\
import os
def handler(event, context):
    name = ("AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_LOG_STREAM_NAME", "GREETING")
    return {"env": [os.environ.get(n) for n in name], "version": context.function_version, "arn": context.invoked_function_arn}
"""
ARN = "arn:aws:lambda:us-east-1:000000000000:function:"


def said(answer: Any) -> dict[str, Any]:
    assert "FunctionError" not in answer, answer["Payload"].read()
    document: dict[str, Any] = json.loads(answer["Payload"].read())
    return document


def test_a_version_keeps_what_latest_was(cluster: Cluster) -> None:
    client, name = cluster.client(), cluster.create("keeps", zipped({"app.py": CODE}), Description="of the function")
    cluster.update(name, Environment={"Variables": {"GREETING": "one"}})
    before = client.get_function_configuration(FunctionName=name)["RevisionId"]
    one = client.publish_version(FunctionName=name)
    assert one["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert (one["Version"], one["FunctionArn"], one["Description"]) == ("1", f"{ARN}{name}:1", "of the function")
    assert (one["State"], one["LastUpdateStatus"]) == ("Active", "Successful")
    assert client.get_function_configuration(FunctionName=name)["RevisionId"] != before
    again = client.publish_version(FunctionName=name, Description="nothing changed")
    assert (again["Version"], again["RevisionId"]) == ("1", one["RevisionId"])
    cluster.update(name, Environment={"Variables": {"GREETING": "two"}})
    two = client.publish_version(FunctionName=name, Description="its own")
    assert (two["Version"], two["Description"]) == ("2", "its own")
    cluster.update(name, Environment={"Variables": {"GREETING": "latest"}})

    for qualifier, greeting in (("1", "one"), ("2", "two"), ("$LATEST", "latest")):
        answer = client.invoke(FunctionName=name, Qualifier=qualifier)
        assert answer["ExecutedVersion"] == qualifier
        document = said(answer)
        version, stream, variable = document["env"]
        assert (version, document["version"], variable) == (qualifier, qualifier, greeting)
        assert f"[{qualifier}]" in stream
        assert document["arn"] == f"{ARN}{name}:{qualifier}"
        shown = client.get_function(FunctionName=f"{name}:{qualifier}")
        assert shown["Configuration"]["Version"] == qualifier
        assert shown["Configuration"]["FunctionArn"] == f"{ARN}{name}:{qualifier}"
        assert shown["Configuration"]["Environment"]["Variables"] == {"GREETING": greeting}
    assert said(client.invoke(FunctionName=name))["arn"] == f"{ARN}{name}"


def test_versions_are_listed_counted_and_deleted(cluster: Cluster) -> None:
    client, name = cluster.client(region="eu-west-2"), "listed"

    def create(**more: Any) -> Any:
        answer = client.create_function(
            FunctionName=name, Runtime="python3.11", Role=ROLE, Handler="app.handler",
            Code={"ZipFile": zipped({"app.py": CODE})}, **more,
        )  # fmt: skip
        waiter = client.get_waiter("function_active_v2")
        waiter.wait(FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 200})
        return answer

    def configure(**more: Any) -> None:
        client.update_function_configuration(FunctionName=name, **more)
        waiter = client.get_waiter("function_updated_v2")
        waiter.wait(FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 200})

    created = create(Publish=True)
    assert (created["Version"], created["State"]) == ("1", "Pending")
    assert created["FunctionArn"].endswith(f":{name}")
    assert client.publish_version(FunctionName=name)["Version"] == "1"
    for number in range(2, 12):
        configure(Timeout=number)
        assert client.publish_version(FunctionName=name)["Version"] == str(number)
    pages = list(
        client.get_paginator("list_versions_by_function").paginate(FunctionName=name, PaginationConfig={"PageSize": 5})
    )
    numbers = ["$LATEST", *(str(n) for n in range(1, 12))]
    assert [[v["Version"] for v in page["Versions"]] for page in pages] == [numbers[:5], numbers[5:10], numbers[10:]]
    assert all(
        v["FunctionArn"].endswith(f":{v['Version']}") and "State" not in v for page in pages for v in page["Versions"]
    )
    everything = client.get_paginator("list_functions").paginate(
        FunctionVersion="ALL", PaginationConfig={"PageSize": 7}
    )
    assert [v["Version"] for page in everything for v in page["Functions"]] == numbers
    latest = client.list_functions()["Functions"]
    assert [(v["Version"], v["FunctionArn"].endswith(f":{name}")) for v in latest] == [("$LATEST", True)]
    usage = client.get_account_settings()["AccountUsage"]
    assert usage == {"TotalCodeSize": 12 * created["CodeSize"], "FunctionCount": 1}

    client.create_alias(FunctionName=name, Name="live", FunctionVersion="11")
    assert error_of(client.delete_function, FunctionName=name, Qualifier="11") == (
        409, "ResourceConflictException", "Unable to delete version because the following aliases reference it: [live]",
    )  # fmt: skip
    assert (
        error_of(client.delete_function, FunctionName=name, Qualifier="live")[2]
        == "Deletion of aliases is not currently supported."
    )
    client.delete_alias(FunctionName=name, Name="live")
    assert client.invoke(FunctionName=name, Qualifier="11")["ExecutedVersion"] == "11"
    for _ in range(2):
        assert client.delete_function(FunctionName=name, Qualifier="11")["ResponseMetadata"]["HTTPStatusCode"] == 204
    for call in (client.get_function, client.get_function_configuration, client.invoke):
        status, code, text = error_of(call, FunctionName=name, Qualifier="11")
        assert (status, code) == (404, "ResourceNotFoundException")
        assert text == f"Function not found: arn:aws:lambda:eu-west-2:000000000000:function:{name}:11"
    assert client.get_account_settings()["AccountUsage"]["TotalCodeSize"] == 11 * created["CodeSize"]
    # The number of a version that is gone is not given again; a function that is made again begins anew.
    assert client.publish_version(FunctionName=name)["Version"] == "12"
    client.delete_function(FunctionName=name)
    assert client.get_account_settings()["AccountUsage"] == {"TotalCodeSize": 0, "FunctionCount": 0}
    create()
    assert client.publish_version(FunctionName=name)["Version"] == "1"
    client.delete_function(FunctionName=name)


def test_an_update_of_code_can_publish(cluster: Cluster) -> None:
    client, name = cluster.client(), cluster.create("updates", zipped({"app.py": CODE}))
    package = zipped({"app.py": "def handler(event, context):\n    return 'new'\n"})
    published = client.update_function_code(FunctionName=name, ZipFile=package, Publish=True)
    assert (published["Version"], published["FunctionArn"]) == ("1", f"{ARN}{name}:1")
    assert json.loads(client.invoke(FunctionName=name, Qualifier="1")["Payload"].read()) == "new"
    cluster.updated(name)
    again = client.update_function_code(FunctionName=name, ZipFile=package, Publish=True)
    assert again["Version"] == "1"
    cluster.updated(name)
    assert client.publish_version(FunctionName=name)["Version"] == "1"


def test_publishing_is_guarded(cluster: Cluster) -> None:
    client, name = cluster.client(), cluster.create("guarded", zipped({"app.py": CODE}))
    stale = client.get_function_configuration(FunctionName=name)["RevisionId"]
    cluster.update(name, Description="x")
    shown = client.get_function_configuration(FunctionName=name)
    other = base64.b64encode(bytes(32)).decode()
    assert error_of(client.publish_version, FunctionName=name, CodeSha256=other) == (
        400, "InvalidParameterValueException",
        f"CodeSHA256 ({other}) is different from current CodeSHA256 in $LATEST ({shown['CodeSha256']}). "
        "Please try again with the CodeSHA256 in $LATEST.",
    )  # fmt: skip
    assert error_of(client.publish_version, FunctionName=name, RevisionId=stale) == (
        412, "PreconditionFailedException",
        "The Revision Id provided does not match the latest Revision Id. "
        "Call the GetFunction/GetAlias API to retrieve the latest Revision Id",
    )  # fmt: skip
    published = client.publish_version(
        FunctionName=name, CodeSha256=shown["CodeSha256"], RevisionId=shown["RevisionId"]
    )
    assert published["Version"] == "1"
    assert error_of(client.publish_version, FunctionName="nobody") == (
        404, "ResourceNotFoundException", f"Function not found: {ARN}nobody",
    )  # fmt: skip


def test_markers_that_no_page_gave_are_refused(cluster: Cluster) -> None:
    client, name = cluster.client(), cluster.create("markers", zipped({"app.py": CODE}))
    for call in (client.list_versions_by_function, client.list_aliases, client.list_provisioned_concurrency_configs):
        status, code, text = error_of(call, FunctionName=name, Marker="***")
        assert (status, code) == (400, "ValidationException")
        assert "Value '***' at 'marker'" in text
