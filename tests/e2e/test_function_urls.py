"""Function URLs, as boto3 makes them and HTTP clients use them."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.e2e.conftest import OTHER_KEY, OTHER_SECRET
from tests.e2e.harness import KEY, ROOT, SECRET, Cluster, code_blocks, error_of, eventually, run, zipped
from tests.integration.test_runtime_api import packed

SOURCE = """\
import json
def handler(event, context):
    how = event["rawPath"]
    if how == "/fails":
        raise ValueError("secret")
    if how == "/version":
        return context.function_version
    return {"statusCode": 201, "headers": {"X-How": how}, "cookies": ["a=1"], "body": json.dumps(event)}
"""
# A runtime that answers with a head and two pieces, the second only once somebody has had the first.
STREAMING = """\
#!/usr/bin/env python3
import http.client, json, os
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
BASE = "/2018-06-01/runtime/invocation/"
while True:
    api.request("GET", BASE + "next")
    answer = api.getresponse()
    event, request = json.loads(answer.read()), answer.getheader("Lambda-Runtime-Aws-Request-Id")
    api.putrequest("POST", BASE + request + "/response")
    api.putheader("Lambda-Runtime-Function-Response-Mode", "streaming")
    api.putheader("Content-Type", "application/vnd.awslambda.http-integration-response")
    api.putheader("Transfer-Encoding", "chunked")
    api.endheaders()
    for piece in (b'{"statusCode":203,"headers":{"X-A":"b"}}' + bytes(8), b"one ", b"two " + event["rawPath"].encode()):
        api.send(b"%x\\r\\n%b\\r\\n" % (len(piece), piece))
    api.send(b"0\\r\\n\\r\\n")
    api.getresponse().read()
