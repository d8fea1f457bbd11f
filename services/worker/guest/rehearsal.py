"""The function that the zygote runs before it forks: what functions commonly do."""

from __future__ import annotations

import logging
from typing import Any, Dict

log = logging.getLogger(__name__)


def handler(event: Any, context: Any) -> Dict[str, Any]:
    print("event", event)
    log.warning("%s is left", context.get_remaining_time_in_millis())
    return {"event": event, "left": context.get_remaining_time_in_millis()}


def quiet(event: Any, context: Any) -> Dict[str, Any]:
    """What every function does at least."""
    return {"event": event}
