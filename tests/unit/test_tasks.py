"""The owner of tasks: whatever it started has ended once it is closed."""

from __future__ import annotations

import asyncio

import pytest

from lambent.infra import tasks
from lambent.infra.tasks import TaskOwner


async def test_a_task_that_loses_a_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_AGAIN_SECONDS", 0.01)
    lost = 0

    async def deaf() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost += 1
                if lost == 3:
                    raise

    owner = TaskOwner("test")
    task = owner.start("deaf", deaf())
    await asyncio.sleep(0)
    await owner.close()
    assert (task.cancelled(), lost, len(owner)) == (True, 3, 0)


async def test_what_a_task_raises_at_its_end_stops_nobody() -> None:
    failed: list[str] = []

    async def broken() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("at the end")

    owner = TaskOwner("test", lambda name, error: failed.append(f"{name}: {error}"))
    owner.start("broken", broken())
    await asyncio.sleep(0)
    await owner.close()
    assert failed == ["test.broken: at the end"]
