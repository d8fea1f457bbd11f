"""Layers through AWS's own clients: publishing, giving them to functions, what functions see, deleting, every error."""

from __future__ import annotations

import base64
import hashlib
import json
import urllib.request
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import ROLE, Cluster, error_of, zipped

CODE = """\
import os, sys
def handler(event, context):
    import both
    try:
        open("/opt/python/new.py", "w").close()
        written = True
    except OSError:
        written = False
    seen = {name: sys.modules[name].__file__ for name in ("both",)}
    try:
        import only
        seen["only"] = only.__file__
    except ImportError:
        pass
    return {"both": both.NAME, "seen": seen, "written": written, "path": os.environ["PATH"], "opt": sorted(os.listdir("/opt")), "import": sys.path[:3]}
"""
BARE = "import os\ndef handler(event, context):\n    return os.listdir('/opt')\n"
ARN = "arn:aws:lambda:us-east-1:000000000000:layer:"
ONE = zipped({"python/both.py": "NAME = 'one'\n", "python/lib/python3.11/site-packages/only.py": "x = 1\n"})
TWO = zipped({"python/both.py": "NAME = 'two'\n", "bin/tool": "#!/bin/sh\n"})


def publish(client: Any, name: str, data: bytes, **more: Any) -> str:
    arn: str = client.publish_layer_version(LayerName=name, Content={"ZipFile": data}, **more)["LayerVersionArn"]
    return arn


def said(cluster: Cluster, name: str, qualifier: str = "$LATEST") -> Any:
    answer = cluster.client().invoke(FunctionName=name, Qualifier=qualifier)
    document = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, document
    return document


def test_a_function_sees_its_layers_in_their_order_and_keeps_them(cluster: Cluster) -> None:
    client = cluster.client()
    one, two = publish(client, "one", ONE), publish(client, "two", TWO)
    name = cluster.create("layered", zipped({"app.py": CODE}), Layers=[one, two], Publish=True)
    attached = [{"Arn": one, "CodeSize": len(ONE)}, {"Arn": two, "CodeSize": len(TWO)}]
    listed = next(each for each in client.list_functions()["Functions"] if each["FunctionName"] == name)
    for shown in (listed, client.get_function(FunctionName=name)["Configuration"]):
        assert shown["Layers"] == attached
    seen = said(cluster, name)
    assert (seen["both"], seen["opt"], seen["written"]) == ("two", ["bin", "python"], False)
    sites = "/opt/python/lib/python3.11/site-packages"
    assert seen["seen"] == {"both": "/opt/python/both.py", "only": f"{sites}/only.py"}
    assert seen["import"] == ["/var/task", sites, "/opt/python"]
    assert seen["path"].endswith(":/opt/bin")

    cluster.update(name, Layers=[two, one])
    assert said(cluster, name)["both"] == "one"
    for arn in (one, one, two):
        _, _, number = arn.rpartition(":")
        client.delete_layer_version(LayerName=arn.removesuffix(f":{number}"), VersionNumber=int(number))
    cluster.update(name, Timeout=7)  # of the next environments
    assert said(cluster, name)["both"] == "one"
    assert [layer["Arn"] for layer in client.get_function_configuration(FunctionName=name)["Layers"]] == [two, one]
    update = client.update_function_configuration
    assert error_of(update, FunctionName=name, Layers=[one])[2] == f"Layer version {one} does not exist."

    client.update_function_code(FunctionName=name, ZipFile=zipped({"app.py": BARE}))
    cluster.updated(name)
    cluster.update(name, Layers=[])
    assert "Layers" not in client.get_function_configuration(FunctionName=name)
    assert said(cluster, name) == []
    assert said(cluster, name, "1")["both"] == "two"
    assert publish(client, "one", ONE) == f"{ARN}one:2"


