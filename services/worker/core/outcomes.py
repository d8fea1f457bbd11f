"""What an invocation that the function did not answer itself says: AWS's error types and texts. Pure.

Source: documents that AWS answers with (https://docs.aws.amazon.com/lambda/latest/dg/python-exceptions.html and the
recorded forms in AWS's own issue trackers).
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from services.worker.core.reasons import Reason

EXIT_ERROR = "Runtime.ExitError"
RESTORE_TIMED_OUT = "Runtime.RestoreHookUserTimeout"
_SIGNALS = {
    1: "hangup",
    2: "interrupt",
    3: "quit",
    4: "illegal instruction",
    5: "trace/breakpoint trap",
    6: "aborted",
    7: "bus error",
    8: "floating point exception",
    9: "killed",
    10: "user defined signal 1",
    11: "segmentation fault",
    12: "user defined signal 2",
    13: "broken pipe",
    14: "alarm clock",
    15: "terminated",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an invocation, or an init phase, went wrong."""

    error_type: str
    document: bytes  # body of the answer
    status: str  # of the REPORT line: timeout or error
    line: str | None  # what the platform itself writes to the log about it
    reason: Reason | None


def _document(error_type: str, message: str) -> bytes:
    return json.dumps({"errorType": error_type, "errorMessage": message}, separators=(",", ":")).encode()


def timed_out(request_id: str, seconds: float) -> Outcome:
    """The deadline has passed."""
    text = f"Task timed out after {seconds:.2f} seconds"
    document = _document("Sandbox.Timedout", f"RequestId: {request_id} Error: {text}")
    return Outcome("Sandbox.Timedout", document, "timeout", text, Reason.TIMED_OUT)


def restore_timed_out(request_id: str, seconds: float) -> Outcome:
    """The environment could not be restored from its snapshot in time: callers are told SnapStartTimeoutException."""
    text = f"Restore timed out after {seconds:.2f} seconds"
    document = _document(RESTORE_TIMED_OUT, f"RequestId: {request_id} Error: {text}")
    return Outcome(RESTORE_TIMED_OUT, document, "timeout", text, Reason.TIMED_OUT)


def exited(request_id: str, status: int | None, signal: int | None, *, out_of_memory: bool) -> Outcome:
    """The process has ended."""
    if out_of_memory:
        text = "Runtime exited with error: signal: killed"
    elif signal is not None:
        text = f"Runtime exited with error: signal: {_SIGNALS.get(signal, f'signal {signal}')}"
    elif status:
        text = f"Runtime exited with error: exit status {status}"
    else:
        text = "Runtime exited without providing a reason"
    document = _document(EXIT_ERROR, f"RequestId: {request_id} Error: {text}")
    reason = Reason.OUT_OF_MEMORY if out_of_memory else Reason.EXITED
    return Outcome(EXIT_ERROR, document, "error", f"RequestId: {request_id} Error: {text}", reason)


def init_error(error_type: str, document: bytes) -> Outcome:
    """The handler cannot be loaded; the document is the guest's."""
    return Outcome(error_type, document, "error", None, None)


def extension_failed(request_id: str, error_type: str, text: str) -> Outcome:
    """An extension has ended, or has said that it cannot go on."""
    line = f"RequestId: {request_id} Error: {text}"
    return Outcome(error_type, _document(error_type, line), "error", line, Reason.EXITED)


def stopped(request_id: str) -> Outcome:
    """The environment was stopped under the invocation."""
    document = _document("Sandbox.Failure", f"RequestId: {request_id} Error: The execution environment was stopped")
    return Outcome("Sandbox.Failure", document, "error", None, Reason.STOPPED)


def runtime_unavailable(request_id: str, text: str) -> Outcome:
    """The worker lacks what the function needs. The name is ours: on AWS there is no such case."""
    document = _document("Runtime.Unavailable", f"RequestId: {request_id} Error: {text}")
    return Outcome("Runtime.Unavailable", document, "error", text, None)


def launch_failed(request_id: str, error_type: str, text: str) -> Outcome:
    """The runtime or an extension cannot be started. `request_id`: empty where no invocation waits for it."""
    message = f"RequestId: {request_id} Error: {text}" if request_id else f"Error: {text}"
    return Outcome(error_type, _document(error_type, message), "error", None, None)


def response_truncated() -> Outcome:
    """A response that streams has ended before it was complete."""
    kind = "Runtime.TruncatedResponse"
    document = _document(kind, "The response ended before it was complete")
    return Outcome(kind, document, "error", None, Reason.PROTOCOL)


def response_too_large(limit: int) -> Outcome:
    """The response is, or was announced to be, beyond the limit."""
    text = f"Response payload size exceeded maximum allowed payload size ({limit} bytes)."
    document = _document("Function.ResponseSizeTooLarge", text)
    return Outcome("Function.ResponseSizeTooLarge", document, "error", None, Reason.PROTOCOL)


def what_is_told(
    answer: tuple[str | None, bytes] | None, outcome: Outcome | None, request_id: str
) -> tuple[Outcome | None, str | None, bytes, str | None, bool]:
    """What is told of an invocation: its outcome, error type, body, status of the REPORT line, whether it broke.

    `answer`: error type and body as the guest gave them; None: it gave none.
    """
    if answer is not None:
        error_type, body = answer
        return outcome, error_type, body, None if error_type is None else "error", outcome is not None
    # Without either it has ended in a way that no table lists.
    outcome = outcome or exited(request_id, None, None, out_of_memory=False)
    return outcome, outcome.error_type, outcome.document, outcome.status, True
