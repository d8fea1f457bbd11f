"""The gRPC door: the dispatch table's RPCs as generic handlers on a grpc.aio server.

No interceptors and no library (de)serialisers: one plain coroutine a call, because a plain unary invoke has to keep
seven tenths of a bare echo's rate, and because malformed bytes must be the client's error, not an internal one.
Callers prove themselves with `authorization: Bearer TOKEN` (lambent/infra/tokens.py). Errors carry a
google.rpc.Status with ErrorInfo (reason = AWS's name, domain "lambent") and, where it helps to wait, RetryInfo.
Reflection and health are open to all.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, cast
from weakref import WeakSet

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from lambent.domain.clock import Clock, Ids
from lambent.domain.errors import AwsError
from lambent.domain.limits import Limits
from lambent.domain.names import Tenant
from lambent.domain.principals import KeyRing
from lambent.infra import tokens
from services.frontend.transport.call import Call
from services.frontend.transport.dispatch import Dispatch, Entry
from services.frontend.transport.exchange import Exchange
from services.frontend.transport.open_services import StrictServices

_log = logging.getLogger(__name__)

# Verified tokens are remembered; when so many are, all are forgotten and verified anew.
_REMEMBERED = 4096
# Fields around the payload or package.
_MESSAGE_SLACK = 64 * 1024
# A message travels twice in the trailers, as text and in the details, and clients refuse trailers above 8 KiB.
_MESSAGE_ROOM = 2600
# Of so many of the largest payloads one stream may take the memory.
_LARGEST = 10
# A deadline further away than this is none.
_FOREVER_SECONDS = 1e8

# From what was received, for whom: the answers.
_Begin = Callable[[Entry, Any, Call, Any], AsyncGenerator[Any]]


class GrpcDoor:
    """Serves every RPC of the dispatch table."""

    def __init__(
        self,
        dispatch: Dispatch,
        keys: KeyRing,
        *,
        clock: Clock,
        ids: Ids,
        limits: Limits,
        regions: Collection[str] | None = None,
    ) -> None:
        """`regions`: the only ones that a token may name; None: any."""
        self._dispatch = dispatch
        self._keys = keys
        self._clock = clock
        self._ids = ids
        self._limits = limits
        self._regions = None if regions is None else frozenset(regions)
        self._remembered: dict[str, tuple[float, Tenant, Any]] = {}
        self._server: grpc.aio.Server | None = None
        self._exchanges: WeakSet[Exchange] = WeakSet()  # those that go on are kept by what serves them
        self._health: Any = None

    async def start(
        self,
        address: str,
        *,
        credentials: grpc.ServerCredentials | None = None,
        options: Sequence[tuple[str, Any]] = (),
    ) -> int:
        """Listen on `host:port` or `unix:path`; port 0 takes any. Returns the port. Raises OSError when it is taken."""
        size = self._limits.control_request_bytes + _MESSAGE_SLACK
        server = self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", size),
                ("grpc.max_send_message_length", size),
                # Else a second process could listen on the same port unnoticed.
                ("grpc.so_reuseport", 0),
                *options,
            ]
        )
        handlers: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {}
        for entry in self._dispatch.entries.values():
            service, _, method = entry.full_name.rpartition(".")
            handlers.setdefault(service, {})[method] = self._handler(entry)
        for service, methods in handlers.items():
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
        self._health = health.aio.HealthServicer()
        strict: Any = StrictServices(server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, strict)
        names = [*handlers, health.SERVICE_NAME, reflection.SERVICE_NAME]
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflection.aio.ReflectionServicer(names), strict)
        try:
            port = (
                server.add_insecure_port(address)
                if credentials is None
                else server.add_secure_port(address, credentials)
            )
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: {error}") from None
        await server.start()
        await self.serving(True)
        return port

    async def serving(self, yes: bool) -> None:
        """What the health service says, for the server as a whole and for each service."""
        status = health_pb2.HealthCheckResponse.SERVING if yes else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *(service.full_name for service in self._dispatch.services)):
            await self._health.set(name, status)

    async def drain(self, seconds: float) -> None:
        """Take no new calls; let running ones end, at most `seconds`, then cancel them."""
        if self._server is not None:
            await self._health.enter_graceful_shutdown()
            for exchange in self._exchanges:
                exchange.leave()
            server, self._server = self._server, None
            await server.stop(seconds)

    async def close(self) -> None:
        """Stop now."""
        await self.drain(0)

    def _handler(self, entry: Entry) -> grpc.RpcMethodHandler[Any, Any]:
        serialize = cast(Callable[[Any], bytes], entry.response_class.SerializeToString)
        if entry.many is not None:
            return grpc.stream_stream_rpc_method_handler(self._answers(entry, self._exchange), None, serialize)
        if entry.stream is not None:
            return grpc.unary_stream_rpc_method_handler(self._answers(entry, self._stream), None, serialize)
        return grpc.unary_unary_rpc_method_handler(self._unary(entry), None, serialize)

    def _unary(self, entry: Entry) -> Callable[[bytes, Any], Any]:
        run, parse, new_id = entry.run, cast(Callable[[bytes], Any], entry.request_class.FromString), self._ids.uuid
        assert run is not None

        async def unary(raw: bytes, context: Any) -> Any:
            request_id = new_id()
            call: Call | None = None
            try:
                call = self._call(context, request_id)
                response = await run(parse(raw), call)
            except (DecodeError, AwsError) as error:
                await self._refuse(context, entry, error, request_id, call)
            context.set_trailing_metadata(_trailer(request_id, call))
            return response

        return unary

    def _answers(self, entry: Entry, begin: _Begin) -> Callable[[Any, Any], AsyncIterator[Any]]:
        """What serves an RPC that answers with a stream."""

        async def answers(received: Any, context: Any) -> AsyncIterator[Any]:
            request_id = self._ids.uuid()
            call: Call | None = None
            try:
                call = self._call(context, request_id)
                async with aclosing(begin(entry, received, call, context)) as items:
                    async for item in items:
                        yield item
            except (DecodeError, AwsError) as error:
                await self._refuse(context, entry, error, request_id, call)
            context.set_trailing_metadata(_trailer(request_id, call))

        return answers

    def _stream(self, entry: Entry, raw: bytes, call: Call, context: Any) -> AsyncGenerator[Any]:
        """The answer to one request, piece by piece."""
        assert entry.stream is not None
        return cast(AsyncGenerator[Any], entry.stream(entry.request_class.FromString(raw), call))

    def _exchange(self, entry: Entry, requests: AsyncIterator[bytes], call: Call, context: Any) -> AsyncGenerator[Any]:
        """Answers to many requests, each as it has ended."""
        exchange = Exchange(
            entry, call, self._expiry(context), parse=partial(_parsed, entry), most=self._limits.stream_calls,
            most_bytes=_LARGEST * self._limits.sync_request_bytes,
            new_id=self._ids.uuid, clock=self._clock, observe=self._dispatch.observe,
        )  # fmt: skip
        self._exchanges.add(exchange)
        return exchange.answers(requests)

    async def _refuse(
        self, context: Any, entry: Entry, error: DecodeError | AwsError, request_id: str, call: Call | None
    ) -> None:
        """End a call with an error, and count it if it ended before the middleware, which counts all others; raises."""
        told = error if isinstance(error, AwsError) else _malformed(entry)
        if call is None or told is not error:
            self._dispatch.observe(entry.name, told.name)
        await _abort(context, told, request_id, call)

    def _call(self, context: Any, request_id: str) -> Call:
        """Who calls, and how long they wait. Raises AwsError."""
        authorization = xray = parent = None
        for key, value in context.invocation_metadata():
            if key == "authorization":
                authorization = value
            elif key == "x-amzn-trace-id":
                xray = value
            elif key == "traceparent":
                parent = value
        if authorization is None:
            raise AwsError("MissingAuthenticationTokenException", "Missing Authentication Token")
        known = self._remembered.get(authorization)
        if known is None or self._clock.epoch() >= known[0]:
            known = self._authenticate(authorization)
        remaining = context.time_remaining()
        deadline = None
        if remaining is not None and remaining < _FOREVER_SECONDS:
            deadline = self._clock.monotonic() + remaining
        return Call(request_id, known[1], known[2], "grpc", deadline, xray or parent)

    def _expiry(self, context: Any) -> float:
        """Until when who calls has proved who that is: epoch seconds."""
        authorization = dict(context.invocation_metadata())["authorization"]
        return (self._remembered.get(authorization) or self._authenticate(authorization))[0]

    def _authenticate(self, authorization: str) -> tuple[float, Tenant, Any]:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise AwsError("IncompleteSignatureException", "authorization must be 'Bearer TOKEN'.")
        bearer = tokens.verify(token.strip(), self._secret_of, self._clock.epoch())
        key = self._keys.find(bearer.key_id)
        if key is None or (self._regions is not None and bearer.region not in self._regions):
            raise AwsError("UnrecognizedClientException", "The security token included in the request is invalid.")
        known = (bearer.expires, Tenant(key.account, bearer.region), key.principal)
        if len(self._remembered) >= _REMEMBERED:
            self._remembered.clear()
        self._remembered[authorization] = known
        return known

    def _secret_of(self, key_id: str) -> str | None:
        key = self._keys.find(key_id)
        return None if key is None else key.secret


def _parsed(entry: Entry, raw: bytes) -> Any:
    try:
        return entry.request_class.FromString(raw)
    except DecodeError:
        raise _malformed(entry) from None


def _malformed(entry: Entry) -> AwsError:
    return AwsError("SerializationException", f"The message is not a valid {entry.request_class.DESCRIPTOR.full_name}")


def _trailer(request_id: str, call: Call | None) -> tuple[tuple[str, str], ...]:
    if call is not None and call.answered_id is not None:
        request_id = call.answered_id
    if call is None or call.trace_out is None:
        return (("x-amzn-requestid", request_id),)
    return (("x-amzn-requestid", request_id), ("x-amzn-trace-id", call.trace_out))


async def _abort(context: Any, error: AwsError, request_id: str, call: Call | None) -> None:
    """End the call with an error; raises."""
    code, message = grpc.StatusCode[error.row.grpc], _fitting(error.message)
    trailer = (*_trailer(request_id, call), ("grpc-status-details-bin", rich_status(error, message, code, request_id)))
    await context.abort(code, message, trailer)


def _fitting(message: str) -> str:
    """A message, cut where its percent-encoded form would be too long."""
    if len(message) * 12 <= _MESSAGE_ROOM:
        return message
    size = 0
    for position, character in enumerate(message):
        size += 1 if " " <= character <= "~" and character != "%" else 3 * len(character.encode())
        if size > _MESSAGE_ROOM:
            return message[:position] + "..."
    return message


def rich_status(error: AwsError, message: str, code: grpc.StatusCode, request_id: str) -> bytes:
    """The google.rpc.Status of an error, serialised."""
    number: int = code.value[0]
    info = error_details_pb2.ErrorInfo(reason=error.name, domain="lambent", metadata={"RequestId": request_id})
    if error.reason is not None:
        info.metadata["Reason"] = error.reason
    if error.row.fault is not None:
        info.metadata["Type"] = error.row.fault
    details = [_any(info)]
    if error.retry_after_seconds is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(error.retry_after_seconds * 1e9))
        details.append(_any(retry))
    status: bytes = status_pb2.Status(code=number, message=message, details=details).SerializeToString()
    return status


def _any(message: Any) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
