"""EventBridge Scheduler's schedules: a function that is told something at set times, in a time zone, once or over and
over. What may be set, and when it is due.

A schedule's record has when it is due next: who changes it decides that anew, and so does the poller that has acted on
it.

Sources: https://docs.aws.amazon.com/scheduler/latest/APIReference/API_CreateSchedule.html and
https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial

from lambent.domain import schedules, turns
from lambent.domain.errors import AwsError
from lambent.domain.function_targets import no_function, no_letter_queue
from lambent.domain.json_text import is_json
from lambent.domain.names import Tenant
from lambent.domain.rule_inputs import Event, written
from lambent.domain.schedules import ScheduleError
from lambent.domain.turns import Turn, first_revision

# The group that there always is.
DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Group:
    """Schedules that are looked at, labelled and deleted together."""

    tenant: Tenant
    name: str
    created: float  # epoch seconds
    tags: Mapping[str, str] | None = None  # None: none
    revision: int = 0  # of this record, one more at each change

    @property
    def key(self) -> str:
        """Its name."""
        return self.name

    @property
    def due(self) -> None:
        """It never is."""
        return

    @property
    def arn(self) -> str:
        """arn:aws:scheduler:REGION:ACCOUNT:schedule-group/NAME."""
        return f"arn:aws:scheduler:{self.tenant.region}:{self.tenant.account}:schedule-group/{self.name}"


@dataclass(frozen=True, slots=True)
class ScheduleTarget:
    """The function that is told."""

    arn: str
    role: str  # kept and told
    input: str | None = None  # JSON, with names of what is known of the time; None: an event
    dead_letter_arn: str | None = None  # a queue that is told what the function could not be
    retries: int | None = None  # kept and told
    age_seconds: int | None = None  # how late it is told at most; None: a day


@dataclass(frozen=True, slots=True)
class Wanted:
    """What CreateSchedule and UpdateSchedule ask for: all of a schedule is as it says, and else as by default."""

    expression: str
    target: ScheduleTarget
    zone: str = "UTC"
    start: int | None = None  # epoch seconds; None: at once
    end: int | None = None  # epoch seconds; None: for ever
    window_minutes: int | None = None  # within which it is due at some time; None: to the minute
    enabled: bool = True
    description: str | None = None
    deletes: bool = False  # it ends after its last time
    token: str = ""  # of the request that made it


@dataclass(frozen=True, slots=True)
class Schedule:
    """One schedule."""

    tenant: Tenant
    group: str
    name: str
    wanted: Wanted
    created: float  # epoch seconds
    modified: float  # epoch seconds
    anchor: int = 0  # epoch seconds from which a rate counts
    at: int | None = None  # epoch seconds: the time that is next; None: none
    due: int | None = None  # epoch seconds at which the function is told of it: within the window
    revision: int = 0  # of this record, one more at each change

    @property
    def key(self) -> str:
        """GROUP/NAME."""
        return f"{self.group}/{self.name}"

    @property
    def arn(self) -> str:
        """arn:aws:scheduler:REGION:ACCOUNT:schedule/GROUP/NAME."""
        return f"arn:aws:scheduler:{self.tenant.region}:{self.tenant.account}:schedule/{self.key}"


def create(tenant: Tenant, group: str, name: str, wanted: Wanted, now: float) -> Schedule:
    """A new one. Raises ValidationException."""
    _check(tenant, wanted, now)
    return _begun(Schedule(tenant, group, name, wanted, now, now, revision=first_revision(now)), now)


def update(before: Schedule, wanted: Wanted, now: float) -> Schedule:
    """The same with all that is wanted now. Raises ValidationException."""
    _check(before.tenant, wanted, now)
    after = replace(
        before, wanted=replace(wanted, token=before.wanted.token), modified=now, revision=before.revision + 1
    )
    # One whose times are as they were goes on counting.
    return after if _times(before) == _times(after) else _begun(after, now)


def turn(schedule: Schedule, now: float) -> Turn | None:
    """What a schedule asks for now; None: nothing yet."""
    if schedule.due is None or schedule.at is None or schedule.due > now:
        return None
    window = (schedule.wanted.window_minutes or 0) * 60
    return turns.turn(schedule.at, max(now - window, schedule.at), partial(_after, schedule))


def acted(schedule: Schedule, taken: Turn) -> Schedule | None:
    """The schedule after its turn; None: it ends with it."""
    if taken.next is None and schedule.wanted.deletes:
        return None
    return _due(replace(schedule, at=taken.next, revision=schedule.revision + 1))


def body(schedule: Schedule, at: int, execution: str) -> bytes:
    """What the function is told, JSON. `execution`: the id of this time."""
    said = schedule.wanted.target.input
    if said is None:
        account, region = schedule.tenant
        about = ("aws.scheduler", "Scheduled Event", account, region)
        # Its detail is a text, as AWS has it.
        return Event(execution, *about, at, (schedule.arn,), '"{}"').text.encode()
    return _filled(said, schedule.arn, at, execution).encode()


def _filled(said: str, arn: str, at: int, execution: str) -> str:
    """An input with what its names stand for. Source: the guide's page on context attributes."""
    for name, text in (
        ("schedule-arn", arn), ("scheduled-time", written(at)), ("execution-id", execution), ("attempt-number", "1"),
    ):  # fmt: skip
        said = said.replace(f"<aws.scheduler.{name}>", text)
    return said


