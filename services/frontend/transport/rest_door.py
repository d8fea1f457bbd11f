"""AWS's REST API: routes, signatures and restJson1 around the operations of the dispatch table.

A `lambent.infra.http.HttpService`. Every answer has a request id; every error has AWS's envelope: the name in
x-amzn-ErrorType, and {"Type"?, "message" or "Message", "Reason"?} as the body.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Any

from lambent.domain.clock import Clock, Ids
from lambent.domain.errors import AwsError
from lambent.domain.limits import Limits
from lambent.domain.names import Tenant
from lambent.infra.http_messages import REFUSALS, RETRY_AFTER, Handler, HttpRequest, HttpResponse, error_response
from lambent.infra.sigv4 import Verifier
from services.frontend.transport import event_stream
from services.frontend.transport.call import Call, trace_of
from services.frontend.transport.dispatch import NO_OPERATION, Dispatch
from services.frontend.transport.routes import Match, Route, RouteTable

_log = logging.getLogger(__name__)

# Above it a body is hashed and read on a thread: hashing 6 MiB would hold the loop for 5 ms, decoding 60 MB for 200 ms.
_ON_THREAD = 256 * 1024
# Bodies of requests that lead nowhere: enough to read them and say so.
_UNROUTED_BODY = 64 * 1024


class RestDoor:
    """Serves every RPC that has a google.api.http rule."""

    def __init__(
        self,
        dispatch: Dispatch,
        verifier: Callable[[str], Verifier],
        *,
        clock: Clock,
        ids: Ids,
        limits: Limits,
        plain: Mapping[str, Handler] | None = None,
    ) -> None:
        """`verifier`: makes the one for requests that are signed for a service of this name. `plain`: handlers outside
        AWS's API by path prefix, unauthenticated here: package downloads, health.

        Raises DispatchError when two RPCs claim one route.
        """
        self._observe = dispatch.observe
        self._routes = RouteTable(dispatch.entries.values())
        self._verifiers = {name: verifier(name) for name in {route.signing_name for route in self._routes.routes}}
        self._clock = clock
        self._ids = ids
        self._limits = limits
        self._plain = [(prefix.encode(), handler) for prefix, handler in (plain or {}).items()]
        self._tenant: Callable[[str, str], Tenant] = lru_cache(maxsize=1024)(Tenant)

    @property
    def routes(self) -> list[Route]:
        """What is served."""
        return self._routes.routes

    # lambent.infra.http.HttpService

    async def handle(self, request: HttpRequest) -> HttpResponse:
        request_id = self._ids.uuid()
        match: Match | None
        route: Route | None
        match, route = request.found or self._find(request)
        if match is None:
            for prefix, handler in self._plain:
                if request.raw_path.startswith(prefix):
                    plain = await handler(request)
                    plain.headers.append((b"x-amzn-RequestId", request_id.encode()))
                    return plain
        call: Call | None = None
        entered = False  # from then on the dispatch table counts
        try:
            route = _known(match, route, request)
            assert match is not None
            headers, body = request.headers, request.body
            large = len(body) >= _ON_THREAD
            body_hash = _hash(body) if not large else await asyncio.to_thread(_hash, body)
            signer = self._verifiers[route.signing_name].verify(
                request.method, request.raw_path, request.raw_query, headers, body_hash, self._clock.epoch()
            )
            call = Call(
                request_id,
                self._tenant(signer.key.account, signer.region),
                signer.key.principal,
                "rest",
                None,
                trace_of(headers),
            )
            entry = route.entry
            run = entry.run
            if route.takes_payload:
                codec = route.request
                message = codec.read_checked(match.variables, request.raw_query, headers, body, entry.check)
                run = entry.run_checked
            elif large:
                message = await asyncio.to_thread(route.request.read, match.variables, request.raw_query, headers, body)
            else:
                message = route.request.read(match.variables, request.raw_query, headers, body)
            entered = True
            if entry.stream is not None:
                response = await self._streamed(route, entry.stream(message, call))
            else:
                assert run is not None
                response = HttpResponse(*route.response.write(await run(message, call)))
        except AwsError as error:
            if not entered:
                self._observe(_name(route), error.name)
            response = error_answer(_told(error, route), request_id)
            if error.name == "MethodNotAllowedException" and match is not None:
                response.headers.append((b"Allow", ", ".join(sorted(match.routes)).encode()))
            if call is not None and call.trace_out is not None:
                response.headers.append((b"X-Amzn-Trace-Id", call.trace_out.encode()))
            return response
        except Exception as error:
            # The operations' own failures never come here: this is a defect of the door.
            _log.error("request failed", extra={"request_id": request_id}, exc_info=error)
            if not entered:
                self._observe(_name(route), "ServiceException")
            defect = AwsError("ServiceException", "An internal error occurred.")
            return error_answer(_told(defect, route), request_id)
        response.headers.append((b"x-amzn-RequestId", (call.answered_id or request_id).encode()))
        if call.trace_out is not None:
            response.headers.append((b"X-Amzn-Trace-Id", call.trace_out.encode()))
        return response

    async def _streamed(self, route: Route, items: AsyncIterator[Any]) -> HttpResponse:
        """The answer of an RPC that answers with a stream: the first item says what comes before it."""
        first = await anext(items)
        status, out, _ = route.response.write(first)
        union = route.response.payload
        out = [header for header in out if header[0] != b"Content-Type"]
        if status == 204 or union is None:
            async for _ in items:
                pass
            return HttpResponse(status, out)

        async def pieces() -> AsyncGenerator[bytes]:
            try:
                for encoded in event_stream.events(getattr(first, union)):
                    yield encoded
                async for item in items:
                    for encoded in event_stream.events(getattr(item, union)):
                        yield encoded
            except AwsError as error:
                yield event_stream.error(error)

        out.append((b"Content-Type", event_stream.CONTENT_TYPE.encode()))
        return HttpResponse(status, out, pieces=pieces())

    def body_limit(self, head: HttpRequest) -> int:
        route = self._route(head)
        if route is None:
            return _UNROUTED_BODY
        return self._limits.sync_request_bytes if route.takes_payload else self._limits.control_request_bytes

    def unwelcome(self, head: HttpRequest) -> HttpResponse | None:
        match, route = self._find(head)
        if match is None and any(head.raw_path.startswith(prefix) for prefix, _ in self._plain):
            return None
        try:
            route = _known(match, route, head)
            self._verifiers[route.signing_name].refute(head.raw_query, head.headers, self._clock.epoch())
        except AwsError as error:
            return self._refusal(route, error)
        return None

    def too_large(self, head: HttpRequest, size: int) -> HttpResponse:
        route = self._route(head)
        if route is not None and route.takes_payload:
            kind = head.headers.get(b"x-amz-invocation-type", b"RequestResponse")[:32].decode("latin-1")
            text = (
                f"{size} byte payload is too large for the {kind} invocation type "
                f"(limit {self._limits.sync_request_bytes} bytes)"
            )
        else:
            what = "this" if route is None else f"the {route.entry.name}"
            text = f"Request must be smaller than {self.body_limit(head)} bytes for {what} operation"
        return self._refusal(route, AwsError("RequestEntityTooLargeException", text))

    def refused(self, status: int, message: str) -> HttpResponse:
        response = self._refusal(None, AwsError(REFUSALS[status], message))
        if status == 503:
            response.headers.append(RETRY_AFTER)
        return response

    def _refusal(self, route: Route | None, error: AwsError) -> HttpResponse:
        """The answer to a request that no handler gets, counted."""
        self._observe(_name(route), error.name)
        return error_answer(error, self._ids.uuid())

    def _find(self, head: HttpRequest) -> tuple[Match | None, Route | None]:
        """Where a request leads; kept with it, as it is asked for before and after the body is read."""
        match = self._routes.find(head.raw_path)
        head.found = found = match, None if match is None else match.choose(head.method, head.raw_query)
        return found

    def _route(self, head: HttpRequest) -> Route | None:
        return self._find(head)[1]


def _known(match: Match | None, route: Route | None, head: HttpRequest) -> Route:
    if match is None:
        raise AwsError("UnknownOperationException", "The requested operation does not exist.")
    if route is None:
        raise AwsError("MethodNotAllowedException", f"{head.method[:32]} is not allowed on this resource.")
    return route


def _told(error: AwsError, route: Route | None) -> AwsError:
    """The error as the route's service calls it."""
    if error.name != "ServiceException" or route is None or not route.internal_error:
        return error
    return AwsError(route.internal_error, error.message)


def _name(route: Route | None) -> str:
    return NO_OPERATION if route is None else route.entry.name


def _hash(body: bytes) -> bytes:
    return sha256(body).hexdigest().encode()


def error_answer(error: AwsError, request_id: str) -> HttpResponse:
    """An error in AWS's envelope."""
    response = error_response(error.name, error.message, error.reason)
    response.headers.append((b"x-amzn-RequestId", request_id.encode()))
    if error.retry_after_seconds is not None:
        response.headers.append((b"Retry-After", str(max(1, math.ceil(error.retry_after_seconds))).encode()))
    return response
