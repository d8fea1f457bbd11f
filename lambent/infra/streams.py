"""Kinesis data streams and DynamoDB streams at an AWS-compatible endpoint, as their readers see them.

Sources: https://docs.aws.amazon.com/kinesis/latest/APIReference/Welcome.html and
https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Operations_Amazon_DynamoDB_Streams.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lambent.domain.clock import Clock
from lambent.domain.destinations import Destination
from lambent.domain.event_sources import DYNAMODB, KINESIS
from lambent.domain.names import Tenant
from lambent.domain.stream_records import (
    Fetched,
    Place,
    Shard,
    StreamRecord,
    dynamodb_record,
    in_order,
    kinesis_record,
)
from lambent.infra.aws_json import AwsJsonLink, ExpiredPlace, SourceError
from lambent.infra.connections import Connection

# Most records of one GetRecords.
KINESIS_RECORDS, DYNAMODB_RECORDS = 10_000, 1000
# An endpoint whose list of shards has more pages than this has no end to it.
_MOST_PAGES = 1000
# Both say so where a place is no longer to be had.
_EXPIRED = ("ExpiredIteratorException", "TrimmedDataAccessException")
_OLDEST: Mapping[str, object] = {"ShardIteratorType": "TRIM_HORIZON"}
_NEWEST: Mapping[str, object] = {"ShardIteratorType": "LATEST"}


# How services of streams are called, by what ARNs call them: the prefix of X-Amz-Target, the protocol's version.
_PROTOCOLS = {KINESIS: ("Kinesis_20131202", "1.1"), DYNAMODB: ("DynamoDBStreams_20120810", "1.0")}


def link_to(connection: Connection, source: Destination, clock: Clock) -> AwsJsonLink:
    """The service of a stream."""
    target, version = _PROTOCOLS[source.service]
    return AwsJsonLink(
        connection, region=source.region, service=source.service, target=target, version=version, clock=clock
    )  # fmt: skip


def stream_name(source: Destination) -> str:
    """What Kinesis calls a data stream."""
    return source.resource.removeprefix("stream/")


class KinesisStream:
    """One data stream, over one connection: one call at a time."""

    def __init__(self, connection: Connection, source: Destination, tenant: Tenant, clock: Clock, role: str) -> None:
        """`tenant`: whose functions read it. `role`: ARN of the function's, which its records name."""
        self._link = link_to(connection, source, clock)
        self._source = source
        self._region = tenant.region
        self._role = role
        self._name = stream_name(source)

    async def shards(self) -> list[Shard]:
        """Those that can be read, closed ones included, parents before their children. Raises SourceError."""
        found: list[Shard] = []
        asked: Mapping[str, object] = {"StreamName": self._name}
        for _ in range(_MOST_PAGES):
            page = await self._link.call("ListShards", asked)
            found += _shards(page, "ParentShardId", "AdjacentParentShardId")
            token = _continued(page, "NextToken")
            if token is None:
                return in_order(found)
            # With it, no name may be said.
            asked = {"NextToken": token}
        raise _endless()

    async def iterator(self, shard: str, place: Place) -> str:
        """Where reading begins. A place that the stream does not keep any more is the oldest that it keeps. Raises
        SourceError."""
        if place.after is None:
            kind = _OLDEST
            if place.since is not None:
                kind = {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": place.since}
            elif place.newest:
                kind = _NEWEST
            return await self._iterator(shard, kind)
        after = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": place.after}
        try:
            return await self._iterator(shard, after)
        except SourceError as error:
            if error.code != "InvalidArgumentException":
                raise
            # So some endpoints answer to a number that they have forgotten.
            return await self._iterator(shard, _OLDEST)

    async def _iterator(self, shard: str, kind: Mapping[str, object]) -> str:
        asked = {"StreamName": self._name, "ShardId": shard, **kind}
        return _iterator_of(await self._link.call("GetShardIterator", asked))

    async def fetch(self, shard: str, iterator: str, most: int) -> Fetched:
        """The next records, at most so many. Raises ExpiredPlace where the iterator is too old, and SourceError."""
        answer = await _records(self._link, iterator, min(most, KINESIS_RECORDS))
        records = _read(answer, lambda raw: kinesis_record(raw, shard, self._source, self._region, self._role))
        behind = answer.get("MillisBehindLatest") or 0
        if type(behind) not in (int, float) or not 0 <= behind < float("inf"):
            raise _not_those("how far its records are behind is")
        return Fetched(records, _continued(answer, "NextShardIterator"), behind / 1000)

    def close(self) -> None:
        """Hang up."""
        self._link.close()


class DynamoStream:
    """The stream of one table, over one connection: one call at a time."""

    def __init__(self, connection: Connection, source: Destination, tenant: Tenant, clock: Clock) -> None:
        """`tenant`: whose functions read it."""
        self._link = link_to(connection, source, clock)
        self._source = source
        self._region = tenant.region
        self._clock = clock

    async def shards(self) -> list[Shard]:
        """Those that can be read, closed ones included, parents before their children. Raises SourceError."""
        found: list[Shard] = []
        asked: dict[str, object] = {"StreamArn": self._source.arn}
        for _ in range(_MOST_PAGES):
            page = (await self._link.call("DescribeStream", asked)).get("StreamDescription")
            if not isinstance(page, dict):
                raise _not_those("the stream's description is")
            found += _shards(page, "ParentShardId")
            last = _continued(page, "LastEvaluatedShardId")
            if last is None:
                return in_order(found)
            asked["ExclusiveStartShardId"] = last
        raise _endless()

    async def iterator(self, shard: str, place: Place) -> str:
        """Where reading begins; a time is the oldest place, as these streams know none. A place that the stream does
        not keep any more is the oldest that it keeps. Raises SourceError."""
        if place.after is None:
            # Who says a time wants what came since, and would miss that at the newest place.
            return await self._iterator(shard, _NEWEST if place.newest and place.since is None else _OLDEST)
        after = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": place.after}
        try:
            return await self._iterator(shard, after)
        except SourceError as error:
            if error.code != "TrimmedDataAccessException":
                raise
            return await self._iterator(shard, _OLDEST)

    async def _iterator(self, shard: str, kind: Mapping[str, object]) -> str:
        asked = {"StreamArn": self._source.arn, "ShardId": shard, **kind}
        return _iterator_of(await self._link.call("GetShardIterator", asked))

    async def fetch(self, shard: str, iterator: str, most: int) -> Fetched:
        """The next records, at most so many. Raises ExpiredPlace where the iterator is too old, and SourceError."""
        answer = await _records(self._link, iterator, min(most, DYNAMODB_RECORDS))
        records = _read(answer, lambda raw: dynamodb_record(raw, self._source, self._region))
        # The service does not say how far behind it is.
        behind = max(0.0, self._clock.epoch() - records[-1].arrived) if records else 0.0
        return Fetched(records, _continued(answer, "NextShardIterator"), behind)

    def close(self) -> None:
        """Hang up."""
        self._link.close()


async def _records(link: AwsJsonLink, iterator: str, most: int) -> dict[str, Any]:
    """What GetRecords answers."""
    try:
        return await link.call("GetRecords", {"ShardIterator": iterator, "Limit": most})
    except SourceError as error:
        if error.code in _EXPIRED:
            raise ExpiredPlace(error.code, error.message) from error
        raise


def _read(answer: Mapping[str, Any], record: Callable[[object], StreamRecord]) -> list[StreamRecord]:
    """The records of an answer."""
    try:
        return [record(each) for each in _list(answer, "Records")]
    except ValueError as error:
        raise SourceError("", f"{_not_those('the records are').message}: {error}") from None


def _shards(page: Mapping[str, Any], *parents: str) -> list[Shard]:
    """The shards of a page. `parents`: the members that name those that one came of."""
    found: list[Shard] = []
    for each in _list(page, "Shards"):
        if not isinstance(each, dict) or not isinstance(each.get("ShardId"), str):
            raise _not_those("the stream's shards are")
        named = (each.get(name) for name in parents)
        found.append(Shard(each["ShardId"], tuple(name for name in named if name and isinstance(name, str))))
    return found


def _list(answer: Mapping[str, Any], name: str) -> list[Any]:
    values = answer.get(name) or []
    if not isinstance(values, list):
        raise _not_those(f"{name} are")
    return values


def _iterator_of(answer: Mapping[str, Any]) -> str:
    iterator = _continued(answer, "ShardIterator")
    if iterator is None:
        raise _not_those("the place in the shard is")
    return iterator


def _continued(answer: Mapping[str, Any], name: str) -> str | None:
    """A member that says where to go on; None: nowhere."""
    value = answer.get(name)
    if value is not None and not isinstance(value, str):
        raise _not_those(f"{name} is")
    return value or None


def _not_those(what: str) -> SourceError:
    return SourceError("", f"{what} not what a stream's service answers")


def _endless() -> SourceError:
    return SourceError("", "the list of the stream's shards has no end")
