"""The table of an environment's life, walked exhaustively, and what its ends are called."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.worker.core.environment import (
    BUSY,
    TRANSITIONS,
    Action,
    Ended,
    EnvironmentCore,
    Event,
    InvalidTransition,
    State,
)
from services.worker.core.outcomes import exited, timed_out

KILLED = Ended(None, 9, False)
APPLY: dict[Event, Callable[[EnvironmentCore], tuple[Action, ...]]] = {
    Event.INITED: lambda core: core.inited(1.5),
    Event.INIT_FAILED: lambda core: core.init_failed("Runtime.ImportModuleError", b"{}"),
    Event.EXPIRED: lambda core: core.expire(2.5),
    Event.EXITED: lambda core: core.exited(KILLED, 2.5),
    Event.INVOKE: lambda core: core.invoke("r", 2.0),
    Event.ANSWERED: lambda core: core.answered(),
    Event.STOP: lambda core: core.stop(),
    Event.ANSWERED_EARLY: lambda core: core.answered(early=True),
    Event.SETTLED: lambda core: core.settled(3.0),
}


def core_in(state: State) -> EnvironmentCore:
    core = EnvironmentCore(3, 10.0, 1.0)
    core.state = state
    return core


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)))
def test_every_event_in_every_state_does_what_the_table_says_or_is_refused(state: State, event: Event) -> None:
    core = core_in(state)
    listed = TRANSITIONS.get((state, event))
    assert core.allows(event) is (listed is not None)
    if listed is not None:
        assert APPLY[event](core) == listed[1]
        assert core.state is listed[0]
    elif (state, event) == (State.STOPPED, Event.STOP):
        assert APPLY[event](core) == ()
    else:
        with pytest.raises(InvalidTransition):
            APPLY[event](core)
        assert core.state is state


def test_the_table_answers_every_invocation_once_and_leaves_no_process_behind() -> None:
    for (state, event), (after, actions) in TRANSITIONS.items():
        # Whatever leaves a busy state answers, and nothing else does.
        assert (Action.ANSWER in actions) is (state in BUSY and after not in BUSY), (state, event)
        # An invocation is handed to the guest once: as it comes, or when what goes on after the one before has ended.
        queued = state is State.QUEUED and after in BUSY
        begins = after in BUSY and (event is Event.INVOKE or queued) and after is not State.QUEUED
        assert (Action.SEND in actions) is begins
        # A process ends wherever the state after it has none.
        if after in (State.COLD, State.STOPPED):
            assert Action.KILL in actions
        # The caller hears before nothing else is done with the process it came from.
        if Action.KILL in actions and Action.ANSWER in actions:
            assert actions.index(Action.KILL) < actions.index(Action.ANSWER)
        assert state is not State.STOPPED


@given(st.lists(st.sampled_from(list(Event)), max_size=40))
def test_any_history_announces_at_most_once_and_answers_what_began(events: list[Event]) -> None:
    core = EnvironmentCore(3, 10.0, 0.0)
    announced = begun = answered = 0
    for event in events:
        if not core.allows(event):
            continue
        actions = APPLY[event](core)
        begun += event is Event.INVOKE
        announced += Action.ANNOUNCE in actions
        answered += Action.ANSWER in actions
        assert answered == begun - (core.state in BUSY)
        assert announced == (core.state is not State.STARTING) or core.state is State.STOPPED
        assert announced <= 1


def test_the_init_phase_is_counted_once_and_only_if_it_went_well() -> None:
    core = EnvironmentCore(3, 10.0, 1.0)
    assert core.deadline == 11.0
    core.inited(1.25)
    core.invoke("r", 2.0)
    assert core.deadline == 5.0
    assert (core.take_init_ms(), core.take_init_ms()) == (250.0, None)
    failed = EnvironmentCore(3, 10.0, 1.0)
    failed.expire(11.0)
    assert failed.outcome is not None
    assert failed.outcome.status == "timeout"
    assert failed.invoke("r", 20.0) == (Action.REVIVE, Action.SEND)
    failed.inited(21.0)
    assert failed.take_init_ms() is None


def test_an_invocation_that_waits_for_what_goes_on_has_all_its_time_from_then_on() -> None:
    core = EnvironmentCore(3, 10.0, 1.0)
    core.inited(1.25)
    core.invoke("first", 2.0)
    core.answered(early=True)
    assert core.invoke("second", 3.0) == ()
    assert core.deadline == 5.0  # of what goes on
    assert core.settled(4.0) == (Action.SEND,)
    assert (core.invoked_at, core.deadline) == (4.0, 7.0)
    core.answered(early=True)
    core.invoke("third", 5.0)
    # What goes on does not end in its time: the third begins with fresh processes, and has all its time as well.
    assert core.expire(7.0) == (Action.KILL, Action.REVIVE, Action.SEND)
    assert (core.state, core.deadline, core.outcome) == (State.INITIALISING, 10.0, None)


@pytest.mark.parametrize(
    ("status", "signal", "memory", "text"),
    [
        (0, None, False, "Runtime exited without providing a reason"),
        (7, None, False, "Runtime exited with error: exit status 7"),
        (None, 9, True, "Runtime exited with error: signal: killed"),
        (None, 6, False, "Runtime exited with error: signal: aborted"),
        (None, 40, False, "Runtime exited with error: signal: signal 40"),
    ],
)
def test_ends_of_a_process_are_told_in_awss_words(
    status: int | None, signal: int | None, memory: bool, text: str
) -> None:
    outcome = exited("r", status, signal, out_of_memory=memory)
    assert json.loads(outcome.document) == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: r Error: {text}",
    }


def test_a_timeout_is_told_in_awss_words() -> None:
    assert (
        json.loads(timed_out("r", 3).document)["errorMessage"]
        == "RequestId: r Error: Task timed out after 3.00 seconds"
    )
