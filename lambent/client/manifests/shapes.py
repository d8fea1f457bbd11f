"""What a value of a manifest must be: with members, a list, a whole number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lambent.client.deploying import Document
from lambent.client.manifests.plan import ManifestError


def members(value: Any, where: str) -> Document:
    """Of something that has them; none of nothing. Raises ManifestError."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ManifestError(f"{where}: this must have members")
    return value


def listed(value: Any, where: str) -> list[Any]:
    """A list; an empty one of nothing. Raises ManifestError."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise ManifestError(f"{where}: this must be a list")
    return value


def texts(value: Any, where: str) -> list[str]:
    """A list of texts. Raises ManifestError."""
    return [str(each) for each in listed(value, where)]


def whole(value: Any, where: str) -> int | None:
    """A whole number, which may be written as a text; None of nothing. Raises ManifestError."""
    if value is None:
        return None
    try:
        if isinstance(value, bool):
            raise ValueError
        return int(value)
    except (TypeError, ValueError):
        raise ManifestError(f"{where}: {value!r} is no whole number") from None


def renamed(said: Document, names: Mapping[str, str]) -> Document:
    """The members of `names` that are said, under the names that those have there."""
    return {ours: said[theirs] for theirs, ours in names.items() if said.get(theirs) is not None}