# Times


def _times(schedule: Schedule) -> tuple[object, ...]:
    """What its times depend on."""
    wanted = schedule.wanted
    return wanted.expression, wanted.zone, wanted.start, wanted.end, wanted.window_minutes, wanted.enabled


def _begun(schedule: Schedule, now: float) -> Schedule:
    wanted = schedule.wanted
    if not wanted.enabled:
        return replace(schedule, at=None, due=None)
    parsed = _parsed(wanted.expression)
    start = wanted.start
    anchor = 0
    if isinstance(parsed, schedules.Rate):
        anchor = int(now) + parsed.seconds if start is None else start
    # What is due at the start itself counts.
    since = now if start is None else max(now, start - 1)
    begun = replace(schedule, anchor=anchor)
    return _due(replace(begun, at=_after(begun, since)))


def _due(schedule: Schedule) -> Schedule:
    """At some time within the window, the same for whoever asks."""
    if schedule.at is None:
        return replace(schedule, due=None)
    seconds = (schedule.wanted.window_minutes or 0) * 60
    late = zlib.crc32(f"{schedule.arn}@{schedule.at}".encode()) % seconds if seconds else 0
    return replace(schedule, due=schedule.at + late)


def _after(schedule: Schedule, instant: float) -> int | None:
    wanted = schedule.wanted
    found = schedules.next_after(
        _parsed(wanted.expression), instant, schedules.zone_of(wanted.zone), schedule.anchor
    )  # fmt: skip
    return None if found is None or (wanted.end is not None and found > wanted.end) else found


@lru_cache(maxsize=1024)
def _parsed(expression: str) -> schedules.Schedule:
    return schedules.parse(expression)


# What may be set


def _check(tenant: Tenant, wanted: Wanted, now: float) -> None:
    try:
        _parsed(wanted.expression)
    except ScheduleError as error:
        raise _invalid(f"Invalid Schedule Expression {wanted.expression}. Reason: {error}.") from None
    try:
        schedules.zone_of(wanted.zone)
    except ScheduleError as error:
        raise _invalid(f"Invalid ScheduleExpressionTimezone {wanted.zone}. Reason: {error}.") from None
    if wanted.end is not None and wanted.end < max(now, wanted.start or 0):
        raise _invalid("The EndDate you specify must come after the StartDate, and lie in the future.")
    target = wanted.target
    if (problem := no_function(target.arn, tenant)) is not None:
        raise _invalid(f"Provided Arn is not in correct format. Reason: {problem}")
    if target.dead_letter_arn is not None and (problem := no_letter_queue(target.dead_letter_arn)) is not None:
        raise _invalid(f"DeadLetterConfig is not valid. Reason: {problem}")
    if target.input is not None and not is_json(_filled(target.input, "", 0, "").encode()):
        raise _invalid("Input is not valid JSON.")


def _invalid(text: str) -> AwsError:
    return AwsError("ValidationException", text)


def group_of(kept: Group | None, tenant: Tenant, name: str) -> Group:
    """The group of that name. `kept`: as the store has it, which need not have the default one. Raises
    ResourceNotFoundException."""
    if kept is None and name != DEFAULT:
        raise no_group(name)
    return kept or Group(tenant, DEFAULT, 0.0)


def no_schedule(name: str) -> AwsError:
    """There is none of that name in the group."""
    return AwsError("ResourceNotFoundException", f"Schedule {name} does not exist.")


def no_group(name: str) -> AwsError:
    """There is no group of that name."""
    return AwsError("ResourceNotFoundException", f"Schedule group {name} does not exist.")
