"""The stream's twin for tests: what Kinesis does with records, in this process and by a clock that is given."""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from lambent.domain.destinations import Destination
from lambent.domain.stream_records import Fetched, Place, Shard, StreamRecord, in_order, kinesis_record
from lambent.infra.aws_json import ExpiredPlace, SourceError

SOURCE = Destination(
    "arn:aws:kinesis:us-east-1:000000000000:stream/twin", "kinesis", "us-east-1", "000000000000", "stream/twin"
)
ROLE = "arn:aws:iam::000000000000:role/any"


@dataclass(slots=True)
class _Stored:
    """A shard."""

    shard: Shard
    keys: tuple[float, float]  # whose hash is of these: from, and up to, between 0 and 1
    records: list[StreamRecord] = field(default_factory=list)  # that are kept
    last: int = 0  # sequence number of the newest that there ever was
    closed: bool = False


@dataclass(frozen=True, slots=True)
class _Cursor:
    """What an iterator stands for."""

    shard: str
    after: int  # sequence number behind which it reads
    age: int  # how often iterators had been made to expire before it


class MemoryStream:
    """A stream as all of its readers share it."""

    def __init__(
        self, now: Callable[[], float], shards: int = 1, *, source: Destination = SOURCE, role: str = ROLE
    ) -> None:
        """`now`: epoch seconds. `source`, `role`: what its records name."""
        self.now = now
        self.source = source
        self.role = role
        self.error: SourceError | None = None  # raised by every call
        self._shards: dict[str, _Stored] = {}
        self._numbers = itertools.count()
        # Of all shards, and not padded: their order is that of numbers, not that of texts.
        self._sequences = itertools.count(1)
        self._cursors: dict[str, _Cursor] = {}
        self._expirations = 0
        for number in range(shards):
            self.add_shard(keys=(number / shards, (number + 1) / shards))

    def add_shard(self, *parents: str, keys: tuple[float, float] = (0.0, 0.0)) -> str:
        """Open a shard; answers its id. `parents`: that it comes of, whether they are kept or not. `keys`: which of all
        keys are put into it, between 0 and 1; none by default."""
        id_ = f"shardId-{next(self._numbers):012}"
        self._shards[id_] = _Stored(Shard(id_, parents), keys)
        return id_

    def put(self, data: bytes | str, key: str = "k", shard: str | None = None) -> str:
        """Add a record; answers its sequence number. `shard`: an open one; None: the key's."""
        stored = self._of(key) if shard is None else self._shards[shard]
        assert not stored.closed, "nothing is written to a closed shard"
        stored.last = next(self._sequences)
        raw = {
            "SequenceNumber": str(stored.last),
            "PartitionKey": key,
            "Data": base64.b64encode(data.encode() if isinstance(data, str) else data).decode(),
            "ApproximateArrivalTimestamp": self.now(),
        }
        stored.records.append(kinesis_record(raw, stored.shard.id, self.source, self.source.region, self.role))
        return str(stored.last)

    def split(self, shard: str) -> tuple[str, str]:
        """Close a shard; answers the two that go on with it."""
        self._shards[shard].closed = True
        low, high = self._shards[shard].keys
        middle = (low + high) / 2
        return self.add_shard(shard, keys=(low, middle)), self.add_shard(shard, keys=(middle, high))

    def trim(self, shard: str, through: str) -> None:
        """Forget a shard's records up to one, by its sequence number."""
        stored = self._shards[shard]
        stored.records = [each for each in stored.records if int(each.sequence) > int(through)]

    def drop(self, shard: str) -> None:
        """Forget a shard, as streams do with one that is closed once its last record is too old."""
        del self._shards[shard]

    def expire(self) -> None:
        """Make all iterators expire that have been given out."""
        self._expirations += 1

    def records(self, shard: str) -> list[StreamRecord]:
        """What a shard keeps."""
        return list(self._shards[shard].records)

    def connect(self) -> MemoryStreamConnection:
        """A reader."""
        return MemoryStreamConnection(self)

    def shards(self) -> list[Shard]:
        """As `SourceStream.shards`."""
        self._check()
        return in_order(each.shard for each in self._shards.values())

    def iterator(self, shard: str, place: Place) -> str:
        """As `SourceStream.iterator`."""
        stored = self._known(shard)
        # What has been forgotten is not there to be read, so every number before it is the oldest place.
        after = 0
        if place.after is not None:
            after = int(place.after)
        elif place.since is not None:
            earlier = [int(each.sequence) for each in stored.records if each.arrived < place.since]
            after = earlier[-1] if earlier else 0
        elif place.newest:
            after = stored.last
        return self._token(shard, after)

    def fetch(self, shard: str, iterator: str, most: int) -> Fetched:
        """As `SourceStream.fetch`."""
        stored = self._known(shard)
        cursor = self._cursors.get(iterator)
        if cursor is None or cursor.shard != shard:
            raise SourceError("InvalidArgumentException", "Invalid ShardIterator.")
        if cursor.age < self._expirations:
            raise ExpiredPlace("ExpiredIteratorException", "Iterator expired.")
        waiting = [each for each in stored.records if int(each.sequence) > cursor.after]
        records = waiting[:most]
        all_of_it = len(records) == len(waiting)
        after = int(records[-1].sequence) if records else cursor.after
        return Fetched(
            records,
            None if stored.closed and all_of_it else self._token(shard, after),
            0.0 if all_of_it else waiting[-1].arrived - (records or waiting)[-1].arrived,
        )

    def _of(self, key: str) -> _Stored:
        """The open shard that a key's records go to."""
        point = int.from_bytes(hashlib.sha256(key.encode()).digest()[:6]) / 2**48
        open_ = (each for each in self._shards.values() if not each.closed)
        return next(each for each in open_ if each.keys[0] <= point < each.keys[1])

    def _token(self, shard: str, after: int) -> str:
        cursor = _Cursor(shard, after, self._expirations)
        token = f"{shard}/{after}/{self._expirations}"
        self._cursors[token] = cursor
        return token

    def _known(self, shard: str) -> _Stored:
        self._check()
        if shard not in self._shards:
            raise SourceError("ResourceNotFoundException", f"Shard {shard} does not exist")
        return self._shards[shard]

    def _check(self) -> None:
        if self.error is not None:
            raise self.error


class MemoryStreamConnection:
    """A `SourceStream` in this process."""

    def __init__(self, stream: MemoryStream) -> None:
        self._stream = stream

    async def shards(self) -> list[Shard]:
        return self._stream.shards()

    async def iterator(self, shard: str, place: Place) -> str:
        return self._stream.iterator(shard, place)

    async def fetch(self, shard: str, iterator: str, most: int) -> Fetched:
        return self._stream.fetch(shard, iterator, most)

    def close(self) -> None:
        """There is nothing to hang up."""
