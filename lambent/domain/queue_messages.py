"""A queue's messages as the function's event has them, and which of them its answer says have failed.

Sources: https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html and services-sqs-errorhandling.html.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lambent.domain.destinations import Destination

_OPEN, _CLOSE = b'{"Records":[', b"]}"
# What an event has beyond its records, and beyond each of them.
FRAME_BYTES, BETWEEN_BYTES = len(_OPEN + _CLOSE), 1
# Members of a message's attribute that are text.
_VALUES = ("stringValue", "binaryValue")
# The system attribute that carries a trace.
TRACE_HEADER = "AWSTraceHeader"


def record(message: Mapping[str, Any], source: Destination, region: str) -> dict[str, Any]:
    """The record of a message as SQS writes it. `region`: where the function is, for a source that says none."""
    return {
        "messageId": _text(message, "MessageId"),
        "receiptHandle": _text(message, "ReceiptHandle"),
        "body": _text(message, "Body"),
        "attributes": _members(message, "Attributes"),
        "messageAttributes": {name: _attribute(each) for name, each in _members(message, "MessageAttributes").items()},
        "md5OfMessageAttributes": message.get("MD5OfMessageAttributes"),
        "md5OfBody": _text(message, "MD5OfBody"),
        "eventSource": "aws:sqs",
        "eventSourceARN": source.arn,
        "awsRegion": source.region or region,
    }


def encoded(document: Mapping[str, Any]) -> bytes:
    """A record as JSON text."""
    try:
        return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half a character, which JSON can say and UTF-8 cannot
        return json.dumps(document, separators=(",", ":")).encode()


def event(records: Iterable[bytes]) -> bytes:
    """The event of encoded records, in their order."""
    return _OPEN + b",".join(records) + _CLOSE


def failed(response: bytes, ids: Sequence[str]) -> frozenset[str]:
    """Which of a batch's messages its function says have failed: all of them where that cannot be understood."""
    every = frozenset(ids)
    try:
        answer = json.loads(response) if response.strip() else None
    except (ValueError, RecursionError):
        return every
    if answer is None or answer == "":
        return frozenset()
    if not isinstance(answer, dict):
        return every
    failures = answer.get("batchItemFailures")
    if failures is None:
        return frozenset()
    if not isinstance(failures, list):
        return every
    named: set[str] = set()
    for each in failures:
        id_ = each.get("itemIdentifier") if isinstance(each, dict) else None
        if not isinstance(id_, str) or id_ not in every:
            return every
        named.add(id_)
    return frozenset(named)


def trace_of(document: Mapping[str, Any]) -> str | None:
    """The trace that a record's message names; None: it names none."""
    header = document["attributes"].get(TRACE_HEADER)
    return header if isinstance(header, str) else None


def _text(message: Mapping[str, Any], name: str) -> str:
    return str(message.get(name, ""))


def _members(message: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    members = message.get(name)
    return members if isinstance(members, dict) else {}


def _attribute(attribute: Any) -> dict[str, Any]:
    said = attribute if isinstance(attribute, dict) else {}
    values = {name: said[name[0].upper() + name[1:]] for name in _VALUES if said.get(name[0].upper() + name[1:])}
    return {**values, "stringListValues": [], "binaryListValues": [], "dataType": said.get("DataType", "String")}
