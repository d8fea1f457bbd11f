"""The SDK for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf.message import Message

from lambent.client.calls import (
    OPTIONS,
    Credentials,
    Many,
    Payload,
    event_request,
    invoke_request,
    logs_request,
    method_of,
    pauses,
    request_id_of,
    worth_another_try,
)  # fmt: skip
from lambent.client.errors import LambentError, translate
from lambent.client.results import InvokeResult, LogRecord
from lambent.infra.clock import SystemClock
from lambent.v1 import concurrency_service_pb2 as concurrency
from lambent.v1 import (
    concurrency_service_pb2_grpc,
    function_service_pb2_grpc,
    insight_service_pb2_grpc,
    invocation_service_pb2_grpc,
    log_service_pb2_grpc,
)
from lambent.v1 import function_service_pb2 as fn
from lambent.v1 import insight_service_pb2 as insight


class AsyncClient:
    """A connection to a cluster, for one event loop; use as an async context manager, or call `close`.

    Cancelling a call stops it in the cluster and frees what it held.
    """

    def __init__(
        self, endpoint: str, *, access_key: str, secret_key: str, region: str = "us-east-1", timeout: float = 60.0
    ) -> None:
        """`endpoint`: HOST:PORT of the gRPC door. `timeout`: seconds for calls other than invocations."""
        self._clock = SystemClock()
        self._credentials = Credentials(access_key, secret_key, region, self._clock)
        self._timeout = timeout
        self._channel = grpc.aio.insecure_channel(endpoint, options=OPTIONS)
        self._functions = function_service_pb2_grpc.FunctionServiceStub(self._channel)
        self._invocations = invocation_service_pb2_grpc.InvocationServiceStub(self._channel)
        self._logs = log_service_pb2_grpc.LogServiceStub(self._channel)
        self._concurrency = concurrency_service_pb2_grpc.ConcurrencyServiceStub(self._channel)
        self._insight = insight_service_pb2_grpc.InsightServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Hang up."""
        await self._channel.close()

    async def call(self, request: Message) -> Any:
        """Any call of the API by its request; see `Client.call`."""
        path, answer = method_of(request)
        serialize: Any = type(request).SerializeToString
        method = self._channel.unary_unary(path, request_serializer=serialize, response_deserializer=answer.FromString)
        return (await self._call(method, request, self._timeout))[0]

    async def invoke(
        self, name: str, payload: Payload = None, *, qualifier: str | None = None, log_tail: bool = False,
        timeout: float | None = None, tenant_id: str | None = None,
    ) -> InvokeResult:  # fmt: skip
        """Run a function and wait for its answer; see `Client.invoke`."""
        request = invoke_request(name, payload, qualifier, tenant_id, log_tail=log_tail)
        started = self._clock.monotonic()
        response, request_id = await self._call(self._invocations.Invoke, request, timeout)
        return InvokeResult.of(response, request_id, self._clock.monotonic() - started)

    async def invoke_many(
        self, name: str, payloads: Iterable[Payload] | AsyncIterable[Payload], *, qualifier: str | None = None,
        tenant_id: str | None = None,
    ) -> AsyncGenerator[tuple[int, InvokeResult | LambentError]]:  # fmt: skip
        """Run a function once for each payload over one stream; see `Client.invoke_many`. Payloads that take their time
        to come are to come asynchronously: waiting for the next of others holds the loop."""
        many = Many(name, qualifier, tenant_id, self._clock)
        requests: Any
        if isinstance(payloads, AsyncIterable):
            requests = many.requests_as_they_come(payloads)
        else:
            requests = many.requests(payloads)
        stream: Any = self._invocations.InvokeMany(requests, metadata=self._credentials.metadata())
        try:
            async for answer in stream:
                for outcome in many.outcomes(answer):
                    yield outcome
        except grpc.RpcError as error:
            raise translate(error) from error
        finally:
            stream.cancel()
        if many.failure is not None:
            raise many.failure

    async def invoke_async(
        self, name: str, payload: Payload = None, *, qualifier: str | None = None, dedup_token: str | None = None,
        not_before: datetime | str | None = None, tenant_id: str | None = None,
    ) -> str:  # fmt: skip
        """Queue an event for a function; see `Client.invoke_async`."""
        request = event_request(name, payload, qualifier, dedup_token, not_before, tenant_id)
        return (await self._call(self._invocations.Invoke, request, self._timeout))[1]

    async def create_function(self, request: fn.CreateFunctionRequest) -> fn.FunctionConfiguration:
        """Create a function."""
        return (await self._call(self._functions.CreateFunction, request, self._timeout))[0]  # type: ignore[no-any-return]

    async def get_function(self, name: str) -> fn.GetFunctionResponse:
        """Configuration, tags, and a URL of the package."""
        request = fn.GetFunctionRequest(function_name=name)
        return (await self._call(self._functions.GetFunction, request, self._timeout))[0]  # type: ignore[no-any-return]

    async def list_functions(self) -> AsyncIterator[fn.FunctionConfiguration]:
        """Every function of the account and region, page by page."""
        marker: str | None = None
        while True:
            request = fn.ListFunctionsRequest(marker=marker)
            page = (await self._call(self._functions.ListFunctions, request, self._timeout))[0]
            for function in page.functions:
                yield function
            if not page.next_marker:
                return
            marker = page.next_marker

    async def update_function_code(self, request: fn.UpdateFunctionCodeRequest) -> fn.FunctionConfiguration:
        """New code."""
        return (await self._call(self._functions.UpdateFunctionCode, request, self._timeout))[0]  # type: ignore[no-any-return]

    async def update_function_configuration(
        self, request: fn.UpdateFunctionConfigurationRequest
    ) -> fn.FunctionConfiguration:
        """New configuration."""
        response = await self._call(self._functions.UpdateFunctionConfiguration, request, self._timeout)
        return response[0]  # type: ignore[no-any-return]

    async def delete_function(self, name: str) -> None:
        """Delete a function."""
        request = fn.DeleteFunctionRequest(function_name=name)
        await self._call(self._functions.DeleteFunction, request, self._timeout)

    async def reserve_concurrency(self, name: str, executions: int | None) -> None:
        """Reserve so many concurrent executions for a function, which has no others; None: reserve none for it."""
        if executions is None:
            removal = concurrency.DeleteFunctionConcurrencyRequest(function_name=name)
            await self._call(self._concurrency.DeleteFunctionConcurrency, removal, self._timeout)
            return
        request = concurrency.PutFunctionConcurrencyRequest(
            function_name=name, reserved_concurrent_executions=executions
        )
        await self._call(self._concurrency.PutFunctionConcurrency, request, self._timeout)

    async def logs(
        self, name: str, *, request_id: str | None = None, since: datetime | None = None, limit: int | None = None,
        follow: bool = False,
    ) -> AsyncIterator[LogRecord]:  # fmt: skip
        """Lines that a function wrote; see `Client.logs`."""
        request = logs_request(name, request_id, since, limit, follow)
        stream: Any = self._logs.TailLogs(request, metadata=self._credentials.metadata())
        try:
            async for line in stream:
                yield LogRecord.of(line)
        except grpc.RpcError as error:
            raise translate(error) from error
        finally:
            stream.cancel()

    async def explain(
        self, *, request_id: str | None = None, function_name: str | None = None
    ) -> list[insight.Decision]:
        """Why a request was refused or started cold, or the last such decisions about a function, newest first."""
        request = insight.ExplainRequest(request_id=request_id, function_name=function_name)
        return list((await self._call(self._insight.Explain, request, self._timeout))[0].decisions)

    async def concurrency_use(self) -> insight.GetConcurrencyUseResponse:
        """What is in use at this instant."""
        request = insight.GetConcurrencyUseRequest()
        answer: insight.GetConcurrencyUseResponse
        answer, _ = await self._call(self._insight.GetConcurrencyUse, request, self._timeout)
        return answer

    async def _call(self, method: Any, request: object, timeout: float | None) -> tuple[Any, str]:
        waits = pauses()
        while True:
            call = method(request, metadata=self._credentials.metadata(), timeout=timeout)
            try:
                response = await call
                return response, request_id_of(await call.trailing_metadata())
            except grpc.RpcError as error:
                wait = next(waits, None)
                if wait is None or not worth_another_try(error):
                    raise translate(error) from error
                await asyncio.sleep(wait)