def test_layers_are_listed_read_counted_and_deleted(cluster: Cluster) -> None:
    client = cluster.client(region="eu-north-1")
    arn = "arn:aws:lambda:eu-north-1:000000000000:layer:"
    made = client.publish_layer_version(
        LayerName="a", Content={"ZipFile": ONE}, Description="first", CompatibleRuntimes=["python3.11", "java21"],
        CompatibleArchitectures=["arm64"], LicenseInfo="MIT",
    )  # fmt: skip
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert (made["Version"], made["LayerArn"], made["LayerVersionArn"]) == (1, f"{arn}a", f"{arn}a:1")
    for number in range(2, 5):
        publish(client, f"{arn}a", TWO, Description=str(number))
    publish(client, "b", ONE, CompatibleRuntimes=["python3.11"])
    publish(client, "c", ONE)
    assert client.get_account_settings()["AccountUsage"]["TotalCodeSize"] == 3 * len(ONE) + 3 * len(TWO)

    got = client.get_layer_version(LayerName="a", VersionNumber=1)
    by_arn = client.get_layer_version_by_arn(Arn=f"{arn}a:1")
    for each in (got, by_arn):
        with urllib.request.urlopen(each["Content"].pop("Location")) as package:
            assert package.read() == ONE
        each.pop("ResponseMetadata")
    assert got == by_arn == {key: value for key, value in made.items() if key != "ResponseMetadata"} | {
        "Content": {"CodeSha256": base64.b64encode(hashlib.sha256(ONE).digest()).decode(), "CodeSize": len(ONE)},
        "Description": "first", "CompatibleRuntimes": ["python3.11", "java21"], "CompatibleArchitectures": ["arm64"],
        "LicenseInfo": "MIT",
    }  # fmt: skip
    pages = client.get_paginator("list_layer_versions").paginate(LayerName="a", PaginationConfig={"PageSize": 3})
    assert [[each["Version"] for each in page["LayerVersions"]] for page in pages] == [[4, 3, 2], [1]]
    layers = [page["Layers"] for page in client.get_paginator("list_layers").paginate(PaginationConfig={"PageSize": 2})]
    latest = [[(each["LayerName"], each["LatestMatchingVersion"]["Version"]) for each in page] for page in layers]
    assert latest == [[("a", 4), ("b", 1)], [("c", 1)]]
    assert layers[0][0]["LayerArn"] == f"{arn}a"
    fitting = client.list_layers(CompatibleRuntime="python3.11", CompatibleArchitecture="arm64", MaxItems=1)
    assert [each["LatestMatchingVersion"]["LayerVersionArn"] for each in fitting["Layers"]] == [f"{arn}a:1"]
    assert "NextMarker" not in fitting
    assert client.list_layer_versions(LayerName="a", CompatibleRuntime="ruby3.3")["LayerVersions"] == []
    assert client.list_layer_versions(LayerName="nothing")["LayerVersions"] == []

    for _ in range(2):
        gone = client.delete_layer_version(LayerName="c", VersionNumber=1)
        assert gone["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert client.get_account_settings()["AccountUsage"]["TotalCodeSize"] == 2 * len(ONE) + 3 * len(TWO)
    assert [each["LayerName"] for each in client.list_layers()["Layers"]] == ["a", "b"]
    assert publish(client, "c", ONE) == f"{arn}c:2"


@pytest.fixture(scope="module")
def function(cluster: Cluster) -> str:
    publish(cluster.client(), "there", ONE)
    publish(cluster.client(), "there", ONE)
    return cluster.create("unlayered", zipped({"app.py": BARE}))


@pytest.mark.parametrize(
    ("arns", "status", "name", "says"),
    [
        ([f"{ARN}n{n}:1" for n in range(6)], 400, "InvalidParameterValueException", "Cannot reference more than 5 layers."),
        ([f"{ARN}there:9"], 400, "InvalidParameterValueException", f"Layer version {ARN}there:9 does not exist."),
        ([f"{ARN}there:1", f"{ARN}there:2"], 400, "InvalidParameterValueException", "Two different versions of the same layer"),
        ([f"{ARN}there:1".replace("us-east-1", "eu-west-1")], 400, "InvalidParameterValueException", "Layers are expected to be in region us-east-1."),
        ([f"{ARN}there:1".replace(":000000000000:", ":111111111111:")], 403, "AccessDeniedException", "lambda:GetLayerVersion"),
        ([f"{ARN}there"], 400, "ValidationException", "1 validation error detected: Value '[arn:aws:lambda"),
        (["there:1"], 400, "ValidationException", "'layers'"),
    ],
)  # fmt: skip
def test_what_a_function_cannot_have(
    cluster: Cluster, function: str, arns: list[str], status: int, name: str, says: str
) -> None:
    client = cluster.client()
    package = {"ZipFile": zipped({"app.py": BARE})}
    for call, more in (
        (client.update_function_configuration, {"FunctionName": function}),
        (
            client.create_function,
            {"FunctionName": "never", "Role": ROLE, "Runtime": "python3.11", "Handler": "app.handler", "Code": package},
        ),
    ):
        got = error_of(call, Layers=arns, **more)
        assert got[:2] == (status, name)
        assert says in got[2]
    assert "Layers" not in client.get_function_configuration(FunctionName=function)


def test_requests_that_are_no_good(cluster: Cluster) -> None:
    client, strange = (
        cluster.client(validation=False),
        cluster.client(key="LAMBENTOTHER", secret="the-secret-of-another-account"),
    )
    publish(client, "mine", ONE)

    def refused(call: Any, **more: Any) -> tuple[str, str]:
        _, name, text = error_of(call, **more)
        return name, text

    publishing, getting = client.publish_layer_version, client.get_layer_version
    missing = ("ResourceNotFoundException", "The resource you requested does not exist.")
    assert refused(getting, LayerName="mine", VersionNumber=2) == missing
    assert refused(getting, LayerName="nothing", VersionNumber=1) == missing
    assert refused(client.get_layer_version_by_arn, Arn=f"{ARN}mine:2") == missing
    assert refused(getting, LayerName=f"{ARN}mine".replace("us-east-1", "eu-west-1"), VersionNumber=1) == missing
    too_small = ("InvalidParameterValueException", "Layer Version Cannot be less than 1")
    for number in (0, -1):
        assert refused(getting, LayerName="mine", VersionNumber=number) == too_small
        assert refused(client.delete_layer_version, LayerName="mine", VersionNumber=number) == too_small
    assert refused(strange.get_layer_version_by_arn, Arn=f"{ARN}mine:1")[0] == "AccessDeniedException"
    assert refused(strange.get_layer_version, LayerName="mine", VersionNumber=1) == missing
    assert refused(client.get_layer_version_by_arn, Arn=f"{ARN}mine")[0] == "ValidationException"
    assert refused(publishing, LayerName="no name", Content={"ZipFile": ONE})[0] == "ValidationException"
    assert (
        refused(publishing, LayerName="x", Content={"ZipFile": ONE}, CompatibleRuntimes=["cobol"])[0]
        == "ValidationException"
    )
    assert (
        refused(publishing, LayerName="x", Content={"ZipFile": ONE}, CompatibleRuntimes=["python3.11"] * 16)[0]
        == "ValidationException"
    )
    unzip = "Could not unzip uploaded file. Please check your file, then try to upload again."
    assert refused(publishing, LayerName="x", Content={"ZipFile": b"no zip"}) == (
        "InvalidParameterValueException",
        unzip,
    )
    assert (
        "no connection of this cluster leads to S3"
        in refused(publishing, LayerName="x", Content={"S3Bucket": "bucket", "S3Key": "k"})[1]
    )
    assert refused(publishing, LayerName="x", Content={})[0] == "InvalidParameterValueException"
    assert client.list_layer_versions(LayerName="x")["LayerVersions"] == []


def test_package_and_layers_together_are_limited(cluster: Cluster, function: str) -> None:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("zeros", bytes(140_000_000))
    client, large = cluster.client(), buffer.getvalue()
    layers = [publish(client, name, large) for name in ("large1", "large2")]
    most, package = 262_144_000, len(BARE)
    over = f"Function code combined with layers exceeds the maximum allowed size of {most} bytes. The actual size is 280000000 bytes."
    update = client.update_function_configuration
    assert error_of(update, FunctionName=function, Layers=layers) == (
        400, "InvalidParameterValueException", f"Layers consume more than the available size of {most} bytes",
    )  # fmt: skip
    cluster.update(function, Layers=layers[:1])
    assert error_of(client.update_function_code, FunctionName=function, ZipFile=large)[2] == over
    assert package < most - 140_000_000
    cluster.update(function, Layers=[])


def test_the_command_line_publishes_and_attaches(cluster: Cluster, function: str, tmp_path: Path) -> None:
    package = tmp_path / "layer.zip"
    package.write_bytes(TWO)
    published = cluster.aws(
        "lambda", "publish-layer-version", "--layer-name", "cli", "--zip-file", f"fileb://{package}",
        "--compatible-runtimes", "python3.11",
    )  # fmt: skip
    assert published.returncode == 0, published.stderr
    arn = json.loads(published.stdout)["LayerVersionArn"]
    update = ("lambda", "update-function-configuration", "--function-name", function, "--layers")
    changed = cluster.aws(*update, arn)
    assert json.loads(changed.stdout)["Layers"] == [{"Arn": arn, "CodeSize": len(TWO)}], changed.stderr
    cluster.updated(function)
    assert sorted(said(cluster, function)) == ["bin", "python"]
    shown = cluster.aws("lambda", "get-layer-version-by-arn", "--arn", arn, "--query", "Version")
    assert shown.stdout.strip() == "1", shown.stderr
