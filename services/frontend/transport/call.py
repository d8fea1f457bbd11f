"""What an operation knows of the call it serves, whichever door the call came through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lambent.domain.names import Tenant
from lambent.domain.principals import Principal

Door = Literal["rest", "json", "query", "grpc", "url"]


@dataclass(slots=True)
class Call:
    """One call. Made by a door; the fields under `answer` are the operation's to set."""

    request_id: str
    tenant: Tenant  # the key's account, and the region that the request was signed for
    principal: Principal
    door: Door
    deadline: float | None = None  # monotonic; None: the caller waits for as long as it takes
    trace_header: str | None = None  # as it came: X-Amzn-Trace-Id, else traceparent; None: the caller is not traced

    # answer
    trace_out: str | None = None  # X-Amzn-Trace-Id to send back; None: none is sent
    answered_id: str | None = None  # request id to send back, where the answer is that of another call; None: its own


def trace_of(headers: Mapping[bytes, bytes]) -> str | None:
    """What an HTTP request says of its trace, as `Call.trace_header` has it."""
    trace = headers.get(b"x-amzn-trace-id") or headers.get(b"traceparent")
    return None if trace is None else trace.decode("latin-1")
