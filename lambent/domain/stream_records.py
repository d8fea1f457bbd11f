"""A stream's shards, its records as the function's event has them, and what is told of those that are given up.

Sources: https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html, with-ddb.html and
kinesis-on-failure-destination.html
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lambent.domain.destinations import Destination, dated_key, timestamp

# Why a batch is given up, as its record says it.
RETRIES_EXHAUSTED, TOO_OLD = "RetryAttemptsExhausted", "RecordAgeExceeded"
# What can be said as a date: up to the end of the year 9999, in epoch seconds.
_LAST_SECOND = 253402300799


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of a stream whose records are in order."""

    id: str
    parents: tuple[str, ...] = ()  # that it came of; they are read before it


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """A record, ready for an event."""

    sequence: str  # its sequence number
    key: str  # records of one key are in order; of Kinesis the partition key, of DynamoDB the item's keys as JSON text
    arrived: float  # epoch seconds
    document: Mapping[str, Any]  # as the event has it


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a shard reading begins: behind a record, at a time, or at one of the ends."""

    after: str | None = None  # a sequence number
    since: float | None = None  # epoch seconds; of Kinesis only
    newest: bool = False  # behind all that is there; otherwise, if nothing else is said, at the oldest


@dataclass(frozen=True, slots=True)
class Fetched:
    """What one call brought."""

    records: Sequence[StreamRecord]
    next: str | None  # where to go on; None: the shard is closed and this was all of it
    behind: float  # seconds that the last of them is behind the newest, as far as the stream says; 0: nothing follows


def in_order(shards: Iterable[Shard]) -> list[Shard]:
    """Parents before their children, otherwise as they come. Parents that are not among them are left out, for nobody
    can read them; so is one that would close a circle."""
    known = {each.id: each for each in reversed(list(shards))}
    listed = list(reversed(known))
    waits = {
        id_: {parent for parent in known[id_].parents if parent in known and parent != id_} for id_ in listed
    }  # fmt: skip
    children: dict[str, list[str]] = {}
    for id_ in listed:
        for parent in waits[id_]:
            children.setdefault(parent, []).append(id_)
    ready = deque(id_ for id_ in listed if not waits[id_])
    rest = iter(listed)
    placed: dict[str, Shard] = {}
    while len(placed) < len(known):
        # None is ready: a circle, which is opened where it comes first.
        id_ = ready.popleft() if ready else next(each for each in rest if each not in placed)
        if id_ in placed:
            continue
        parents = dict.fromkeys(parent for parent in known[id_].parents if parent in placed)
        placed[id_] = replace(known[id_], parents=tuple(parents))
        for child in children.get(id_, ()):
            waits[child].discard(id_)
            if not waits[child] and child not in placed:
                ready.append(child)
    return list(placed.values())


def kinesis_record(raw: object, shard: str, source: Destination, region: str, role: str) -> StreamRecord:
    """A record that GetRecords of Kinesis gave. `region`: where the function is, for a source that says none. `role`:
    ARN of who invokes it. Raises ValueError where it is none."""
    members = _object(raw)
    sequence, key = _text(members, "SequenceNumber"), _text(members, "PartitionKey")
    arrived = _time(members, "ApproximateArrivalTimestamp")
    document = {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": key,
            "sequenceNumber": sequence,
            "data": _text(members, "Data", empty=True),
            "approximateArrivalTimestamp": arrived,
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"{shard}:{sequence}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": role,
        "awsRegion": source.region or region,
        "eventSourceARN": source.arn,
    }
    return StreamRecord(sequence, key, arrived, document)


def dynamodb_record(raw: object, source: Destination, region: str) -> StreamRecord:
    """A record that GetRecords of a DynamoDB stream gave. `region`: where the function is, for a source that says none.
    Raises ValueError where it is none."""
    members = _object(raw)
    change = _object(members.get("dynamodb"))
    sequence, arrived = _text(change, "SequenceNumber"), _time(change, "ApproximateCreationDateTime")
    keys = _object(change.get("Keys"))
    images = {name: _object(change[name]) for name in ("NewImage", "OldImage") if change.get(name) is not None}
    told: dict[str, Any] = {"ApproximateCreationDateTime": arrived, "Keys": keys, **images, "SequenceNumber": sequence}
    # Not every service that speaks this protocol says these two.
    size, view = change.get("SizeBytes"), change.get("StreamViewType")
    if size is not None:
        if type(size) is not int:
            raise _malformed("SizeBytes")
        told["SizeBytes"] = size
    if view is not None:
        told["StreamViewType"] = _text(change, "StreamViewType")
    document: dict[str, Any] = {
        "eventID": _text(members, "eventID"),
        "eventName": _text(members, "eventName"),
        "eventVersion": _text({"eventVersion": "1.1", **members}, "eventVersion"),
        "eventSource": "aws:dynamodb",
        "awsRegion": source.region or region,
        "dynamodb": told,
        "eventSourceARN": source.arn,
    }
    if members.get("userIdentity") is not None:
        identity = _object(members["userIdentity"])
        document["userIdentity"] = {"type": _text(identity, "Type"), "principalId": _text(identity, "PrincipalId")}
    return StreamRecord(sequence, json.dumps(keys, sort_keys=True, allow_nan=False), arrived, document)


def _object(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _malformed("an object")
    return value


def _text(members: Mapping[str, Any], name: str, *, empty: bool = False) -> str:
    value = members.get(name)
    if not isinstance(value, str) or not (value or empty):
        raise _malformed(name)
    return value


def _time(members: Mapping[str, Any], name: str) -> float:
    """A number of epoch seconds, without a fraction where it has none: so filters and functions spell it."""
    value: Any = members.get(name)
    if type(value) not in (int, float) or not 0 <= value <= _LAST_SECOND:
        raise _malformed(name)
    return int(value) if value == int(value) else value


def _malformed(what: str) -> ValueError:
    return ValueError(f"{what} of a record is missing or of another type")


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A batch that is not tried again, with everything that may be told of it."""

    request_id: str  # of the last invocation
    function_arn: str  # unqualified
    condition: str  # RETRIES_EXHAUSTED or TOO_OLD
    attempts: int  # invocations
    version: str | None  # that ran last; None: it never ran
    error: str | None  # functionError of that invocation
    now: float  # epoch seconds
    shard: str
    records: Sequence[StreamRecord]  # at least one
    stream_arn: str  # empty: it has none
    service: str  # of the stream, as its ARN calls it
    servers: str = ""  # of Kafka: its bootstrap servers
    event_bytes: int = 0  # of Kafka: how long the event was


