"""Schedules against a scan of every minute, and AWS's own examples."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambent.domain.schedules import Cron, ScheduleError, next_after, parse, zone_of

UTC_ZONE, BERLIN = ZoneInfo("UTC"), ZoneInfo("Europe/Berlin")
DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")


def at(text: str, zone: ZoneInfo = UTC_ZONE) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp())


def fires(text: str, after: str, zone: ZoneInfo = UTC_ZONE) -> str | None:
    moment = next_after(parse(text), at(after), zone)
    return None if moment is None else datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        ("cron(0 10 * * ? *)", "2026-11-24T10:00:00", "2026-11-25T10:00:00"),
        ("cron(15 12 * * ? *)", "2026-11-24T10:00:00", "2026-11-24T12:15:00"),
        ("cron(0 18 ? * MON-FRI *)", "2026-11-27T18:00:00", "2026-11-30T18:00:00"),
        ("cron(0 8 1 * ? *)", "2026-11-24T00:00:00", "2026-12-01T08:00:00"),
        ("cron(0/15 * * * ? *)", "2026-11-24T10:01:00", "2026-11-24T10:15:00"),
        ("cron(0/10 * ? * MON-FRI *)", "2026-11-27T23:50:00", "2026-11-30T00:00:00"),
        ("cron(30 6 ? * MON *)", "2026-11-24T00:00:00", "2026-11-30T06:30:00"),
        ("cron(0 9 ? * 2#1 *)", "2026-11-24T00:00:00", "2026-12-07T09:00:00"),
        ("cron(0 9 L * ? *)", "2027-02-01T00:00:00", "2027-02-28T09:00:00"),
        ("cron(0 9 LW * ? *)", "2027-02-01T00:00:00", "2027-02-26T09:00:00"),
        ("cron(0 9 1W * ? *)", "2027-04-30T10:00:00", "2027-05-03T09:00:00"),
        ("cron(0 9 15W * ? *)", "2026-11-01T00:00:00", "2026-11-16T09:00:00"),
        ("cron(0 9 ? * 6L *)", "2026-11-24T00:00:00", "2026-11-27T09:00:00"),
        ("cron(0 9 ? * FRI-MON *)", "2026-11-24T00:00:00", "2026-11-27T09:00:00"),
        ("cron(0 0 29 FEB ? *)", "2026-11-24T00:00:00", "2028-02-29T00:00:00"),
        ("cron(0 10 * * ? 2020)", "2026-11-24T00:00:00", None),
        ("at(2027-01-01T00:00:00)", "2026-11-24T00:00:00", "2027-01-01T00:00:00"),
        ("at(2026-01-01T00:00:00)", "2026-11-24T00:00:00", None),
    ],
)
def test_awss_examples(text: str, after: str, expected: str | None) -> None:
    assert fires(text, after) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "at()", "at(2026-13-01T00:00:00)", "at(2026-02-30T00:00:00)", "at(tomorrow)", "rate(0 minutes)", "rate(1 minutes)",
        "rate(2 minute)", "rate(1 second)", "rate(-1 minutes)", "rate(999999999 days)", "cron(* * * * *)", "cron(* * * * * *)",
        "cron(* * ? * ? *)", "cron(60 * * * ? *)", "cron(* 24 * * ? *)", "cron(* * 0 * ? *)", "cron(* * 32 * ? *)", "cron(* * * 13 ? *)",
        "cron(* * ? * 8 *)", "cron(* * ? * MON#6 *)", "cron(* * * * ? 1969)", "cron(* * * * ? 2200)", "cron(0 0 30 2 ? *)",
        "cron(0 0 29 2 ? 2027)", "cron(*/0 * * * ? *)", "cron(, * * * ? *)", "cron(1- * * * ? *)", "cron(L * * * ? *)",
        "cron(* * * * ? *) ", "cron(* * \u0661 * ? *)", "cron(* * W * ? *)", "cron(* * ? * # *)", "CRON(* * * * ? *)",
    ],
)  # fmt: skip
def test_what_is_no_schedule_or_never_fires(text: str) -> None:
    with pytest.raises(ScheduleError):
        parse(text)


def test_rates_count_from_their_anchor() -> None:
    rate = parse("rate(5 minutes)")
    assert next_after(rate, 1000.0, UTC_ZONE, anchor=1000.0) == 1300
    assert next_after(rate, 1299.5, UTC_ZONE, anchor=1000.0) == 1300
    assert next_after(rate, 1300.0, UTC_ZONE, anchor=1000.0) == 1600
    assert next_after(rate, 5.0, UTC_ZONE, anchor=1000.0) == 1000


def test_a_time_that_the_clocks_leave_out_is_when_they_are_put_forward() -> None:
    assert fires("cron(30 2 * * ? *)", "2026-03-28T12:00:00", BERLIN) == "2026-03-29T01:00:00"
    assert fires("at(2026-03-29T02:30:00)", "2026-03-28T12:00:00", BERLIN) == "2026-03-29T01:00:00"


def test_a_time_that_comes_twice_is_the_first() -> None:
    assert fires("cron(30 2 * * ? *)", "2026-10-24T12:00:00", BERLIN) == "2026-10-25T00:30:00"
    moment = at("2026-10-25T00:30:00")
    following = next_after(parse("cron(30 2 * * ? *)"), moment, BERLIN)
    assert following == at("2026-10-26T01:30:00")


@pytest.mark.parametrize("name", ["Nowhere/City", "", "../etc/passwd", "/etc/passwd", "a\0b", "Europe"])
def test_zones_that_there_are_not(name: str) -> None:
    with pytest.raises(ScheduleError):
        zone_of(name)


# A scan of every minute, written from the documentation's words.


def part(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    return st.one_of(
        st.just("*"),
        number.map(str),
        st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}"),
        st.tuples(number, st.integers(1, max(1, high // 3))).map(lambda pair: f"{pair[0]}/{pair[1]}"),
        st.lists(number, min_size=1, max_size=3).map(lambda many: ",".join(map(str, many))),
    )


def holds(text: str, value: int) -> bool:
    for each in text.split(","):
        body, _, step = each.partition("/")
        first, dash, last = body.partition("-")
        if body == "*":
            return True
        if step:
            if value >= int(first) and (value - int(first)) % int(step) == 0:
                return True
        elif int(first) <= value <= int(last if dash else first):
            return True
    return False


MONTH_DAY = st.one_of(part(1, 28), st.just("L"), st.just("LW"), st.integers(1, 28).map(lambda day: f"{day}W"))
WEEK_DAY = st.one_of(
    st.sampled_from(DAYS), st.tuples(st.integers(1, 7), st.integers(1, 4)).map(lambda pair: f"{pair[0]}#{pair[1]}"),
    st.integers(1, 7).map(lambda day: f"{day}L"),
)  # fmt: skip


def day_holds(month_day: str, week_day: str, moment: datetime) -> bool:
    length = calendar.monthrange(moment.year, moment.month)[1]
    name = (moment.weekday() + 1) % 7 + 1
    if month_day == "?":
        if "#" in week_day:
            day, nth = map(int, week_day.split("#"))
            return name == day and (moment.day + 6) // 7 == nth
        if week_day.endswith("L"):
            return name == int(week_day[:-1]) and moment.day + 7 > length
        return DAYS[name - 1] == week_day
    if month_day == "L":
        return moment.day == length
    if month_day.endswith("W"):
        wanted = length if month_day == "LW" else int(month_day[:-1])
        weekdays = [day for day in range(1, length + 1) if moment.replace(day=day).weekday() < 5]
        # The nearer one; Saturday and Sunday have no two that are as near.
        return moment.day == min(weekdays, key=lambda day: abs(day - wanted))
    return holds(month_day, moment.day)


@settings(max_examples=150)
@given(
    part(0, 59), part(0, 23), st.one_of(MONTH_DAY.map(lambda x: (x, "?")), WEEK_DAY.map(lambda x: ("?", x))),
    part(1, 12), st.integers(at("2026-01-01T00:00:00"), at("2029-01-01T00:00:00")),
)  # fmt: skip
def test_the_next_time_is_what_a_scan_finds(
    minutes: str, hours: str, days: tuple[str, str], months: str, start: int
) -> None:
    month_day, week_day = days
    found = next_after(parse(f"cron({minutes} {hours} {month_day} {months} {week_day} *)"), start, UTC_ZONE)
    assert found is not None
    assert found > start
    minute = start - start % 60 + 60
    horizon = min(found, minute + 40 * 86_400)
    while minute <= horizon:
        moment = datetime.fromtimestamp(minute, UTC)
        fits = holds(months, moment.month) and day_holds(month_day, week_day, moment)
        if not fits:
            minute += 86_400 - minute % 86_400
            continue
        if holds(hours, moment.hour) and holds(minutes, moment.minute):
            assert minute == found
            return
        minute += 60
    assert found >= horizon


@settings(max_examples=100)
@given(st.integers(at("2026-03-27T00:00:00"), at("2026-03-31T00:00:00")), st.sampled_from(["0/20", "7", "30"]))
def test_times_grow_whatever_the_clocks_do(start: int, minutes: str) -> None:
    schedule = parse(f"cron({minutes} * * * ? *)")
    assert isinstance(schedule, Cron)
    for zone in (BERLIN, ZoneInfo("America/St_Johns"), ZoneInfo("Australia/Lord_Howe")):
        first = next_after(schedule, start, zone)
        assert first is not None
        second = next_after(schedule, first, zone)
        assert second is not None
        assert start < first < second
