"""EventBridge Scheduler's schedules by themselves: what may be set, when they are due, what functions are told."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from lambent.domain import event_schedules
from lambent.domain.errors import AwsError
from lambent.domain.event_schedules import Schedule, ScheduleTarget, Wanted
from lambent.domain.turns import Turn
from tests.records import ONE

FUNCTION = "arn:aws:lambda:us-east-1:000000000001:function:f"
ROLE = "arn:aws:iam::000000000001:role/r"


def epoch(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


NOW = epoch("2026-05-01T10:20:30")


def wanted(expression: str, **members: Any) -> Wanted:
    target = ScheduleTarget(**{"arn": FUNCTION, "role": ROLE, **members.pop("target", {})})
    return Wanted(expression, target, **members)


def made(expression: str, now: float = NOW, **members: Any) -> Schedule:
    return event_schedules.create(ONE, "default", "s", wanted(expression, **members), now)


def times(schedule: Schedule, count: int) -> list[int]:
    found: list[int] = []
    after: Schedule | None = schedule
    while after is not None and after.due is not None and len(found) < count:
        taken = event_schedules.turn(after, after.due)
        assert taken is not None
        found.append(taken.at)
        after = event_schedules.acted(after, taken)
    return found


def test_a_time_is_of_the_zone_that_is_said() -> None:
    assert made("cron(0 9 * * ? *)").due == epoch("2026-05-02T09:00:00")
    assert made("cron(0 9 * * ? *)", zone="Europe/Berlin").due == epoch("2026-05-02T07:00:00")
    assert made("cron(0 9 * * ? *)", zone="America/New_York").due == epoch("2026-05-01T13:00:00")
    assert made("at(2026-05-01T20:00:00)", zone="Asia/Tokyo").due == epoch("2026-05-01T11:00:00")
    assert made("at(2026-05-01T09:00:00)").due is None
    assert made("rate(5 minutes)", enabled=False).due is None


def test_it_begins_and_ends_when_it_is_to() -> None:
    start, end = epoch("2026-05-03T00:00:00"), epoch("2026-05-03T00:20:00")
    assert times(made("rate(10 minutes)", start=start, end=end), 9) == [start, start + 600, end]
    assert times(made("cron(0/10 * * * ? *)", start=start, end=end), 9) == [start, start + 600, end]
    assert times(made("rate(10 minutes)"), 2) == [NOW + 600, NOW + 1200]
    assert times(made("rate(10 minutes)", start=NOW - 900), 2) == [NOW + 300, NOW + 900]
    assert made("at(2026-05-02T00:00:00)", start=start).due is None


def test_after_its_last_time_it_stays_or_goes() -> None:
    once = made("at(2026-05-01T20:00:00)")
    taken = Turn(epoch("2026-05-01T20:00:00"), None)
    assert event_schedules.turn(once, NOW) is None
    assert event_schedules.turn(once, taken.at) == taken
    stays = event_schedules.acted(once, taken)
    assert stays is not None
    assert (stays.due, stays.revision) == (None, once.revision + 1)
    assert event_schedules.acted(made("at(2026-05-01T20:00:00)", deletes=True), taken) is None
    assert event_schedules.acted(made("rate(1 hour)", deletes=True), Turn(NOW, NOW + 3600)) is not None


def test_within_a_window_it_is_due_at_some_time_which_differs() -> None:
    late = set()
    for hour in range(20):
        schedule = made("rate(1 hour)", NOW + hour * 3600, window_minutes=15)
        assert schedule.at is not None
        assert schedule.due is not None
        assert 0 <= schedule.due - schedule.at < 900
        assert event_schedules.turn(schedule, schedule.due - 1) is None
        assert event_schedules.turn(schedule, schedule.due) == Turn(schedule.at, schedule.at + 3600)
        late.add(schedule.due - schedule.at)
    assert len(late) > 10


def test_of_the_times_that_were_missed_the_last_one_counts() -> None:
    schedule = made("rate(1 hour)")
    assert event_schedules.turn(schedule, NOW + 10 * 3600 + 5) == Turn(NOW + 10 * 3600, NOW + 11 * 3600)


def test_one_whose_times_are_left_as_they_were_goes_on_counting() -> None:
    before = made("rate(1 hour)", token="t")
    again = event_schedules.update(before, wanted("rate(1 hour)", description="d", token="u"), NOW + 100)
    assert (again.due, again.modified, again.revision, again.created) == (
        before.due,
        NOW + 100,
        before.revision + 1,
        NOW,
    )
    assert (again.wanted.description, again.wanted.token) == ("d", "t")
    assert event_schedules.update(before, wanted("rate(2 hours)"), NOW + 100).due == NOW + 7300
    assert event_schedules.update(before, wanted("rate(1 hour)", enabled=False), NOW).due is None


def test_without_an_input_the_function_is_told_an_event() -> None:
    event = json.loads(event_schedules.body(made("rate(1 hour)"), NOW, "an-id"))
    assert event == {
        "version": "0", "id": "an-id", "detail-type": "Scheduled Event", "source": "aws.scheduler",
        "account": "000000000001", "time": "2026-05-01T10:20:30Z", "region": "us-east-1",
        "resources": ["arn:aws:scheduler:us-east-1:000000000001:schedule/default/s"], "detail": "{}",
    }  # fmt: skip


def test_an_input_has_what_is_known_of_the_time() -> None:
    said = '{"of": "<aws.scheduler.schedule-arn>", "at": "<aws.scheduler.scheduled-time>", "id": "<aws.scheduler.execution-id>", "n": <aws.scheduler.attempt-number>}'
    schedule = made("rate(1 hour)", target={"input": said})
    assert json.loads(event_schedules.body(schedule, NOW, "an-id")) == {
        "of": schedule.arn, "at": "2026-05-01T10:20:30Z", "id": "an-id", "n": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"expression": "hourly"}, "Invalid Schedule Expression hourly"),
        ({"expression": "rate(1 hours)"}, "singular for 1"),
        ({"expression": "rate(1 hour)", "zone": "Europe/Nowhere"}, "ScheduleExpressionTimezone"),
        ({"expression": "rate(1 hour)", "zone": "../../etc/passwd"}, "ScheduleExpressionTimezone"),
        ({"expression": "rate(1 hour)", "end": NOW - 1}, "EndDate"),
        ({"expression": "rate(1 hour)", "start": NOW + 10, "end": NOW + 5}, "EndDate"),
        ({"expression": "rate(1 hour)", "target": {"arn": "arn:aws:sqs:us-east-1:000000000001:q"}}, "only functions"),
        ({"expression": "rate(1 hour)", "target": {"arn": FUNCTION.replace("east", "west")}}, "another account or region"),
        ({"expression": "rate(1 hour)", "target": {"input": "hello"}}, "not valid JSON"),
        ({"expression": "rate(1 hour)", "target": {"dead_letter_arn": "arn:aws:sqs:us-east-1:000000000001:q.fifo"}}, "standard"),
    ],
)  # fmt: skip
def test_what_can_be_no_schedule_is_refused(members: dict[str, Any], says: str) -> None:
    with pytest.raises(AwsError) as error:
        made(**members)
    assert error.value.name == "ValidationException"
    assert says in error.value.message
