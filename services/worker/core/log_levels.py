"""Which lines of a JSON log are kept: the levels of LoggingConfig. Pure.

Source: https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping

LEVELS: Mapping[str, int] = {"TRACE": 0, "DEBUG": 1, "INFO": 2, "WARN": 3, "ERROR": 4, "FATAL": 5}
# What runtimes call them besides.
_OTHER_NAMES = {"WARNING": "WARN", "CRITICAL": "FATAL"}

# Kind of a platform event → its level where all went well; where it did not, it is WARN.
SYSTEM: Mapping[str, str] = {
    "initStart": "INFO",
    "initReport": "DEBUG",
    "restoreStart": "INFO",
    "snapStartFallback": "INFO",  # ours: on AWS there is no such case
    "restoreReport": "INFO",
    "start": "INFO",
    "runtimeDone": "DEBUG",
    "report": "INFO",
}


def system_kept(kind: str, status: str | None, least: str) -> bool:
    """Whether a platform event is written. `status`: as its record has it; None: it has none. `least`: DEBUG, INFO or
    WARN; another is INFO."""
    level = SYSTEM[kind] if status in (None, "success") else "WARN"
    return LEVELS[level] >= LEVELS.get(least, LEVELS["INFO"])


def application_kept(line: bytes, least: str) -> bool:
    """Whether a line of the function is written. One that is no JSON object with a level counts as INFO."""
    threshold = LEVELS.get(least, LEVELS["INFO"])
    if threshold == 0:
        return True
    level = LEVELS["INFO"]
    if line.lstrip()[:1] == b"{":
        try:
            named = str(json.loads(line)["level"]).upper()
        except (ValueError, KeyError, TypeError, RecursionError):
            named = "INFO"
        level = LEVELS.get(_OTHER_NAMES.get(named, named), level)
    return level >= threshold
