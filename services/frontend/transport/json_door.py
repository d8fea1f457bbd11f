"""AWS's JSON 1.1 protocol: POST / with `X-Amz-Target: PREFIX.OPERATION`, one document in, one document out.

Members are read and written as restJson1's are, all of them in the body. Errors are {"__type", "Message"}, or as the
service's rule names the text; whatever is the client's fault has status 400, whoever found it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from lambent.domain.clock import Clock, Ids
from lambent.domain.errors import AwsError
from lambent.infra.http_messages import RETRY_AFTER, HttpRequest, HttpResponse
from lambent.infra.sigv4 import Verifier
from lambent.v1 import options_pb2
from services.frontend.transport.call import Door
from services.frontend.transport.dispatch import Dispatch, Entry
from services.frontend.transport.named_door import NamedDoor, Target
from services.frontend.transport.restjson import RequestCodec, ResponseCodec

_CONTENT_TYPE = (b"Content-Type", b"application/x-amz-json-1.1")
# How errors are told of a target that is none. What every service of AWS calls a failure of its own.
_NO_SERVICE = options_pb2.ServiceRule(internal_error="InternalServiceException")


class JsonDoor(NamedDoor):
    """Serves the services that have a target prefix."""

    door: Door = "json"
    body_bytes = 1024 * 1024

    def __init__(self, dispatch: Dispatch, verifier: Callable[[str], Verifier], *, clock: Clock, ids: Ids) -> None:
        super().__init__(dispatch, verifier, clock=clock, ids=ids)
        entries = [target.entry for target in self._targets.values()]
        self._requests = {entry.full_name: RequestCodec(entry.request_class, []) for entry in entries}
        self._responses = {entry.full_name: ResponseCodec(entry.response_class, 200) for entry in entries}

    def _name(self, entry: Entry, rule: options_pb2.ServiceRule) -> bytes | None:
        return f"{rule.target_prefix}.{entry.name}".encode() if rule.target_prefix else None

    def _named(self, request: HttpRequest) -> bytes | None:
        return request.headers.get(b"x-amz-target")

    def _read(self, target: Target, request: HttpRequest) -> Any:
        return self._requests[target.entry.full_name].read((), b"", {}, request.body)

    def _answer(self, target: Target, message: Any, request_id: str) -> HttpResponse:
        _, _, answer = self._responses[target.entry.full_name].write(message)
        return HttpResponse(200, [_CONTENT_TYPE, (b"x-amzn-RequestId", request_id.encode())], answer or b"{}")

    def _error(self, error: AwsError, request_id: str, target: Target | None) -> HttpResponse:
        service = _NO_SERVICE if target is None else target.service
        name = (
            (service.internal_error or _NO_SERVICE.internal_error) if error.name == "ServiceException" else error.name
        )
        status = 400 if error.row.status < 500 else error.row.status
        body = msgspec.json.encode({"__type": name, service.message_member or "Message": error.message})
        response = HttpResponse(status, [_CONTENT_TYPE, (b"x-amzn-RequestId", request_id.encode())], body)
        if status == 503:
            response.headers.append(RETRY_AFTER)
        return response
