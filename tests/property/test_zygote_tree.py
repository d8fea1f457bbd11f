"""What environments come of and which function zygotes go: rules that hold for any tree."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from services.worker.core.zygote_tree import (
    ASSUMED_MB,
    FunctionZygote,
    Need,
    Reason,
    Room,
    Source,
    State,
    choose,
    evictions,
)

NOW = 10_000.0
KEYS = "abcdef"


def zygotes(key: str) -> st.SearchStrategy[FunctionZygote]:
    made = st.builds(
        FunctionZygote,
        key=st.just(key),
        state=st.sampled_from(State),
        reason=st.sampled_from(Reason),
        memory_mb=st.integers(1, 400),
        environments=st.integers(0, 2),
        idle_since=st.floats(0, NOW),
    )
    return made.map(lambda each: replace(each, memory_mb=0, environments=0) if each.state is State.UNFIT else each)


TREES = st.lists(st.sampled_from(KEYS), unique=True).flatmap(lambda keys: st.tuples(*map(zygotes, keys)))
ROOMS = st.builds(
    Room,
    most_mb=st.integers(0, 1000),
    worker_mb=st.integers(0, 2000),
    promised_mb=st.integers(0, 2500),
    idle_seconds=st.floats(1, NOW),
    restores=st.booleans(),
    machine_mb=st.sampled_from([0, 1000]),
    available_mb=st.integers(0, 1000),
)
NEEDS = st.builds(Need, st.sampled_from(KEYS), st.booleans(), st.booleans(), st.booleans())


def used(tree: tuple[FunctionZygote, ...], without: set[str]) -> int:
    return sum(zygote.memory_mb for zygote in tree if zygote.lives and zygote.key not in without)


@settings(deadline=None)
@given(TREES, NEEDS, ROOMS)
def test_a_version_s_environments_come_of_its_own_zygote_or_of_the_interpreter_s(
    tree: tuple[FunctionZygote, ...], need: Need, room: Room
) -> None:
    choice = choose(tree, need, room)
    own = {zygote.state for zygote in tree if zygote.key == need.key}
    assert (choice.source is Source.FUNCTION) <= (own == {State.READY})
    assert (choice.source is Source.COMING) <= (own == {State.MAKING})
    possible = need.snap_start and need.native and not need.provisioned and room.restores and room.most_mb > 0
    assert choice.source is Source.RUNTIME or possible
    # Nobody is told what is not so: a fallback never has a reason of success.
    if choice.source is Source.RUNTIME and own <= {State.LEAVING} and not own:
        assert choice.reason not in (Reason.READY, Reason.FIRST, Reason.BEING_MADE)


@settings(deadline=None)
@given(TREES, NEEDS, ROOMS)
def test_what_makes_room_disturbs_nobody_and_is_no_more_than_needed(
    tree: tuple[FunctionZygote, ...], need: Need, room: Room
) -> None:
    choice = choose(tree, need, room)
    by_key = {zygote.key: zygote for zygote in tree}
    assert all(by_key[key].evictable for key in choice.evicted)
    assert len(set(choice.evicted)) == len(choice.evicted)
    if choice.source is not Source.MAKE:
        assert choice.evicted == ()
        return
    assert not room.pressed
    assert used(tree, set(choice.evicted)) + ASSUMED_MB <= room.budget_mb
    others = [key for key in choice.evicted if key != need.key]
    if others:  # the last of them was needed
        assert used(tree, set(choice.evicted) - {others[-1]}) + ASSUMED_MB > room.budget_mb
    longest = [zygote.idle_since for zygote in tree if zygote.key in others]
    kept = [each.idle_since for each in tree if each.evictable and each.key not in choice.evicted]
    assert not longest or not kept or max(longest) <= min(kept)


@settings(deadline=None)
@given(TREES, ROOMS)
def test_evictions_end_what_is_idle_and_as_much_as_memory_asks_for(
    tree: tuple[FunctionZygote, ...], room: Room
) -> None:
    found = dict(evictions(tree, room, NOW))
    by_key = {zygote.key: zygote for zygote in tree}
    assert all(by_key[key].evictable for key in found)
    for zygote in tree:
        if zygote.evictable and NOW - zygote.idle_since >= room.idle_seconds:
            assert zygote.key in found
        if zygote.evictable and zygote.state is State.LEAVING:
            assert found[zygote.key] is zygote.reason
    if used(tree, set(found)) > room.budget_mb:  # the rest has environments, or is being made
        assert not any(zygote.evictable for zygote in tree if zygote.key not in found)
    pressed = [key for key, reason in found.items() if reason is Reason.PRESSURE and by_key[key].state is State.READY]
    if pressed and not room.pressed:
        assert used(tree, set(found) - {pressed[-1]}) > room.budget_mb or len(found) > len(pressed)


@settings(deadline=None)
@given(TREES, ROOMS)
def test_after_evictions_there_are_none_but_for_the_machine_s_own_memory(
    tree: tuple[FunctionZygote, ...], room: Room
) -> None:
    gone = dict(evictions(tree, room, NOW))
    rest = tuple(zygote for zygote in tree if zygote.key not in gone)
    assert not list(evictions(rest, replace(room, machine_mb=0), NOW))
