"""What a caller may ask for an asynchronous event beyond what AWS Lambda knows: a token that keeps it from being queued
twice, and a time before which it is not run. Lambent's own; who asks for neither gets AWS's semantics. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from lambent.domain.errors import invalid_parameter

_TOKEN = re.compile(r"[!-~]{1,128}")
_EPOCH = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")
_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


@dataclass(frozen=True, slots=True)
class EventOptions:
    """What was asked for one event."""

    dedup_token: str | None = None
    not_before: float | None = None  # epoch seconds; None: it runs as soon as it can


def event_options(token: str | None, not_before: str | None, kind: str, now: float, ahead: float) -> EventOptions:
    """What was sent; None: nothing. `kind`: the invocation type; `ahead`: how many seconds from `now` an event may at
    most be put off. Raises InvalidParameterValueException."""
    if kind != "Event":
        raise invalid_parameter(
            f"DedupToken and NotBefore are for the Event invocation type; the invocation type is {kind}."
        )
    if token is not None and not _TOKEN.fullmatch(token):
        raise invalid_parameter("DedupToken must be 1 to 128 visible ASCII characters.")
    if not_before is None:
        return EventOptions(token)
    at = _seconds(not_before)
    if at > now + ahead:
        raise invalid_parameter(
            f"NotBefore must be at most {ahead:g} seconds ahead, the maximal age of the function's events."
        )
    return EventOptions(token, at if at > now else None)


def _seconds(text: str) -> float:
    try:
        if _EPOCH.fullmatch(text):
            return float(text)
        if _RFC3339.fullmatch(text):
            return datetime.fromisoformat(text.upper()).timestamp()
    except ValueError:
        pass  # a thirteenth month, say
    raise invalid_parameter("NotBefore must be epoch seconds or a time as RFC 3339 writes it: 2030-01-31T08:00:00Z.")
