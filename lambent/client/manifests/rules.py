"""Rules of a manifest's functions: at which times and on which events they run, in the words of EventBridge's API."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from lambent.client.manifests import documents
from lambent.client.manifests.plan import PlannedFunction, PlannedRule

SCHEDULE, EVENT = "schedule", "event"
_MOST = 64  # letters in a rule's name
_ENDING = re.compile(rf"-(?:{SCHEDULE}|{EVENT})-\d+")


def planned_rule(
    function: PlannedFunction, kind: str, name: object, rule: Mapping[str, Any], target: Mapping[str, Any]
) -> PlannedRule:
    """One more rule of a function. `kind`: SCHEDULE or EVENT. `name`: its own; None: it has none. `rule`, `target`:
    what is said of both; None says nothing."""
    number = len(function.rules) + 1
    return PlannedRule(
        f"{_base(function.name)}-{kind}-{number}" if name is None else str(name),
        {member: value for member, value in rule.items() if value is not None},
        {member: value for member, value in target.items() if value is not None},
    )


def is_made_for(rule: str, function: str) -> bool:
    """Whether a rule's name is one that a manifest's rule without a name has for a function."""
    base = _base(function)
    return rule.startswith(base) and _ENDING.fullmatch(rule[len(base) :]) is not None


def obstacle(expression: str, zone: object) -> str | None:
    """Why a schedule is none of a rule's; None: it is. `zone`: of the times that it says."""
    if zone not in (None, "UTC", "Etc/UTC"):
        return f"is left out: schedules are in UTC here, not in {zone}"
    return "is left out: rules run over and over, not once" if expression.startswith("at(") else None


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
