"""What AWS's protocols have in common whose requests all go to `/` and name their operation elsewhere than in the path.

A further service of one of them takes a proto with a ServiceRule (protos/lambent/v1/options.proto) and a handler. What
a protocol is made of stands in `json_door` and `query_door`; `HttpDoors` says which one a request is of.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from lambent.domain.clock import Clock, Ids
from lambent.domain.errors import AwsError
from lambent.domain.function_urls import MARK
from lambent.domain.names import Tenant
from lambent.infra.http_messages import REFUSALS, RETRY_AFTER, HttpRequest, HttpResponse, HttpService
from lambent.infra.sigv4 import Verifier
from lambent.v1 import options_pb2
from services.frontend.transport.call import Call, Door, trace_of
from services.frontend.transport.dispatch import NO_OPERATION, Dispatch, DispatchError, Entry

_log = logging.getLogger(__name__)

# The one path of every service of these protocols.
PATH = b"/"
# The content type of the Query protocol's requests.
FORM = b"application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Target:
    """One RPC on a door."""

    entry: Entry
    verifier: Verifier
    service: options_pb2.ServiceRule


class NamedDoor(ABC):
    """Serves the services of one protocol. A `lambent.infra.http_messages.HttpService` of one path."""

    door: Door
    body_bytes: int  # largest body; AWS does not say theirs, and no request of these services comes near it

    def __init__(self, dispatch: Dispatch, verifier: Callable[[str], Verifier], *, clock: Clock, ids: Ids) -> None:
        """`verifier`: makes the one for requests that are signed for a service of this name.

        Raises DispatchError when two RPCs claim one name.
        """
        self._observe = dispatch.observe
        self._clock = clock
        self._ids = ids
        self._targets: dict[bytes, Target] = {}
        verifiers: dict[str, Verifier] = {}
        for entry in dispatch.entries.values():
            rule = entry.method.containing_service.GetOptions().Extensions[options_pb2.service]
            name = self._name(entry, rule)
            if name is None:
                continue
            if name in self._targets:
                other = self._targets[name].entry.full_name
                raise DispatchError(f"{entry.full_name} and {other} are both {name.decode()}")
            if entry.run is None:
                raise DispatchError(f"{entry.full_name}: this protocol has no streams")
            signing = rule.signing_name
            if signing not in verifiers:
                verifiers[signing] = verifier(signing)
            self._targets[name] = Target(entry, verifiers[signing], rule)

    # What a protocol is made of

    @abstractmethod
    def _name(self, entry: Entry, rule: options_pb2.ServiceRule) -> bytes | None:
        """How requests name an RPC; None: its service is not of this protocol."""

    @abstractmethod
    def _named(self, request: HttpRequest) -> bytes | None:
        """What a request names; None: nothing."""

    @abstractmethod
    def _read(self, target: Target, request: HttpRequest) -> Any:
        """The message that a request has. Raises AwsError."""

    @abstractmethod
    def _answer(self, target: Target, message: Any, request_id: str) -> HttpResponse:
        """The answer that a message is."""

    @abstractmethod
    def _error(self, error: AwsError, request_id: str, target: Target | None) -> HttpResponse:
        """An error as this protocol tells it."""

    # lambent.infra.http_messages.HttpService

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
            call = Call(
                request_id,
                Tenant(signer.key.account, signer.region),
                signer.key.principal,
                self.door,
                None,
                trace_of(headers),
            )
            message = self._read(target, request)
            run = target.entry.run
            assert run is not None
            entered = True
            return self._answer(target, await run(message, call), request_id)
        except AwsError as error:
            if not entered:
                self._observe(_operation(target), error.name)
            return self._error(error, request_id, target)
        except Exception as error:
            # The operations' own failures never come here: this is a defect of the door.
            _log.error("request failed", extra={"request_id": request_id}, exc_info=error)
            if not entered:
                self._observe(_operation(target), "ServiceException")
            return self._error(AwsError("ServiceException", "An internal error occurred."), request_id, target)

    def body_limit(self, head: HttpRequest) -> int:
        return self.body_bytes

    def unwelcome(self, head: HttpRequest) -> HttpResponse | None:
        target: Target | None = None
        try:
            target = self._target(head)
            target.verifier.refute(head.raw_query, head.headers, self._clock.epoch())
        except AwsError as error:
            return self._refusal(target, error)
        return None

    def too_large(self, head: HttpRequest, size: int) -> HttpResponse:
        text = f"Request must be smaller than {self.body_bytes} bytes for this operation"
        return self._refusal(None, AwsError("RequestEntityTooLargeException", text))

    def refused(self, status: int, message: str) -> HttpResponse:
        response = self._refusal(None, AwsError(REFUSALS[status], message))
        if status == 503:
            response.headers.append(RETRY_AFTER)
        return response

    def _target(self, head: HttpRequest) -> Target:
        named = self._named(head)
        target = None if named is None else self._targets.get(named)
        if head.method != "POST" or target is None:
            raise AwsError("UnknownOperationException", "The requested operation does not exist.")
        return target

    def _refusal(self, target: Target | None, error: AwsError) -> HttpResponse:
        """The answer to a request that no handler gets, counted."""
        self._observe(_operation(target), error.name)
        return self._error(error, self._ids.uuid(), target)


class HttpDoors:
    """The HTTP doors on one port: hosts of function URLs have one of their own; else `/` is for those by name, and all
    other paths are restJson1's."""

    def __init__(self, rest: HttpService, json: NamedDoor, query: NamedDoor, urls: HttpService) -> None:
        self._rest = rest
        self._json = json
        self._query = query
        self._urls = urls
        self.refused = rest.refused

    def handle(self, request: HttpRequest) -> Coroutine[Any, Any, HttpResponse]:
        return self._door(request).handle(request)

    def body_limit(self, head: HttpRequest) -> int:
        return self._door(head).body_limit(head)

    def unwelcome(self, head: HttpRequest) -> HttpResponse | None:
        return self._door(head).unwelcome(head)

    def too_large(self, head: HttpRequest, size: int) -> HttpResponse:
        return self._door(head).too_large(head, size)

    def _door(self, head: HttpRequest) -> HttpService:
        if MARK in head.headers.get(b"host", b"").lower():
            return self._urls
        if head.raw_path != PATH:
            return self._rest
        form = head.headers.get(b"content-type", b"").lower().startswith(FORM)
        return self._query if form and b"x-amz-target" not in head.headers else self._json


def _operation(target: Target | None) -> str:
    return NO_OPERATION if target is None else target.entry.name