def failure_record(given: GivenUp, event: bytes | None = None) -> bytes:
    """What a destination is told. `event`: that the function was invoked with, for a bucket, which keeps it as a JSON
    text; others are told where the records are."""
    told: dict[str, object] = {
        "requestContext": {
            "requestId": given.request_id,
            "functionArn": given.function_arn,
            "condition": given.condition,
            "approximateInvokeCount": given.attempts,
        }
    }
    if given.version is not None and given.condition != TOO_OLD:
        response: dict[str, object] = {"statusCode": 200, "executedVersion": given.version}
        if given.error is not None:
            response["functionError"] = given.error
        told["responseContext"] = response
    member, batch = _BATCHES[given.service]
    told |= {"version": "1.0", "timestamp": timestamp(given.now), member: batch(given)}
    if event is not None:
        told["payload"] = event.decode(errors="replace")
    return json.dumps(told, separators=(",", ":")).encode()


def _of_shard(given: GivenUp) -> dict[str, object]:
    """Where a batch is in its stream."""
    first, last = given.records[0], given.records[-1]
    return {
        "shardId": given.shard,
        "startSequenceNumber": first.sequence,
        "endSequenceNumber": last.sequence,
        "approximateArrivalOfFirstRecord": timestamp(first.arrived),
        "approximateArrivalOfLastRecord": timestamp(last.arrived),
        "batchSize": len(given.records),
        "streamArn": given.stream_arn,
    }


def _of_topic(given: GivenUp) -> dict[str, object]:
    """Where a batch is in its topic."""
    first, last = given.records[0], given.records[-1]
    arn = {"eventSourceArn": given.stream_arn} if given.stream_arn else {}
    return {
        "batchSize": len(given.records),
        **arn,
        "bootstrapServers": given.servers,
        "payloadSize": given.event_bytes,
        "recordInfo": {
            given.shard: {
                "firstRecordOffset": first.sequence,
                "lastRecordOffset": last.sequence,
                "firstRecordTimestamp": timestamp(first.arrived),
                "lastRecordTimestamp": timestamp(last.arrived),
            }
        },
    }


# The member of a failure's record that says which batch it is, and what it says, by the service of the stream.
_BATCHES: Mapping[str, tuple[str, Callable[[GivenUp], dict[str, object]]]] = {
    "kinesis": ("KinesisBatchInfo", _of_shard),
    "dynamodb": ("DDBStreamBatchInfo", _of_shard),
    "kafka": ("KafkaBatchInfo", _of_topic),
}


def failure_key(uuid: str, shard: str, now: float, unique: str) -> str:
    """The key of a failure's record in a bucket. `uuid`: the mapping's. `unique`: another UUID."""
    return dated_key(f"aws/lambda/{uuid}/{shard}", now, unique)
