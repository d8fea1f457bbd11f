"""Function URLs: plain HTTP requests, told apart by their Host, each of which invokes one function.

A request becomes an Invoke, or an InvokeWithResponseStream, of the dispatch table on behalf of the function's own
account, once it has been found who may ask; from then on it is an invocation like any other.

Source: https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any, Protocol, TypeVar, cast

import msgspec

from lambent.domain import tracing
from lambent.domain.clock import Clock, Ids
from lambent.domain.errors import ERRORS, AwsError
from lambent.domain.function_urls import IAM, STREAMED, FunctionUrl, UrlPlace, parse_host
from lambent.domain.limits import Limits
from lambent.domain.names import Tenant
from lambent.domain.policies import Policy
from lambent.domain.principals import Principal
from lambent.infra.http_messages import BODILESS, REFUSALS, RETRY_AFTER, HttpRequest, HttpResponse
from lambent.infra.sigv4 import Verifier
from lambent.v1 import invocation_service_pb2 as pb
from services.frontend.transport import http_events
from services.frontend.transport.call import Call, trace_of
from services.frontend.transport.dispatch import Dispatch
from services.frontend.transport.http_events import Answer, Asked, MalformedAnswer

_log = logging.getLogger(__name__)
T = TypeVar("T")

# Above it a body is hashed and made an event on a thread, as at the REST door.
_ON_THREAD = 256 * 1024
# Largest head of a streamed response that is waited for. Bytes.
_PRELUDE = 64 * 1024
_FAILED = "Internal Server Error"


@dataclass(frozen=True, slots=True)
class Found:
    """The function behind an address."""

    place: UrlPlace
    url: FunctionUrl
    policy: Policy | None


class Finder(Protocol):
    """Finds what is behind an address."""

    async def find(self, id_: str) -> Found | None:
        """None: nothing, or nothing any more. Raises AwsError where the store cannot be asked."""
        ...


# Told of a request that was for a function: whose, the status that was answered, and how many seconds it took.
Observer = Callable[[Tenant, str, int, float], None]


class _Refused(Exception):
    """The answer is known before the function runs."""

    def __init__(self, response: HttpResponse) -> None:
        super().__init__(response.status)
        self.response = response


class UrlDoor:
    """Serves function URLs. A `lambent.infra.http_messages.HttpService` of every path."""

    def __init__(
        self, dispatch: Dispatch, finder: Finder, verifier: Verifier, *, base: str, observe: Observer, clock: Clock,
        ids: Ids, limits: Limits,
    ) -> None:  # fmt: skip
        """`base`: SCHEME://DOMAIN, below which addresses are. Raises KeyError where functions cannot be invoked."""
        entries = dispatch.entries
        self._invoke = entries["lambent.v1.InvocationService.Invoke"]
        self._stream = entries["lambent.v1.InvocationService.InvokeWithResponseStream"]
        self._finder = finder
        self._verifier = verifier
        self._scheme, _, domain = base.partition("://")
        _, _, port = domain.rpartition(":")
        self._port = port if port.isdecimal() else {"https": "443"}.get(self._scheme, "80")
        self._observe = observe
        self._clock = clock
        self._ids = ids
        self._limits = limits

    # lambent.infra.http_messages.HttpService

    async def handle(self, request: HttpRequest) -> HttpResponse:
        began = self._clock.monotonic()
        found: Found | None = None
        call = Call(self._ids.uuid(), _NOWHERE, _NOBODY, "url", None, trace_of(request.headers))
        try:
            host = request.headers[b"host"].decode("latin-1").lower()
            found = await self._find(host)
            if found is None:
                raise _Refused(_told(403, b'{"Message":null}', "AccessDeniedException"))
            response = await self._answer(found, host, request, call)
        except _Refused as refused:
            response = refused.response
        except AwsError as error:
            response = _refusal(error)
        except Exception as error:
            _log.error("request failed", extra={"request_id": call.request_id}, exc_info=error)
            response = _failure()
        response.headers.append((b"x-amzn-RequestId", call.request_id.encode()))
        if call.trace_out is not None:
            response.headers.append((b"X-Amzn-Trace-Id", call.trace_out.encode()))
        if found is not None:
            if found.url.cors is not None and request.method != "OPTIONS":
                response.headers = _with(response.headers, found.url.cors.headers(_origin(request)))
            taken = self._clock.monotonic() - began
            self._observe(found.place.tenant, found.place.name, response.status, taken)
        return response

    def body_limit(self, head: HttpRequest) -> int:
        return self._limits.sync_request_bytes

    def unwelcome(self, head: HttpRequest) -> HttpResponse | None:
        return None  # who may ask, the function's policy says, and the store may have to be asked for that

    def too_large(self, head: HttpRequest, size: int) -> HttpResponse:
        return _too_large(self._limits.sync_request_bytes)

    def refused(self, status: int, message: str) -> HttpResponse:
        response = _told(status, msgspec.json.encode({"message": message}), REFUSALS[status])
        if status == 503:
            response.headers.append(RETRY_AFTER)
        return response

    async def _find(self, host: str) -> Found | None:
        named = parse_host(host)
        found = None if named is None else await self._finder.find(named[0])
        return found if named is not None and found is not None and found.place.tenant.region == named[1] else None

    async def _answer(self, found: Found, host: str, request: HttpRequest, call: Call) -> HttpResponse:
        url, place = found.url, found.place
        if url.cors is not None and request.method == "OPTIONS":
            # A browser asks before it sends what it has, so without a signature.
            return Answer(200, list(url.cors.preflight_headers(_origin(request)))).response()
        caller = await self._caller(request, place.tenant.region) if url.auth_type == IAM else None
        if not url.admits(place.tenant, caller, found.policy):
            raise _Refused(_forbidden())
        now = self._clock.epoch()
        trace = _xray(call.trace_header)
        if trace is None:
            # The function is told of the trace that its invocation is going to belong to.
            trace = call.trace_header = f"Root=1-{int(now):08x}-{self._ids.token(12)}"
        asked = Asked(call.request_id, url.id, host, self._scheme, self._port, caller, now, trace)
        payload = await _whole(len(request.body), partial(http_events.event, request, asked))
        limit = self._limits.sync_request_bytes
        if len(payload) > limit:
            raise _Refused(_too_large(limit))
        call.tenant = place.tenant
        if url.invoke_mode == STREAMED:
            wanted = pb.InvokeWithResponseStreamRequest(
                function_name=place.name, qualifier=place.alias, payload=payload
            )  # fmt: skip
            return await self._streamed(wanted, call)
        run = self._invoke.run
        assert run is not None
        response = await run(pb.InvokeRequest(function_name=place.name, qualifier=place.alias, payload=payload), call)
        if response.HasField("function_error"):
            return _failure()
        try:
            answer = await _whole(len(response.payload), partial(http_events.answer, response.payload))
        except MalformedAnswer as error:
            _log.info("a function's answer is none", extra={"request_id": call.request_id, "cause": str(error)})
            return _failure()
        return answer.response()

    async def _caller(self, request: HttpRequest, region: str) -> Principal:
        body_hash = await _whole(len(request.body), lambda: sha256(request.body).hexdigest().encode())
        try:
            signer = self._verifier.verify(
                request.method, request.raw_path, request.raw_query, request.headers, body_hash, self._clock.epoch()
            )
            if signer.region != region:
                text = f"Credential should be scoped to a valid region, not '{signer.region}'."
                raise AwsError("InvalidSignatureException", text)
        except AwsError as error:
            if error.name == "MissingAuthenticationTokenException":
                raise _Refused(_forbidden()) from None
            told = msgspec.json.encode({"message": error.message})
            raise _Refused(_told(ERRORS[error.name].status, told, error.name)) from None
        return signer.key.principal

    async def _streamed(self, wanted: pb.InvokeWithResponseStreamRequest, call: Call) -> HttpResponse:
        """The answer of a function whose response is handed on as it comes."""
        stream = self._stream.stream
        assert stream is not None
        items = cast(AsyncGenerator[Any], stream(wanted, call))
        kind = (await anext(items)).response_stream_content_type
        pieces = _pieces(items)
        try:
            if kind != http_events.INTEGRATION:
                first = await anext(pieces, None)
                answer = Answer(200, [("Content-Type", kind or http_events.OCTETS)])
            else:
                answer, first = await _head(pieces)
        except (MalformedAnswer, _Failed) as error:
            await pieces.aclose()
            _log.info("a function's answer is none", extra={"request_id": call.request_id, "cause": str(error)})
            return _failure()
        response = answer.response()
        response.pieces = _after(first, pieces)
        if response.status in BODILESS:
            async for _ in response.pieces:
                pass
            response.pieces = None
        return response


