"""An SQS queue at an AWS-compatible endpoint, as its consumers see it: over the JSON protocol of SQS.

Source: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/Welcome.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lambent.domain.clock import Clock
from lambent.domain.destinations import Destination
from lambent.domain.names import Tenant
from lambent.infra.connections import Connection
from lambent.infra.http_client import HttpFailure, HttpLink, host_of
from lambent.infra.sigv4_signing import Signer

# How long a call may take beyond what it is asked to wait.
SECONDS = 10.0
# Ten messages of 1 MiB, as JSON, in which one character can take six.
_ANSWER_BYTES = 64 * 1024 * 1024
# Most messages of one DeleteMessageBatch.
DELETED_AT_ONCE = 10
# What the older protocol calls errors that both have, which is how Lambda names them.
_OLD_CODES = {
    "QueueDoesNotExist": "AWS.SimpleQueueService.NonExistentQueue",
    "AccessDeniedException": "AccessDenied",
}


class QueueError(Exception):
    """The queue does not do what it is asked. `code`: SQS's; empty: it could not be reached."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}" if code else message)
        self.code = code
        self.message = message


class SqsQueue:
    """One queue, over one connection: one call at a time."""

    def __init__(self, connection: Connection, source: Destination, tenant: Tenant, clock: Clock) -> None:
        """`tenant`: whose functions read it."""
        self._link = HttpLink(connection.endpoint, _ANSWER_BYTES)
        self._url = f"{connection.endpoint}/{source.account}/{source.resource}"
        self._host = host_of(connection.endpoint)
        region = connection.region or source.region or tenant.region
        self._signer = Signer(connection.access_key, connection.secret_key, region, source.service)
        self._clock = clock

    async def visibility_seconds(self) -> int:
        """How long a message that somebody has received is hidden from others. Raises QueueError."""
        answer = await self._call("GetQueueAttributes", {"AttributeNames": ["VisibilityTimeout"]})
        try:
            return int(answer["Attributes"]["VisibilityTimeout"])
        except (KeyError, TypeError, ValueError):
            raise QueueError("", "the queue's attributes are not those of SQS") from None

    async def receive(self, most: int, wait_seconds: int) -> list[dict[str, Any]]:
        """At most `most` messages (1 to 10), as SQS writes them; none if none come for so long. Raises QueueError."""
        document = {
            "MaxNumberOfMessages": most,
            "WaitTimeSeconds": wait_seconds,
            # The name before 2024 and the one since.
            "AttributeNames": ["All"],
            "MessageSystemAttributeNames": ["All"],
            "MessageAttributeNames": ["All"],
        }
        messages = (await self._call("ReceiveMessage", document, wait_seconds)).get("Messages") or []
        if not isinstance(messages, list) or not all(isinstance(each, dict) for each in messages):
            raise QueueError("", "the queue's messages are not those of SQS")
        return messages

    async def delete(self, handles: Sequence[str]) -> list[str]:
        """Take messages away by their receipt handles (1 to 10); answers those that stay. Raises QueueError."""
        entries = [{"Id": str(number), "ReceiptHandle": handle} for number, handle in enumerate(handles)]
        failed = (await self._call("DeleteMessageBatch", {"Entries": entries})).get("Failed") or []
        numbers = {str(entry.get("Id")) for entry in failed if isinstance(entry, dict)}
        return [handle for number, handle in enumerate(handles) if str(number) in numbers]

    def close(self) -> None:
        """Hang up."""
        self._link.close()

    async def _call(self, operation: str, document: Mapping[str, object], wait_seconds: float = 0) -> dict[str, Any]:
        body = json.dumps({"QueueUrl": self._url, **document}).encode()
        headers = {
            "host": self._host,
            "content-type": "application/x-amz-json-1.0",
            "x-amz-target": f"AmazonSQS.{operation}",
        }
        signed = self._signer.sign("POST", "/", headers, body, self._clock.epoch())
        try:
            answer = await self._link.exchange("POST", "/", signed, body, SECONDS + wait_seconds)
        except HttpFailure as error:
            raise QueueError("", str(error)) from error
        try:
            said = json.loads(answer.body) if answer.body else {}
        except (ValueError, RecursionError):
            said = None
        if 200 <= answer.status < 300 and isinstance(said, dict):
            return said
        raise _error(answer.status, answer.headers, said)


def _error(status: int, headers: Mapping[str, str], said: object) -> QueueError:
    """What an answer that is no success means."""
    if not isinstance(said, dict):
        return QueueError("", f"the queue's endpoint answered {status} and no JSON")
    old, _, _ = headers.get("x-amzn-query-error", "").partition(";")
    code = str(said.get("__type", "")).rpartition("#")[2] or f"{status}"
    message = said.get("message") or said.get("Message") or ""
    return QueueError(old or _OLD_CODES.get(code, code), str(message))
