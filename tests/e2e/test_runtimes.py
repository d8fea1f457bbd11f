"""Functions with runtimes of their own, and responses that stream, through AWS's clients and gRPC."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lambent.v1 import invocation_service_pb2 as pb
from tests.e2e.harness import Cluster, error_of, zipped
from tests.integration.test_runtime_api import packed
from tests.integration.test_runtime_streaming import STREAMING

NODE = """\
const text = (n) => "x".repeat(n);
export const handler = awslambda.streamifyResponse(async (event, stream) => {
  for (let n = 0; n < event.pieces; n++) stream.write(text(event.size));
  if (event.fail) throw new RangeError("no more");
  stream.end();
});
export const plain = async (event) => ({ event, node: process.version });
"""
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="there is no node on this machine")


@pytest.fixture(scope="module")
def custom(cluster: Cluster) -> str:
    return cluster.create("custom", packed({"bootstrap": STREAMING}), Runtime="provided.al2023", Handler="any")


def taken(answer: Any) -> tuple[bytes, dict[str, Any]]:
    events = list(answer["EventStream"])
    assert [list(event) for event in events[:-1]] == [["PayloadChunk"]] * (len(events) - 1)
    return b"".join(event["PayloadChunk"]["Payload"] for event in events[:-1]), events[-1]["InvokeComplete"]


def test_a_custom_runtime_streams_to_boto3(cluster: Cluster, custom: str) -> None:
    answer = cluster.client().invoke_with_response_stream(FunctionName=custom, Payload=b'"well"', LogType="Tail")
    assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "$LATEST")
    data, end = taken(answer)
    assert data == b"first second"
    assert "ErrorCode" not in end
    assert end["LogResult"]
    data, end = taken(cluster.client().invoke_with_response_stream(FunctionName=custom, Payload=b'"error"'))
    assert (data, end["ErrorCode"]) == (b"first", "Unhandled")
    assert json.loads(end["ErrorDetails"]) == {"errorType": "Boom", "errorMessage": "bang"}
    # The same function, asked for its answer in one piece.
    whole = cluster.client().invoke(FunctionName=custom, Payload=b'"well"')
    assert whole["Payload"].read() == b"first second"


def test_more_than_a_whole_response_may_have_is_streamed(cluster: Cluster, custom: str) -> None:
    data, end = taken(cluster.client().invoke_with_response_stream(FunctionName=custom, Payload=b"110"))
    assert len(data) == 5 + 110 * 65536 > 6 * 1024 * 1024
    assert end == {}


def test_a_function_that_does_not_stream_answers_at_its_end(cluster: Cluster) -> None:
    name = cluster.create("whole", zipped({"app.py": "def handler(event, context):\n    return event['a']\n"}))
    data, end = taken(cluster.client().invoke_with_response_stream(FunctionName=name, Payload=b'{"a": [1, 2]}'))
    assert (data, end) == (b"[1, 2]", {})
    data, end = taken(cluster.client().invoke_with_response_stream(FunctionName=name, Payload=b"{}"))
    assert (data, json.loads(end["ErrorDetails"])["errorType"]) == (b"", "KeyError")
    dry = cluster.client().invoke_with_response_stream(FunctionName=name, InvocationType="DryRun")
    assert dry["StatusCode"] == 204
    assert error_of(cluster.client().invoke_with_response_stream, FunctionName="none")[:2] == (
        404,
        "ResourceNotFoundException",
    )
    status, kind, _ = error_of(cluster.client().invoke_with_response_stream, FunctionName=name, Payload=b"{")
    assert (status, kind) == (400, "InvalidRequestContentException")


def test_a_stream_is_a_stream_over_grpc(cluster: Cluster, custom: str) -> None:
    import grpc

    from lambent.v1.invocation_service_pb2_grpc import InvocationServiceStub

    token = cluster.lambent("token").stdout.strip()
    with grpc.insecure_channel(cluster.grpc) as channel:
        items = list(
            InvocationServiceStub(channel).InvokeWithResponseStream(
                pb.InvokeWithResponseStreamRequest(function_name=custom, payload=b'"well"'),
                metadata=(("authorization", f"Bearer {token}"),),
            )
        )
    assert (items[0].status_code, items[0].response_stream_content_type) == (200, "text/plain")
    assert b"".join(item.event_stream.payload_chunk.payload for item in items) == b"first second"
    assert items[-1].event_stream.HasField("invoke_complete")


@needs_node
def test_a_node_function_is_created_invoked_and_streams(cluster: Cluster) -> None:
    package = zipped({"index.mjs": NODE})
    plain = cluster.create("node-plain", package, Runtime="nodejs20.x", Handler="index.plain", MemorySize=256)
    answer = json.loads(cluster.client().invoke(FunctionName=plain, Payload=b'{"a": 1}')["Payload"].read())
    assert answer["event"] == {"a": 1}
    name = cluster.create("node-stream", package, Runtime="nodejs20.x", Handler="index.handler", MemorySize=256)
    event = json.dumps({"pieces": 20, "size": 100_000}).encode()
    data, end = taken(cluster.client().invoke_with_response_stream(FunctionName=name, Payload=event))
    assert (len(data), end) == (2_000_000, {})
    event = json.dumps({"pieces": 1, "size": 10, "fail": True}).encode()
    data, end = taken(cluster.client().invoke_with_response_stream(FunctionName=name, Payload=event))
    assert (data, json.loads(end["ErrorDetails"])["errorType"]) == (b"x" * 10, "RangeError")


GO = """\
package main