# Whoever may ask at an address invokes as the function's own account does.
_NOBODY = Principal("anonymous", "", "anonymous")
_NOWHERE = Tenant("", "")


class _Failed(Exception):
    """The function failed in the midst of its response."""


async def _pieces(items: AsyncGenerator[Any]) -> AsyncGenerator[bytes]:
    """The bytes of a streamed response. Raises _Failed where the function does. Closed, it gives the invocation up."""
    async with aclosing(items):
        async for item in items:
            event = item.event_stream
            if event.HasField("payload_chunk"):
                yield event.payload_chunk.payload
            elif event.invoke_complete.HasField("error_code"):
                raise _Failed(event.invoke_complete.error_code)


async def _head(pieces: AsyncGenerator[bytes]) -> tuple[Answer, bytes]:
    """The head that a response begins with, and what of the body came with it."""
    data = b""
    async for piece in pieces:
        data += piece
        found = http_events.prelude(data)
        if found is not None:
            return found
        if len(data) > _PRELUDE:
            break
    raise MalformedAnswer("the response does not begin with a head")


async def _after(first: bytes | None, pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    if first:
        yield first
    async for piece in pieces:
        yield piece


async def _whole(size: int, work: Callable[[], T]) -> T:
    """Do something with so many bytes; much on a thread."""
    return work() if size < _ON_THREAD else await asyncio.to_thread(work)


def _xray(header: str | None) -> str | None:
    """A trace as X-Amzn-Trace-Id names it. None: there is none, or it is not understood."""
    if header is None or "Root=" in header:
        return header
    context = tracing.parse_traceparent(header)
    return None if context is None else context.xray


def _origin(request: HttpRequest) -> str | None:
    origin = request.headers.get(b"origin")
    return None if origin is None else origin.decode("latin-1")


def _told(status: int, body: bytes, error: str) -> HttpResponse:
    headers = [(b"Content-Type", b"application/json"), (b"x-amzn-ErrorType", error.encode())]
    return HttpResponse(status, headers, body)


def _forbidden() -> HttpResponse:
    text = (
        "Forbidden. For troubleshooting Function URL authorization issues, see: "
        "https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"
    )
    return _told(403, msgspec.json.encode({"Message": text}), "AccessDeniedException")


def _too_large(limit: int) -> HttpResponse:
    text = f"Request must be smaller than {limit} bytes for the InvokeFunction operation"
    return _told(413, msgspec.json.encode({"message": text}), "RequestEntityTooLargeException")


def _refusal(error: AwsError) -> HttpResponse:
    """The answer to a request that no function ran for."""
    status = ERRORS[error.name].status
    if error.name == "TooManyRequestsException":
        return _told(429, b'{"message":"Rate exceeded"}', error.name)
    if status == 413 or error.name == "RecursiveInvocationException":
        return _told(status, msgspec.json.encode({"message": error.message}), error.name)
    if status == 503:
        response = _told(status, msgspec.json.encode({"message": error.message}), error.name)
        response.headers.append(RETRY_AFTER)
        return response
    return _failure()


def _failure() -> HttpResponse:
    """What is said of a function that failed; why, its log says."""
    return HttpResponse(502, [(b"Content-Type", b"application/json")], _FAILED.encode())


def _with(headers: list[tuple[bytes, bytes]], cors: Any) -> list[tuple[bytes, bytes]]:
    told = http_events.with_cors([(name.decode("latin-1"), value.decode()) for name, value in headers], cors)
    return [(name.encode("latin-1"), value.encode()) for name, value in told]
