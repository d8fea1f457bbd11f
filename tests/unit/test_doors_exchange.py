"""InvokeMany over a real channel: many calls on one stream, each with an answer of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_status import rpc_status

from lambent.domain.limits import Limits
from lambent.infra.clock import SystemClock
from lambent.v1 import invocation_service_pb2 as pb
from lambent.v1.invocation_service_pb2_grpc import InvocationServiceStub
from tests.unit.doors_support import Doors, both_doors
from tests.unit.http_support import until


class LateClock(SystemClock):
    """The system's, and later at will."""

    late = 0.0  # seconds

    def epoch(self) -> float:
        return super().epoch() + self.late


@pytest.fixture
def clock() -> LateClock:
    return LateClock()


@pytest.fixture
async def doors(clock: LateClock) -> AsyncIterator[Doors]:
    async with both_doors(Limits(stream_calls=4), clock=clock) as doors:
        yield doors


@pytest.fixture
async def stub(doors: Doors) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{doors.grpc_port}") as channel:
        yield InvocationServiceStub(channel)


def many(stub: Any, doors: Doors) -> Any:
    return stub.InvokeMany(metadata=(("authorization", f"Bearer {doors.token()}"),))


def message(*names: str, first: int = 0) -> pb.InvokeManyRequest:
    """An invocation of each function, with its number for a payload."""
    return pb.InvokeManyRequest(
        items=[
            pb.InvokeManyItem(number=number, request=pb.InvokeRequest(function_name=name, payload=b"%d" % number))
            for number, name in enumerate(names, first)
        ]
    )


async def next_of(call: Any) -> list[int]:
    """The numbers of the next message's answers."""
    async for answer in call:
        return [result.number for result in answer.results]
    raise AssertionError("no further message")


async def rest(call: Any) -> list[pb.InvokeManyResult]:
    return [result async for answer in call for result in answer.results]


async def ended(call: Any) -> tuple[grpc.StatusCode, str]:
    """How a stream ends: code and AWS's name."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rest(call)
    status = rpc_status.from_call(caught.value)
    assert status is not None
    return caught.value.code(), status.details[0].value.decode("latin-1")


async def test_each_item_has_an_answer_of_its_own_however_many_there_are(doors: Doors, stub: Any) -> None:
    call = many(stub, doors)
    for first in range(0, 60, 20):
        await call.write(message(*["hello"] * 20, first=first))
    await call.done_writing()
    results = await rest(call)
    assert sorted(result.number for result in results) == list(range(60))
    assert all(result.response.payload == b"%d" % result.number for result in results)
    assert {result.request_id for result in results} == {seen.request_id for _, seen in doors.invocations.seen}
    assert len({result.request_id for result in results}) == 60
    assert doors.outcomes == [("Invoke", "OK")] * 60 + [("InvokeMany", "OK")]
    assert await call.code() is grpc.StatusCode.OK


async def test_an_item_that_is_refused_says_why_and_the_stream_goes_on(doors: Doors, stub: Any) -> None:
    call = many(stub, doors)
    await call.write(message("throttled", "not a name!", "hello"))
    await call.done_writing()
    throttled, misnamed, well = sorted(await rest(call), key=lambda result: result.number)
    assert (throttled.error.name, throttled.error.message) == ("TooManyRequestsException", "Rate Exceeded.")
    assert throttled.error.reason == "ConcurrentInvocationLimitExceeded"
    assert throttled.error.retry_after_seconds == pytest.approx(0.3)
    assert misnamed.error.name == "ValidationException"
    assert not misnamed.error.HasField("reason")
    assert well.response.payload == b"2"


async def test_what_is_ready_is_answered_and_what_exceeds_the_limit_waits(doors: Doors, stub: Any) -> None:
    call = many(stub, doors)
    await call.write(message("slow", "slow", "slow", "hello"))
    assert await next_of(call) == [3]
    doors.invocations.entered.clear()
    await call.write(message("slow", "hello", first=4))
    await call.done_writing()
    await doors.invocations.entered.wait()
    assert len(doors.invocations.seen) == 5, "four of one stream at once"
    doors.invocations.release.set()
    assert sorted(result.number for result in await rest(call)) == [0, 1, 2, 4, 5]


async def test_who_hangs_up_has_its_calls_cancelled(doors: Doors, stub: Any) -> None:
    call = many(stub, doors)
    await call.write(message("slow", "slow"))
    await doors.invocations.entered.wait()
    call.cancel()
    await until(lambda: len(doors.outcomes) == 3)
    assert doors.outcomes == [("Invoke", "Cancelled")] * 2 + [("InvokeMany", "Cancelled")]


async def test_a_frontend_that_leaves_answers_what_it_has_begun(doors: Doors, stub: Any) -> None:
    call = many(stub, doors)
    await call.write(message("slow"))
    await doors.invocations.entered.wait()
    leaving = asyncio.ensure_future(doors.grpc_door.drain(10))
    await asyncio.sleep(0)
    doors.invocations.release.set()
    assert await next_of(call) == [0]
    code, details = await ended(call)
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "ServiceUnavailableException" in details
    await leaving


async def test_nobody_begins_anything_once_a_token_has_run_out(doors: Doors, stub: Any, clock: LateClock) -> None:
    call = many(stub, doors)
    await call.write(message("hello"))
    assert await next_of(call) == [0]
    clock.late = 601
    await call.write(message("hello", first=1))
    code, details = await ended(call)
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert "ExpiredTokenException" in details
    assert len(doors.invocations.seen) == 1


async def test_callers_prove_themselves_and_malformed_messages_are_theirs(doors: Doors, stub: Any) -> None:
    code, details = await ended(stub.InvokeMany())
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert "MissingAuthenticationTokenException" in details
    async with grpc.aio.insecure_channel(f"127.0.0.1:{doors.grpc_port}") as channel:
        raw: Any = channel.stream_stream(
            "/lambent.v1.InvocationService/InvokeMany", response_deserializer=pb.InvokeManyResponse.FromString
        )
        call = raw(metadata=(("authorization", f"Bearer {doors.token()}"),))
        await call.write(message("hello").SerializeToString())
        assert await next_of(call) == [0]
        await call.write(b"\xff\xff")
        code, details = await ended(call)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "SerializationException" in details
    assert doors.outcomes[-1] == ("InvokeMany", "SerializationException")


async def test_what_a_stream_holds_in_memory_is_bounded() -> None:
    # Ten times the largest payload, and these two are more.
    large = pb.InvokeRequest(function_name="slow", payload=b'"%b"' % (b"x" * 6000))
    async with (
        both_doors(Limits(sync_request_bytes=1000)) as doors,
        grpc.aio.insecure_channel(f"127.0.0.1:{doors.grpc_port}") as channel,
    ):
        call = many(InvocationServiceStub(channel), doors)
        items = [pb.InvokeManyItem(number=number, request=large) for number in range(2)]
        await call.write(pb.InvokeManyRequest(items=[*items, *message("hello", first=2).items]))
        await call.done_writing()
        await doors.invocations.entered.wait()
        doors.invocations.release.set()
        assert [result.number for result in await rest(call)][-1] == 2, "it had to wait for the large ones"