"""
ANYBODY: tuple[Mapping[str, Any], ...] = (
    {
        "StatementId": "url", "Action": "lambda:InvokeFunctionUrl", "Principal": "*", "FunctionUrlAuthType": "NONE",
    },
    {
        "StatementId": "invoke", "Action": "lambda:InvokeFunction", "Principal": "*", "InvokedViaFunctionUrl": True,
    },
)  # fmt: skip


@pytest.fixture(scope="module")
def web(cluster: Cluster) -> str:
    return cluster.create("web", zipped({"app.py": SOURCE}))


@contextmanager
def address(cluster: Cluster, function: str, **settings: Any) -> Iterator[str]:
    """A function URL, until it is no longer wanted."""
    client = cluster.client()
    alias = {"Qualifier": settings["Qualifier"]} if "Qualifier" in settings else {}
    made = client.create_function_url_config(FunctionName=function, **settings)
    try:
        yield made["FunctionUrl"]
    finally:
        client.delete_function_url_config(FunctionName=function, **alias)


def ask(
    cluster: Cluster, url: str, path: str = "/", method: str = "GET", body: bytes = b"",
    headers: Mapping[str, str] | None = None, signed: tuple[str, str] | None = None, at: str = "",
) -> tuple[int, http.client.HTTPMessage, bytes]:  # fmt: skip
    """What is answered at an address; `at`: by this frontend."""
    request = AWSRequest(method, url.rstrip("/") + path, data=body, headers=headers or {})
    if signed is not None:
        SigV4Auth(Credentials(*signed), "lambda", "us-east-1").add_auth(request)
    connection = http.client.HTTPConnection(at or cluster.http, timeout=30)
    # Names below localhost are not everywhere known: the address is connected to, and named.
    connection.request(method, path, body, {"Host": url.split("/")[2], **dict(request.headers.items())})
    answer = connection.getresponse()
    read = answer.read()
    connection.close()
    return answer.status, answer.headers, read


def test_an_address_is_made_changed_listed_and_taken_away(cluster: Cluster, web: str) -> None:
    client = cluster.client()
    arn = f"arn:aws:lambda:us-east-1:000000000000:function:{web}"
    assert error_of(client.get_function_url_config, FunctionName=web) == (
        404, "ResourceNotFoundException", "The resource you requested does not exist.",
    )  # fmt: skip
    cors = {"AllowOrigins": ["https://a.example"], "MaxAge": 5, "AllowCredentials": True}
    made = client.create_function_url_config(FunctionName=web, AuthType="AWS_IAM", Cors=cors)
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert (made["FunctionArn"], made["AuthType"], made["InvokeMode"], made["Cors"]) == (
        arn,
        "AWS_IAM",
        "BUFFERED",
        cors,
    )
    again = error_of(client.create_function_url_config, FunctionName=web, AuthType="NONE")
    assert again == (
        409, "ResourceConflictException",
        f"Failed to create function url config for [functionArn = {arn}]. "
        "Error message:  FunctionUrlConfig exists for this Lambda function",
    )  # fmt: skip
    changed = client.update_function_url_config(FunctionName=web, InvokeMode="RESPONSE_STREAM")
    found = client.get_function_url_config(FunctionName=web)
    for each in (changed, found):
        assert (each["FunctionUrl"], each["AuthType"]) == (made["FunctionUrl"], "AWS_IAM")
        assert (each["InvokeMode"], each["Cors"]) == ("RESPONSE_STREAM", cors)
    client.publish_version(FunctionName=web)
    client.create_alias(FunctionName=web, Name="live", FunctionVersion="1")
    client.create_function_url_config(FunctionName=f"{web}:live", AuthType="NONE")
    pages = client.get_paginator("list_function_url_configs").paginate(
        FunctionName=web, PaginationConfig={"PageSize": 1}
    )
    listed = [url["FunctionArn"] for page in pages for url in page["FunctionUrlConfigs"]]
    assert listed == [arn, f"{arn}:live"]
    client.delete_alias(FunctionName=web, Name="live")
    assert error_of(client.get_function_url_config, FunctionName=web, Qualifier="live")[0] == 404
    client.delete_function_url_config(FunctionName=web)
    assert error_of(client.delete_function_url_config, FunctionName=web)[0] == 404
    assert ask(cluster, made["FunctionUrl"])[::2] == (403, b'{"Message":null}')


def test_addresses_that_cannot_be(cluster: Cluster, web: str) -> None:
    client = cluster.client(validation=False)
    good = {"FunctionName": web, "AuthType": "NONE"}
    for changed, expected in (
        ({"AuthType": "OTHER"}, (400, "ValidationException")),
        ({"AuthType": None}, (400, "ValidationException")),
        ({"Qualifier": "1"}, (400, "ValidationException")),
        ({"Qualifier": "$LATEST"}, (400, "ValidationException")),
        ({"FunctionName": f"{web}:1"}, (400, "InvalidParameterValueException")),
        ({"Cors": {"MaxAge": 86401}}, (400, "ValidationException")),
        ({"Cors": {"AllowMethods": ["OPTIONS"]}}, (400, "ValidationException")),
        ({"InvokeMode": "OTHER"}, (400, "ValidationException")),
        ({"Qualifier": "nobody"}, (404, "ResourceNotFoundException")),
        ({"FunctionName": "nobody"}, (404, "ResourceNotFoundException", "Function does not exist")),
    ):
        wanted = {key: value for key, value in {**good, **changed}.items() if value is not None}
        assert error_of(client.create_function_url_config, **wanted)[: len(expected)] == expected, changed
    assert client.list_function_url_configs(FunctionName=web)["FunctionUrlConfigs"] == []


def test_anybody_asks_where_the_policy_lets_anybody(cluster: Cluster, web: str) -> None:
    client = cluster.client()
    with address(cluster, web, AuthType="NONE", Cors={"AllowOrigins": ["*"]}) as url:
        assert ask(cluster, url)[0] == 403
        for statement in ANYBODY:
            client.add_permission(FunctionName=web, **statement)
        status, headers, body = ask(
            cluster, url, "/a%20b?x=1&x=2", "POST", b"hi", {"Origin": "https://a", "Cookie": "c=d"}
        )
        assert (status, headers["X-How"], headers["Set-Cookie"]) == (201, "/a b", "a=1")
        assert headers["access-control-allow-origin"] == "*"
        event = json.loads(body)
        assert (event["version"], event["body"], event["cookies"]) == ("2.0", "hi", ["c=d"])
        assert event["queryStringParameters"] == {"x": "1,2"}
        assert event["requestContext"]["requestId"] == headers["x-amzn-RequestId"]
        assert ask(cluster, url, "/fails")[::2] == (502, b"Internal Server Error")
        assert ask(cluster, url, method="OPTIONS", headers={"Origin": "https://a"})[::2] == (200, b"")
        # What is over a limit is throttled here like everywhere.
        client.put_function_concurrency(FunctionName=web, ReservedConcurrentExecutions=0)
        eventually(lambda: ask(cluster, url)[0] == 429)
        client.delete_function_concurrency(FunctionName=web)
        eventually(lambda: ask(cluster, url)[0] == 201)
        # Taken back, it holds at once.
        client.remove_permission(FunctionName=web, StatementId="url")
        assert ask(cluster, url)[0] == 403
        client.remove_permission(FunctionName=web, StatementId="invoke")


def test_signatures_let_an_account_in_and_a_policy_another(cluster: Cluster, web: str) -> None:
    client = cluster.client()
    with address(cluster, web, AuthType="AWS_IAM") as url:
        assert ask(cluster, url)[0] == 403
        assert ask(cluster, url, signed=(KEY, "not the secret"))[0] == 403
        status, _, body = ask(cluster, url, "/mine", "POST", b"{}", signed=(KEY, SECRET))
        assert (status, json.loads(body)["requestContext"]["accountId"]) == (201, "000000000000")
        assert ask(cluster, url, signed=(OTHER_KEY, OTHER_SECRET))[0] == 403
        for sid, action in (("u", "lambda:InvokeFunctionUrl"), ("i", "lambda:InvokeFunction")):
            client.add_permission(FunctionName=web, StatementId=sid, Action=action, Principal="111111111111")
        status, _, body = ask(cluster, url, signed=(OTHER_KEY, OTHER_SECRET))
        assert (status, json.loads(body)["requestContext"]["accountId"]) == (201, "111111111111")
        for sid in "ui":
            client.remove_permission(FunctionName=web, StatementId=sid)


def test_an_alias_has_an_address_of_its_own(cluster: Cluster, web: str) -> None:
    client = cluster.client()
    number = client.publish_version(FunctionName=web)["Version"]
    client.create_alias(FunctionName=web, Name="stable", FunctionVersion=number)
    with address(cluster, web, Qualifier="stable", AuthType="AWS_IAM") as url:
        assert ask(cluster, url, "/version", signed=(KEY, SECRET))[::2] == (200, number.encode())
        # Another frontend has never heard of it.
        another = cluster.another_frontend().removeprefix("http://")
        assert ask(cluster, url, "/version", signed=(KEY, SECRET), at=another)[::2] == (200, number.encode())


def test_a_response_streams(cluster: Cluster) -> None:
    function = cluster.create("web-stream", packed({"bootstrap": STREAMING}), Runtime="provided.al2023", Handler="any")
    for mode, framing in (("RESPONSE_STREAM", "chunked"), ("BUFFERED", None)):
        with address(cluster, function, AuthType="AWS_IAM", InvokeMode=mode) as url:
            status, headers, body = ask(cluster, url, "/x", signed=(KEY, SECRET))
            assert (status, headers["X-A"], body) == (203, "b", b"one two /x")
            assert headers["Transfer-Encoding"] == framing


def test_the_how_to_says_what_works(cluster: Cluster, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "howto" / "function-urls.md").read_text()
    lines = "\n".join(code_blocks(page, "sh")).replace("/tmp/", f"{tmp_path}/")
    done = run("bash", "-euc", lines, env=cluster.environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("Hello, Ada\n")


def test_a_request_that_is_none_gets_an_answer(cluster: Cluster, web: str) -> None:
    with address(cluster, web, AuthType="AWS_IAM") as url:
        host, port = cluster.http.split(":")
        for raw in (
            b"GET / HTTP/1.1\r\nHost: %b\r\nContent-Length: 99999999\r\n\r\n" % url.split("/")[2].encode(),
            b"GET / HTTP/1.1\r\nHost: .lambda-url.\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: %b\r\nHost: b.lambda-url.c.d\r\n\r\n" % url.split("/")[2].encode(),
            b"OPTIONS * HTTP/1.1\r\nHost: %b\r\n\r\n" % url.split("/")[2].encode(),
        ):
            with socket.create_connection((host, int(port)), timeout=30) as peer:
                peer.sendall(raw)
                assert peer.recv(4096).split(b" ")[1] in (b"413", b"403", b"400"), raw
