"""Whatever a pool looks like, the fleet's decisions about it keep to its rules."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.core.fleet import (
    AWAITED_MOST,
    CreateWorker,
    DeleteWorker,
    DrainWorker,
    Fleet,
    Member,
    Phase,
    PoolPolicy,
    PoolState,
    Room,
    pack,
    room_of,
)

SIZES = st.sampled_from([128, 256, 512, 3008])
WANTS = st.dictionaries(SIZES, st.integers(1, 6), max_size=3)


@st.composite
def members(draw: st.DrawFn, number: int) -> Member:
    phase = draw(st.sampled_from(list(Phase)))
    there = phase in (Phase.JOINED, Phase.DRAINING, Phase.AWAY)
    provisioned = draw(st.dictionaries(st.sampled_from([128, 256]), st.integers(1, 2), max_size=2)) if there else {}
    running = draw(st.integers(0, 3)) if there else 0
    idle = draw(st.integers(0, 2)) if there else 0
    count = sum(provisioned.values())
    committed_mb = sum(size * each for size, each in provisioned.items()) + 128 * running
    return Member(
        f"w{number}", phase, 2048, 20, committed_mb, count + running, running, count + running + idle, provisioned,
        draw(st.sampled_from(["", "", "Unschedulable"])) if phase is Phase.AWAITED else "", draw(st.integers(0, 4)) == 0,
        draw(st.booleans()),
    )  # fmt: skip


@st.composite
def states(draw: st.DrawFn) -> PoolState:
    least = draw(st.integers(0, 3))
    policy = PoolPolicy(
        "p", least, least + draw(st.integers(1, 20)), draw(st.sampled_from([0, 512, 4096])), draw(st.booleans()),
        draw(st.sampled_from([0.0, 5.0])),
    )  # fmt: skip
    there = [draw(members(number)) for number in range(draw(st.integers(0, 8)))]
    return PoolState(
        policy, there, draw(WANTS), draw(WANTS), draw(st.integers(0, 2)), draw(st.frozensets(st.sampled_from("ab")))
    )


@given(st.lists(states(), min_size=1, max_size=4))
def test_decisions_keep_to_the_rules(history: list[PoolState]) -> None:
    fleet = Fleet()
    for number, state in enumerate(history):
        decisions = fleet.decide(state, number * 10.0)
        there = {member.id: member for member in state.members}
        alive = state.ordered + sum(m.phase in (Phase.JOINED, Phase.AWAITED, Phase.AWAY) for m in state.members)
        alive -= sum(m.phase is Phase.AWAITED and m.outdated and not m.started for m in state.members)
        created = sum(isinstance(each, CreateWorker) for each in decisions)
        outdated = any(m.outdated and m.phase is Phase.JOINED for m in state.members)
        assert not created or alive + created <= state.policy.max + outdated
        assert created <= AWAITED_MOST
        assert all(each.avoid == state.silent for each in decisions if isinstance(each, CreateWorker))
        drained = [there[each.worker_id] for each in decisions if isinstance(each, DrainWorker)]
        for member in drained:
            assert member.phase is Phase.JOINED
            assert not member.running or member.outdated
            assert alive - len(drained) >= (0 if state.policy.scale_to_zero else state.policy.min)
            others = [m for m in state.members if m.phase is Phase.JOINED and m not in drained]
            if not member.outdated:
                assert not pack([room_of(m) for m in others], member.provisioned)
        for each in decisions:
            if isinstance(each, DeleteWorker):
                member = there[each.worker_id]
                assert member.phase not in (Phase.JOINED, Phase.AWAY, Phase.LEAVING)
                assert member.phase is not Phase.DRAINING or not member.held
                assert member.phase is not Phase.AWAITED or not member.started
        assert not (created and drained)


@given(st.lists(st.tuples(st.integers(0, 4096), st.integers(0, 5)), max_size=5), WANTS)
def test_packing_takes_no_more_than_there_is_and_leaves_nothing_that_fits(
    given_rooms: list[tuple[int, int]], sizes: dict[int, int]
) -> None:
    rooms = [Room(mb, environments) for mb, environments in given_rooms]
    left = pack(rooms, sizes)
    placed = sum(size * (count - left[size]) for size, count in sizes.items())
    assert placed == sum(mb for mb, _ in given_rooms) - sum(room.mb for room in rooms)
    assert all(room.mb >= 0 and room.environments >= 0 for room in rooms)
    assert not any(room.mb >= size and room.environments for size in left for room in rooms)
