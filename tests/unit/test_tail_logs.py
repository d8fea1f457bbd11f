"""TailLogs: the newest lines, however far back they lie, and what comes after them."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from hypothesis import given
from hypothesis import strategies as st

from lambent.domain.principals import Principal
from lambent.infra.functions.memory_store import MemoryFunctionStore
from lambent.infra.log_store import LogChunk, MemoryLogStore
from lambent.v1 import log_service_pb2 as pb
from services.frontend.operations.logs import LogOperations
from services.frontend.transport.call import Call
from tests.records import ONE, record
from tests.unit.http_support import ManualClock

CALL = Call("r", ONE, Principal("k", ONE.account, "arn"), "grpc")
CLOCK = ManualClock()
NOW = int(CLOCK.epoch() * 1000)
# How long ago chunks are written: within every stretch that is looked through, and at their borders.
AGES = st.sampled_from([0, 1, 60_000, 60_001, 3_600_000, 5_000_000, 86_400_000, 10 * 86_400_000])


async def operations(chunks: list[LogChunk]) -> tuple[LogOperations, MemoryLogStore, str]:
    functions, logs = MemoryFunctionStore(), MemoryLogStore()
    made = record()
    await functions.create(made, "s", None, 1 << 40)
    for chunk in chunks:
        logs.append(ONE, made.configuration.log_group, chunk)
    return LogOperations(functions, logs, CLOCK), logs, made.configuration.log_group


def chunk(age: int, lines: list[str], *, name: str = record().name, request: str | None = "r") -> LogChunk:
    return LogChunk(NOW - age, "s", request, lines, name)


@given(
    chunks=st.lists(st.tuples(AGES, st.integers(1, 3), st.sampled_from([record().name, "other"]))),
    limit=st.integers(1, 12),
    since=st.none() | AGES,
)
def test_the_newest_lines_come_in_their_order(
    chunks: list[tuple[int, int, str]], limit: int, since: int | None
) -> None:
    written = [
        chunk(age, [f"{number}.{line}" for line in range(lines)], name=name)
        for number, (age, lines, name) in enumerate(chunks)
    ]
    request = pb.TailLogsRequest(function_name=record().name, limit=limit)
    if since is not None:
        request.start_time.FromMilliseconds(NOW - since)

    async def tailed() -> list[str]:
        made, _, _ = await operations(written)
        return [line.message async for line in made.tail_logs(request, CALL)]

    wanted = [
        line
        for each in sorted(written, key=lambda each: each.time_ms)
        if each.function == record().name and (since is None or each.time_ms >= NOW - since)
        for line in each.lines
    ]
    assert asyncio.run(tailed()) == wanted[-limit:]


async def test_a_follower_has_each_line_once() -> None:
    made, logs, group = await operations([chunk(5, ["before"])])
    request = pb.TailLogsRequest(function_name=record().name, follow=True)
    async with aclosing(made.tail_logs(request, CALL)) as lines:
        assert (await anext(lines)).message == "before"
        logs.append(ONE, group, chunk(9, ["late", "and more"]))
        assert [(await anext(lines)).message for _ in range(2)] == ["late", "and more"]
        logs.append(ONE, group, chunk(0, ["of another"], request="q", name="other"))
        logs.append(ONE, group, chunk(0, ["last"]))
        assert (await anext(lines)).message == "last"
