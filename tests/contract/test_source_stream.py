"""The contract of streams as readers see them: the protocols of Kinesis and of DynamoDB's streams at moto's server, and
the twin; what moto does not do, at a server that says what AWS documents."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from lambent.domain.destinations import Destination, resource_of
from lambent.domain.names import Tenant
from lambent.domain.stream_records import Place, Shard, StreamRecord
from lambent.infra.aws_json import ExpiredPlace, SourceError
from lambent.infra.clock import SystemClock, SystemIds
from lambent.infra.connections import Connection
from lambent.infra.streams import DynamoStream, KinesisStream
from services.poller.sources.memory_stream import MemoryStream
from services.poller.sources.port import SourceStream
from tests.conftest import service

TENANT = Tenant("123456789012", "us-east-1")
ROLE = "arn:aws:iam::123456789012:role/any"


class Writer:
    """A stream of one shard that a test writes to, and its readers."""

    def __init__(
        self,
        put: Callable[[str], object],
        connect: Callable[[], SourceStream],
        shown: Callable[[StreamRecord], str],
        split: Callable[[str], object] | None = None,
    ) -> None:
        """`shown`: what was put, of a record. `split`: closes a shard."""
        self.put = put
        self.connect = connect
        self.shown = shown
        self.split = split


def data_of(record: StreamRecord) -> str:
    return base64.b64decode(record.document["kinesis"]["data"]).decode()


def item_of(record: StreamRecord) -> str:
    return str(record.document["dynamodb"]["Keys"]["id"]["S"])


def resource(arn: str) -> Destination:
    found = resource_of(arn, ("kinesis", "dynamodb"))
    assert found is not None
    return found


def kinesis_at(endpoint: str, name: str) -> KinesisStream:
    source = resource(f"arn:aws:kinesis:us-east-1:123456789012:stream/{name}")
    return KinesisStream(Connection(endpoint, "k", "s", service="kinesis"), source, TENANT, SystemClock(), ROLE)


def dynamodb_at(endpoint: str, arn: str) -> DynamoStream:
    connection = Connection(endpoint, "k", "s", service="dynamodbstreams")
    return DynamoStream(connection, resource(arn), TENANT, SystemClock())


def memory() -> Writer:
    stream = MemoryStream(SystemClock().epoch)
    return Writer(stream.put, stream.connect, data_of, stream.split)


def kinesis(endpoint: str) -> Writer:
    kinesis, name = service(endpoint, "kinesis"), f"s-{SystemIds().token(6)}"
    kinesis.create_stream(StreamName=name, ShardCount=1)

    def split(shard: str) -> None:
        kinesis.split_shard(StreamName=name, ShardToSplit=shard, NewStartingHashKey=str(2**127))

    return Writer(
        lambda text: kinesis.put_record(StreamName=name, PartitionKey="k", Data=text.encode()),
        lambda: kinesis_at(endpoint, name),
        data_of,
        split,
    )


def dynamodb(endpoint: str) -> Writer:
    dynamodb, name = service(endpoint, "dynamodb"), f"t-{SystemIds().token(6)}"
    arn = dynamodb.create_table(
        TableName=name,
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )["TableDescription"]["LatestStreamArn"]
    return Writer(
        lambda text: dynamodb.put_item(TableName=name, Item={"id": {"S": text}}),
        lambda: dynamodb_at(endpoint, arn),
        item_of,
    )


@pytest.fixture(params=["kinesis", "dynamodb", "memory"])
def stream(request: pytest.FixtureRequest) -> Iterator[Writer]:
    if request.param == "memory":
        made = memory()
    else:
        made = {"kinesis": kinesis, "dynamodb": dynamodb}[request.param](request.getfixturevalue("moto"))
    opened: list[SourceStream] = []
    connect = made.connect

    def connected() -> SourceStream:
        opened.append(connect())
        return opened[-1]

    made.connect = connected
    yield made
    for each in opened:
        each.close()


async def read(stream: Writer, reader: SourceStream, place: Place) -> list[str]:
    """All that there is from a place of the only shard on."""
    [shard] = await reader.shards()
    fetched = await reader.fetch(shard.id, await reader.iterator(shard.id, place), 100)
    return [stream.shown(each) for each in fetched.records]


async def test_records_of_a_shard_come_in_order_and_as_many_as_are_asked_for(stream: Writer) -> None:
    for number in range(5):
        stream.put(f"{number} grüß")
    reader = stream.connect()
    [shard] = await reader.shards()
    assert shard.parents == ()
    place: str | None = await reader.iterator(shard.id, Place())
    pages = []
    for _ in range(3):
        assert place is not None
        fetched = await reader.fetch(shard.id, place, 2)
        pages.append([stream.shown(each) for each in fetched.records])
        assert fetched.behind >= 0
        place = fetched.next
    assert pages == [["0 grüß", "1 grüß"], ["2 grüß", "3 grüß"], ["4 grüß"]]
    assert place is not None
    empty = await reader.fetch(shard.id, place, 2)
    assert (empty.records, empty.behind) == ([], 0)
    stream.put("late")
    assert empty.next is not None
    assert [stream.shown(each) for each in (await reader.fetch(shard.id, empty.next, 2)).records] == ["late"]


async def test_reading_begins_where_it_is_said(stream: Writer) -> None:
    for text in ("a", "b", "c"):
        stream.put(text)
    reader = stream.connect()
    [shard] = await reader.shards()
    newest = await reader.iterator(shard.id, Place(newest=True))
    fetched = await reader.fetch(shard.id, await reader.iterator(shard.id, Place()), 100)
    assert [stream.shown(each) for each in fetched.records] == ["a", "b", "c"]
    assert len({each.sequence for each in fetched.records}) == 3
    assert await read(stream, reader, Place(after=fetched.records[0].sequence)) == ["b", "c"]
    assert await read(stream, reader, Place(after=fetched.records[2].sequence)) == []
    assert await read(stream, reader, Place(since=fetched.records[0].arrived - 60)) == ["a", "b", "c"]
    stream.put("d")
    assert [stream.shown(each) for each in (await reader.fetch(shard.id, newest, 100)).records] == ["d"]


async def test_reading_begins_at_a_time_where_the_stream_knows_times(stream: Writer) -> None:
    stream.put("before")
    reader = stream.connect()
    later = SystemClock().epoch() + 3600
    assert await read(stream, reader, Place(since=later)) == (["before"] if stream.shown is item_of else [])


async def test_records_are_those_of_events(stream: Writer) -> None:
    stream.put("x")
    reader = stream.connect()
    [shard] = await reader.shards()
    [record] = (await reader.fetch(shard.id, await reader.iterator(shard.id, Place()), 1)).records
    assert abs(record.arrived - SystemClock().epoch()) < 60
    assert json.loads(json.dumps(record.document)) == record.document
    if stream.shown is item_of:
        assert record.key == '{"id": {"S": "x"}}'
        assert (record.document["eventName"], record.document["eventSource"]) == ("INSERT", "aws:dynamodb")
        assert record.document["dynamodb"]["SequenceNumber"] == record.sequence
        assert record.document["dynamodb"]["NewImage"] == {"id": {"S": "x"}}
        assert record.document["eventSourceARN"].startswith("arn:aws:dynamodb:us-east-1:123456789012:table/t-")
    else:
        assert record.key == "k"
        assert record.document["eventID"] == f"{shard.id}:{record.sequence}"
        assert record.document["kinesis"]["approximateArrivalTimestamp"] == record.arrived


async def test_the_shards_that_a_shard_was_split_into_come_after_it(stream: Writer) -> None:
    if stream.split is None:
        pytest.skip("moto splits no shard of a table")
    reader = stream.connect()
    [parent] = await reader.shards()
    stream.split(parent.id)
    first, *others = await reader.shards()
    assert first == parent
    assert [each.parents for each in others] == [(parent.id,), (parent.id,)]


async def test_a_shard_that_is_not_there_is_refused(stream: Writer) -> None:
    if stream.shown is item_of:
        pytest.skip("moto breaks at such a shard of a table")
    with pytest.raises(SourceError) as caught:
        await stream.connect().iterator("shardId-000000000099", Place())
    assert caught.value.code == "ResourceNotFoundException"


async def test_a_stream_that_is_not_there_has_the_services_code(moto: str) -> None:
    table = "arn:aws:dynamodb:us-east-1:123456789012:table/nowhere/stream/2024-01-01T00:00:00.000"
    for reader in (kinesis_at(moto, "nowhere"), dynamodb_at(moto, table)):
        for call in (reader.shards(), reader.iterator("shardId-000000000000", Place())):
            with pytest.raises(SourceError) as caught:
                await call
            assert caught.value.code == "ResourceNotFoundException"
        reader.close()


async def test_an_endpoint_that_does_not_answer_has_no_code() -> None:
    nowhere = "http://127.0.0.1:9"
    for reader in (kinesis_at(nowhere, "s"), dynamodb_at(nowhere, "arn:aws:dynamodb:us-east-1:1:table/t/stream/x")):
        with pytest.raises(SourceError, match="cannot be reached") as caught:
            await reader.shards()
        assert caught.value.code == ""


# The twin, beyond what moto does.


async def test_the_twins_closed_shard_ends() -> None:
    stream = MemoryStream(SystemClock().epoch)
    reader = stream.connect()
    [parent] = await reader.shards()
    first, second = stream.put("a"), stream.put("b")
    newest = await reader.iterator(parent.id, Place(newest=True))
    children = stream.split(parent.id)
    stream.put("c", shard=children[1])
    one = await reader.fetch(parent.id, await reader.iterator(parent.id, Place()), 1)
    assert [each.sequence for each in one.records] == [first]
    assert one.next is not None
    other = await reader.fetch(parent.id, one.next, 1)
    assert ([each.sequence for each in other.records], other.next) == ([second], None)
    assert await reader.fetch(parent.id, newest, 1) == type(other)([], None, 0)
    stream.drop(parent.id)
    assert await reader.shards() == [Shard(each) for each in children]


async def test_the_twins_keys_stay_in_their_shards_and_iterators_expire() -> None:
    now = itertools.count(100)
    stream = MemoryStream(lambda: next(now), 3)
    reader = stream.connect()
    for number in range(30):
        stream.put(str(number), f"k{number % 5}")
    seen: dict[str, set[str]] = {}
    for shard in await reader.shards():
        fetched = await reader.fetch(shard.id, await reader.iterator(shard.id, Place()), 100)
        assert fetched.behind == 0
        numbers = [int(data_of(each)) for each in fetched.records]
        assert numbers == sorted(numbers)
        for each in fetched.records:
            seen.setdefault(each.key, set()).add(shard.id)
    assert [len(seen[f"k{number}"]) for number in range(5)] == [1] * 5
    [busy, *_] = seen["k0"]
    first = await reader.iterator(busy, Place())
    some = await reader.fetch(busy, first, 1)
    assert some.behind > 0
    stream.trim(busy, some.records[0].sequence)
    stream.expire()
    with pytest.raises(ExpiredPlace) as caught:
        await reader.fetch(busy, first, 1)
    assert caught.value.code == "ExpiredIteratorException"
    again = await reader.fetch(busy, await reader.iterator(busy, Place(after="0")), 1)
    assert int(again.records[0].sequence) > int(some.records[0].sequence)
    stream.error = SourceError("AccessDeniedException", "no")
    for call in (reader.shards(), reader.iterator(busy, Place()), reader.fetch(busy, first, 1)):
        with pytest.raises(SourceError, match="AccessDeniedException: no"):
            await call


# What moto does not do: an endpoint that answers each call as a test says.

Answer = tuple[int, Any]
At = Callable[[Callable[[str, dict[str, Any]], Answer]], Awaitable[str]]


@pytest.fixture
async def at() -> AsyncIterator[At]:
    """Starts endpoints: what they answer is said by operation and document."""
    servers: list[asyncio.Server] = []

    async def started(answer: Callable[[str, dict[str, Any]], Answer]) -> str:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            headers = dict(line.split(": ", 1) for line in head.splitlines()[1:] if line)
            document = json.loads(await reader.readexactly(int(headers["content-length"])))
            status, said = answer(headers["x-amz-target"].partition(".")[2], document)
            body = json.dumps(said).encode()
            writer.write(
                b"HTTP/1.1 %d X\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (status, len(body)) + body
            )
            await writer.drain()
            writer.close()

        servers.append(await asyncio.start_server(serve, "127.0.0.1", 0))
        return f"http://127.0.0.1:{servers[-1].sockets[0].getsockname()[1]}"

    yield started
    for server in servers:
        server.close()
        await server.wait_closed()


def refusal(code: str) -> Answer:
    return 400, {"__type": f"com.amazonaws#{code}", "message": "no"}


def both(endpoint: str) -> list[KinesisStream | DynamoStream]:
    arn = "arn:aws:dynamodb:us-east-1:123456789012:table/t/stream/x"
    return [kinesis_at(endpoint, "s"), dynamodb_at(endpoint, arn)]


async def test_shards_are_asked_for_page_by_page_and_put_in_order(at: At) -> None:
    pages: list[list[dict[str, str]]] = [
        [
            {"ShardId": "d", "ParentShardId": "b", "AdjacentParentShardId": "c"},
            {"ShardId": "c", "ParentShardId": "gone"},
        ],
        [],
        [{"ShardId": "b", "ParentShardId": "a"}, {"ShardId": "a"}],
    ]
    asked: list[dict[str, Any]] = []

    def answer(operation: str, document: dict[str, Any]) -> Answer:
        number = len(asked)
        asked.append(document)
        more = f"p{number}" if number < 2 else None
        if operation == "listshards":
            return 200, {"Shards": pages[number], "NextToken": more}
        return 200, {"StreamDescription": {"Shards": pages[number], "LastEvaluatedShardId": more}}

    data, table = both(await at(answer))
    assert await data.shards() == [Shard("c"), Shard("a"), Shard("b", ("a",)), Shard("d", ("b", "c"))]
    assert asked == [{"StreamName": "s"}, {"NextToken": "p0"}, {"NextToken": "p1"}]
    asked.clear()
    assert await table.shards() == [Shard("c"), Shard("a"), Shard("b", ("a",)), Shard("d", ("b",))]
    arn = "arn:aws:dynamodb:us-east-1:123456789012:table/t/stream/x"
    assert asked == [{"StreamArn": arn}, *({"StreamArn": arn, "ExclusiveStartShardId": page} for page in ("p0", "p1"))]


async def test_a_list_of_shards_that_has_no_end_is_given_up(at: At) -> None:
    page = {"Shards": [{"ShardId": "a"}], "NextToken": "x", "LastEvaluatedShardId": "a"}
    for reader in both(await at(lambda operation, document: (200, {**page, "StreamDescription": page}))):
        with pytest.raises(SourceError, match="has no end"):
            await reader.shards()


async def test_a_number_that_the_stream_has_forgotten_is_the_oldest_place(at: At) -> None:
    asked: list[str] = []
    code = ""

    def answer(operation: str, document: dict[str, Any]) -> Answer:
        asked.append(document["ShardIteratorType"])
        return refusal(code) if "after" in asked[-1].lower() else (200, {"ShardIterator": "oldest"})

    for reader, code in zip(
        both(await at(answer)), ("InvalidArgumentException", "TrimmedDataAccessException"), strict=True
    ):
        assert await reader.iterator("a", Place(after="1")) == "oldest"
        assert asked == ["AFTER_SEQUENCE_NUMBER", "TRIM_HORIZON"]
        asked.clear()
        code = "ResourceNotFoundException"
        with pytest.raises(SourceError) as caught:
            await reader.iterator("a", Place(after="1"))
        assert (caught.value.code, asked) == (code, ["AFTER_SEQUENCE_NUMBER"])
        asked.clear()


@pytest.mark.parametrize("code", ["ExpiredIteratorException", "TrimmedDataAccessException"])
async def test_a_place_that_is_no_longer_to_be_had_is_told_apart(at: At, code: str) -> None:
    for reader in both(await at(lambda operation, document: refusal(code))):
        with pytest.raises(ExpiredPlace) as caught:
            await reader.fetch("a", "i", 10)
        assert caught.value.code == code
    for reader in both(await at(lambda operation, document: refusal("ProvisionedThroughputExceededException"))):
        with pytest.raises(SourceError) as other:
            await reader.fetch("a", "i", 10)
        assert not isinstance(other.value, ExpiredPlace)


async def test_a_closed_shard_ends_and_what_is_behind_is_told_in_seconds(at: At) -> None:
    asked: list[dict[str, Any]] = []
    arrived = SystemClock().epoch() - 7200

    def answer(operation: str, document: dict[str, Any]) -> Answer:
        asked.append(document)
        sent = {"SequenceNumber": "1", "PartitionKey": "k", "Data": "eA==", "ApproximateArrivalTimestamp": arrived}
        change = {"SequenceNumber": "1", "Keys": {"id": {"S": "x"}}, "ApproximateCreationDateTime": arrived}
        record = {**sent, "eventID": "e", "eventName": "INSERT", "dynamodb": change}
        return 200, {"Records": [record], "NextShardIterator": None, "MillisBehindLatest": 1500}

    data, table = both(await at(answer))
    fetched = await data.fetch("a", "i", 20_000)
    assert (len(fetched.records), fetched.next, fetched.behind) == (1, None, 1.5)
    fetched = await table.fetch("a", "i", 20_000)
    assert (len(fetched.records), fetched.next) == (1, None)
    assert 7200 <= fetched.behind < 7260
    assert asked == [{"ShardIterator": "i", "Limit": 10_000}, {"ShardIterator": "i", "Limit": 1000}]
    for reader in both(await at(lambda operation, document: (200, {"Records": []}))):
        fetched = await reader.fetch("a", "i", 1)
        assert (fetched.records, fetched.next, fetched.behind) == ([], None, 0)


@pytest.mark.parametrize(
    "said",
    [
        {"Shards": "x", "StreamDescription": {"Shards": "x"}, "Records": "x"},
        {"Shards": [1], "StreamDescription": {"Shards": [1]}, "Records": [1]},
        {"Shards": [{}], "StreamDescription": {"Shards": [{"ShardId": 1}]}, "Records": [{"dynamodb": 1}]},
        {"NextToken": 1, "StreamDescription": 1, "NextShardIterator": 1, "ShardIterator": 1},
        {
            "NextToken": {},
            "StreamDescription": {"LastEvaluatedShardId": 1},
            "NextShardIterator": {},
            "ShardIterator": "",
        },
    ],
    ids=lambda said: json.dumps(said)[:30],
)
async def test_what_no_stream_answers_is_refused_and_breaks_nothing(at: At, said: dict[str, Any]) -> None:
    for reader in both(await at(lambda operation, document: (200, said))):
        for call in (reader.shards(), reader.iterator("a", Place()), reader.fetch("a", "i", 10)):
            with pytest.raises(SourceError, match="not what a stream's service answers") as caught:
                await call
            assert caught.value.code == ""


@pytest.mark.parametrize("behind", ["1", -1, float("inf"), float("nan"), True, [1]])
async def test_a_distance_that_is_none_is_refused(at: At, behind: object) -> None:
    reader = kinesis_at(await at(lambda operation, document: (200, {"MillisBehindLatest": behind})), "s")
    with pytest.raises(SourceError, match="not what a stream's service answers"):
        await reader.fetch("a", "i", 10)
