"""What changes a mapping, by operations over the stores' twins: updates, deletions, and others who are quicker."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest

from lambent.domain.errors import AwsError
from lambent.domain.event_sources import EventSourceMapping, MappingState
from lambent.domain.limits import Limits
from lambent.domain.principals import Principal
from lambent.infra.clock import SystemIds
from lambent.infra.connections import Connection, Connections
from lambent.infra.event_sources.memory_store import MemoryEventSourceStore
from lambent.infra.event_sources.port import Taken
from lambent.infra.functions.memory_store import MemoryFunctionStore
from lambent.infra.functions.port import NOBODY, Edit
from lambent.infra.http import HttpRequest, HttpResponse, HttpServer, PlainService
from lambent.v1 import event_source_service_pb2 as pb
from lambent.v1.event_invoke_service_pb2 import DestinationConfig, OnFailure
from services.frontend.operations.editing import ATTEMPTS
from services.frontend.operations.event_source_mappings import EventSourceOperations
from services.frontend.transport.call import Call
from tests.records import ONE, alias, record, version
from tests.unit.http_support import ManualClock

CALL = Call("r", ONE, Principal("k", ONE.account, "arn"), "rest")
QUEUE = f"arn:aws:sqs:us-east-1:{ONE.account}:q"
KINESIS = f"arn:aws:kinesis:us-east-1:{ONE.account}:stream/s"
DYNAMODB = f"arn:aws:dynamodb:us-east-1:{ONE.account}:table/tab/stream/2015-06-27T00:48:05.899"
STREAMS = (KINESIS, DYNAMODB)
BASE = f"arn:aws:lambda:us-east-1:{ONE.account}:function"


class Contended(MemoryEventSourceStore):
    """Others may be quicker for a number of times."""

    conflicts = 0

    async def change(self, before: EventSourceMapping, after: EventSourceMapping | None) -> Taken | bool:
        if self.conflicts:
            self.conflicts -= 1
            await super().change(before, before.next(tags={"by": str(self.conflicts)}))
        return await super().change(before, after)

    async def settle(self, uuid: str) -> EventSourceMapping | None:
        """As the poller does it."""
        mapping = await self.get(ONE, uuid)
        assert mapping is not None
        after = mapping.settled()
        assert await super().change(mapping, after) is True
        return after


class Source:
    """Answers as sources do when they are asked whether they are there; SQS also how long messages stay hidden."""

    def __init__(self) -> None:
        self.status = 200
        self.answer: Any = {
            "Attributes": {"VisibilityTimeout": "3"}, "StreamDescriptionSummary": {}, "StreamDescription": {},
        }  # fmt: skip
        self.asked = 0
        self.question: tuple[str, str, str, Any] = ("", "", "", None)  # target, type, service signed for, document

    async def handle(self, request: HttpRequest) -> HttpResponse:
        self.asked += 1
        headers = {name.decode(): value.decode() for name, value in request.headers.items()}
        service = headers["authorization"].split("/")[3]
        self.question = (headers["x-amz-target"], headers["content-type"], service, json.loads(request.body))
        return HttpResponse(self.status, [], json.dumps(self.answer).encode())


class Bench(NamedTuple):
    operations: EventSourceOperations
    store: Contended
    source: Source
    clock: ManualClock

    async def create(self, **members: Any) -> str:
        """A mapping that is settled; answers its UUID."""
        request = pb.CreateEventSourceMappingRequest(**{"event_source_arn": QUEUE, "function_name": "f", **members})
        made = await self.operations.create_event_source_mapping(request, CALL)
        await self.store.settle(made.uuid)
        return made.uuid

    async def update(self, uuid: str, **members: Any) -> pb.EventSourceMappingConfiguration:
        request = pb.UpdateEventSourceMappingRequest(uuid=uuid, **members)
        return await self.operations.update_event_source_mapping(request, CALL)

    async def delete(self, uuid: str) -> pb.EventSourceMappingConfiguration:
        return await self.operations.delete_event_source_mapping(pb.DeleteEventSourceMappingRequest(uuid=uuid), CALL)

    async def refused(self, uuid: str, **members: Any) -> tuple[str, str]:
        before = await self.store.get(ONE, uuid)
        with pytest.raises(AwsError) as caught:
            await self.update(uuid, **members)
        assert await self.store.get(ONE, uuid) == before
        return caught.value.name, caught.value.message


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    functions, store, source, clock = MemoryFunctionStore(), Contended(), Source(), ManualClock()
    await functions.create(record(), "s", version("1"), 1000)
    await functions.change(Edit(ONE, "f", NOBODY, aliases={"live": alias("live", "1")}), 1000)
    server = HttpServer(PlainService(source.handle, 10_000), clock=clock)
    port = await server.start("127.0.0.1", 0)
    connections = [Connection(f"http://127.0.0.1:{port}", "k", "s", arn=arn) for arn in (QUEUE, *STREAMS)]
    operations = EventSourceOperations(
        store=store, functions=functions, connections=Connections(connections), limits=Limits(), clock=clock,
        ids=SystemIds(),
    )  # fmt: skip
    yield Bench(operations, store, source, clock)
    await server.close()


async def test_an_update_changes_what_it_names(bench: Bench) -> None:
    filters = pb.FilterCriteria(filters=[pb.Filter(pattern='{"body": ["x"]}')])
    uuid = await bench.create(
        filter_criteria=filters,
        function_response_types=["ReportBatchItemFailures"],
        scaling_config=pb.ScalingConfig(maximum_concurrency=5),
        metrics_config=pb.EventSourceMappingMetricsConfig(metrics=["EventCount"]),
    )
    bench.clock.now += 10
    updated = await bench.update(uuid, batch_size=7)
    assert (updated.state, updated.batch_size, updated.filter_criteria) == ("Updating", 7, filters)
    assert list(updated.function_response_types) == ["ReportBatchItemFailures"]
    assert updated.scaling_config.maximum_concurrency == 5
    assert list(updated.metrics_config.metrics) == ["EventCount"]
    assert updated.last_modified.seconds == int(bench.clock.now)
    await bench.store.settle(uuid)
    bare = await bench.update(
        uuid,
        filter_criteria=pb.FilterCriteria(),
        function_response_types=[""],
        scaling_config=pb.ScalingConfig(),
        metrics_config=pb.EventSourceMappingMetricsConfig(),
        enabled=False,
    )
    assert (bare.state, bare.batch_size) == ("Disabling", 7)
    assert not any(bare.HasField(name) for name in ("filter_criteria", "scaling_config", "metrics_config"))
    assert list(bare.function_response_types) == []
    await bench.store.settle(uuid)
    assert (await bench.update(uuid, enabled=True)).state == "Enabling"
    assert bench.source.asked == 1, "the queue is asked only of a function that is new"


async def test_another_function_is_looked_at_as_at_the_beginning(bench: Bench) -> None:
    uuid = await bench.create()
    assert await bench.refused(uuid, function_name="nobody") == (
        "InvalidParameterValueException", "Function does not exist",
    )  # fmt: skip
    assert await bench.refused(uuid, function_name="f:2") == (
        "InvalidParameterValueException", "Function does not exist",
    )  # fmt: skip
    bench.source.answer = {"Attributes": {"VisibilityTimeout": "2"}}
    assert await bench.refused(uuid, function_name="f:live") == (
        "InvalidParameterValueException", "Queue visibility timeout: 2 seconds is less than Function timeout: 3 seconds",
    )  # fmt: skip
    bench.source.answer = {"Attributes": {"VisibilityTimeout": "3"}}
    moved = await bench.update(uuid, function_name=f"{BASE}:f:live")
    assert (moved.function_arn, moved.state) == (f"{BASE}:f:live", "Updating")
    await bench.store.settle(uuid)
    other = await bench.create()
    name, told = await bench.refused(other, function_name="f:live")
    assert name == "ResourceConflictException"
    assert uuid in told


@pytest.mark.parametrize(
    ("status", "answer", "name", "told"),
    [
        (400, {"__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "Gone."}, "InvalidParameterValueException",
         "Error occurred while ReceiveMessage. SQS Error Code: AWS.SimpleQueueService.NonExistentQueue. SQS Error Message: Gone."),
        (403, {"__type": "AccessDeniedException", "message": "No."}, "InvalidParameterValueException",
         "Error occurred while ReceiveMessage. SQS Error Code: AccessDenied. SQS Error Message: No."),
        (200, {"Attributes": {}}, "ServiceUnavailableException",
         f"The queue {QUEUE} does not answer as it should: the queue's attributes are not those of SQS"),
        (502, "no document", "ServiceUnavailableException",
         f"The queue {QUEUE} does not answer as it should: the endpoint answered 502 and no JSON"),
    ],
)  # fmt: skip
async def test_what_the_queue_says_is_passed_on(bench: Bench, status: int, answer: Any, name: str, told: str) -> None:
    bench.source.status, bench.source.answer = status, answer
    with pytest.raises(AwsError) as caught:
        await bench.create()
    assert (caught.value.name, caught.value.message) == (name, told)
    assert await bench.store.all() == []


@pytest.mark.parametrize(
    ("arn", "question"),
    [
        (KINESIS, ("Kinesis_20131202.DescribeStreamSummary", "application/x-amz-json-1.1", "kinesis", {"StreamName": "s"})),
        (DYNAMODB, ("DynamoDBStreams_20120810.DescribeStream", "application/x-amz-json-1.0", "dynamodb", {"StreamArn": DYNAMODB, "Limit": 1})),
    ],
)  # fmt: skip
async def test_a_stream_is_asked_whether_it_is_there(bench: Bench, arn: str, question: tuple[Any, ...]) -> None:
    uuid = await bench.create(event_source_arn=arn, starting_position="LATEST")
    assert bench.source.question == question
    await bench.update(uuid, batch_size=5)
    await bench.store.settle(uuid)
    assert bench.source.asked == 1, "nothing else has to be there than before"
    assert (await bench.refused(uuid, function_name="nobody"))[1] == "Function does not exist"
    await bench.update(uuid, function_name="f:live")
    assert bench.source.asked == 2


@pytest.mark.parametrize(
    ("status", "answer", "name", "told"),
    [
        (400, {"__type": "ResourceNotFoundException", "message": "No."}, "InvalidParameterValueException", "Stream not found: {arn}"),
        (400, {"__type": "com.amazonaws.x#AccessDeniedException", "Message": "No."}, "InvalidParameterValueException",
         "Error occurred while {operation}. {service} Error Code: AccessDeniedException. {service} Error Message: No."),
        (200, {}, "ServiceUnavailableException",
         "The stream {arn} does not answer as it should: it does not answer {operation} as {service} does"),
        (502, "no document", "ServiceUnavailableException",
         "The stream {arn} does not answer as it should: the endpoint answered 502 and no JSON"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    ("arn", "service", "operation"),
    [(KINESIS, "Kinesis", "DescribeStreamSummary"), (DYNAMODB, "DynamoDB Streams", "DescribeStream")],
)
async def test_what_a_stream_says_is_passed_on(
    bench: Bench, arn: str, service: str, operation: str, status: int, answer: Any, name: str, told: str
) -> None:
    bench.source.status, bench.source.answer = status, answer
    with pytest.raises(AwsError) as caught:
        await bench.create(event_source_arn=arn, starting_position="LATEST")
    expected = told.format(arn=arn, service=service, operation=operation)
    assert (caught.value.name, caught.value.message) == (name, expected)
    assert await bench.store.all() == []


@pytest.mark.parametrize("arn", STREAMS)
async def test_an_update_of_a_stream_changes_what_it_names(bench: Bench, arn: str) -> None:
    dead = "arn:aws:s3:::dead"
    uuid = await bench.create(
        event_source_arn=arn,
        starting_position="TRIM_HORIZON",
        parallelization_factor=3,
        maximum_record_age_in_seconds=60,
        maximum_retry_attempts=0,
        bisect_batch_on_function_error=True,
        destination_config=DestinationConfig(on_failure=OnFailure(destination=dead)),
    )
    same = await bench.update(uuid, batch_size=7)
    assert (same.batch_size, same.starting_position, same.parallelization_factor) == (7, "TRIM_HORIZON", 3)
    assert (same.maximum_record_age_in_seconds, same.maximum_retry_attempts) == (60, 0)
    assert (same.bisect_batch_on_function_error, same.destination_config.on_failure.destination) == (True, dead)
    assert (same.state_transition_reason, same.last_processing_result) == ("User action", "No records processed")
    await bench.store.settle(uuid)
    bare = await bench.update(
        uuid,
        maximum_record_age_in_seconds=-1,
        maximum_retry_attempts=-1,
        bisect_batch_on_function_error=False,
        destination_config=DestinationConfig(on_failure=OnFailure(destination="")),
        scaling_config=pb.ScalingConfig(),
    )
    assert (bare.maximum_record_age_in_seconds, bare.maximum_retry_attempts) == (-1, -1)
    assert bare.HasField("bisect_batch_on_function_error")
    assert bare.bisect_batch_on_function_error is False
    assert bare.destination_config == DestinationConfig(on_failure=OnFailure())
    assert not bare.HasField("scaling_config")


@pytest.mark.parametrize(
    ("seconds", "nanos", "told"),
    [
        (1, 500_000_000, None),
        (253_402_300_799, 0, "future"),
        (2**62, 0, "future"),
        (0, -1, "before 1970"),
        (-(2**62), 0, "before 1970"),
        (0, 2**31 - 1, None),
    ],
)
async def test_times_out_of_range_are_refused(bench: Bench, seconds: int, nanos: int, told: str | None) -> None:
    asked = pb.CreateEventSourceMappingRequest(
        event_source_arn=KINESIS, function_name="f", starting_position="AT_TIMESTAMP"
    )
    asked.starting_position_timestamp.seconds, asked.starting_position_timestamp.nanos = seconds, nanos
    if told is None:
        made = await bench.operations.create_event_source_mapping(asked, CALL)
        assert made.starting_position_timestamp.ToMilliseconds() == seconds * 1000 + round(nanos / 1e6)
        return
    with pytest.raises(AwsError, match=f"InvalidParameterValueException: StartingPositionTimestamp .*{told}"):
        await bench.operations.create_event_source_mapping(asked, CALL)


async def test_a_queue_takes_what_means_nothing_for_it(bench: Bench) -> None:
    nothing: dict[str, Any] = {"maximum_record_age_in_seconds": -1, "maximum_retry_attempts": -1}
    uuid = await bench.create(**nothing)
    answer = await bench.update(
        uuid, **nothing, bisect_batch_on_function_error=False, destination_config=DestinationConfig()
    )
    answered = {field.name for field, _ in answer.ListFields()}
    assert not answered & {*nothing, "bisect_batch_on_function_error", "destination_config", "last_processing_result"}
    await bench.store.settle(uuid)
    told = "Unsupported MaximumRetryAttempts parameter for given event source mapping type."
    assert await bench.refused(uuid, maximum_retry_attempts=1) == ("InvalidParameterValueException", told)


async def test_what_is_deleted_goes_once_nothing_of_it_runs(bench: Bench) -> None:
    uuid = await bench.create()
    deleted = await bench.delete(uuid)
    assert (deleted.uuid, deleted.state, deleted.state_transition_reason) == (uuid, "Deleting", "USER_INITIATED")
    got = await bench.operations.get_event_source_mapping(pb.GetEventSourceMappingRequest(uuid=uuid), CALL)
    assert got.state == "Deleting"
    with pytest.raises(AwsError, match="ResourceInUseException: Cannot delete"):
        await bench.delete(uuid)
    assert await bench.store.settle(uuid) is None
    with pytest.raises(AwsError, match="ResourceNotFoundException"):
        await bench.delete(uuid)


async def test_what_is_not_settled_is_in_use(bench: Bench) -> None:
    request = pb.CreateEventSourceMappingRequest(event_source_arn=QUEUE, function_name="f")
    uuid = (await bench.operations.create_event_source_mapping(request, CALL)).uuid
    told = "Cannot update the event source mapping because it is in use."
    assert await bench.refused(uuid, batch_size=1) == ("ResourceInUseException", told)
    assert await bench.refused(uuid, function_name="nobody") == ("ResourceInUseException", told)
    with pytest.raises(AwsError, match="ResourceInUseException: Cannot delete"):
        await bench.delete(uuid)


async def test_who_was_quicker_is_not_undone(bench: Bench) -> None:
    uuid = await bench.create()
    bench.store.conflicts = 3
    updated = await bench.update(uuid, batch_size=2, function_name="f:1")
    assert (updated.batch_size, bench.store.conflicts) == (2, 0)
    kept = await bench.store.settle(uuid)
    assert kept is not None
    assert kept.tags == {"by": "0"}
    assert bench.source.asked == 2, "once at the beginning, and once for all attempts"
    bench.store.conflicts = 3
    assert (await bench.delete(uuid)).state == "Deleting"


async def test_attempts_end(bench: Bench) -> None:
    uuid = await bench.create()
    bench.store.conflicts = 2 * ATTEMPTS
    with pytest.raises(AwsError, match="ServiceUnavailableException: Too many changes"):
        await bench.update(uuid, batch_size=2)
    with pytest.raises(AwsError, match="ServiceUnavailableException: Too many changes"):
        await bench.delete(uuid)
    kept = await bench.store.get(ONE, uuid)
    assert kept is not None
    assert (kept.state, kept.batch_size) == (MappingState.ENABLED, 10)