import (
	"context"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

func handle(ctx context.Context, event map[string]int) (map[string]any, error) {
	lc, _ := lambdacontext.FromContext(ctx)
	return map[string]any{"sum": event["a"] + event["b"], "request": lc.AwsRequestID}, nil
}

func main() { lambda.Start(handle) }
"""


@pytest.mark.skipif(
    not os.environ.get("LAMBENT_TEST_COMPILED"), reason="compiles for a minute: LAMBENT_TEST_COMPILED=1"
)
def test_a_compiled_bootstrap_with_awss_go_client(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "main.go").write_text(GO)
    for command in (
        ["go", "mod", "init", "example"],
        ["go", "get", "github.com/aws/aws-lambda-go@v1.47.0"],
        ["go", "build", "-tags", "lambda.norpc", "-o", "bootstrap", "."],
    ):
        made = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
        if made.returncode and command[1] == "get":
            pytest.skip(f"AWS's Go client cannot be fetched here: {made.stderr.strip().splitlines()[-1]}")
        assert made.returncode == 0, made.stderr
    package = packed({"bootstrap": (tmp_path / "bootstrap").read_bytes()})
    name = cluster.create("compiled", package, Runtime="provided.al2", Handler="any")
    answer = cluster.client().invoke(FunctionName=name, Payload=b'{"a": 2, "b": 3}')
    document = json.loads(answer["Payload"].read())
    assert document == {"sum": 5, "request": answer["ResponseMetadata"]["RequestId"]}


SDKS = """\
import boto3, sys
def handler(event, context):
    client = boto3.client("lambda", region_name="us-east-1")
    return [boto3.__file__, sys.path[-1], client.meta.service_model.service_name]
"""


def test_a_python_function_finds_boto3_without_bringing_it(cluster: Cluster) -> None:
    name = cluster.create("sdk", zipped({"app.py": SDKS}), Timeout=30, MemorySize=512)
    answer = json.loads(cluster.client().invoke(FunctionName=name)["Payload"].read())
    assert answer == ["/var/runtime/boto3/__init__.py", "/var/runtime", "lambda"]
    # What a package brings comes first.
    own = cluster.create(
        "own-sdk",
        zipped({"app.py": "import boto3\ndef handler(e, c):\n    return boto3.OWN\n", "boto3.py": "OWN = 1\n"}),
    )
    assert cluster.client().invoke(FunctionName=own)["Payload"].read() == b"1"


def test_which_runtimes_are_there_is_told(cluster: Cluster) -> None:
    shown = json.loads(cluster.lambent("runtimes", "list", "--output", "json").stdout)
    assert shown["runtimes"]["provided.al2023"] == "the function's own bootstrap"
    assert shown["runtimes"]["python3.11"].startswith("/")
    assert shown["sdks"].endswith("share/lambent/runtimes")
