"""The life of one execution environment on its worker: a table that denies whatever it does not list.

    STARTING ──inited──────────────► READY ◄──answer── INVOKING
        │                             │ └──invoke──────►  ▲ │
        │ failed, timed out, exited   │ exited            │ │ timed out, exited
        ▼                             ▼           inited  │ ▼
       COLD ◄─────────────────────────┘─────► INITIALISING ─┘ COLD
                                      invoke

    INVOKING ──answered early──► SETTLING ──settled──► READY        SETTLING ──invoke──► QUEUED ──settled──► INVOKING

An answer comes early where the runtime, or an extension, goes on after it. The caller is told at once; the next
invocation begins when everybody has asked for it.

COLD is AWS's reset environment: no process runs, /tmp is as it was left, and the next invocation does the init phase
again under the function's own timeout ("suppressed init"). The shell carries out the actions that a change lists, in
their order; the exhaustive test reads this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from services.worker.core.outcomes import (
    Outcome,
    exited,
    extension_failed,
    init_error,
    restore_timed_out,
    stopped,
    timed_out,
)


class State(IntEnum):
    """Where an environment is in its life."""

    STARTING = 0  # the init phase runs, at most the init limit
    READY = 1  # idle, the handler is loaded
    COLD = 2  # idle, no process
    INITIALISING = 3  # an invocation waits for the init phase within it
    INVOKING = 4  # the handler runs
    STOPPED = 5  # for good
    SETTLING = 6  # idle for callers: after an answer, the runtime or an extension goes on within its deadline
    QUEUED = 7  # the same, and an invocation waits for its end


class Event(IntEnum):
    """What happens to an environment."""

    INITED = 0
    INIT_FAILED = 1  # the guest told an error document
    EXPIRED = 2  # the deadline of what runs has passed
    EXITED = 3  # the process ended by itself
    INVOKE = 4
    ANSWERED = 5  # a response or an error document
    STOP = 6
    ANSWERED_EARLY = 7  # the same, while the runtime or an extension goes on
    SETTLED = 8  # they have ended


class Action(IntEnum):
    """What the shell does about a change."""

    ANNOUNCE = 0  # the init phase has ended: invocations may come
    REPORT_INIT = 1  # log how the init phase ended, as it did not end well
    KILL = 2  # end every process
    REVIVE = 3  # take a fresh process into the same sandbox and start the init phase
    SEND = 4  # hand the event to the guest
    ANSWER = 5  # tell the caller


TRANSITIONS: Mapping[tuple[State, Event], tuple[State, tuple[Action, ...]]] = {
    (State.STARTING, Event.INITED): (State.READY, (Action.ANNOUNCE,)),
    (State.STARTING, Event.INIT_FAILED): (State.COLD, (Action.KILL, Action.REPORT_INIT, Action.ANNOUNCE)),
    (State.STARTING, Event.EXPIRED): (State.COLD, (Action.KILL, Action.REPORT_INIT, Action.ANNOUNCE)),
    (State.STARTING, Event.EXITED): (State.COLD, (Action.KILL, Action.REPORT_INIT, Action.ANNOUNCE)),
    (State.STARTING, Event.STOP): (State.STOPPED, (Action.KILL,)),
    (State.READY, Event.INVOKE): (State.INVOKING, (Action.SEND,)),
    (State.READY, Event.EXITED): (State.COLD, (Action.KILL,)),  # e.g. a thread of the function ended the process
    (State.READY, Event.STOP): (State.STOPPED, (Action.KILL,)),
    (State.COLD, Event.INVOKE): (State.INITIALISING, (Action.REVIVE, Action.SEND)),
    (State.COLD, Event.STOP): (State.STOPPED, (Action.KILL,)),
    (State.INITIALISING, Event.INITED): (State.INVOKING, ()),
    (State.INITIALISING, Event.INIT_FAILED): (State.COLD, (Action.KILL, Action.ANSWER)),
    (State.INITIALISING, Event.EXPIRED): (State.COLD, (Action.KILL, Action.ANSWER)),
    (State.INITIALISING, Event.EXITED): (State.COLD, (Action.KILL, Action.ANSWER)),
    (State.INITIALISING, Event.STOP): (State.STOPPED, (Action.KILL, Action.ANSWER)),
    (State.INVOKING, Event.ANSWERED): (State.READY, (Action.ANSWER,)),
    (State.INVOKING, Event.ANSWERED_EARLY): (State.SETTLING, (Action.ANSWER,)),
    (State.INVOKING, Event.EXPIRED): (State.COLD, (Action.KILL, Action.ANSWER)),
    (State.INVOKING, Event.EXITED): (State.COLD, (Action.KILL, Action.ANSWER)),
    (State.INVOKING, Event.STOP): (State.STOPPED, (Action.KILL, Action.ANSWER)),
    (State.SETTLING, Event.SETTLED): (State.READY, ()),
    (State.SETTLING, Event.INVOKE): (State.QUEUED, ()),
    (State.SETTLING, Event.EXPIRED): (State.COLD, (Action.KILL,)),
    (State.SETTLING, Event.EXITED): (State.COLD, (Action.KILL,)),
    (State.SETTLING, Event.STOP): (State.STOPPED, (Action.KILL,)),
    (State.QUEUED, Event.SETTLED): (State.INVOKING, (Action.SEND,)),
    (State.QUEUED, Event.EXPIRED): (State.INITIALISING, (Action.KILL, Action.REVIVE, Action.SEND)),
    (State.QUEUED, Event.EXITED): (State.INITIALISING, (Action.KILL, Action.REVIVE, Action.SEND)),
    (State.QUEUED, Event.STOP): (State.STOPPED, (Action.KILL, Action.ANSWER)),
}
BUSY = frozenset({State.INITIALISING, State.INVOKING, State.QUEUED})
# The same table by number: looked at four times in an invocation, and an enum's hash is a function in Python.
_NEXT = tuple(tuple(TRANSITIONS.get((state, event)) for event in Event) for state in State)


class InvalidTransition(Exception):
    """A change that the table does not list."""

    def __init__(self, state: State, event: Event) -> None:
        super().__init__(f"{event.name} while {state.name}")


@dataclass(frozen=True, slots=True)
class Ended:
    """How the process ended."""

    status: int | None
    signal: int | None
    out_of_memory: bool


class EnvironmentCore:
    """One environment. Times are monotonic seconds that the shell passes in."""

    __slots__ = (
        "_init_limit",
        "_init_started",
        "_timeout",
        "deadline",
        "init_ms",
        "invoked_at",
        "outcome",
        "request_id",
        "restoring",
        "state",
    )

    def __init__(self, timeout_seconds: int, init_seconds: float, now: float, *, restoring: bool = False) -> None:
        """`init_seconds`: how long the init phase may take, or the restore from a snapshot where it is one."""
        self.restoring = restoring
        self._timeout = timeout_seconds
        self._init_limit = init_seconds
        self._init_started = now
        self.state = State.STARTING
        self.deadline = now + init_seconds  # when `expire` is due; meaningful while something runs
        # Of the init phase, until an invocation has reported it. A failed one is done again within an invocation and
        # is part of that one's duration.
        self.init_ms: float | None = None
        self.invoked_at = 0.0
        self.request_id = ""
        self.outcome: Outcome | None = None  # what ANSWER and REPORT_INIT tell

    def allows(self, event: Event) -> bool:
        """Whether the table lists the event now."""
        return _NEXT[self.state][event] is not None

    def inited(self, now: float) -> tuple[Action, ...]:
        """The handler is loaded."""
        if self.state is State.STARTING:
            self.init_ms = (now - self._init_started) * 1000
        elif self.restoring:
            self._begin(now)  # a restore is no part of the invocation that waits for it
        return self._change(Event.INITED)

    def init_failed(self, error_type: str, document: bytes) -> tuple[Action, ...]:
        """The guest told why the handler cannot be loaded."""
        self.outcome = init_error(error_type, document)
        return self._change(Event.INIT_FAILED)

    def revived(self, now: float, *, restoring: bool) -> None:
        """A fresh process begins its init phase, or is restored, while an invocation waits for it."""
        self.restoring = restoring
        if restoring:
            self.deadline = now + self._init_limit

    def expire(self, now: float) -> tuple[Action, ...]:
        """The deadline has passed."""
        if self.restoring and self.state in (State.STARTING, State.INITIALISING):
            return self._broken(Event.EXPIRED, restore_timed_out(self.request_id, self._init_limit), now)
        limit = self._init_limit if self.state is State.STARTING else float(self._timeout)
        return self._broken(Event.EXPIRED, timed_out(self.request_id, limit), now)

    def exited(self, ended: Ended, now: float) -> tuple[Action, ...]:
        """The process has ended by itself, or by the kernel's hand."""
        outcome = exited(self.request_id, ended.status, ended.signal, out_of_memory=ended.out_of_memory)
        return self._broken(Event.EXITED, outcome, now)

    def failed(self, error_type: str, text: str, now: float) -> tuple[Action, ...]:
        """An extension cannot go on, and so the environment cannot."""
        return self._broken(Event.EXITED, extension_failed(self.request_id, error_type, text), now)

    def _broken(self, event: Event, outcome: Outcome, now: float) -> tuple[Action, ...]:
        if self.state is State.QUEUED:
            self._begin(now)  # what broke was of the invocation before
        else:
            self.outcome = outcome
        return self._change(event)

    def invoke(self, request_id: str, now: float) -> tuple[Action, ...]:
        """An invocation begins."""
        actions = self._change(Event.INVOKE)
        self.request_id = request_id
        self.invoked_at = now
        if self.state is not State.QUEUED:
            self._begin(now)
        return actions

    def _begin(self, now: float) -> None:
        self.invoked_at = now
        self.deadline = now + self._timeout
        self.outcome = None

    def answered(self, *, early: bool = False) -> tuple[Action, ...]:
        """The guest answered; the shell has the payload. `early`: the runtime or an extension goes on."""
        return self._change(Event.ANSWERED_EARLY if early else Event.ANSWERED)

    def settled(self, now: float) -> tuple[Action, ...]:
        """What went on after an answer has ended."""
        actions = self._change(Event.SETTLED)
        if self.state is State.INVOKING:
            self._begin(now)
        return actions

    def stop(self) -> tuple[Action, ...]:
        """The environment ends. Harmless when it has."""
        if self.state is State.STOPPED:
            return ()
        self.outcome = stopped(self.request_id)
        return self._change(Event.STOP)

    def take_init_ms(self) -> float | None:
        """Duration of the init phase, once: for the first invocation after it."""
        taken, self.init_ms = self.init_ms, None
        return taken

    def init_elapsed_ms(self, now: float) -> float:
        """How long the init phase has run."""
        return (now - self._init_started) * 1000

    def _change(self, event: Event) -> tuple[Action, ...]:
        found = _NEXT[self.state][event]
        if found is None:
            raise InvalidTransition(self.state, event)
        self.state = found[0]
        return found[1]
