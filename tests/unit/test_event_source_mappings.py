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
from services.frontend.operations.editing import ATTEMPTS
from services.frontend.operations.event_source_mappings import EventSourceOperations
from services.frontend.transport.call import Call
from tests.records import ONE, alias, record, version
from tests.unit.http_support import ManualClock

CALL = Call("r", ONE, Principal("k", ONE.account, "arn"), "rest")
QUEUE = f"arn:aws:sqs:us-east-1:{ONE.account}:q"
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


class Queue:
    """Answers as SQS does when it is asked how long messages stay hidden."""

    def __init__(self) -> None:
        self.status = 200
        self.answer: Any = {"Attributes": {"VisibilityTimeout": "3"}}
        self.asked = 0

    async def handle(self, request: HttpRequest) -> HttpResponse:
        self.asked += 1
        return HttpResponse(self.status, [], json.dumps(self.answer).encode())


class Bench(NamedTuple):
    operations: EventSourceOperations
    store: Contended
    queue: Queue
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
    functions, store, queue, clock = MemoryFunctionStore(), Contended(), Queue(), ManualClock()
    await functions.create(record(), "s", version("1"), 1000)
    await functions.change(Edit(ONE, "f", NOBODY, aliases={"live": alias("live", "1")}), 1000)
    server = HttpServer(PlainService(queue.handle, 10_000), clock=clock)
    port = await server.start("127.0.0.1", 0)
    connection = Connection(f"http://127.0.0.1:{port}", "k", "s", arn=QUEUE)
    operations = EventSourceOperations(
        store=store, functions=functions, connections=Connections([connection]), limits=Limits(), clock=clock,
        ids=SystemIds(),
    )  # fmt: skip
    yield Bench(operations, store, queue, clock)
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
    assert bench.queue.asked == 1, "the queue is asked only of a function that is new"


async def test_another_function_is_looked_at_as_at_the_beginning(bench: Bench) -> None:
    uuid = await bench.create()
    assert await bench.refused(uuid, function_name="nobody") == (
        "InvalidParameterValueException", "Function does not exist",
    )  # fmt: skip
    assert await bench.refused(uuid, function_name="f:2") == (
        "InvalidParameterValueException", "Function does not exist",
    )  # fmt: skip
    bench.queue.answer = {"Attributes": {"VisibilityTimeout": "2"}}
    assert await bench.refused(uuid, function_name="f:live") == (
        "InvalidParameterValueException", "Queue visibility timeout: 2 seconds is less than Function timeout: 3 seconds",
    )  # fmt: skip
    bench.queue.answer = {"Attributes": {"VisibilityTimeout": "3"}}
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
         f"The queue {QUEUE} does not answer as it should: the queue's endpoint answered 502 and no JSON"),
    ],
)  # fmt: skip
async def test_what_the_queue_says_is_passed_on(bench: Bench, status: int, answer: Any, name: str, told: str) -> None:
    bench.queue.status, bench.queue.answer = status, answer
    with pytest.raises(AwsError) as caught:
        await bench.create()
    assert (caught.value.name, caught.value.message) == (name, told)
    assert await bench.store.all() == []


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
    assert bench.queue.asked == 2, "once at the beginning, and once for all attempts"
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
