"""Coroutines that are driven by hand: each way to wait, to fail, to be cancelled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from lambent.infra.driving import Answer, Driven, in_task


class Stage:
    """One driven coroutine and what it did."""

    def __init__(self, work: Callable[[Stage], Awaitable[object]]) -> None:
        self.did: list[object] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.answer: Answer[str] = Answer(asyncio.get_running_loop())
        self._work = work
        self.driven = Driven(self._run(), self._spawn)

    def _spawn(self, coroutine: object) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(coroutine)  # type: ignore[arg-type]
        self.tasks.append(task)
        return task

    async def _run(self) -> None:
        try:
            self.did.append(await self._work(self))
        except BaseException as error:
            self.did.append(type(error).__name__)
            raise


async def wait(stage: Stage) -> str:
    return await stage.answer


async def test_what_does_not_wait_ends_at_once() -> None:
    async def work(stage: Stage) -> str:
        return "done"

    stage = Stage(work)
    stage.driven.start()
    assert stage.did == ["done"]
    assert stage.driven.cancel() is None
    assert not stage.tasks


async def test_an_answer_is_gone_on_with_within_the_call_that_brings_it() -> None:
    stage = Stage(wait)
    stage.driven.start()
    assert not stage.did
    stage.answer.set_result("here")
    assert stage.did == ["here"]
    assert stage.answer.done()
    assert not stage.tasks


async def test_an_answer_that_is_there_is_not_waited_for() -> None:
    stage = Stage(wait)
    stage.answer.set_result("before")
    stage.driven.start()
    assert stage.did == ["before"]


async def test_an_error_instead_of_an_answer_comes_in_the_next_turn() -> None:
    async def work(stage: Stage) -> str:
        try:
            return await stage.answer
        except LookupError:
            return "caught"

    stage = Stage(work)
    stage.driven.start()
    stage.answer.set_exception(LookupError())
    assert not stage.did
    await asyncio.sleep(0)
    assert stage.did == ["caught"]


async def test_a_cancelled_wait_ends_at_once_and_wants_no_answer() -> None:
    stage = Stage(wait)
    stage.driven.start()
    assert stage.driven.cancel() is None
    assert stage.did == ["CancelledError"]
    assert stage.answer.done()
    stage.answer.set_result("late")
    stage.answer.set_exception(LookupError())
    await asyncio.sleep(0)
    assert stage.did == ["CancelledError"]


async def test_an_error_on_its_way_when_it_is_cancelled_changes_nothing() -> None:
    stage = Stage(wait)
    stage.driven.start()
    stage.answer.set_exception(LookupError())
    stage.driven.cancel()
    await asyncio.sleep(0)
    assert stage.did == ["CancelledError"]


async def test_what_waits_for_anything_else_goes_on_in_a_task() -> None:
    async def work(stage: Stage) -> str:
        ready = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(ready.set_result, "later")
        first: str = await ready
        async with asyncio.timeout(60):  # asks for the running task
            return first + await stage.answer

    stage = Stage(work)
    stage.driven.start()
    assert len(stage.tasks) == 1
    for _ in range(5):
        await asyncio.sleep(0)
    stage.answer.set_result(" on")
    await stage.tasks[0]
    assert stage.did == ["later on"]


async def test_who_needs_a_task_asks_for_it() -> None:
    async def work(stage: Stage) -> bool:
        await in_task()
        await in_task()  # it has one
        return asyncio.current_task() is stage.tasks[0]

    stage = Stage(work)
    stage.driven.start()
    await stage.tasks[0]
    assert stage.did == [True]


@pytest.mark.parametrize("turns", [0, 1])
async def test_the_task_that_it_became_is_cancelled(turns: int) -> None:
    async def work(stage: Stage) -> None:
        await asyncio.get_running_loop().create_future()

    stage = Stage(work)
    stage.driven.start()
    for _ in range(turns):
        await asyncio.sleep(0)
    task = stage.driven.cancel()
    assert task is stage.tasks[0]
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stage.did == ["CancelledError"]


async def test_what_a_task_throws_in_can_be_caught() -> None:
    async def work(stage: Stage) -> str:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            return "cleaned up"
        return ""

    stage = Stage(work)
    stage.driven.start()
    await asyncio.sleep(0)
    stage.driven.cancel()
    await stage.tasks[0]
    assert stage.did == ["cleaned up"]


async def test_as_a_task_an_answer_is_waited_for_like_a_future() -> None:
    stage, failing, cancelled = Stage(wait), Stage(wait), Stage(wait)
    for each in (stage, failing, cancelled):
        each.driven.start_as_task()
    await asyncio.sleep(0)
    stage.answer.set_result("here")
    failing.answer.set_exception(LookupError())
    cancelled.driven.cancel()
    await asyncio.gather(*(each.tasks[0] for each in (stage, failing, cancelled)), return_exceptions=True)
    assert (stage.did, failing.did, cancelled.did) == (["here"], ["LookupError"], ["CancelledError"])
    assert cancelled.answer.done()


async def test_one_may_bring_the_answer_of_another() -> None:
    inner = Stage(wait)

    async def work(stage: Stage) -> str:
        inner.answer.set_result("from outside")
        return await stage.answer

    outer = Stage(work)
    inner.driven.start()
    outer.driven.start()
    assert inner.did == ["from outside"]
    outer.answer.set_result("own")
    assert outer.did == ["own"]


async def test_a_failure_is_told_to_the_log_and_not_to_who_brings_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    async def work(stage: Stage) -> None:
        await stage.answer
        raise LookupError

    stage = Stage(work)
    stage.driven.start()
    with caplog.at_level(logging.ERROR):
        stage.answer.set_result("")
    assert stage.did == ["LookupError"]
    assert caplog.records[0].exc_info is not None
