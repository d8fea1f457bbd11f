"""What a call can raise.

LambentError
├── InvalidRequest   the request cannot be carried out as it is
├── AccessDenied     credentials are missing, wrong, expired, or do not allow it
├── NotFound         the function, version or alias is not there
├── Conflict         it exists already, or is being changed
├── Throttled        a limit stands against it; tried again by itself a few times
├── Unavailable      the cluster cannot be reached or has no room; tried again by itself a few times
└── ServiceFault     something broke in the cluster
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from lambent.domain.errors import ERRORS
from lambent.v1 import invocation_service_pb2


class LambentError(Exception):
    """A call that failed. Attributes: `name` (AWS's name of the error), `message`, `request_id`, `reason`,
    `retry_after` (seconds, None if the cluster did not say)."""

    def __init__(
        self, name: str, message: str, *, request_id: str = "", reason: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name
        self.message = message
        self.request_id = request_id
        self.reason = reason
        self.retry_after = retry_after


class InvalidRequest(LambentError):
    """The request cannot be carried out as it is."""


class AccessDenied(LambentError):
    """Credentials are missing, wrong, expired, or do not allow it."""


class NotFound(LambentError):
    """The function, version or alias is not there."""


class Conflict(LambentError):
    """It exists already, or is being changed."""


class Throttled(LambentError):
    """A limit stands against it."""


class Unavailable(LambentError):
    """The cluster cannot be reached or has no room."""


class ServiceFault(LambentError):
    """Something broke in the cluster."""


_KINDS: Mapping[grpc.StatusCode, type[LambentError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.FAILED_PRECONDITION: Conflict,
    grpc.StatusCode.UNIMPLEMENTED: InvalidRequest,
    grpc.StatusCode.UNAUTHENTICATED: AccessDenied,
    grpc.StatusCode.PERMISSION_DENIED: AccessDenied,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: Conflict,
    grpc.StatusCode.ABORTED: Conflict,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: Unavailable,
}

_STATUS_KEY = "grpc-status-details-bin"


def translate(error: grpc.RpcError) -> LambentError:
    """The library's error as ours; synchronous and asyncio errors have the same methods and no common base."""
    call: Any = error
    code, text = call.code(), call.details() or ""
    name, request_id, reason, retry_after = code.name, "", "", None
    for key, value in call.trailing_metadata() or ():
        if key != _STATUS_KEY or not isinstance(value, bytes):
            continue
        for detail in status_pb2.Status.FromString(value).details:
            info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
            if detail.Unpack(info):
                name = info.reason
                request_id = info.metadata.get("RequestId", "")
                reason = info.metadata.get("Reason", "")
            elif detail.Unpack(retry):
                retry_after = retry.retry_delay.ToMilliseconds() / 1000
    return _kind(name, code)(name, text, request_id=request_id, reason=reason, retry_after=retry_after)


def of_item(error: invocation_service_pb2.InvokeManyError, request_id: str) -> LambentError:
    """The error of one invocation of a stream."""
    row = ERRORS.get(error.name)
    kind = ServiceFault if row is None else _kind(error.name, grpc.StatusCode[row.grpc])
    retry_after = error.retry_after_seconds if error.HasField("retry_after_seconds") else None
    return kind(error.name, error.message, request_id=request_id, reason=error.reason, retry_after=retry_after)


def _kind(name: str, code: grpc.StatusCode) -> type[LambentError]:
    kind = Throttled if name == "TooManyRequestsException" else _KINDS.get(code, ServiceFault)
    return InvalidRequest if code is grpc.StatusCode.RESOURCE_EXHAUSTED and kind is ServiceFault else kind
