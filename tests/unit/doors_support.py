"""Operations that echo, and a server of each door around them."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from lambent.domain.clock import Clock
from lambent.domain.errors import AwsError
from lambent.domain.limits import Limits
from lambent.domain.principals import AccessKey, KeyRing
from lambent.infra.clock import SystemClock, SystemIds
from lambent.infra.http import HttpLimits, HttpServer
from lambent.infra.http_messages import HttpRequest, HttpResponse, PlainService
from lambent.infra.sigv4 import Verifier
from lambent.infra.tokens import issue
from lambent.v1 import function_service_pb2 as fn
from lambent.v1 import invocation_service_pb2 as inv
from lambent.v1 import log_service_pb2 as log
from services.frontend.transport.call import Call
from services.frontend.transport.dispatch import Dispatch
from services.frontend.transport.grpc_door import GrpcDoor
from services.frontend.transport.json_door import JsonDoor
from services.frontend.transport.named_door import HttpDoors
from services.frontend.transport.query_door import QueryDoor
from services.frontend.transport.rest_door import RestDoor

ACCOUNT = "123456789012"
REGION = "us-east-1"
KEY = AccessKey.of_user("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", ACCOUNT, "deploy")
KEYS = KeyRing([KEY])


class EchoFunctions:
    """FunctionService whose answers show what came in."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, Call]] = []

    async def create_function(self, request: fn.CreateFunctionRequest, call: Call) -> fn.FunctionConfiguration:
        self.seen.append((request, call))
        return fn.FunctionConfiguration(
            function_name=request.function_name,
            runtime=request.runtime if request.HasField("runtime") else None,
            role=request.role,
            timeout=request.timeout if request.HasField("timeout") else 3,
            code_size=len(request.code.zip_file) + (1 << 40),
            environment=fn.EnvironmentResponse(variables=dict(request.environment.variables)),
            architectures=list(request.architectures),
        )

    async def get_function(self, request: fn.GetFunctionRequest, call: Call) -> fn.GetFunctionResponse:
        self.seen.append((request, call))
        if request.function_name == "missing":
            raise AwsError("ResourceNotFoundException", "Function not found: missing")
        return fn.GetFunctionResponse(
            configuration=fn.FunctionConfiguration(function_name=request.function_name, version=request.qualifier),
            tags={"account": call.tenant.account, "region": call.tenant.region},
            concurrency=fn.Concurrency(reserved_concurrent_executions=0),
        )

    async def get_function_code_signing_config(
        self, request: fn.GetFunctionCodeSigningConfigRequest, call: Call
    ) -> fn.GetFunctionCodeSigningConfigResponse:
        return fn.GetFunctionCodeSigningConfigResponse(function_name=request.function_name)

    async def get_function_configuration(
        self, request: fn.GetFunctionConfigurationRequest, call: Call
    ) -> fn.FunctionConfiguration:
        raise RuntimeError("a defect with a secret in its text")

    async def list_functions(self, request: fn.ListFunctionsRequest, call: Call) -> fn.ListFunctionsResponse:
        self.seen.append((request, call))
        return fn.ListFunctionsResponse(next_marker=f"{request.marker}|{request.max_items}")

    async def update_function_code(self, request: fn.UpdateFunctionCodeRequest, call: Call) -> fn.FunctionConfiguration:
        self.seen.append((request, call))
        return fn.FunctionConfiguration(function_name=request.function_name, code_size=len(request.zip_file))

    async def update_function_configuration(
        self, request: fn.UpdateFunctionConfigurationRequest, call: Call
    ) -> fn.FunctionConfiguration:
        self.seen.append((request, call))
        return fn.FunctionConfiguration(function_name=request.function_name)

    async def delete_function(self, request: fn.DeleteFunctionRequest, call: Call) -> fn.DeleteFunctionResponse:
        self.seen.append((request, call))
        return fn.DeleteFunctionResponse()


