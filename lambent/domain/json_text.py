"""What is JSON and what is not, by the letter (RFC 8259)."""

from __future__ import annotations

import json


def is_json(text: bytes) -> bool:
    """Whether this is JSON in UTF-8. NaN and its like are not; half of a surrogate pair is, written as an escape. What
    is nested too deeply to look into counts as none."""
    try:
        json.loads(text.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON's")
