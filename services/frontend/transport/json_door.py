"""AWS's JSON 1.1 protocol: POST / with `X-Amz-Target: PREFIX.OPERATION`, one document in, one document out.

Serves every RPC of the dispatch table whose service has a ServiceRule (protos/lambent/v1/options.proto), so a further
service of this protocol takes a proto and a handler. Members are read and written as restJson1's are, all of them in
the body. Errors are {"__type", "Message"}, or as the rule names the text; whatever is the client's fault has status
400, whoever found it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256

import msgspec

from lambent.domain.clock import Clock, Ids
from lambent.domain.errors import AwsError
from lambent.domain.names import Tenant
from lambent.infra.http_messages import REFUSALS, RETRY_AFTER, HttpRequest, HttpResponse, HttpService
from lambent.infra.sigv4 import Verifier
from lambent.v1 import options_pb2
from services.frontend.transport.call import Call
from services.frontend.transport.dispatch import NO_OPERATION, Dispatch, DispatchError, Entry
from services.frontend.transport.restjson import RequestCodec, ResponseCodec

_log = logging.getLogger(__name__)

# The one path of every service of this protocol.
PATH = b"/"
# Largest body. AWS does not say theirs; no document of these services comes near it.
BODY_BYTES = 1024 * 1024

_CONTENT_TYPE = (b"Content-Type", b"application/x-amz-json-1.1")
# How errors are told of a target that is none. What every service of AWS calls a failure of its own.
_NO_SERVICE = options_pb2.ServiceRule(internal_error="InternalServiceException")


@dataclass(frozen=True, slots=True)
class Target:
    """One RPC on this door."""

    entry: Entry
    request: RequestCodec
    response: ResponseCodec
    verifier: Verifier
    service: options_pb2.ServiceRule


class JsonDoor:
    """Serves the services that have a target prefix. A `lambent.infra.http_messages.HttpService` of one path."""

    def __init__(self, dispatch: Dispatch, verifier: Callable[[str], Verifier], *, clock: Clock, ids: Ids) -> None:
        """`verifier`: makes the one for requests that are signed for a service of this name.

        Raises DispatchError when two RPCs claim one target.
        """
        self._observe = dispatch.observe
        self._clock = clock
        self._ids = ids
        self._targets = _targets(dispatch.entries.values(), verifier)

    async def handle(self, request: HttpRequest) -> HttpResponse:
        request_id = self._ids.uuid()
        target: Target | None = None
        entered = False  # from then on the middleware counts
        try:
            target = self._target(request)
            body_hash = sha256(request.body).hexdigest().encode()
            headers = request.headers
            signer = target.verifier.verify(
                request.method, request.raw_path, request.raw_query, headers, body_hash, self._clock.epoch()
            )
            trace = headers.get(b"x-amzn-trace-id") or headers.get(b"traceparent")
            call = Call(
                request_id,
                Tenant(signer.key.account, signer.region),
                signer.key.principal,
                "json",
                None,
                None if trace is None else trace.decode("latin-1"),
            )
            message = target.request.read((), b"", {}, request.body)
            run = target.entry.run
            assert run is not None
            entered = True
            _, _, answer = target.response.write(await run(message, call))
        except AwsError as error:
            if not entered:
                self._observe(_name(target), error.name)
            return _error(error, request_id, target)
        except Exception as error:
            # The operations' own failures never come here: this is a defect of the door.
            _log.error("request failed", extra={"request_id": request_id}, exc_info=error)
            if not entered:
                self._observe(_name(target), "ServiceException")
            return _error(AwsError("ServiceException", "An internal error occurred."), request_id, target)
        return HttpResponse(200, [_CONTENT_TYPE, (b"x-amzn-RequestId", request_id.encode())], answer or b"{}")

    def body_limit(self, head: HttpRequest) -> int:
        return BODY_BYTES

    def unwelcome(self, head: HttpRequest) -> HttpResponse | None:
        target: Target | None = None
        try:
            target = self._target(head)
            target.verifier.refute(head.raw_query, head.headers, self._clock.epoch())
        except AwsError as error:
            return self._refusal(target, error)
        return None

    def too_large(self, head: HttpRequest, size: int) -> HttpResponse:
        text = f"Request must be smaller than {BODY_BYTES} bytes for this operation"
        return self._refusal(None, AwsError("RequestEntityTooLargeException", text))

    def refused(self, status: int, message: str) -> HttpResponse:
        response = self._refusal(None, AwsError(REFUSALS[status], message))
        if status == 503:
            response.headers.append(RETRY_AFTER)
        return response

    def _target(self, head: HttpRequest) -> Target:
        named = head.headers.get(b"x-amz-target")
        target = None if named is None else self._targets.get(named)
        if head.method != "POST" or target is None:
            raise AwsError("UnknownOperationException", "The requested operation does not exist.")
        return target

    def _refusal(self, target: Target | None, error: AwsError) -> HttpResponse:
        """The answer to a request that no handler gets, counted."""
        self._observe(_name(target), error.name)
        return _error(error, self._ids.uuid(), target)


class HttpDoors:
    """The two HTTP doors on one port: JSON 1.1 has the path `/`, restJson1 all others."""

    def __init__(self, rest: HttpService, json: JsonDoor) -> None:
        self._rest = rest
        self._json = json
        self.refused = rest.refused

    async def handle(self, request: HttpRequest) -> HttpResponse:
        return await self._door(request).handle(request)

    def body_limit(self, head: HttpRequest) -> int:
        return self._door(head).body_limit(head)

    def unwelcome(self, head: HttpRequest) -> HttpResponse | None:
        return self._door(head).unwelcome(head)

    def too_large(self, head: HttpRequest, size: int) -> HttpResponse:
        return self._door(head).too_large(head, size)

    def _door(self, head: HttpRequest) -> HttpService:
        return self._json if head.raw_path == PATH else self._rest


def _targets(entries: Iterable[Entry], verifier: Callable[[str], Verifier]) -> dict[bytes, Target]:
    targets: dict[bytes, Target] = {}
    verifiers: dict[str, Verifier] = {}
    for entry in entries:
        rule = entry.method.containing_service.GetOptions().Extensions[options_pb2.service]
        if not rule.target_prefix:
            continue
        name = f"{rule.target_prefix}.{entry.name}".encode()
        if name in targets:
            raise DispatchError(f"{entry.full_name} and {targets[name].entry.full_name} are both {name.decode()}")
        if entry.run is None:
            raise DispatchError(f"{entry.full_name}: JSON 1.1 has no streams")
        signing = rule.signing_name
        if signing not in verifiers:
            verifiers[signing] = verifier(signing)
        targets[name] = Target(
            entry,
            RequestCodec(entry.request_class, []),
            ResponseCodec(entry.response_class, 200),
            verifiers[signing],
            rule,
        )
    return targets


def _name(target: Target | None) -> str:
    return NO_OPERATION if target is None else target.entry.name


def _error(error: AwsError, request_id: str, target: Target | None) -> HttpResponse:
    """An error as this protocol tells it."""
    service = _NO_SERVICE if target is None else target.service
    name = (service.internal_error or _NO_SERVICE.internal_error) if error.name == "ServiceException" else error.name
    status = 400 if error.row.status < 500 else error.row.status
    body = msgspec.json.encode({"__type": name, service.message_member or "Message": error.message})
    response = HttpResponse(status, [_CONTENT_TYPE, (b"x-amzn-RequestId", request_id.encode())], body)
    if status == 503:
        response.headers.append(RETRY_AFTER)
    return response
