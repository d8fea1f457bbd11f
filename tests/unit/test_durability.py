"""What the store's settings mean for accepted events."""

from __future__ import annotations

import pytest

from lambent.infra.queue.durability import verdict

SAFE = {"appendonly": "yes", "appendfsync": "everysec", "save": "", "maxmemory-policy": "noeviction"}


@pytest.mark.parametrize(
    ("changes", "says", "wrong"),
    [
        ({}, "about the last second", []),
        ({"appendfsync": "always"}, "nothing accepted is lost", []),
        ({"appendfsync": "no"}, "the last half minute", []),
        ({"appendonly": "no", "save": "3600 1"}, "in snapshots only", ["appendonly is off"]),
        ({"appendonly": "no"}, "in memory only", ["no snapshots are made"]),
        ({"maxmemory-policy": "allkeys-lru"}, "about the last second", ["may drop accepted events"]),
    ],
)
def test_durability_is_said_plainly(changes: dict[str, str], says: str, wrong: list[str]) -> None:
    line, problems = verdict(SAFE | changes)
    assert says in line
    assert len(problems) == len(wrong)
    for text, problem in zip(wrong, problems, strict=True):
        assert text in problem
