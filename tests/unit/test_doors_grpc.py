"""The gRPC door over a real channel: auth, errors with details, streams, deadlines, and grpcurl by reflection."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from lambent.infra.clock import SystemClock
from lambent.infra.tokens import issue
from lambent.v1 import (
    function_service_pb2,
    function_service_pb2_grpc,
    invocation_service_pb2,
    invocation_service_pb2_grpc,
    log_service_pb2,
    log_service_pb2_grpc,
)
from tests.unit.doors_support import ACCOUNT, KEY, REGION, Doors, both_doors, run

GRPCURL = str(Path(sys.executable).parent / "grpcurl")


@pytest.fixture
async def doors() -> AsyncIterator[Doors]:
    async with both_doors() as doors:
        yield doors


@pytest.fixture
async def channel(doors: Doors) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{doors.grpc_port}") as channel:
        yield channel


def bearer(doors: Doors) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {doors.token()}"),)


async def failure(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def details(error: grpc.aio.AioRpcError) -> tuple[error_details_pb2.ErrorInfo, error_details_pb2.RetryInfo | None]:
    status = rpc_status.from_call(error)
    info, retry = error_details_pb2.ErrorInfo(), None
    assert status is not None
    status.details[0].Unpack(info)
    if len(status.details) > 1:
        retry = error_details_pb2.RetryInfo()
        status.details[1].Unpack(retry)
    return info, retry


async def test_invoke(doors: Doors, channel: grpc.aio.Channel) -> None:
    stub = invocation_service_pb2_grpc.InvocationServiceStub(channel)
    call = stub.Invoke(
        invocation_service_pb2.InvokeRequest(function_name="hello", payload=b"[1]"),
        metadata=(*bearer(doors), ("traceparent", "00-x")),
        timeout=30,
    )
    answer = await call
    assert (answer.payload, answer.status_code) == (b"[1]", 200)
    _, seen = doors.invocations.seen[0]
    trailer = dict(await call.trailing_metadata())
    assert trailer["x-amzn-requestid"] == seen.request_id
    assert str(trailer["x-amzn-trace-id"]).startswith("Root=")
    assert (seen.tenant.account, seen.tenant.region, seen.door) == (ACCOUNT, REGION, "grpc")
    assert seen.trace_header == "00-x"
    assert seen.deadline is not None
    assert 0 < seen.deadline - SystemClock().monotonic() < 31  # grpc rounds timeouts up


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        (None, "MissingAuthenticationTokenException"),
        ("Basic abc", "IncompleteSignatureException"),
        ("Bearer abc", "UnrecognizedClientException"),
        (f"Bearer {issue(KEY.id, 'wrong', REGION, SystemClock().epoch())}", "UnrecognizedClientException"),
        (f"Bearer {issue(KEY.id, KEY.secret, REGION, SystemClock().epoch() - 90, 60)}", "ExpiredTokenException"),
    ],
)
async def test_callers_prove_themselves(
    doors: Doors, channel: grpc.aio.Channel, authorization: str | None, reason: str
) -> None:
    stub = invocation_service_pb2_grpc.InvocationServiceStub(channel)
    metadata = () if authorization is None else (("authorization", authorization),)
    error = await failure(stub.Invoke(invocation_service_pb2.InvokeRequest(function_name="x"), metadata=metadata))
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    assert details(error)[0].reason == reason
    assert doors.invocations.seen == []


async def test_errors_carry_reason_request_id_and_when_to_retry(doors: Doors, channel: grpc.aio.Channel) -> None:
    stub = invocation_service_pb2_grpc.InvocationServiceStub(channel)
    request = invocation_service_pb2.InvokeRequest(function_name="throttled")
    error = await failure(stub.Invoke(request, metadata=bearer(doors)))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.details() == "Rate Exceeded."
    info, retry = details(error)
    assert (info.reason, info.domain) == ("TooManyRequestsException", "lambent")
    assert dict(info.metadata) == {
        "Reason": "ConcurrentInvocationLimitExceeded",
        "RequestId": doors.invocations.seen[0][1].request_id,
        "Type": "User",
    }
    assert retry is not None
    assert retry.retry_delay.ToMilliseconds() == 300


async def test_the_same_validation(doors: Doors, channel: grpc.aio.Channel) -> None:
    stub = function_service_pb2_grpc.FunctionServiceStub(channel)
    error = await failure(
        stub.GetFunction(function_service_pb2.GetFunctionRequest(qualifier="!"), metadata=bearer(doors))
    )
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert str(error.details()).startswith(
        "2 validation errors detected: "
        "Value null at 'functionName' failed to satisfy constraint: Member must not be null; "
        "Value '!' at 'qualifier' failed"
    )


async def test_malformed_bytes_are_the_clients_error(doors: Doors, channel: grpc.aio.Channel) -> None:
    call: Any = channel.unary_unary("/lambent.v1.InvocationService/Invoke")
    error = await failure(call(b"\xff\xff\xff", metadata=bearer(doors)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details(error)[0].reason == "SerializationException"


async def test_a_defect_is_internal_and_says_nothing(
    doors: Doors, channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    stub = function_service_pb2_grpc.FunctionServiceStub(channel)
    request = function_service_pb2.GetFunctionConfigurationRequest(function_name="x")
    error = await failure(stub.GetFunctionConfiguration(request, metadata=bearer(doors)))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(error.details())
    assert len([record for record in caplog.records if record.message == "operation failed"]) == 1


async def test_streams(doors: Doors, channel: grpc.aio.Channel) -> None:
    stub = log_service_pb2_grpc.LogServiceStub(channel)
    request = log_service_pb2.TailLogsRequest(function_name="f", limit=3)
    lines = [line.message async for line in stub.TailLogs(request, metadata=bearer(doors))]
    assert lines == ["f 0", "f 1", "f 2"]
    request.function_name = "missing"
    call = stub.TailLogs(request, metadata=bearer(doors))
    got = [await call.read() for _ in range(3)]
    assert len(got) == 3
    error = await failure(call.read())
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert details(error)[0].reason == "ResourceNotFoundException"
    assert doors.outcomes == [("TailLogs", "OK"), ("TailLogs", "ResourceNotFoundException")]


async def test_a_deadline_ends_the_operation(doors: Doors, channel: grpc.aio.Channel) -> None:
    stub = invocation_service_pb2_grpc.InvocationServiceStub(channel)
    request = invocation_service_pb2.InvokeRequest(function_name="slow")
    error = await failure(stub.Invoke(request, metadata=bearer(doors), timeout=0.2))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_drain_lets_running_calls_end(doors: Doors, channel: grpc.aio.Channel) -> None:
    stub = invocation_service_pb2_grpc.InvocationServiceStub(channel)
    call = stub.Invoke(invocation_service_pb2.InvokeRequest(function_name="slow"), metadata=bearer(doors))
    await doors.invocations.entered.wait()
    draining = asyncio.ensure_future(doors.grpc_door.drain(10))
    doors.invocations.release.set()
    assert (await call).status_code == 200
    await draining


async def test_health_and_reflection_are_open(doors: Doors, channel: grpc.aio.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    for name in ("", "lambent.v1.FunctionService"):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    address = f"127.0.0.1:{doors.grpc_port}"
    status, out, errors = await run(GRPCURL, "-plaintext", address, "list")
    assert status == 0, errors
    assert {"grpc.health.v1.Health", "lambent.v1.FunctionService", "lambent.v1.LogService"} <= set(out.split())


async def test_grpcurl_takes_the_json_that_the_rest_door_takes(doors: Doors) -> None:
    document = json.dumps({"FunctionName": "hello", "Qualifier": "$LATEST"})
    status, out, errors = await run(
        GRPCURL, "-plaintext", "-H", f"authorization: Bearer {doors.token()}", "-d", document,
        f"127.0.0.1:{doors.grpc_port}", "lambent.v1.FunctionService/GetFunction",
    )  # fmt: skip
    assert status == 0, errors
    assert json.loads(out)["Configuration"] == {"FunctionName": "hello", "Version": "$LATEST"}


async def test_a_taken_port_is_told(doors: Doors) -> None:
    async with both_doors() as other:
        await other.grpc_door.close()
        with pytest.raises(OSError, match="cannot listen on"):
            await other.grpc_door.start(f"127.0.0.1:{doors.grpc_port}")


async def test_calls_that_end_before_an_operation_are_counted(doors: Doors, channel: grpc.aio.Channel) -> None:
    invoke: Any = channel.unary_unary("/lambent.v1.InvocationService/Invoke")
    tail: Any = channel.unary_stream("/lambent.v1.LogService/TailLogs")
    await failure(invoke(b""))
    await failure(invoke(b"\xff", metadata=bearer(doors)))
    await failure(tail(b"").read())
    await failure(tail(b"\xff", metadata=bearer(doors)).read())
    assert doors.outcomes == [
        ("Invoke", "MissingAuthenticationTokenException"),
        ("Invoke", "SerializationException"),
        ("TailLogs", "MissingAuthenticationTokenException"),
        ("TailLogs", "SerializationException"),
    ]


@pytest.mark.parametrize(
    ("path", "streams"),
    [
        ("/grpc.health.v1.Health/Check", False),
        ("/grpc.health.v1.Health/Watch", True),
        ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", True),
    ],
)
async def test_rubbish_to_health_and_reflection(channel: grpc.aio.Channel, path: str, streams: bool) -> None:
    method: Any = (channel.stream_stream(path) if "Info" in path else channel.unary_stream(path)) if streams else None
    if "Info" in path:
        call = method(iter([b"\xff"])).read()
    else:
        call = method(b"\xff").read() if streams else channel.unary_unary(path)(b"\xff")  # type: ignore[arg-type]
    assert (await failure(call)).code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("name", ["x " * 40_000, "\N{SNAKE}" * 40_000, "%" * 40_000])
async def test_long_texts_are_cut_to_what_trailers_may_hold(doors: Doors, channel: grpc.aio.Channel, name: str) -> None:
    stub = invocation_service_pb2_grpc.InvocationServiceStub(channel)
    error = await failure(stub.Invoke(invocation_service_pb2.InvokeRequest(function_name=name), metadata=bearer(doors)))
    assert details(error)[0].reason == "ValidationException"
    assert (error.details() or "").endswith("...")
