"""The SDK for code without an event loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

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
from lambent.client.errors import LambentError, NotFound, translate
from lambent.client.results import InvokeResult, LogRecord
from lambent.infra.clock import SystemClock
from lambent.v1 import concurrency_service_pb2 as concurrency
from lambent.v1 import (
    concurrency_service_pb2_grpc,
    function_service_pb2_grpc,
    insight_service_pb2_grpc,
    invocation_service_pb2_grpc,
    log_service_pb2_grpc,
    queue_service_pb2_grpc,
)
from lambent.v1 import function_service_pb2 as fn
from lambent.v1 import insight_service_pb2 as insight
from lambent.v1 import queue_service_pb2 as queue

Request = TypeVar("Request")
Response = TypeVar("Response")


class Client:
    """A connection to a cluster. Safe to share between threads; use as a context manager, or call `close`."""

    def __init__(
        self, endpoint: str, *, access_key: str, secret_key: str, region: str = "us-east-1", timeout: float = 60.0
    ) -> None:
        """`endpoint`: HOST:PORT of the gRPC door. `timeout`: seconds for calls other than invocations."""
        self._clock = SystemClock()
        self._credentials = Credentials(access_key, secret_key, region, self._clock)
        self._timeout = timeout
        self._channel = grpc.insecure_channel(endpoint, options=OPTIONS)
        self._functions = function_service_pb2_grpc.FunctionServiceStub(self._channel)
        self._invocations = invocation_service_pb2_grpc.InvocationServiceStub(self._channel)
        self._logs = log_service_pb2_grpc.LogServiceStub(self._channel)
        self._queue = queue_service_pb2_grpc.QueueServiceStub(self._channel)
        self._concurrency = concurrency_service_pb2_grpc.ConcurrencyServiceStub(self._channel)
        self._insight = insight_service_pb2_grpc.InsightServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._channel.close()

    def call(self, request: Message) -> Any:
        """Any call of the API by its request, a message of `lambent.v1`; answers the response.

        So `client.call(alias_service_pb2.GetAliasRequest(function_name="f", name="live"))` answers an
        AliasConfiguration. Raises LambentError; TypeError where no call takes such a message, or one with streams.
        """
        path, answer = method_of(request)
        method = self._channel.unary_unary(
            path, request_serializer=type(request).SerializeToString, response_deserializer=answer.FromString
        )
        return self._call(method, request)[0]

    def invoke(
        self, name: str, payload: Payload = None, *, qualifier: str | None = None, log_tail: bool = False,
        timeout: float | None = None, tenant_id: str | None = None,
    ) -> InvokeResult:  # fmt: skip
        """Run a function and wait for its answer; a function that fails is an answer too (`InvokeResult.error`).

        `timeout`: seconds after which the invocation is stopped; None: the function's own. `tenant_id`: the tenant that
        it is for, of a function with tenant isolation.
        """
        request = invoke_request(name, payload, qualifier, tenant_id, log_tail=log_tail)
        started = self._clock.monotonic()
        response, request_id = self._call(self._invocations.Invoke, request, timeout)
        return InvokeResult.of(response, request_id, self._clock.monotonic() - started)

    def invoke_many(
        self, name: str, payloads: Iterable[Payload], *, qualifier: str | None = None, tenant_id: str | None = None
    ) -> Iterator[tuple[int, InvokeResult | LambentError]]:
        """Run a function once for each payload over one stream, as many at once as the cluster takes: the way to run
        thousands a second. Answers come as they end, each with its payload's place among them. One that was refused is
        answered with the error that `invoke` would raise; none is tried again.

        A stream lasts as long as its token, 15 minutes. Raises LambentError where it breaks: then what became of those
        without an answer is not known; Unavailable says that they were not begun where a frontend left. What making the
        payloads raises is raised once those before it are answered.
        """
        many = Many(name, qualifier, tenant_id, self._clock)
        stream = self._invocations.InvokeMany(many.requests(payloads), metadata=self._credentials.metadata())
        try:
            for answer in stream:
                yield from many.outcomes(answer)
        except grpc.RpcError as error:
            raise translate(error) from error
        finally:
            stream.cancel()
        if many.failure is not None:
            raise many.failure

    def invoke_async(
        self, name: str, payload: Payload = None, *, qualifier: str | None = None, dedup_token: str | None = None,
        not_before: datetime | str | None = None, tenant_id: str | None = None,
    ) -> str:  # fmt: skip
        """Queue an event for a function, which runs soon, at least once; answers the request id of every attempt.

        `dedup_token`: 1 to 128 visible ASCII characters; if an event with it was queued for the function a short while
        ago (the cluster's `queue.dedup_seconds`), nothing is queued and that event's id is the answer. `not_before`:
        when the event may run at the soonest; as text, epoch seconds or as RFC 3339 writes it. Raises InvalidRequest.
        """
        request = event_request(name, payload, qualifier, dedup_token, not_before, tenant_id)
        return self._call(self._invocations.Invoke, request, self._timeout)[1]

    def create_function(self, request: fn.CreateFunctionRequest) -> fn.FunctionConfiguration:
        """Create a function."""
        return self._call(self._functions.CreateFunction, request)[0]

    def get_function(self, name: str) -> fn.GetFunctionResponse:
        """Configuration, tags, and a URL of the package."""
        return self._call(self._functions.GetFunction, fn.GetFunctionRequest(function_name=name))[0]

    def list_functions(self) -> Iterator[fn.FunctionConfiguration]:
        """Every function of the account and region, page by page."""
        marker: str | None = None
        while True:
            page = self._call(self._functions.ListFunctions, fn.ListFunctionsRequest(marker=marker))[0]
            yield from page.functions
            if not page.next_marker:
                return
            marker = page.next_marker

    def update_function_code(self, request: fn.UpdateFunctionCodeRequest) -> fn.FunctionConfiguration:
        """New code."""
        return self._call(self._functions.UpdateFunctionCode, request)[0]

    def update_function_configuration(self, request: fn.UpdateFunctionConfigurationRequest) -> fn.FunctionConfiguration:
        """New configuration."""
        return self._call(self._functions.UpdateFunctionConfiguration, request)[0]

    def delete_function(self, name: str) -> None:
        """Delete a function."""
        self._call(self._functions.DeleteFunction, fn.DeleteFunctionRequest(function_name=name))

    def reserve_concurrency(self, name: str, executions: int | None) -> None:
        """Reserve so many concurrent executions for a function, which has no others; None: reserve none for it."""
        if executions is None:
            removal = concurrency.DeleteFunctionConcurrencyRequest(function_name=name)
            self._call(self._concurrency.DeleteFunctionConcurrency, removal)
            return
        request = concurrency.PutFunctionConcurrencyRequest(
            function_name=name, reserved_concurrent_executions=executions
        )
        self._call(self._concurrency.PutFunctionConcurrency, request)

    def wait_until_ready(self, name: str, *, seconds: float = 60.0) -> fn.FunctionConfiguration:
        """Wait until the function is Active and its last change has ended. Raises TimeoutError."""
        deadline = self._clock.monotonic() + seconds
        while True:
            configuration = self.get_function(name).configuration
            if configuration.state != "Pending" and configuration.last_update_status != "InProgress":
                return configuration
            if self._clock.monotonic() > deadline:
                raise TimeoutError(f"{name} is still {configuration.state} after {seconds:g} s")
            time.sleep(0.05)

    def logs(
        self, name: str, *, request_id: str | None = None, since: datetime | None = None, limit: int | None = None,
        follow: bool = False,
    ) -> Iterator[LogRecord]:  # fmt: skip
        """Lines that a function wrote, oldest first; with `follow`, new ones for as long as the iterator is read."""
        stream = self._logs.TailLogs(
            logs_request(name, request_id, since, limit, follow), metadata=self._credentials.metadata()
        )
        try:
            for line in stream:
                yield LogRecord.of(line)
        except grpc.RpcError as error:
            raise translate(error) from error
        finally:
            stream.cancel()

    def explain(self, *, request_id: str | None = None, function_name: str | None = None) -> list[insight.Decision]:
        """Why a request was refused or started cold, or the last such decisions about a function, newest first."""
        request = insight.ExplainRequest(request_id=request_id, function_name=function_name)
        return list(self._call(self._insight.Explain, request)[0].decisions)

    def concurrency_use(self) -> insight.GetConcurrencyUseResponse:
        """What is in use at this instant."""
        return self._call(self._insight.GetConcurrencyUse, insight.GetConcurrencyUseRequest())[0]

    def list_queues(self) -> list[queue.EventQueue]:
        """What is in the queues of asynchronous events."""
        return list(self._call(self._queue.ListQueues, queue.ListQueuesRequest())[0].queues)

    def list_events(
        self, name: str, *, state: str | None = None, max_items: int | None = None
    ) -> list[queue.QueuedEvent]:
        """Events of a function that are `waiting`, `delayed`, `running` or `given_up` (the default)."""
        request = queue.ListEventsRequest(function_name=name, state=state, max_items=max_items)
        return list(self._call(self._queue.ListEvents, request)[0].events)

    def get_event(self, name: str, request_id: str) -> queue.GetEventResponse:
        """One event with its payload. Raises NotFound where it has ended well, or was forgotten."""
        request = queue.GetEventRequest(function_name=name, request_id=request_id)
        return self._call(self._queue.GetEvent, request)[0]

    def wait_for_event(self, name: str, request_id: str) -> queue.GetEventResponse | None:
        """Wait until an event has ended. None: it ended well; otherwise the event as it was given up."""
        while True:
            try:
                found = self.get_event(name, request_id)
            except NotFound:
                return None
            if found.event.state == "given_up":
                return found
            time.sleep(0.1)

    def pause_queue(self, name: str) -> None:
        """Run no more events of a function for now."""
        self._call(self._queue.PauseQueue, queue.PauseQueueRequest(function_name=name))

    def set_queue_priority(self, name: str, priority: int) -> None:
        """Run events of a function before those of others, or after: -10 to 10, 0 unless it is set."""
        request = queue.SetQueuePriorityRequest(function_name=name, priority=priority)
        self._call(self._queue.SetQueuePriority, request)

    def resume_queue(self, name: str) -> bool:
        """Run events of a function again. False: they were not paused."""
        return self._call(self._queue.ResumeQueue, queue.ResumeQueueRequest(function_name=name))[0].resumed

    def purge_queue(self, name: str, state: str) -> int:
        """Forget events of a function that are `waiting` or `given_up`; answers how many."""
        return self._call(self._queue.PurgeQueue, queue.PurgeQueueRequest(function_name=name, state=state))[0].events

    def redrive_queue(self, request: queue.RedriveQueueRequest) -> int:
        """Queue events again that were given up; answers how many."""
        return self._call(self._queue.RedriveQueue, request)[0].events

    def _call(
        self, method: Callable[..., Response], request: object, timeout: float | None = None
    ) -> tuple[Response, str]:
        waits = pauses()
        while True:
            try:
                response, call = method.with_call(  # type: ignore[attr-defined]
                    request,
                    metadata=self._credentials.metadata(),
                    timeout=self._limit(method) if timeout is None else timeout,
                )
                return response, request_id_of(call.trailing_metadata())
            except grpc.RpcError as error:
                wait = next(waits, None)
                if wait is None or not worth_another_try(error):
                    raise translate(error) from error
                time.sleep(wait)

    def _limit(self, method: object) -> float | None:
        return None if method is self._invocations.Invoke else self._timeout
