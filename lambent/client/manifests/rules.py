"""Rules and schedules of a manifest's functions: at which times and on which events they run, in the words of
EventBridge's APIs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from lambent.client.manifests import documents
from lambent.client.manifests.plan import PlannedFunction, PlannedRule, PlannedSchedule

SCHEDULE, EVENT = "schedule", "event"
_MOST = 64  # letters in a rule's name
_ENDING = re.compile(rf"-(?:{SCHEDULE}|{EVENT})-\d+")


def planned_rule(
    function: PlannedFunction, kind: str, name: object, rule: Mapping[str, Any], target: Mapping[str, Any]
) -> PlannedRule:
    """One more rule of a function. `kind`: SCHEDULE or EVENT. `name`: its own; None: it has none. `rule`, `target`:
    what is said of both; None says nothing."""
    return PlannedRule(_named(function, kind, name), _said(rule), _said(target))


def planned_schedule(
    function: PlannedFunction, name: object, schedule: Mapping[str, Any], target: Mapping[str, Any]
) -> PlannedSchedule:
    """One more schedule of a function. As above."""
    window = {"FlexibleTimeWindow": {"Mode": "OFF"}}
    return PlannedSchedule(_named(function, SCHEDULE, name), window | _said(schedule), _said(target))


def _named(function: PlannedFunction, kind: str, name: object) -> str:
    number = len(function.rules) + len(function.schedules) + 1
    return f"{_base(function.name)}-{kind}-{number}" if name is None else str(name)


def _said(members: Mapping[str, Any]) -> dict[str, Any]:
    return {member: value for member, value in members.items() if value is not None}


def is_made_for(rule: str, function: str) -> bool:
    """Whether a rule's or a schedule's name is one that it has for a function where a manifest gives it none."""
    base = _base(function)
    return rule.startswith(base) and _ENDING.fullmatch(rule[len(base) :]) is not None


def beginning(function: str) -> str:
    """What the names of such schedules of a function begin with."""
    return f"{_base(function)}-{SCHEDULE}-"


def state(enabled: object) -> str:
    """What PutRule calls it."""
    return "DISABLED" if enabled is False or str(enabled).lower() == "false" else "ENABLED"


def as_text(value: Any) -> str | None:
    """JSON, which a manifest may write as a text or as what it stands for."""
    return value if value is None or isinstance(value, str) else documents.as_json(value)


def _base(function: str) -> str:
    """What names of its rules begin with: its own name, or as much of it as there is room for and what tells it from
    others."""
    room = _MOST - len(f"-{SCHEDULE}-999")
    if len(function) <= room:
        return function
    return f"{function[: room - 9]}-{hashlib.sha256(function.encode()).hexdigest()[:8]}"
