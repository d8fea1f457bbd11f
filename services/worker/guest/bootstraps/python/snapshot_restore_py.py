"""The hooks around a snapshot, under the name by which functions import them on AWS.

Source: https://docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks-python.html
"""

from __future__ import annotations

from typing import Any, Callable, List, Tuple

Hook = Tuple[Callable[..., Any], Tuple[Any, ...], Any]

_before_snapshot: List[Hook] = []
_after_restore: List[Hook] = []


def register_before_snapshot(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Callable[..., Any]:
    """Have `func` called before the snapshot is made; of several, the one registered last is called first."""
    _before_snapshot.append((func, args, kwargs))
    return func


def register_after_restore(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Callable[..., Any]:
    """Have `func` called in every environment that starts from the snapshot, in the order of registration."""
    _after_restore.append((func, args, kwargs))
    return func


def get_before_snapshot() -> List[Hook]:
    """What was registered, in that order."""
    return _before_snapshot


def get_after_restore() -> List[Hook]:
    """What was registered, in that order."""
    return _after_restore
