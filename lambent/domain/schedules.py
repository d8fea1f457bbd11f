"""When scheduled things are due: AWS's at(), rate() and cron() expressions. Pure; standard library only.

`parse` answers a schedule or raises ScheduleError; `next_after(schedule, instant, zone)` answers the first time after
`instant`. Times are whole seconds since 1970 UTC; at and cron name local times of the zone.

Daylight saving, as EventBridge Scheduler decides it: a local time that a change of clocks leaves out happens at the
instant at which the clocks are put forward; one that comes twice happens the first time only. A cron line that fires
every so many minutes therefore rests while an hour is repeated.
Source: https://docs.aws.amazon.com/autoscaling/application/userguide/scheduled-scaling-using-cron-expressions.html and
https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

_AT = re.compile(r"at\((\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d)(?::(\d\d)(?:\.\d+)?)?\)", re.ASCII)
_RATE = re.compile(r"rate\((\d{1,9}) +(minute|hour|day)(s?)\)", re.ASCII)
_CRON = re.compile(r"cron\((.*)\)", re.ASCII)
_UNITS = {"minute": 60, "hour": 3600, "day": 86_400}
_LONGEST_RATE = 10 * 365 * 86_400

FIRST_YEAR, LAST_YEAR = 1970, 2199
_MONTHS = {
    name: number
    for number, name in enumerate(
        ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"], 1
    )
}
_DAYS = {name: number for number, name in enumerate(["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"], 1)}


class ScheduleError(Exception):
    """An expression that is none, or that never fires; the text says which part."""


@dataclass(frozen=True, slots=True)
class At:
    """Once."""

    local: datetime  # without a zone


@dataclass(frozen=True, slots=True)
class Rate:
    """Every so many seconds, counted from an anchor: the start of what is scheduled."""

    seconds: int


@dataclass(frozen=True, slots=True)
class MonthDays:
    """The day-of-month field."""

    days: frozenset[int] = frozenset()
    last: bool = False  # L: the last day
    last_weekday: bool = False  # LW: the last of Monday to Friday
    nearest: frozenset[int] = frozenset()  # nW: the day of Monday to Friday nearest to day n, within the month


@dataclass(frozen=True, slots=True)
class WeekDays:
    """The day-of-week field; 1 is Sunday."""

    days: frozenset[int] = frozenset()
    last: frozenset[int] = frozenset()  # nL: the last such day of the month
    nth: frozenset[tuple[int, int]] = frozenset()  # n#k: the k-th such day of the month


@dataclass(frozen=True, slots=True)
class Cron:
    """Whenever all six fields hold. Exactly one of the two day fields is set, the other is `?`."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    month_days: MonthDays | None
    months: tuple[int, ...]
    week_days: WeekDays | None
    years: tuple[int, ...]

    def days(self, year: int, month: int) -> list[int]:
        """The days of one month on which it fires."""
        length = calendar.monthrange(year, month)[1]
        found: set[int] = set()
        if self.month_days is not None:
            found |= {day for day in self.month_days.days if day <= length}
            if self.month_days.last:
                found.add(length)
            if self.month_days.last_weekday:
                found.add(_nearest_weekday(year, month, length, length))
            found |= {_nearest_weekday(year, month, n, length) for n in self.month_days.nearest if n <= length}
        if self.week_days is not None:
            first = _week_day(year, month, 1)
            for day in range(1, length + 1):
                name = (first - 1 + day - 1) % 7 + 1
                nth, is_last = (day - 1) // 7 + 1, day + 7 > length
                if (
                    name in self.week_days.days
                    or (is_last and name in self.week_days.last)
                    or (name, nth) in self.week_days.nth
                ):
                    found.add(day)
        return sorted(found)

    def local_times(self, start: datetime) -> Iterator[datetime]:
        """Local times from `start` on, in order."""
        for year in self.years:
            if year < start.year:
                continue
            for month in self.months:
                if (year, month) < (start.year, start.month):
                    continue
                for day in self.days(year, month):
                    if date(year, month, day) < start.date():
                        continue
                    for hour in self.hours:
                        for minute in self.minutes:
                            moment = datetime(year, month, day, hour, minute)  # noqa: DTZ001 - local, without a zone
                            if moment >= start:
                                yield moment


Schedule = At | Rate | Cron


def parse(text: str) -> Schedule:
    """What an expression says. Raises ScheduleError."""
    if match := _AT.fullmatch(text):
        try:
            return At(datetime(*(int(part or 0) for part in match.groups())))  # type: ignore[arg-type]  # noqa: DTZ001
        except ValueError as error:
            raise ScheduleError(f"at: {error}") from None
    if match := _RATE.fullmatch(text):
        value, unit = int(match[1]), match[2]
        if value < 1 or (value == 1) == bool(match[3]):
            raise ScheduleError("rate: a positive number and its unit, singular for 1 and plural for more")
        if value * _UNITS[unit] > _LONGEST_RATE:
            raise ScheduleError("rate: longer than ten years")
        return Rate(value * _UNITS[unit])
    if match := _CRON.fullmatch(text):
        return _cron(match[1].split())
    raise ScheduleError("neither at(yyyy-mm-ddThh:mm:ss), rate(value unit) nor cron(six fields)")


