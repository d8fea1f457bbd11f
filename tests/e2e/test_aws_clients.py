"""AWS's own clients, unmodified: the command line and boto3."""

from __future__ import annotations

import base64
import hashlib
import json
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.e2e.harness import KEY, ROLE, SECRET, Cluster, error_of, zipped

CODE = "import json\ndef handler(event, context):\n    print('saw', event)\n    return {'event': event, 'arn': context.invoked_function_arn}\n"


@pytest.fixture(scope="module")
def function(cluster: Cluster) -> str:
    return cluster.create("clients", zipped({"app.py": CODE}))


def test_the_command_line_creates_changes_invokes_and_deletes(cluster: Cluster, tmp_path: Path) -> None:
    package, answer = tmp_path / "code.zip", tmp_path / "answer.json"
    package.write_bytes(zipped({"app.py": CODE}))
    create = cluster.aws(
        "lambda", "create-function", "--function-name", "cli", "--runtime", "python3.11", "--handler", "app.handler",
        "--role", ROLE, "--zip-file", f"fileb://{package}", "--environment", "Variables={GREETING=hi}", "--tags", "team=x",
    )  # fmt: skip
    assert create.returncode == 0, create.stderr
    created = json.loads(create.stdout)
    assert created["State"] == "Pending"
    assert created["Environment"] == {"Variables": {"GREETING": "hi"}}
    assert created["CodeSha256"] == base64.b64encode(hashlib.sha256(package.read_bytes()).digest()).decode()
    assert cluster.aws("lambda", "wait", "function-active-v2", "--function-name", "cli").returncode == 0
    invoke = cluster.aws(
        "lambda", "invoke", "--function-name", "cli", "--payload", '{"a": 1}', "--log-type", "Tail", "--qualifier", "$LATEST",
        str(answer),
    )  # fmt: skip
    assert invoke.returncode == 0, invoke.stderr
    said = json.loads(invoke.stdout)
    assert (said["StatusCode"], said["ExecutedVersion"]) == (200, "$LATEST")
    log = base64.b64decode(said["LogResult"]).decode()
    assert "START RequestId:" in log
    assert "saw {'a': 1}" in log
    assert "REPORT RequestId:" in log
    assert json.loads(answer.read_text())["event"] == {"a": 1}
    dry = cluster.aws("lambda", "invoke", "--function-name", "cli", "--invocation-type", "DryRun", str(answer))
    assert json.loads(dry.stdout) == {"StatusCode": 204}
    update = cluster.aws("lambda", "update-function-configuration", "--function-name", "cli", "--timeout", "9")
    assert json.loads(update.stdout)["LastUpdateStatus"] == "InProgress"
    assert cluster.aws("lambda", "wait", "function-updated-v2", "--function-name", "cli").returncode == 0
    shown = json.loads(cluster.aws("lambda", "get-function-configuration", "--function-name", "cli").stdout)
    assert (shown["Timeout"], shown["LastUpdateStatus"], shown["State"]) == (9, "Successful", "Active")
    package.write_bytes(zipped({"app.py": "def handler(event, context):\n    return 'new'\n"}))
    assert (
        cluster.aws(
            "lambda", "update-function-code", "--function-name", "cli", "--zip-file", f"fileb://{package}"
        ).returncode
        == 0
    )
    assert cluster.aws("lambda", "wait", "function-updated-v2", "--function-name", "cli").returncode == 0
    cluster.aws("lambda", "invoke", "--function-name", "cli", str(answer))
    assert answer.read_text() == '"new"'
    listed = json.loads(cluster.aws("lambda", "list-functions").stdout)["Functions"]
    assert "cli" in {item["FunctionName"] for item in listed}
    got = json.loads(cluster.aws("lambda", "get-function", "--function-name", "cli").stdout)
    assert got["Tags"] == {"team": "x"}
    with urllib.request.urlopen(got["Code"]["Location"]) as downloaded:
        assert downloaded.read() == package.read_bytes()
    assert cluster.aws("lambda", "delete-function", "--function-name", "cli").returncode == 0
    gone = cluster.aws("lambda", "get-function", "--function-name", "cli")
    assert gone.returncode != 0
    assert "ResourceNotFoundException" in gone.stderr


def test_boto3_pages_through_functions(cluster: Cluster) -> None:
    client = cluster.client(region="eu-west-1")
    package = zipped({"app.py": CODE})
    for number in range(7):
        client.create_function(
            FunctionName=f"page{number}",
            Runtime="python3.11",
            Role=ROLE,
            Handler="app.handler",
            Code={"ZipFile": package},
        )
    pages = list(client.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 3}))
    assert [[f["FunctionName"] for f in page["Functions"]] for page in pages] == [
        ["page0", "page1", "page2"], ["page3", "page4", "page5"], ["page6"],
    ]  # fmt: skip
    assert all("State" not in f for page in pages for f in page["Functions"])


