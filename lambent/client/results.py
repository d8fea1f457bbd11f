"""What calls answer."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from lambent.client.errors import LambentError, of_item
from lambent.v1 import invocation_service_pb2, log_service_pb2


class FunctionFailed(Exception):
    """The function ran and failed; raised by `InvokeResult.raise_for_error` and `json`."""

    def __init__(self, kind: str, message: str, document: Any) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind  # errorType of the error document
        self.message = message
        self.document = document  # the whole error document


@dataclass(frozen=True, slots=True)
class InvokeResult:
    """What came of an invocation."""

    payload: bytes  # what the handler returned as JSON, or the error document
    error: str | None  # "Unhandled" if the function failed
    executed_version: str
    log_tail: str | None  # last 4 KB of the invocation's log, if it was asked for
    request_id: str
    elapsed: float  # seconds that the call took, seen from here

    def raise_for_error(self) -> None:
        """Raise FunctionFailed if the function failed."""
        if self.error is None:
            return
        try:
            document = msgspec.json.decode(self.payload)
        except (msgspec.DecodeError, RecursionError):  # a runtime may say what it likes
            document = self.payload.decode(errors="replace")
        fields = document if isinstance(document, dict) else {"errorMessage": document}
        raise FunctionFailed(str(fields.get("errorType", self.error)), str(fields.get("errorMessage", "")), document)

    def json(self) -> Any:
        """What the handler returned. Raises FunctionFailed."""
        self.raise_for_error()
        return msgspec.json.decode(self.payload)

    @staticmethod
    def of(response: invocation_service_pb2.InvokeResponse, request_id: str, elapsed: float) -> InvokeResult:
        """From the message."""
        return InvokeResult(
            payload=response.payload,
            error=response.function_error or None,
            executed_version=response.executed_version,
            log_tail=base64.b64decode(response.log_result).decode(errors="replace") if response.log_result else None,
            request_id=request_id,
            elapsed=elapsed,
        )


def outcome_of(result: invocation_service_pb2.InvokeManyResult, elapsed: float) -> InvokeResult | LambentError:
    """What came of one invocation of a stream."""
    if result.HasField("error"):
        return of_item(result.error, result.request_id)
    return InvokeResult.of(result.response, result.request_id, elapsed)


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One line that a function wrote."""

    time: datetime
    request_id: str | None
    log_stream: str
    message: str

    @staticmethod
    def of(line: log_service_pb2.LogLine) -> LogRecord:
        """From the message."""
        return LogRecord(line.time.ToDatetime(UTC), line.request_id or None, line.log_stream, line.message)
