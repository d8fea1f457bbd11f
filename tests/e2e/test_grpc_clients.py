"""grpcurl, buf curl, health, and our own SDK and command line."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lambent.client import AccessDenied, AsyncClient, Client, FunctionFailed, InvalidRequest, InvokeResult, NotFound
from lambent.v1 import log_service_pb2, version_service_pb2
from tests.e2e.harness import KEY, ROOT, SECRET, Cluster, run, zipped

CODE = "def handler(event, context):\n    print('hi', event)\n    if event.get('fail'):\n        raise KeyError('x')\n    return {'got': event}\n"


@pytest.fixture(scope="module")
def function(cluster: Cluster) -> str:
    return cluster.create("grpc-clients", zipped({"app.py": CODE}))


@pytest.fixture(scope="module")
def token(cluster: Cluster) -> str:
    made = cluster.lambent("token", "--seconds", "300")
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def test_grpcurl_lists_and_calls_by_reflection(cluster: Cluster, function: str, token: str) -> None:
    listed = run("grpcurl", "-plaintext", cluster.grpc, "list", env=cluster.environment).stdout.split()
    assert {
        "lambent.v1.FunctionService",
        "lambent.v1.InvocationService",
        "lambent.v1.LogService",
        "grpc.health.v1.Health",
    } <= set(listed)
    payload = base64.b64encode(b'{"a": 1}').decode()
    called = run(
        "grpcurl", "-plaintext", "-H", f"authorization: Bearer {token}", "-d",
        json.dumps({"FunctionName": function, "Payload": payload}), cluster.grpc, "lambent.v1.InvocationService/Invoke",
        env=cluster.environment,
    )  # fmt: skip
    assert called.returncode == 0, called.stderr
    answer = json.loads(called.stdout)
    assert json.loads(base64.b64decode(answer["Payload"])) == {"got": {"a": 1}}


def test_one_document_serves_both_doors_to_publish_and_point(cluster: Cluster, token: str) -> None:
    name = cluster.create("both-doors", zipped({"app.py": CODE}))

    def grpcurl(method: str, document: Mapping[str, object]) -> subprocess.CompletedProcess[str]:
        return run(
            "grpcurl", "-plaintext", "-H", f"authorization: Bearer {token}", "-d", json.dumps(document), cluster.grpc,
            f"lambent.v1.{method}", env=cluster.environment,
        )  # fmt: skip

    assert json.loads(grpcurl("VersionService/PublishVersion", {"FunctionName": name}).stdout)["Version"] == "1"
    live = {"FunctionName": name, "Name": "live", "FunctionVersion": "1"}
    made = json.loads(grpcurl("AliasService/CreateAlias", live).stdout)
    assert (made["Name"], made["FunctionVersion"]) == ("live", "1")
    again = grpcurl("AliasService/CreateAlias", live)
    assert "Alias already exists: " in again.stderr
    shown = cluster.aws("lambda", "get-alias", "--function-name", name, "--name", "live")
    assert json.loads(shown.stdout) == made | {"Description": ""}
    moved = cluster.aws("lambda", "update-alias", "--cli-input-json", json.dumps(live | {"FunctionVersion": "$LATEST"}))
    assert json.loads(moved.stdout)["FunctionVersion"] == "$LATEST"
    stopped = {"FunctionName": name, "ReservedConcurrentExecutions": 0}
    assert json.loads(grpcurl("ConcurrencyService/PutFunctionConcurrency", stopped).stdout) == {
        "ReservedConcurrentExecutions": 0
    }
    kept = cluster.aws("lambda", "get-function-concurrency", "--function-name", name)
    assert json.loads(kept.stdout) == {"ReservedConcurrentExecutions": 0}
    assert cluster.aws("lambda", "delete-function-concurrency", "--function-name", name).returncode == 0
    limits = json.loads(grpcurl("AccountService/GetAccountSettings", {}).stdout)["AccountLimit"]
    assert limits["ConcurrentExecutions"] == 1000


def test_grpcurl_without_a_token_or_for_nobody_gets_a_status(cluster: Cluster, token: str) -> None:
    method = "lambent.v1.FunctionService/GetFunction"
    bare = run("grpcurl", "-plaintext", "-d", "{}", cluster.grpc, method, env=cluster.environment)
    assert "Unauthenticated" in bare.stderr
    missing = run(
        "grpcurl", "-plaintext", "-H", f"authorization: Bearer {token}", "-d", '{"FunctionName": "nobody"}', cluster.grpc,
        method, env=cluster.environment,
    )  # fmt: skip
    assert "NotFound" in missing.stderr
    assert "ResourceNotFoundException" in missing.stderr


def test_buf_curl_calls_the_same_operations(cluster: Cluster, function: str, token: str) -> None:
    called = run(
        "buf", "curl", "--protocol", "grpc", "--http2-prior-knowledge", "-H", f"authorization: Bearer {token}", "-d",
        json.dumps({"FunctionName": function}), f"http://{cluster.grpc}/lambent.v1.FunctionService/GetFunctionConfiguration",
        env=cluster.environment,
    )  # fmt: skip
    assert called.returncode == 0, called.stderr
    assert json.loads(called.stdout)["FunctionName"] == function


def test_health_needs_no_token(cluster: Cluster) -> None:
    with grpc.insecure_channel(cluster.grpc) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service="lambent.v1.InvocationService")
        )
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_the_sdk_answers_typed_and_raises_typed(cluster: Cluster, function: str) -> None:
    with Client(cluster.grpc, access_key=KEY, secret_key=SECRET) as client:
        result = client.invoke(function, {"k": "v"}, log_tail=True)
        assert result.json() == {"got": {"k": "v"}}
        assert result.log_tail is not None
        assert "hi {'k': 'v'}" in result.log_tail
        assert len(result.request_id) == 36
        with pytest.raises(FunctionFailed) as failed:
            client.invoke(function, {"fail": True}).json()
        assert failed.value.kind == "KeyError"
        with pytest.raises(NotFound) as missing:
            client.invoke("nobody")
        assert missing.value.name == "ResourceNotFoundException"
        with pytest.raises(InvalidRequest, match="InvalidRequestContentException"):
            client.invoke(function, "{no json")
        assert function in [f.function_name for f in client.list_functions()]
        lines = []
        for record in client.logs(function, request_id=result.request_id, follow=True):
            lines.append(record.message)
            if record.message.startswith("REPORT "):
                break
        assert lines[0] == f"START RequestId: {result.request_id} Version: $LATEST"
    with Client(cluster.grpc, access_key=KEY, secret_key="a wrong secret") as stranger, pytest.raises(AccessDenied):
        stranger.get_function(function)


async def test_any_call_is_made_by_its_request(cluster: Cluster, function: str) -> None:
    keys: dict[str, Any] = {"access_key": KEY, "secret_key": SECRET}
    request = version_service_pb2.ListVersionsByFunctionRequest(function_name=function)
    with Client(cluster.grpc, **keys) as client:
        found = client.call(request)
        assert [each.version for each in found.versions] == ["$LATEST"]
        with pytest.raises(NotFound):
            client.call(version_service_pb2.ListVersionsByFunctionRequest(function_name="none"))
        for none in (found, log_service_pb2.TailLogsRequest(function_name=function)):
            with pytest.raises(TypeError, match="no call takes a "):
                client.call(none)
    async with AsyncClient(cluster.grpc, **keys) as client:
        assert await client.call(request) == found


async def test_the_async_sdk_runs_many_at_once(cluster: Cluster, function: str) -> None:
    async with AsyncClient(cluster.grpc, access_key=KEY, secret_key=SECRET) as client:
        results = await asyncio.gather(*(client.invoke(function, {"n": n}) for n in range(8)))
        assert [result.json() for result in results] == [{"got": {"n": n}} for n in range(8)]
        assert function in [f.function_name async for f in client.list_functions()]
        with pytest.raises(NotFound):
            await client.get_function("nobody")


def test_many_invocations_run_over_one_stream(cluster: Cluster, function: str) -> None:
    with Client(cluster.grpc, access_key=KEY, secret_key=SECRET) as client:
        payloads = [{"n": n} for n in range(100)]
        answers = dict(client.invoke_many(function, payloads))
        assert sorted(answers) == list(range(100))
        results = [answers[number] for number in range(100)]
        assert [result.json() for result in results if isinstance(result, InvokeResult)] == [
            {"got": p} for p in payloads
        ]
        assert len({result.request_id for result in results}) == 100
        unlike: list[Any] = [{"fail": True}, "{no json", {"n": 1}]
        mixed = dict(client.invoke_many(function, iter(unlike)))
        failed, refused, well = mixed[0], mixed[1], mixed[2]
        assert isinstance(failed, InvokeResult)
        assert failed.error == "Unhandled"
        assert isinstance(refused, InvalidRequest)
        assert refused.name == "InvalidRequestContentException"
        assert isinstance(well, InvokeResult)
        for record in client.logs(function, request_id=well.request_id, follow=True):
            if record.message.startswith("REPORT "):
                break
        assert [type(answer) for _, answer in client.invoke_many("nobody", [None])] == [NotFound]
        unsendable: Any = [{"n": 1}, object()]
        outcomes = client.invoke_many(function, unsendable)
        assert next(outcomes)[0] == 0
        with pytest.raises(TypeError):
            next(outcomes)
    with Client(cluster.grpc, access_key=KEY, secret_key="a wrong secret") as stranger, pytest.raises(AccessDenied):
        list(stranger.invoke_many(function, [None]))


async def test_the_async_sdk_streams_and_who_stops_reading_stops_what_runs(cluster: Cluster, function: str) -> None:
    async with AsyncClient(cluster.grpc, access_key=KEY, secret_key=SECRET) as client:
        answers = {
            number: answer async for number, answer in client.invoke_many(function, [{"n": n} for n in range(40)])
        }
        assert sorted(answers) == list(range(40))
        asked: asyncio.Queue[int] = asyncio.Queue()
        asked.put_nowait(0)

        async def one_by_one() -> AsyncIterator[dict[str, int]]:
            while (n := await asked.get()) < 3:
                yield {"n": n}
            raise ValueError("no more")

        outcomes = client.invoke_many(function, one_by_one())
        for n in range(3):
            number, answer = await anext(outcomes)  # before the next is there
            assert isinstance(answer, InvokeResult)
            assert (number, answer.json()) == (n, {"got": {"n": n}})
            asked.put_nowait(n + 1)
        with pytest.raises(ValueError, match="no more"):
            await anext(outcomes)
        async with aclosing(client.invoke_many(function, itertools.repeat({"n": 1}))) as endless:
            async for _, answer in endless:
                assert isinstance(answer, InvokeResult)
                break
        assert (await client.invoke(function, {"n": 2})).json() == {"got": {"n": 2}}


def test_grpcurl_streams_too(cluster: Cluster, function: str, token: str) -> None:
    payload = base64.b64encode(b'{"a": 1}').decode()
    document = {
        "Items": [
            {"Number": 7, "Request": {"FunctionName": function, "Payload": payload}},
            {"Number": 8, "Request": {"FunctionName": "nobody"}},
        ]
    }
    called = run(
        "grpcurl", "-plaintext", "-H", f"authorization: Bearer {token}", "-d", json.dumps(document), cluster.grpc,
        "lambent.v1.InvocationService/InvokeMany", env=cluster.environment,
    )  # fmt: skip
    assert called.returncode == 0, called.stderr
    assert base64.b64encode(b'{"got": {"a": 1}}').decode() in called.stdout
    assert "ResourceNotFoundException" in called.stdout


def test_the_command_line_deploys_invokes_and_shows(cluster: Cluster, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "app.py").write_text(
        "import os\ndef handler(event, context):\n    print('line')\n    return os.environ['AA'] + event['b']\n"
    )
    first = cluster.lambent("deploy", str(folder), "--env", "AA=a", "--memory", "256")
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("created mine (")
    assert cluster.lambent("deploy", str(folder)).stdout.startswith("unchanged mine")
    done = cluster.lambent("invoke", "mine", "--payload", '{"b": "b"}', "--log")
    assert (done.returncode, done.stdout.strip()) == (0, '"ab"')
    assert "REPORT RequestId" in done.stderr
    assert cluster.lambent("invoke", "mine", "--payload", "-", stdin='{"b": "c"}').stdout.strip() == '"ac"'
    lines = "".join(f'{{"b": "{number}"}}\n\n' for number in range(40))
    done = cluster.lambent("invoke", "mine", "--each-line", "--payload", "-", stdin=lines)
    assert sorted(done.stdout.splitlines()) == sorted(f'{2 * number + 1}\t"a{number}"' for number in range(40))
    assert (done.returncode, done.stderr) == (0, "")
    done = cluster.lambent(
        "invoke", "mine", "--each-line", "--output", "json", "--payload", '{"b": "b"}\n{no\n{"b": 1}',
        "--qualifier", "$LATEST",
    )  # fmt: skip
    documents = sorted(map(json.loads, done.stdout.splitlines()), key=lambda each: int(each["line"]))
    assert documents[0]["payload"] == '"ab"'
    assert documents[1]["refused"]["name"] == "InvalidRequestContentException"
    assert documents[2]["error"] == "Unhandled"
    assert (done.returncode, done.stderr) == (3, "2 of 3 failed\n")
    (folder / "app.py").write_text("def handler(event, context):\n    raise ValueError('no')\n")
    assert cluster.lambent("deploy", str(folder), "--timeout", "7").stdout.startswith("updated mine")
    failed = cluster.lambent("invoke", "mine", "--output", "json")
    assert failed.returncode == 3
    assert json.loads(failed.stdout)["error"] == "Unhandled"
    shown = json.loads(cluster.lambent("functions", "show", "mine", "--output", "json").stdout)
    assert (shown["Timeout"], shown["MemorySize"]) == (7, 256)
    assert isinstance(shown["CodeSize"], int)
    (folder / "function.toml").write_bytes(b"handler = '\xff'")
    refused = cluster.lambent("deploy", str(folder))
    assert (refused.returncode, "function.toml" in refused.stderr, "Traceback" in refused.stderr) == (2, True, False)
    (folder / "function.toml").unlink()
    Path(os.fsdecode(bytes(folder) + b"/\xff.py")).touch()
    refused = cluster.lambent("deploy", str(folder))
    assert (refused.returncode, "rename it" in refused.stderr, "Traceback" in refused.stderr) == (2, True, False)
    assert "mine" in cluster.lambent("functions", "list").stdout
    assert cluster.lambent("functions", "delete", "mine").returncode == 0
    gone = cluster.lambent("invoke", "mine")
    assert gone.returncode == 1
    assert "ResourceNotFoundException" in gone.stderr
    assert "Traceback" not in gone.stderr


def test_logs_follow_new_lines(cluster: Cluster, function: str) -> None:
    follower = subprocess.Popen(
        [sys.executable, "-m", "lambent.cli.main", "logs", function, "--follow", "--output", "json"],
        stdout=subprocess.PIPE, text=True, env=cluster.environment | {"PYTHONUNBUFFERED": "1"}, cwd=ROOT,
    )  # fmt: skip
    try:
        assert follower.stdout is not None
        request = cluster.client().invoke(FunctionName=function, Payload=b'{"follow": 1}')["ResponseMetadata"][
            "RequestId"
        ]
        for line in follower.stdout:
            if json.loads(line)["requestId"] == request:
                break
        assert json.loads(line)["requestId"] == request
    finally:
        follower.kill()
        follower.communicate()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["invoke", "nobody", "--endpoint", "127.0.0.1:1"], 1, "is the cluster running?"),
        (["deploy", "/no/such/folder"], 2, "is not a folder"),
        (["invoke", "f", "--payload", "@/no/such/file"], 2, "cannot read"),
        (["nonsense"], 2, "No such command"),
        (["invoke", "f", "--endpoint", "127.0.0.1:99999"], 2, "is not HOST:PORT"),
        (["logs", "f", "--since", "nan"], 2, "is not a number of minutes"),
        (["queue", "redrive", "f", "--until", "1e20"], 2, "is not a number of minutes"),
    ],
)
def test_wrong_use_is_one_line_and_a_hint(cluster: Cluster, arguments: list[str], code: int, says: str) -> None:
    done = cluster.lambent(*arguments)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_config_tells_where_values_come_from(cluster: Cluster) -> None:
    environment = cluster.environment | {"LAMBENT_TIMING_LEASE_SECONDS": "9"}
    rows = json.loads(
        run(sys.executable, "-m", "lambent.cli.main", "config", "--output", "json", env=environment).stdout
    )
    found = {row["name"]: row for row in rows}
    assert found["timing.lease_seconds"]["value"] == 9
    assert found["timing.lease_seconds"]["source"] == "LAMBENT_TIMING_LEASE_SECONDS"
    assert found["limits.max_timeout_seconds"]["value"] == 900
    assert found["limits.max_timeout_seconds"]["source"] == "default"
