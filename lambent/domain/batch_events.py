"""The event of a batch of records, and which of them the function's answer says have failed.

Sources: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html and
services-kinesis-batchfailurereporting.html
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple


class Frame(NamedTuple):
    """What stands before and after an event's records, without the brace that ends it."""

    opening: bytes
    closing: bytes


RECORDS = Frame(b'{"Records":[', b"]")
# What an event has beyond its records, and beyond each of them.
FRAME_BYTES, BETWEEN_BYTES = len(RECORDS.opening + RECORDS.closing) + 1, 1


def encoded(document: Mapping[str, Any]) -> bytes:
    """A record as JSON text."""
    try:
        return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half a character, which JSON can say and UTF-8 cannot
        return json.dumps(document, separators=(",", ":")).encode()


def event(records: Iterable[bytes], beside: bytes = b"", frame: Frame = RECORDS) -> bytes:
    """The event of encoded records, in their order. `beside`: members that it has beside them, as JSON text."""
    return frame.opening + b",".join(records) + frame.closing + (b"," + beside if beside else b"") + b"}"


def failed(response: bytes, ids: Sequence[str], *, offsets: bool = False) -> frozenset[str]:
    """Which of a batch's messages its function says have failed: all of them where that cannot be understood.
    `offsets`: they are records of a topic, which are named by their offsets in one of several ways."""
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
        if offsets:
            id_ = _offset_in(id_)
        if not isinstance(id_, str) or id_ not in every:
            return every
        named.add(id_)
    return frozenset(named)


def _offset_in(identifier: Any) -> Any:
    """The offset as a text: of a number, or of an object that says the partition too, which a batch has one of."""
    offset = identifier.get("offset") if isinstance(identifier, dict) else identifier
    return str(offset) if type(offset) is int else offset