def test_invoking_answers_as_aws_does(cluster: Cluster, function: str) -> None:
    client = cluster.client()
    answer = client.invoke(
        FunctionName=function,
        Payload=b'{"x": [1, "\xc3\xbc"]}',
        ClientContext=base64.b64encode(b'{"custom": {"k": "v"}}').decode(),
    )
    assert answer["StatusCode"] == 200
    assert answer["ExecutedVersion"] == "$LATEST"
    assert "FunctionError" not in answer
    assert "LogResult" not in answer
    document = json.loads(answer["Payload"].read())
    assert document["event"] == {"x": [1, "ü"]}
    assert document["arn"] == f"arn:aws:lambda:us-east-1:000000000000:function:{function}"
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    assert headers["x-amzn-requestid"] == answer["ResponseMetadata"]["RequestId"]
    assert headers["x-amzn-trace-id"].startswith("Root=1-")
    assert json.loads(client.invoke(FunctionName=function)["Payload"].read())["event"] == {}
    qualified = client.invoke(FunctionName=f"{function}:$LATEST")
    assert json.loads(qualified["Payload"].read())["arn"].endswith(":clients:$LATEST")


def test_half_a_pair_is_json(cluster: Cluster, function: str) -> None:
    client = cluster.client()
    answer = client.invoke(FunctionName=function, Payload=b'{"cut": "\\ud83d"}')
    assert json.loads(answer["Payload"].read())["event"] == {"cut": "\ud83d"}
    for payload in (b'{"cut": "\\ud83d"', b'["\\ud83d", NaN]', b'"\\ud83d" 1'):
        refused = error_of(client.invoke, FunctionName=function, Payload=payload)
        assert refused[:2] == (400, "InvalidRequestContentException")


@pytest.mark.parametrize(
    ("arguments", "status", "code", "says"),
    [
        ({"FunctionName": "nobody"}, 404, "ResourceNotFoundException", "Function not found: arn:aws:lambda:us-east-1:000000000000:function:nobody"),
        ({"FunctionName": "clients", "Qualifier": "7"}, 404, "ResourceNotFoundException", "Function not found: arn:aws:lambda:us-east-1:000000000000:function:clients:7"),
        ({"FunctionName": "clients", "Payload": b"{no json"}, 400, "InvalidRequestContentException", "Could not parse request body into json"),
        ({"FunctionName": "clients", "Payload": b"x" * 6291457}, 413, "RequestEntityTooLargeException", "6291457 byte payload is too large for the RequestResponse invocation type (limit 6291456 bytes)"),
        ({"FunctionName": "clients", "ClientContext": "***"}, 400, "InvalidRequestContentException", "Client context"),
        ({"FunctionName": "arn:aws:lambda:eu-west-1:000000000000:function:clients"}, 404, "ResourceNotFoundException", "not reachable in this region"),
        ({"FunctionName": "arn:aws:lambda:us-east-1:222222222222:function:clients"}, 403, "AccessDeniedException", "no resource-based policy allows"),
        ({"FunctionName": "clients", "DurableExecutionName": "d"}, 400, "InvalidParameterValueException", "DurableExecutionName"),
    ],
    ids=["unknown", "version", "json", "size", "context", "region", "account", "unserved"],
)  # fmt: skip
def test_invocations_that_cannot_be(
    cluster: Cluster, function: str, arguments: dict[str, Any], status: int, code: str, says: str
) -> None:
    got = error_of(cluster.client().invoke, **arguments)
    assert got[:2] == (status, code)
    assert says in got[2]


