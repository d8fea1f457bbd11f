"""Every LogStore answers alike: the one in a folder, the one in Redis, and their twin in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lambent.domain.names import Tenant
from lambent.infra.clock import SystemClock
from lambent.infra.log_files import DirectoryLogStore
from lambent.infra.log_store import Change, LogChunk, LogGroup, LogStore, MemoryLogStore
from lambent.infra.redis_client import connect_for_threads
from lambent.infra.redis_logs import RedisLogStore

ONE, OTHER = Tenant("000000000001", "us-east-1"), Tenant("000000000001", "eu-west-1")
STREAM = "2026/01/01/[$LATEST]ab"
NOW = int(datetime.now(UTC).timestamp() * 1000)


@pytest.fixture(params=["memory", "directory", "redis", "cluster"])
def logs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LogStore]:
    match request.param:
        case "memory":
            yield MemoryLogStore()
        case "directory":
            yield DirectoryLogStore(tmp_path / "logs", "w1")
        case "redis" | "cluster":
            with connect_for_threads(request.getfixturevalue("redis_url")) as client:
                yield RedisLogStore(client, SystemClock())


def chunk(moment: int, *lines: str, request: str | None = "r", stream: str = STREAM) -> LogChunk:
    return LogChunk(moment, stream, request, list(lines), "f")


def scanned(logs: LogStore, *where: Any, group: str = "/g") -> list[LogChunk]:
    return [each.chunk for each in logs.scan(ONE, group, *where)]


def test_chunks_come_back_in_order_and_from_where_one_left_off(logs: LogStore) -> None:
    logs.append(ONE, "f", chunk(1, "a", "two\nlines"))
    logs.append(ONE, "f", chunk(2, "ünïcode", request=None))
    logs.append(ONE, "g", chunk(1, "other group"))
    logs.append(OTHER, "f", chunk(1, "other tenant"))
    logs.flush()
    chunks, position = logs.read(ONE, "f")
    assert chunks == [chunk(1, "a", "two\nlines"), chunk(2, "ünïcode", request=None)]
    assert logs.read(ONE, "f", position)[0] == []
    assert logs.end(ONE, "f") == position
    logs.append(ONE, "f", chunk(3, "later"))
    logs.flush()
    assert logs.read(ONE, "f", position)[0] == [chunk(3, "later")]


def test_what_comes_later_lies_behind_the_end(logs: LogStore) -> None:
    assert logs.read(ONE, "f", logs.end(ONE, "f"))[0] == []
    for moment in (NOW, NOW + 1):
        logs.append(ONE, "f", chunk(moment, "before"))
    logs.flush()
    end = logs.end(ONE, "f")
    logs.append(ONE, "f", chunk(NOW - 1, "behind"))
    logs.flush()
    behind = [each.chunk for each in logs.scan(ONE, "f") if each.offset >= end.offsets.get(each.source, 0)]
    assert behind == logs.read(ONE, "f", end)[0] == [chunk(NOW - 1, "behind")]


def test_no_log_is_an_empty_log(logs: LogStore) -> None:
    assert logs.read(ONE, "nothing")[0] == []
    assert scanned(logs, group="nothing") == []
    assert logs.streams(ONE, "nothing") == {}
    assert logs.stored_bytes(ONE, "nothing") == 0
    assert logs.group(ONE, "nothing") is None
    assert logs.groups(ONE) == []


def test_a_scan_is_of_a_time_and_perhaps_of_a_stream(logs: LogStore) -> None:
    every = [chunk(NOW + n, f"line {n}", stream=f"2026/01/01/[1]{n % 3}") for n in range(2000)]
    for each in every:
        logs.append(ONE, "/g", each)
    logs.flush()
    assert scanned(logs) == every
    assert scanned(logs, NOW + 500, NOW + 1700) == every[500:1700]
    assert scanned(logs, NOW + 5000) == []
    assert scanned(logs, 0, NOW + 2) == every[:2]
    assert scanned(logs, NOW, NOW + 7, "2026/01/01/[1]1") == [every[1], every[4]]
    places = [each[:3] for each in logs.scan(ONE, "/g")]
    assert sorted(places) == places
    assert len(set(places)) == len(places)


def test_streams_are_counted_as_they_grow(logs: LogStore) -> None:
    for moment, stream in ((NOW, "a"), (NOW + 5, "b"), (NOW + 9, "a")):
        logs.append(ONE, "/g", chunk(moment, "x", stream=stream))
        logs.flush()
        streams = logs.streams(ONE, "/g")
    found = {name: (each.first_ms, each.last_ms) for name, each in streams.items()}
    assert found == {"a": (NOW, NOW + 9), "b": (NOW + 5, NOW + 5)}
    assert logs.streams(ONE, "/g") == streams
    assert streams["a"].stored_bytes > streams["b"].stored_bytes > 0
    assert logs.stored_bytes(ONE, "/g") == sum(each.stored_bytes for each in streams.values())


NAMES = ["/aws/lambda/f", "..", ".", "a#b", "/" * 512, "x" * 512, "a/b.group", "/"]


def test_groups_of_any_name_are_made_by_what_is_written_or_by_hand(logs: LogStore) -> None:
    for name in NAMES:
        logs.append(ONE, name, chunk(NOW, name))
    logs.flush()
    assert logs.create(ONE, LogGroup("by hand", 7))
    assert not logs.create(ONE, LogGroup("by hand", 8))
    assert not logs.create(ONE, LogGroup(NAMES[0], 8))
    assert logs.group(ONE, "by hand") == LogGroup("by hand", 7)
    assert [group.name for group in logs.groups(ONE)] == sorted([*NAMES, "by hand"])
    assert logs.groups(OTHER) == []
    for name in NAMES:
        assert scanned(logs, group=name) == [chunk(NOW, name)]


def kept_for(days: int | None) -> Change:
    return lambda group: dataclasses.replace(group, retention_days=days)


def tagged(tag: str) -> Change:
    return lambda group: dataclasses.replace(group, tags=group.tags | {tag: ""})


def refused(group: LogGroup) -> LogGroup:
    raise ValueError(group.name)


def test_tags_are_kept_with_a_group_and_a_change_that_is_refused_changes_nothing(logs: LogStore) -> None:
    made = LogGroup("/g", 1, None, {"team": "x"})
    assert logs.create(ONE, made)
    with pytest.raises(ValueError, match="/g"):
        logs.change(ONE, "/g", refused)
    assert logs.group(ONE, "/g") == made
    for tag in ("t0", "t1", "t2"):
        logs.change(ONE, "/g", tagged(tag))
    found = logs.group(ONE, "/g")
    assert found is not None
    assert found.tags == {"team": "x", "t0": "", "t1": "", "t2": ""}


def test_groups_are_kept_as_long_as_they_say_and_go_whole(logs: LogStore) -> None:
    assert not logs.change(ONE, "/g", kept_for(3))
    logs.append(ONE, "/g", chunk(NOW, "x"))
    logs.flush()
    made = logs.group(ONE, "/g")
    assert made is not None
    for days in (3, None):
        assert logs.change(ONE, "/g", kept_for(days))
        assert logs.group(ONE, "/g") == LogGroup("/g", made.created_ms, days)
    assert scanned(logs) == [chunk(NOW, "x")]
    assert logs.delete(ONE, "/g")
    assert not logs.delete(ONE, "/g")
    assert (scanned(logs), logs.streams(ONE, "/g"), logs.groups(ONE)) == ([], {}, [])
    logs.append(ONE, "/g", chunk(NOW, "y"))
    logs.flush()
    assert scanned(logs) == [chunk(NOW, "y")]


# What only files have


def at(days_ago: int) -> datetime:
    return datetime.now(UTC) - timedelta(days=days_ago)


def earlier_day(store: DirectoryLogStore, folder: Path, days_ago: int) -> LogChunk:
    """Make what has been written into the first file of `folder` that of an earlier day, in a file of its own."""
    made = chunk(int(at(days_ago).timestamp() * 1000), f"{days_ago} days ago")
    store.append(ONE, "/g", made)
    store.flush()
    today = folder / f"{at(0):%Y-%m-%d}.w1.jsonl"
    today.rename(folder / f"{at(days_ago):%Y-%m-%d}.w1.jsonl")
    return made


@pytest.fixture
def days(tmp_path: Path) -> tuple[DirectoryLogStore, Path, Callable[[], set[str]]]:
    store = DirectoryLogStore(tmp_path, "w1", keep_days=5)
    folder = tmp_path / ONE.account / ONE.region / "%g.group"
    return store, folder, lambda: {path.name[:10] for path in folder.glob("*.jsonl")}


def test_days_that_are_too_old_are_not_read_and_removed_when_a_new_one_begins(
    days: tuple[DirectoryLogStore, Path, Callable[[], set[str]]],
) -> None:
    store, folder, kept = days
    earlier_day(store, folder, 9)
    assert scanned(store) == []
    three = earlier_day(store, folder, 3)
    assert scanned(store) == [three]
    assert kept() == {f"{at(3):%Y-%m-%d}"}
    assert store.change(ONE, "/g", kept_for(1))
    assert kept() == set()
    assert store.change(ONE, "/g", kept_for(30))
    nine = earlier_day(store, folder, 9)
    assert scanned(store) == [nine]
    assert scanned(store, int(at(8).timestamp() * 1000)) == []
    assert list(store.streams(ONE, "/g")) == [STREAM]


def test_lines_that_are_not_whole_are_passed_over_until_they_are(
    days: tuple[DirectoryLogStore, Path, Callable[[], set[str]]],
) -> None:
    store, folder, _ = days
    store.append(ONE, "/g", chunk(NOW, "a"))
    store.flush()
    (path,) = folder.glob("*.jsonl")
    half = b'[%d,"%s","r",["b"],"f"]' % (NOW + 1, STREAM.encode())
    with path.open("ab") as file:
        file.write(b"no chunk\n[1\n" + half)
    assert scanned(store) == store.read(ONE, "/g")[0] == [chunk(NOW, "a")]
    assert store.end(ONE, "/g").offsets[path.name] == path.stat().st_size - len(half)
    assert store.streams(ONE, "/g")[STREAM].last_ms == NOW
    with path.open("ab") as file:
        file.write(b"\n")
    assert scanned(store) == [chunk(NOW, "a"), chunk(NOW + 1, "b")]
    assert store.streams(ONE, "/g")[STREAM].last_ms == NOW + 1


def test_several_writers_are_read_in_one_order(tmp_path: Path) -> None:
    writers = [DirectoryLogStore(tmp_path, f"w{number}") for number in range(3)]
    every = [chunk(NOW + n, str(n)) for n in range(90)]
    for number, each in enumerate(every):
        writers[number % 3].append(ONE, "/g", each)
    for writer in writers:
        writer.flush()
    assert scanned(writers[0]) == every


class Later:
    """A clock that is ahead by some days."""

    def __init__(self, days: float) -> None:
        self._ahead = days * 86_400
        self._clock = SystemClock()

    def epoch(self) -> float:
        return self._clock.epoch() + self._ahead

    def monotonic(self) -> float:
        return self._clock.monotonic()


def test_redis_keeps_of_a_group_what_is_young_and_small_enough(redis_url: str) -> None:
    with connect_for_threads(redis_url) as client:
        store = RedisLogStore(client, SystemClock(), keep_days=5, group_bytes=4000)
        for number in range(100):
            store.append(ONE, "/g", chunk(NOW + number, "x" * 200))
        store.append(ONE, "/h", chunk(NOW, "other group"))
        store.flush()
        kept = scanned(store)
        assert 5 < len(kept) < 20
        assert kept[-1].time_ms == NOW + 99
        assert store.stored_bytes(ONE, "/g") == store.streams(ONE, "/g")[STREAM].stored_bytes < 4000
        later = RedisLogStore(client, Later(6), keep_days=5)
        assert scanned(later) == []
        assert store.change(ONE, "/g", kept_for(30))
        assert scanned(later) == kept
        assert later.change(ONE, "/g", kept_for(1))
        later.append(ONE, "/g", chunk(NOW, "new"))
        later.flush()
        assert scanned(store) == scanned(later) == []  # written by today's clock, and that is too old
        assert client.xlen(f"lambent:{ONE.tag}:log:/g") == 0