def next_after(schedule: Schedule, instant: float, zone: ZoneInfo, anchor: float = 0.0) -> int | None:
    """The first time after `instant`; None: never again. `anchor`: where a rate counts from, epoch seconds."""
    match schedule:
        case At(local):
            moment = _instant(local, zone)
            return moment if moment > instant else None
        case Rate(seconds):
            start = int(anchor)
            return start if instant < start else start + (int(instant - start) // seconds + 1) * seconds
        case Cron():
            return _next_cron(schedule, instant, zone)


def zone_of(name: str) -> ZoneInfo:
    """A time zone by its IANA name. Raises ScheduleError."""
    try:
        return ZoneInfo(name)
    except (ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError and an OSError of some platforms
        raise ScheduleError(f"there is no time zone {name}") from None
    except KeyError:
        raise ScheduleError(f"there is no time zone {name}") from None


def _next_cron(cron: Cron, instant: float, zone: ZoneInfo) -> int | None:
    # What is a day earlier on the clock may still be later: clocks go back by less than that.
    start = datetime.fromtimestamp(max(instant, 0.0), zone).replace(tzinfo=None) - timedelta(days=1)
    for local in cron.local_times(start.replace(second=0, microsecond=0)):
        moment = _instant(local, zone)
        if moment > instant:
            return moment
    return None


def _instant(local: datetime, zone: ZoneInfo) -> int:
    """Epoch seconds of a local time, as said at the top of this module."""
    aware = local.replace(tzinfo=zone)  # fold 0: the first of two
    if aware.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == local:
        return int(aware.timestamp())
    # Left out: fold 0 reads it by the offset of before the change, fold 1 by that of after; the change is between.
    low, high = int(local.replace(tzinfo=zone, fold=1).timestamp()), int(aware.timestamp())
    before = datetime.fromtimestamp(low, zone).utcoffset()
    while high - low > 1:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high


# Cron's fields


def _cron(fields: list[str]) -> Cron:
    if len(fields) != 6:
        raise ScheduleError(f"cron: six fields, not {len(fields)}")
    minutes, hours, month_day, months, week_day, years = fields
    if (month_day == "?") == (week_day == "?"):
        raise ScheduleError("cron: one of day-of-month and day-of-week must be ?, and only one")
    made = Cron(
        minutes=_numbers("minutes", minutes, 0, 59),
        hours=_numbers("hours", hours, 0, 23),
        month_days=None if month_day == "?" else _month_days(month_day),
        months=_numbers("month", months, 1, 12, _MONTHS),
        week_days=None if week_day == "?" else _week_days(week_day),
        years=_numbers("year", years, FIRST_YEAR, LAST_YEAR),
    )
    if next(made.local_times(datetime(FIRST_YEAR, 1, 1)), None) is None:  # noqa: DTZ001 - local, without a zone
        raise ScheduleError("cron: it never fires")
    return made


def _numbers(field: str, text: str, low: int, high: int, names: dict[str, int] | None = None) -> tuple[int, ...]:
    """A field of lists, ranges, steps and names."""
    found: set[int] = set()
    for part in text.split(","):
        body, slash, step = part.partition("/")
        width = _number(field, step, 1, high) if slash else 1
        first, dash, last = body.partition("-")
        if body == "*":
            begin, end = low, high
        elif dash:
            begin, end = _number(field, first, low, high, names), _number(field, last, low, high, names)
        else:
            begin = _number(field, body, low, high, names)
            end = high if slash else begin
        if begin <= end:
            found.update(range(begin, end + 1, width))
        else:
            # Around the end, as FRI-MON.
            found.update(low + (each - low) % (high - low + 1) for each in range(begin, end + high - low + 2, width))
    return tuple(sorted(found))


def _number(field: str, text: str, low: int, high: int, names: dict[str, int] | None = None) -> int:
    number = (names or {}).get(text.upper())
    if number is None and text.isascii() and text.isdecimal() and len(text) <= 4:
        number = int(text)
    if number is None or not low <= number <= high:
        raise ScheduleError(f"cron: {field} cannot be {text or 'empty'}; {low} to {high}")
    return number


def _month_days(text: str) -> MonthDays:
    if text == "L":
        return MonthDays(last=True)
    if text in ("LW", "WL"):
        return MonthDays(last_weekday=True)
    parts = text.split(",")
    nearest = {_number("day-of-month", part[:-1], 1, 31) for part in parts if part.endswith("W")}
    plain = [part for part in parts if not part.endswith("W")]
    days = frozenset(_numbers("day-of-month", ",".join(plain), 1, 31)) if plain else frozenset[int]()
    return MonthDays(days=days, nearest=frozenset(nearest))


def _week_days(text: str) -> WeekDays:
    if text == "L":
        return WeekDays(days=frozenset((7,)))
    plain: list[str] = []
    last: set[int] = set()
    nth: set[tuple[int, int]] = set()
    for part in text.split(","):
        day, mark, which = part.partition("#")
        if mark:
            nth.add((_number("day-of-week", day, 1, 7, _DAYS), _number("day-of-week", which, 1, 5)))
        elif part[-1:] == "L" and len(part) > 1:
            last.add(_number("day-of-week", part[:-1], 1, 7, _DAYS))
        else:
            plain.append(part)
    days = frozenset(_numbers("day-of-week", ",".join(plain), 1, 7, _DAYS)) if plain else frozenset[int]()
    return WeekDays(days, frozenset(last), frozenset(nth))


def _week_day(year: int, month: int, day: int) -> int:
    """1 is Sunday."""
    return (date(year, month, day).weekday() + 1) % 7 + 1


def _nearest_weekday(year: int, month: int, day: int, length: int) -> int:
    """Of Monday to Friday, the day nearest to `day` within the month."""
    name = _week_day(year, month, day)
    if name == 7:
        return day - 1 if day > 1 else day + 2
    if name == 1:
        return day + 1 if day < length else day - 2
    return day