def creation(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "FunctionName": "refused", "Runtime": "python3.11", "Role": ROLE, "Handler": "app.handler",
        "Code": {"ZipFile": zipped({"app.py": CODE})},
    }  # fmt: skip
    return {key: value for key, value in (base | changes).items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        ({"Timeout": 901}, "ValidationException", "1 validation error detected: Value '901' at 'timeout' failed to satisfy constraint: Member must have value less than or equal to 900"),
        ({"MemorySize": 10241}, "ValidationException", "Member must have value less than or equal to 10240"),
        ({"Role": "nonsense"}, "ValidationException", "'role' failed to satisfy constraint"),
        ({"Runtime": "python2.7"}, "InvalidParameterValueException", "no longer supported"),
        ({"Runtime": "cobol85"}, "InvalidParameterValueException", "enum value set"),
        ({"Runtime": "ruby3.4"}, "InvalidParameterValueException", "not served by this cluster"),
        ({"Runtime": None}, "InvalidParameterValueException", "Runtime and Handler are mandatory"),
        ({"FunctionName": "x" * 65}, "InvalidParameterValueException", "less than or equal to 64"),
        ({"FunctionName": "a b"}, "ValidationException", "regular expression pattern"),
        ({"Environment": {"Variables": {"AWS_REGION": "x"}}}, "InvalidParameterValueException", "reserved keys that are currently not supported for modification. Reserved keys used in this request: AWS_REGION"),
        ({"Environment": {"Variables": {"BIG": "x" * 5000}}}, "InvalidParameterValueException", "exceeded the 4KB limit"),
        ({"Environment": {"Variables": {"1": "x"}}}, "ValidationException", "environment"),
        ({"Code": {"ZipFile": b"no zip"}}, "InvalidParameterValueException", "Could not unzip uploaded file. Please check your file, then try to upload again."),
        ({"Code": {"ZipFile": zipped({"../evil.py": "x"})}}, "InvalidParameterValueException", "Could not unzip"),
        ({"Code": {"S3Bucket": "bucket", "S3Key": "key"}}, "InvalidParameterValueException", "no connection of this cluster leads to S3"),
        ({"PublishTo": "LATEST_PUBLISHED"}, "InvalidParameterValueException", "managed instances are not served"),
        ({"PackageType": "Image", "Code": {"ImageUri": "x"}}, "InvalidParameterValueException", "Image"),
        ({"LoggingConfig": {"LogFormat": "Text", "ApplicationLogLevel": "INFO"}}, "InvalidParameterValueException", "LogLevel is not supported when LogFormat"),
        ({"FunctionName": "clients"}, "ResourceConflictException", "Function already exist: clients"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else None,
)  # fmt: skip
def test_functions_that_cannot_be_created_leave_nothing(
    cluster: Cluster, function: str, changes: dict[str, Any], code: str, says: str
) -> None:
    client = cluster.client()
    status, got, message = error_of(client.create_function, **creation(**changes))
    assert (got, status) == (code, 409 if code == "ResourceConflictException" else 400)
    assert says in message
    if "FunctionName" not in changes:
        assert error_of(client.get_function, FunctionName="refused")[1] == "ResourceNotFoundException"


def test_a_zip_bomb_is_refused_by_what_it_unpacks_to(cluster: Cluster) -> None:
    import io
    import zipfile

    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("zeros", "w", force_zip64=True) as entry,
    ):
        for _ in range(251):
            entry.write(bytes(1024 * 1024))
    status, code, message = error_of(cluster.client().create_function, **creation(Code={"ZipFile": buffer.getvalue()}))
    assert (status, code) == (400, "InvalidParameterValueException")
    assert message == "Unzipped size must be smaller than 262144000 bytes"


def test_updates_are_guarded_by_the_revision(cluster: Cluster) -> None:
    name = cluster.create("revisions", zipped({"app.py": CODE}))
    client = cluster.client()
    stale = client.get_function_configuration(FunctionName=name)["RevisionId"]
    client.update_function_configuration(FunctionName=name, Description="one")
    client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 200})
    got = error_of(client.update_function_configuration, FunctionName=name, Description="two", RevisionId=stale)
    assert got[:2] == (412, "PreconditionFailedException")
    dry = client.update_function_code(FunctionName=name, ZipFile=zipped({"app.py": "x = 1"}), DryRun=True)
    assert dry["CodeSha256"] != client.get_function_configuration(FunctionName=name)["CodeSha256"]


def test_what_signs_wrongly_gets_awss_errors(cluster: Cluster, function: str) -> None:
    assert error_of(cluster.client(secret="wrong-secret-of-a-key").list_functions)[:2] == (
        403,
        "InvalidSignatureException",
    )
    assert error_of(cluster.client(key="LAMBENTNOBODY").list_functions)[:2] == (403, "UnrecognizedClientException")
    url = f"{cluster.url}/2015-03-31/functions"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url)
    assert caught.value.code == 403
    assert caught.value.headers["x-amzn-ErrorType"] == "MissingAuthenticationTokenException"
    caught.value.close()
    request = AWSRequest("GET", url, headers={"Host": cluster.http})
    signer = SigV4Auth(Credentials(KEY, SECRET), "lambda", "us-east-1")
    signer.add_auth(request)
    stale = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y%m%dT%H%M%SZ")
    request.context["timestamp"] = stale
    request.headers.replace_header("X-Amz-Date", stale)
    del request.headers["Authorization"]
    signer._inject_signature_to_request(
        request, signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(urllib.request.Request(url, headers=dict(request.headers)))
    assert caught.value.headers["x-amzn-ErrorType"] == "InvalidSignatureException"
    assert b"Signature expired" in caught.value.read()


def test_presigned_requests_are_served(cluster: Cluster, function: str) -> None:
    request = AWSRequest("GET", f"{cluster.url}/2015-03-31/functions/{function}/configuration")
    SigV4QueryAuth(Credentials(KEY, SECRET), "lambda", "us-east-1", expires=60).add_auth(request)
    with urllib.request.urlopen(request.url) as answer:
        assert json.loads(answer.read())["FunctionName"] == function


def test_operations_that_are_not_served_say_so(cluster: Cluster) -> None:
    got = error_of(cluster.client().list_code_signing_configs)
    assert got[:2] == (404, "UnknownOperationException")