class EchoInvocations:
    """InvocationService that answers with the payload; some names misbehave."""

    def __init__(self) -> None:
        self.seen: list[tuple[inv.InvokeRequest, Call]] = []
        self.entered = asyncio.Event()
        self.release = asyncio.Event()

    async def invoke(self, request: inv.InvokeRequest, call: Call) -> inv.InvokeResponse:
        self.seen.append((request, call))
        call.trace_out = "Root=1-00000000-000000000000000000000000;Sampled=0"
        if request.function_name == "throttled":
            raise AwsError(
                "TooManyRequestsException",
                "Rate Exceeded.",
                reason="ConcurrentInvocationLimitExceeded",
                retry_after_seconds=0.3,
            )
        if request.function_name == "slow":
            self.entered.set()
            await self.release.wait()
        if request.invocation_type == "Event":
            return inv.InvokeResponse(status_code=202)
        return inv.InvokeResponse(status_code=200, payload=request.payload or b"null", executed_version="$LATEST")

    async def invoke_async(self, request: inv.InvokeAsyncRequest, call: Call) -> inv.InvokeAsyncResponse:
        return inv.InvokeAsyncResponse(status=202)

    async def invoke_with_response_stream(
        self, request: inv.InvokeWithResponseStreamRequest, call: Call
    ) -> AsyncIterator[inv.InvokeWithResponseStreamResponse]:
        """The payload, byte by byte; `broken` fails before the first, `breaks` before the last."""
        if request.function_name == "broken":
            raise AwsError("ServiceException", "It is broken.")
        yield inv.InvokeWithResponseStreamResponse(status_code=200, executed_version="7")
        for number in range(len(request.payload)):
            if request.function_name == "breaks" and number == len(request.payload) - 1:
                raise AwsError("ServiceException", "It broke.")
            update = inv.InvokeResponseStreamUpdate(payload=request.payload[number : number + 1])
            event = inv.InvokeWithResponseStreamResponseEvent(payload_chunk=update)
            yield inv.InvokeWithResponseStreamResponse(event_stream=event)
        complete = inv.InvokeWithResponseStreamCompleteEvent(log_result="bG9n")
        event = inv.InvokeWithResponseStreamResponseEvent(invoke_complete=complete)
        yield inv.InvokeWithResponseStreamResponse(event_stream=event)


class EchoLogs:
    """LogService with as many lines as the limit says."""

    async def tail_logs(self, request: log.TailLogsRequest, call: Call) -> AsyncIterator[log.LogLine]:
        for number in range(request.limit):
            yield log.LogLine(time=Timestamp(seconds=number), message=f"{request.function_name} {number}")
        if request.function_name == "missing":
            raise AwsError("ResourceNotFoundException", "Function not found: missing")


def services() -> list[tuple[Any, object]]:
    """The public services with their echoes."""
    return [
        (fn.DESCRIPTOR.services_by_name["FunctionService"], EchoFunctions()),
        (inv.DESCRIPTOR.services_by_name["InvocationService"], EchoInvocations()),
        (log.DESCRIPTOR.services_by_name["LogService"], EchoLogs()),
    ]


async def _no_url(request: HttpRequest) -> HttpResponse:
    return HttpResponse(403)


def http_doors(*more: tuple[Any, object]) -> tuple[HttpDoors, list[tuple[str, str]]]:
    """The HTTP doors without sockets, around the echoes and more services; and what they count."""
    outcomes: list[tuple[str, str]] = []
    clock, ids = SystemClock(), SystemIds()
    dispatch = Dispatch(
        [*services(), *more], clock=clock, observe=lambda name, outcome: outcomes.append((name, outcome))
    )

    def verifier(service: str) -> Verifier:
        return Verifier(KEYS, skew_seconds=300, presigned_max_seconds=3600, services={service})

    rest = RestDoor(dispatch, verifier, clock=clock, ids=ids, limits=Limits())
    json, query = (kind(dispatch, verifier, clock=clock, ids=ids) for kind in (JsonDoor, QueryDoor))
    return HttpDoors(rest, json, query, urls=PlainService(_no_url, 0)), outcomes


@dataclass
class Doors:
    """Both doors, listening."""

    http_port: int
    grpc_port: int
    functions: EchoFunctions
    invocations: EchoInvocations
    server: HttpServer
    door: RestDoor
    grpc_door: GrpcDoor
    outcomes: list[tuple[str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def token(self, seconds: int = 600) -> str:
        return issue(KEY.id, KEY.secret, REGION, SystemClock().epoch(), seconds)


@asynccontextmanager
async def both_doors(
    limits: Limits | None = None, http: HttpLimits | None = None, clock: Clock | None = None
) -> AsyncIterator[Doors]:
    """Both doors on free ports."""
    limits, clock, ids = limits or Limits(), clock or SystemClock(), SystemIds()
    outcomes: list[tuple[str, str]] = []
    echoes = services()
    dispatch = Dispatch(echoes, clock=clock, observe=lambda name, outcome: outcomes.append((name, outcome)))
    verifier = Verifier(
        KEYS,
        skew_seconds=limits.signature_skew_seconds,
        presigned_max_seconds=limits.presigned_max_seconds,
        services={"lambda"},
    )
    door = RestDoor(dispatch, lambda _: verifier, clock=clock, ids=ids, limits=limits)
    server = HttpServer(door, clock=clock, limits=http)
    grpc_door = GrpcDoor(dispatch, KEYS, clock=clock, ids=ids, limits=limits)
    http_port = await server.start("127.0.0.1", 0)
    grpc_port = await grpc_door.start("127.0.0.1:0")
    functions, invocations = echoes[0][1], echoes[1][1]
    assert isinstance(functions, EchoFunctions)
    assert isinstance(invocations, EchoInvocations)
    try:
        yield Doors(http_port, grpc_port, functions, invocations, server, door, grpc_door, outcomes)
    finally:
        await server.close()
        await grpc_door.close()


async def run(*command: str, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Run a program to its end: status, output, errors."""
    with tempfile.TemporaryDirectory() as home:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": "/usr/bin:/bin", "HOME": home, **(env or {})},
        )
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()
