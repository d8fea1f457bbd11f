"""Reserved and provisioned concurrency: whatever is asked for in whatever order, the sums and the floor hold."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from lambent.domain import concurrency
from lambent.domain.concurrency import ConcurrencyState, split
from lambent.domain.errors import AwsError
from lambent.domain.functions import AliasRecord, Function
from lambent.domain.limits import Limits
from lambent.domain.names import LATEST
from tests.records import alias, record, version

LIMITS = Limits(concurrent_executions=300, unreserved_minimum=100)
NAMES = ("f", "g", "h")
QUALIFIERS = ("1", "2", "3", "one", "two", "both", "next")


def function(name: str) -> Function:
    """Versions 1 to 3, and aliases of one, of two with a weight, and of $LATEST."""
    aliases = [alias("one", "1"), alias("two", "2"), alias("both", "1", _2=0.3), alias("next", LATEST)]
    return Function(record(name), "s", {n: version(n) for n in "123"}, {each.name: each for each in aliases})


FUNCTIONS = {name: function(name) for name in NAMES}
Step = Callable[[ConcurrencyState], ConcurrencyState]

names, qualifiers, amounts = st.sampled_from(NAMES), st.sampled_from(QUALIFIERS), st.integers(0, 320)
steps = st.one_of(
    st.builds(lambda n, a: lambda s: concurrency.put_reserved(s, n, a, LIMITS), names, amounts),
    st.builds(lambda n: lambda s: concurrency.delete_reserved(s, n), names),
    st.builds(
        lambda n, q, a: lambda s: concurrency.put_provisioned(s, FUNCTIONS[n], q, a + 1, LIMITS, 1.0),
        names, qualifiers, amounts,
    ),
    st.builds(lambda n, q: lambda s: concurrency.delete_provisioned(s, n, q), names, qualifiers),
    st.builds(lambda n: lambda s: concurrency.delete_function(s, n), names),
)  # fmt: skip


@given(st.lists(steps, max_size=40))
def test_the_floor_and_the_sums_hold_after_every_step(wanted: list[Step]) -> None:
    state = ConcurrencyState()
    for step in wanted:
        try:
            after = step(state)
        except AwsError:
            continue
        assert after.revision == state.revision + (after is not state)
        state = after
        # From the words of the reference, not as the code has it.
        reserved = sum(state.reserved.values())
        loose = sum(
            each.executions
            for name, configurations in state.provisioned.items()
            if name not in state.reserved
            for each in configurations.values()
        )
        assert state.unreserved(300) == 300 - reserved - loose
        assert state.unreserved(300) >= 100
        for name, configurations in state.provisioned.items():
            assert configurations
            provisioned = [each.executions for each in configurations.values()]
            assert all(each >= 1 for each in provisioned)
            assert sum(provisioned) <= state.reserved.get(name, 300)
            covered = [version for qualifier in configurations for version in FUNCTIONS[name].stands_for(qualifier)]
            assert len(covered) == len(set(covered))
            assert LATEST not in covered
            assert all(each.put_revision <= state.revision for each in configurations.values())


@given(st.lists(steps, max_size=10), names)
def test_a_function_can_always_be_stopped_and_let_run_again(wanted: list[Step], name: str) -> None:
    """Even where the account's limit has been lowered under what is set."""
    state = ConcurrencyState()
    for step in wanted:
        try:
            state = step(state)
        except AwsError:
            continue
    state = concurrency.delete_function(state, name)
    small = Limits(concurrent_executions=50, unreserved_minimum=100)
    stopped = concurrency.put_reserved(state, name, 0, small)
    assert stopped.unreserved(50) == state.unreserved(50)
    assert concurrency.delete_reserved(stopped, name).reserved == state.reserved


@given(st.integers(1, 3000), st.floats(0, 1, allow_nan=False))
def test_an_aliass_environments_are_split_without_rest(executions: int, share: float) -> None:
    one, other = split(executions, alias("a", "1", _2=share))
    assert one + other == executions
    assert min(one, other) >= 0
    assert abs(other - executions * share) <= 0.5
    assert split(executions, None) == split(executions, alias("a", "1")) == (executions,)


@given(
    st.sampled_from(QUALIFIERS), st.sampled_from(("1", "2", "3", LATEST)), st.one_of(st.none(), st.sampled_from("123"))
)
def test_moving_an_alias_is_a_new_revision_only_if_environments_must_move(
    provisioned: str, version: str, additional: str | None
) -> None:
    subject, state = FUNCTIONS["f"], ConcurrencyState()
    try:
        state = concurrency.put_provisioned(state, subject, provisioned, 5, LIMITS, 1.0)
    except AwsError:
        return
    before = subject.aliases["one"]
    after = AliasRecord("one", version, "moved", {} if additional is None else {additional: 0.5}, "r2")
    try:
        moved = concurrency.repoint(state, subject, before, after)
    except AwsError:
        assert provisioned == "one"
        assert LATEST in after.versions
        return
    stands_still = provisioned != "one" or after.versions == ("1",)
    assert (moved is state) == stands_still
    assert (moved.reserved, moved.provisioned) == (state.reserved, state.provisioned)
