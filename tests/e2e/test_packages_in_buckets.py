"""Packages in buckets, through boto3 and the AWS CLI, from moto's server."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import OTHER_KEY, OTHER_SECRET
from tests.e2e.connected import connected_cluster
from tests.e2e.harness import ROLE, ROOT, Cluster, code_blocks, error_of, run, zipped

HELLO = zipped({"app.py": "def handler(event, context):\n    return 'hello'\n"})
AGAIN = zipped({"app.py": "def handler(event, context):\n    return 'again'\n"})
FAULT = "Error occurred while GetObject. S3 Error Code: {}. S3 Error Message: {}"


@pytest.fixture(scope="module")
def reading(moto: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose first account has packages in moto's buckets; another account has none."""
    row = f'service = "s3"\nendpoint = "{moto}"\naccess_key = "k"\nsecret_key = "s"\naccount = "000000000000"'
    with connected_cluster(tmp_path_factory.mktemp("files"), row) as cluster:
        yield cluster


def create(client: Any, name: str, **code: str) -> Any:
    return client.create_function(
        FunctionName=name, Runtime="python3.11", Role=ROLE, Handler="app.handler", Code={"S3Bucket": "packages"} | code
    )


def answer(client: Any, name: str) -> bytes:
    return bytes(client.invoke(FunctionName=name)["Payload"].read())


def test_a_function_runs_what_lies_in_a_bucket(reading: Cluster, s3: Any) -> None:
    client = reading.client()
    key = "build 7/hello+world.zip"
    first = s3.put_object(Bucket="packages", Key=key, Body=HELLO)["VersionId"]
    made = create(client, "named", S3Key=key)
    assert made["CodeSha256"] == b64encode(hashlib.sha256(HELLO).digest()).decode()
    assert made["CodeSize"] == len(HELLO)
    client.get_waiter("function_active_v2").wait(FunctionName="named", WaiterConfig={"Delay": 0.05})
    assert answer(client, "named") == b'"hello"'
    s3.put_object(Bucket="packages", Key=key, Body=AGAIN)
    assert answer(client, "named") == b'"hello"', "an object that changes changes no function"
    there = {"FunctionName": "named", "S3Bucket": "packages", "S3Key": key}
    would = client.update_function_code(**there, DryRun=True)
    assert would["CodeSize"] == len(AGAIN)
    assert client.get_function_configuration(FunctionName="named")["CodeSha256"] == made["CodeSha256"]
    client.update_function_code(**there)
    reading.updated("named")
    assert answer(client, "named") == b'"again"'
    client.update_function_code(**there, S3ObjectVersion=first)
    reading.updated("named")
    assert answer(client, "named") == b'"hello"'


def test_a_layer_lies_in_a_bucket(reading: Cluster, s3: Any) -> None:
    client = reading.client()
    s3.put_object(Bucket="packages", Key="layer.zip", Body=zipped({"python/shared.py": "WORD = 'shared'\n"}))
    layer = client.publish_layer_version(LayerName="shared", Content={"S3Bucket": "packages", "S3Key": "layer.zip"})
    source = "import shared\ndef handler(event, context):\n    return shared.WORD\n"
    reading.create("layered", zipped({"app.py": source}), Layers=[layer["LayerVersionArn"]])
    assert answer(client, "layered") == b'"shared"'


def test_what_cannot_be_had_is_refused_as_aws_does(reading: Cluster, s3: Any) -> None:
    client = reading.client()
    s3.put_object(Bucket="packages", Key="text", Body=b"no zip")
    bad = "Could not unzip uploaded file. Please check your file, then try to upload again."
    absent = FAULT.format("NoSuchKey", "The specified key does not exist.")
    nowhere = FAULT.format("NoSuchBucket", "The specified bucket does not exist")
    for code, says in (
        ({"S3Key": "none.zip"}, absent),
        ({"S3Bucket": "nowhere", "S3Key": "hello.zip"}, nowhere),
        ({"S3Key": "text"}, bad),
        ({}, "Please provide both S3Bucket and S3Key."),
        ({"S3Key": "text", "ZipFile": HELLO}, "Please do not provide other FunctionCode parameters when providing a ZipFile."),
    ):  # fmt: skip
        assert error_of(partial(create, client, "refused"), **code) == (400, "InvalidParameterValueException", says)
    assert error_of(client.get_function, FunctionName="refused")[0] == 404, "nothing is kept of it"
    content = {"S3Bucket": "packages", "S3Key": "none.zip"}
    layer = error_of(client.publish_layer_version, LayerName="refused", Content=content)
    assert layer == (400, "InvalidParameterValueException", absent)


def test_another_account_reads_only_what_its_connections_lead_to(reading: Cluster, s3: Any) -> None:
    s3.put_object(Bucket="packages", Key="private.zip", Body=HELLO)
    other = reading.client(key=OTHER_KEY, secret=OTHER_SECRET)
    status, name, says = error_of(partial(create, other, "theirs"), S3Key="private.zip")
    assert (status, name) == (400, "InvalidParameterValueException")
    assert says == "S3Bucket: no connection of this cluster leads to S3; send the package as ZipFile."


def test_the_page_is_run_as_it_stands(reading: Cluster, s3: Any, moto: str, tmp_path: Path) -> None:
    [block] = code_blocks((ROOT / "docs/howto/packages-in-buckets.md").read_text(), "sh")
    (tmp_path / "hello.zip").write_bytes(HELLO)
    done = run("bash", "-ec", f"cd {tmp_path}\n" + block.replace("http://minio:9000", moto), env=reading.environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert answer(reading.client(), "from-bucket") == b'"hello"'
