"""Every error a client can meet, as one table; AWS's name, status and spelling, and the matching gRPC code.

Operations raise `AwsError` with the name of a row and a text; the doors render it. Nothing else in the code knows a
status. A name that is not a row is refused when it is raised. Source: the error shapes of AWS's models and
https://docs.aws.amazon.com/lambda/latest/api/CommonErrors.html.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Fault = Literal["User", "Service"]

# Names of gRPC status codes, so that this module needs no grpc.
GrpcCode = Literal[
    "INVALID_ARGUMENT",
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "ABORTED",
    "FAILED_PRECONDITION",
    "RESOURCE_EXHAUSTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
]


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """One kind of error."""

    status: int  # HTTP status on the REST door
    grpc: GrpcCode
    member: Literal["message", "Message"]  # key of the text in the JSON body: AWS spells it both ways, by error
    fault: Fault | None  # value of "Type" in the body; None: AWS's front end sends no Type with this one


ERRORS: Mapping[str, ErrorRow] = {
    # Found by the front end before any operation runs.
    "ValidationException": ErrorRow(400, "INVALID_ARGUMENT", "message", None),
    "SerializationException": ErrorRow(400, "INVALID_ARGUMENT", "message", None),
    "UnknownOperationException": ErrorRow(404, "UNIMPLEMENTED", "message", None),
    "BadRequestException": ErrorRow(400, "INVALID_ARGUMENT", "message", None),
    "RequestHeaderFieldsTooLargeException": ErrorRow(431, "RESOURCE_EXHAUSTED", "message", None),
    "MethodNotAllowedException": ErrorRow(405, "UNIMPLEMENTED", "message", None),
    "RequestEntityTooLargeException": ErrorRow(413, "RESOURCE_EXHAUSTED", "message", "User"),
    "RequestTimeoutException": ErrorRow(408, "DEADLINE_EXCEEDED", "message", "User"),
    "MissingAuthenticationTokenException": ErrorRow(403, "UNAUTHENTICATED", "message", None),
    "UnrecognizedClientException": ErrorRow(403, "UNAUTHENTICATED", "message", None),
    "InvalidSignatureException": ErrorRow(403, "UNAUTHENTICATED", "message", None),
    "IncompleteSignatureException": ErrorRow(400, "UNAUTHENTICATED", "message", None),
    "ExpiredTokenException": ErrorRow(403, "UNAUTHENTICATED", "message", None),
    "AccessDeniedException": ErrorRow(403, "PERMISSION_DENIED", "Message", None),
    # Raised by operations.
    "InvalidParameterValueException": ErrorRow(400, "INVALID_ARGUMENT", "message", "User"),
    "InvalidRequestContentException": ErrorRow(400, "INVALID_ARGUMENT", "message", "User"),
    "RecursiveInvocationException": ErrorRow(400, "FAILED_PRECONDITION", "Message", "User"),
    "SnapStartException": ErrorRow(400, "FAILED_PRECONDITION", "Message", "User"),
    "SnapStartTimeoutException": ErrorRow(408, "DEADLINE_EXCEEDED", "Message", "User"),
    "SnapStartNotReadyException": ErrorRow(409, "UNAVAILABLE", "Message", "User"),
    "CodeStorageExceededException": ErrorRow(400, "RESOURCE_EXHAUSTED", "message", "User"),
    "ResourceNotFoundException": ErrorRow(404, "NOT_FOUND", "Message", "User"),
    "ProvisionedConcurrencyConfigNotFoundException": ErrorRow(404, "NOT_FOUND", "message", "User"),
    "ResourceConflictException": ErrorRow(409, "ABORTED", "message", "User"),
    "ResourceInUseException": ErrorRow(400, "FAILED_PRECONDITION", "Message", "User"),
    "PolicyLengthExceededException": ErrorRow(400, "FAILED_PRECONDITION", "message", "User"),
    "PreconditionFailedException": ErrorRow(412, "FAILED_PRECONDITION", "message", "User"),
    "RequestTooLargeException": ErrorRow(413, "RESOURCE_EXHAUSTED", "message", "User"),
    "UnsupportedMediaTypeException": ErrorRow(415, "INVALID_ARGUMENT", "message", "User"),
    "TooManyRequestsException": ErrorRow(429, "RESOURCE_EXHAUSTED", "message", "User"),
    "InvalidParameterException": ErrorRow(400, "INVALID_ARGUMENT", "message", None),
    "ResourceAlreadyExistsException": ErrorRow(400, "ALREADY_EXISTS", "message", None),
    "ObjectNotFoundException": ErrorRow(400, "NOT_FOUND", "Message", None),
    "LimitExceededException": ErrorRow(400, "RESOURCE_EXHAUSTED", "Message", None),
    "InvalidNextTokenException": ErrorRow(400, "INVALID_ARGUMENT", "Message", None),
    "InvalidEventPatternException": ErrorRow(400, "INVALID_ARGUMENT", "Message", None),
    "ConflictException": ErrorRow(409, "ABORTED", "Message", None),
    "ServiceQuotaExceededException": ErrorRow(402, "RESOURCE_EXHAUSTED", "Message", None),
    "InternalServerException": ErrorRow(500, "INTERNAL", "Message", None),
    "ConcurrentModificationException": ErrorRow(400, "ABORTED", "Message", None),
    "TooManyTagsException": ErrorRow(400, "RESOURCE_EXHAUSTED", "Message", None),
    "ConcurrentUpdateException": ErrorRow(500, "ABORTED", "Message", "Service"),
    "InternalServiceException": ErrorRow(500, "INTERNAL", "Message", "Service"),
    "ServiceException": ErrorRow(500, "INTERNAL", "Message", "Service"),
    "InvalidRuntimeException": ErrorRow(502, "FAILED_PRECONDITION", "Message", "Service"),
    "InvalidZipFileException": ErrorRow(502, "FAILED_PRECONDITION", "Message", "Service"),
    "ResourceNotReadyException": ErrorRow(502, "UNAVAILABLE", "message", "Service"),
    # The cluster cannot take the request now (no worker, no capacity, store away); clients retry it by themselves.
    "ServiceUnavailableException": ErrorRow(503, "UNAVAILABLE", "Message", "Service"),
}


class AwsError(Exception):
    """An error that the client is told, by the name of its row."""

    def __init__(
        self,
        name: str,
        message: str,
        *,
        reason: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        """`reason` is the machine-readable cause (AWS's `Reason` where AWS has one)."""
        super().__init__(message)
        self.name = name
        self.row = ERRORS[name]
        self.message = message
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds

    def __str__(self) -> str:
        return f"{self.name}: {self.message}"


def validation(violations: list[str], name: str = "ValidationException") -> AwsError:
    """The front end's answer to values out of shape; each violation reads "Value '..' at '..' failed to ...".

    Source: AWS's own texts, e.g. "1 validation error detected: Value '901' at 'timeout' failed to satisfy constraint:
    Member must have value less than or equal to 900". `name`: what the service calls it.
    """
    plural = "" if len(violations) == 1 else "s"
    return AwsError(name, f"{len(violations)} validation error{plural} detected: " + "; ".join(violations))


def conflict(message: str) -> AwsError:
    """A request that does not go with what is there or under way."""
    return AwsError("ResourceConflictException", message)


def invalid_parameter(message: str) -> AwsError:
    """A value of the right shape that the service refuses."""
    return AwsError("InvalidParameterValueException", message)
