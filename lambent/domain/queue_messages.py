"""A queue's messages as the function's event has them.

Source: https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lambent.domain.destinations import Destination

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
