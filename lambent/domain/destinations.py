"""Where is told what came of an asynchronous event, and the exact words: records for destinations, the event itself for
dead-letter queues. Pure: values in, bytes and values out.

Sources: https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html and AWS's recorded records.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from lambent.domain.async_events import Condition
from lambent.domain.json_text import is_json
from lambent.domain.names import Tenant, function_arn

# Services that are told of a success, and those that are told of a failure. Dead letters go to the last.
ON_SUCCESS = ("sqs", "sns", "lambda", "events")
ON_FAILURE = (*ON_SUCCESS, "s3")
DEAD_LETTERS = ("sqs", "sns")
# Longest error message that a dead letter carries, in bytes.
ERROR_MESSAGE_BYTES = 1024
# What is no character of XML 1.0, which queues and topics refuse in attributes. Source: API_SendMessage of SQS.
_NO_CHARACTER = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Destination:
    """A resource of one of AWS's services."""

    arn: str
    service: str  # as the ARN calls it
    region: str  # empty in a bucket's ARN
    account: str  # empty in a bucket's ARN
    resource: str

    @property
    def ordered(self) -> bool:
        """Whether it is a FIFO queue or topic."""
        return self.resource.endswith(".fifo")

    @property
    def function(self) -> tuple[str, str | None]:
        """Name and qualifier, of a function."""
        _, _, rest = self.resource.partition("function:")
        name, _, qualifier = rest.partition(":")
        return name, qualifier or None


def resource_of(arn: str, services: tuple[str, ...]) -> Destination | None:
    """The resource that an ARN names. None: it is of another service, or incomplete."""
    parts = arn.split(":", 5)
    if len(parts) != 6 or parts[0] != "arn" or parts[2] not in services or not parts[5]:
        return None
    resource = Destination(arn, parts[2], parts[3], parts[4], parts[5])
    if resource.service != "s3" and not (resource.region and resource.account):
        return None
    return resource


def parse(arn: str, services: tuple[str, ...]) -> Destination | None:
    """The destination that an ARN names. None: it is of another service, or something that is not served there."""
    destination = resource_of(arn, services)
    if destination is None:
        return None
    match destination.service:
        case "sqs" | "sns":
            # FIFO queues and topics cannot be destinations.
            return None if destination.ordered else destination
        case "lambda":
            return destination if destination.resource.startswith("function:") and destination.function[0] else None
        case "events":
            return destination if destination.resource.startswith("event-bus/") else None
        case _:
            return None if "/" in destination.resource else destination


@dataclass(frozen=True, slots=True)
class Ended:
    """An event that has ended, with everything that may be told of it."""

    tenant: Tenant
    name: str
    qualifier: str | None
    request_id: str
    condition: Condition
    attempts: int
    now: float  # epoch seconds
    payload: bytes  # JSON text
    version: str | None  # that ran last; None: it never ran
    error: str | None  # functionError of that attempt
    response: bytes  # JSON text that the handler answered last
    detail: str  # what stood against it

    @property
    def function_arn(self) -> str:
        """Always qualified."""
        return function_arn(self.tenant, self.name, self.qualifier or "$LATEST")


def record(ended: Ended) -> bytes:
    """What a destination is told. Payload and response go in as they are: nothing of theirs is written anew, unless the
    response is no JSON, as Python's NaN or a text is."""
    context = {
        "requestId": ended.request_id,
        "functionArn": ended.function_arn,
        "condition": ended.condition.value,
        "approximateInvokeCount": ended.attempts,
    }
    members = [
        ("version", b'"1.0"'),
        ("timestamp", _json(timestamp(ended.now))),
        ("requestContext", _json(context)),
        ("requestPayload", ended.payload),
    ]
    if ended.version is not None:
        response: dict[str, object] = {"statusCode": 200, "executedVersion": ended.version}
        if ended.error is not None:
            response["functionError"] = ended.error
        members += [("responseContext", _json(response)), ("responsePayload", _json_of(ended.response))]
    return b"{" + b",".join(b'"' + name.encode() + b'":' + value for name, value in members) + b"}"


def bus_entry(ended_record: bytes, bus: str, function: str, condition: Condition) -> dict[str, object]:
    """The entry of PutEvents. `bus`, `function`: ARNs."""
    outcome = "Success" if condition is Condition.SUCCESS else "Failure"
    return {
        "Source": "lambda",
        "DetailType": f"Lambda Function Invocation Result - {outcome}",
        "Resources": [bus, function],
        "Detail": ended_record.decode(),
        "EventBusName": bus,
    }


def object_key(name: str, now: float, unique: str) -> str:
    """The key of a record in a bucket; `unique`: a UUID."""
    return dated_key(f"aws/lambda/async/{name}", now, unique)


def dated_key(folder: str, now: float, unique: str) -> str:
    """A key below a folder of a bucket, by day and second. `now`: epoch seconds."""
    moment = datetime.fromtimestamp(now, UTC)
    return f"{folder}/{moment:%Y/%m/%d}/{moment:%Y-%m-%dT%H.%M.%S}-{unique}"


def dead_letter_attributes(ended: Ended) -> Mapping[str, tuple[str, str]]:
    """Message attributes of a dead letter: name → (type, value). Its body is the event as it came."""
    told = _NO_CHARACTER.sub("\ufffd", _error_message(ended))
    message = told.encode()[:ERROR_MESSAGE_BYTES].decode(errors="ignore")
    attributes = {
        "RequestID": ("String", ended.request_id),
        "ErrorCode": ("Number", "200" if ended.version is not None else "429"),
    }
    # An attribute may not be empty.
    return attributes | ({"ErrorMessage": ("String", message)} if message else {})


def _error_message(ended: Ended) -> str:
    """The errorMessage of what the handler answered; what stood against the event where it never ran."""
    if ended.version is None:
        return ended.detail
    try:
        answer = json.loads(ended.response)
    except (ValueError, RecursionError):
        return ""
    message = answer.get("errorMessage", "") if isinstance(answer, dict) else ""
    return message if isinstance(message, str) else ""


def _json_of(response: bytes) -> bytes:
    """A response within a record, which is JSON: as it is where that is JSON too, else as a text."""
    if not response:
        return b"null"
    return response if is_json(response) else _json(response.decode(errors="replace"))


def timestamp(epoch: float) -> str:
    """Epoch seconds as records write them: UTC, with milliseconds."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
