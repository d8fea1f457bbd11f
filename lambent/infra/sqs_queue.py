"""An SQS queue at an AWS-compatible endpoint, as its consumers see it.

Source: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/Welcome.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lambent.domain.clock import Clock
from lambent.domain.destinations import Destination
from lambent.domain.names import Tenant
from lambent.infra.aws_json import AwsJsonLink, SourceError
from lambent.infra.connections import Connection

# Most messages of one DeleteMessageBatch.
DELETED_AT_ONCE = 10
# What SQS's older protocol calls errors that both have, for endpoints that do not say it: Lambda names them so.
_OLD_CODES = {
    "QueueDoesNotExist": "AWS.SimpleQueueService.NonExistentQueue",
    "AccessDeniedException": "AccessDenied",
}


class SqsQueue:
    """One queue, over one connection: one call at a time."""

    def __init__(self, connection: Connection, source: Destination, tenant: Tenant, clock: Clock) -> None:
        """`tenant`: whose functions read it."""
        self._link = AwsJsonLink(
            connection, region=source.region or tenant.region, service="sqs", target="AmazonSQS", version="1.0",
            clock=clock,
        )  # fmt: skip
        self._url = f"{connection.endpoint}/{source.account}/{source.resource}"

    async def visibility_seconds(self) -> int:
        """How long a message that somebody has received is hidden from others. Raises SourceError."""
        answer = await self._call("GetQueueAttributes", {"AttributeNames": ["VisibilityTimeout"]})
        try:
            return int(answer["Attributes"]["VisibilityTimeout"])
        except (KeyError, TypeError, ValueError):
            raise SourceError("", "the queue's attributes are not those of SQS") from None

    async def receive(self, most: int, wait_seconds: int) -> list[dict[str, Any]]:
        """At most `most` messages (1 to 10), as SQS writes them; none if none come for so long. Raises SourceError."""
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
            raise SourceError("", "the queue's messages are not those of SQS")
        return messages

    async def delete(self, handles: Sequence[str]) -> list[str]:
        """Take messages away by their receipt handles (1 to 10); answers those that stay. Raises SourceError."""
        entries = [{"Id": str(number), "ReceiptHandle": handle} for number, handle in enumerate(handles)]
        failed = (await self._call("DeleteMessageBatch", {"Entries": entries})).get("Failed") or []
        numbers = {str(entry.get("Id")) for entry in failed if isinstance(entry, dict)}
        return [handle for number, handle in enumerate(handles) if str(number) in numbers]

    def close(self) -> None:
        """Hang up."""
        self._link.close()

    async def _call(self, operation: str, document: Mapping[str, object], wait_seconds: float = 0) -> dict[str, Any]:
        try:
            return await self._link.call(operation, {"QueueUrl": self._url, **document}, wait_seconds)
        except SourceError as error:
            raise SourceError(_OLD_CODES.get(error.code, error.code), error.message) from error
