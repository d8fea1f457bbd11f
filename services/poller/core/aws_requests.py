"""How each of AWS's services is told something, as values: requests in its own protocol, and what its answer means."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from lambent.domain import queue_messages
from lambent.domain.destinations import Destination

# Codes of errors that go by, whatever their status. Source: the services' lists of common errors.
_PASSING = ("Throttl", "RequestLimitExceeded", "TooManyRequests", "ServiceUnavailable", "InternalFailure", "SlowDown")


@dataclass(frozen=True, slots=True)
class AwsRequest:
    """What is sent, but for what signing adds."""

    method: str
    path: str
    headers: Mapping[str, str]  # lower-case names
    body: bytes


@dataclass(frozen=True, slots=True)
class Message:
    """What is told."""

    body: bytes
    attributes: Mapping[str, tuple[str, str]]  # name → (type, value); of messages to queues and topics
    bus_entry: Mapping[str, object] | None = None  # for an event bus
    object_key: str = ""  # for a bucket
    trace: str = ""  # X-Amzn-Trace-Id; empty: none. A queue hands it on with the message


def request(destination: Destination, message: Message, endpoint: str) -> AwsRequest:
    """The request that tells a destination something."""
    match destination.service:
        case "sqs":
            return _sqs(destination, message, endpoint)
        case "sns":
            return _sns(destination, message)
        case "events":
            entries = json.dumps({"Entries": [message.bus_entry]}).encode()
            return _json("1.1", "AWSEvents.PutEvents", entries)
        case "s3":
            path = f"/{quote(destination.resource)}/{quote(message.object_key)}"
            return AwsRequest("PUT", path, {"content-type": "application/json"}, message.body)
        case _:
            path = f"/2015-03-31/functions/{quote(destination.arn, safe='')}/invocations"
            headers = {"content-type": "application/json", "x-amz-invocation-type": "Event"}
            return AwsRequest("POST", path, headers, message.body)


def _json(version: str, target: str, body: bytes) -> AwsRequest:
    headers = {"content-type": f"application/x-amz-json-{version}", "x-amz-target": target}
    return AwsRequest("POST", "/", headers, body)


def _sqs(destination: Destination, message: Message, endpoint: str) -> AwsRequest:
    document: dict[str, object] = {
        "QueueUrl": f"{endpoint}/{destination.account}/{destination.resource}",
        "MessageBody": message.body.decode(),
    }
    if message.attributes:
        document["MessageAttributes"] = {
            name: {"DataType": kind, "StringValue": value} for name, (kind, value) in message.attributes.items()
        }
    if message.trace:
        # AWS's own takes it from the request's header; others do not.
        trace = {"DataType": "String", "StringValue": message.trace}
        document["MessageSystemAttributes"] = {queue_messages.TRACE_HEADER: trace}
    return _json("1.0", "AmazonSQS.SendMessage", json.dumps(document).encode())


def _sns(destination: Destination, message: Message) -> AwsRequest:
    form = {
        "Action": "Publish",
        "Version": "2010-03-31",
        "TopicArn": destination.arn,
        "Message": message.body.decode(),
    }
    for number, (name, (kind, value)) in enumerate(message.attributes.items(), 1):
        entry = f"MessageAttributes.entry.{number}"
        form |= {f"{entry}.Name": name, f"{entry}.Value.DataType": kind, f"{entry}.Value.StringValue": value}
    headers = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
    return AwsRequest("POST", "/", headers, urlencode(form).encode())


@dataclass(frozen=True, slots=True)
class Refusal:
    """The service did not take it."""

    detail: str
    passing: bool  # it may take it later


def judge(service: str, status: int, body: bytes) -> Refusal | None:
    """What an answer means. None: it was taken."""
    text = body.decode(errors="replace")
    if 200 <= status < 300:
        return _entries(body) if service == "events" else None
    passing = status >= 500 or status == 429 or any(code in text for code in _PASSING)
    return Refusal(f"{status} {text[:300]}".strip(), passing)


def _entries(body: bytes) -> Refusal | None:
    """PutEvents answers 200 also where an entry was refused."""
    try:
        answer = json.loads(body)
    except ValueError:
        return Refusal("the event bus's answer is no JSON", True)
    if not answer.get("FailedEntryCount"):
        return None
    entry = answer["Entries"][0]
    code = str(entry.get("ErrorCode", ""))
    return Refusal(f"{code} {entry.get('ErrorMessage', '')}".strip(), any(each in code for each in _PASSING))
