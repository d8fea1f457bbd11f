"""What a simulation is run with: settings of a cluster by their names, and a few of the simulation's own."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from lambent.infra.config import ConfigError, Loaded, Row, rows_of, table
from lambent.infra.settings import Settings, setting

# The groups of settings that a simulation follows.
GROUPS = frozenset({"scheduling", "timing", "limits", "worker"})


@dataclass(frozen=True, slots=True)
class Simulated:
    """What only a simulation has to be told."""

    workers: int = setting(10, "Workers.", unit="workers", minimum=1)
    callers: int = setting(1, "Frontends, which take turns.", unit="frontends", minimum=1)
    start_seconds: str = setting(
        "model",
        "How long an environment takes to start: seconds, or model (drawn; median 1.3 s).",
        pattern=r"model|\d+(\.\d+)?",
    )
    # AWS's prices for x86 in us-east-1. Source: https://aws.amazon.com/lambda/pricing/
    price_busy: float = setting(0.0000166667, "Price of a GB·s in which an invocation runs.", unit="$", minimum=0)
    price_warm: float = setting(0.0000041667, "Price of a GB·s in which none runs.", unit="$", minimum=0)


# Of one simulated worker, where `worker.memory_mb` is 0: this machine's memory says nothing of it.
WORKER_MB = 65_536


@dataclass(frozen=True, slots=True)
class Variant:
    """One column of the comparison."""

    name: str
    settings: Settings
    simulated: Simulated


def variant(text: str, base: Loaded) -> Variant:
    """`NAME:SETTING=VALUE,...`, over the settings in force. Raises ConfigError."""
    name, _, assignments = text.partition(":")
    if not name:
        raise ConfigError(f"--setting {text!r}: it begins with a name, as in fixed-10m:keep_alive_seconds=600")
    changed: dict[str, dict[str, object]] = {}
    known = _known()
    for assignment in filter(None, assignments.split(",")):
        key, equals, value = assignment.partition("=")
        row = known.get(key)
        if row is None or not equals:
            close = [name for name in known if key and name.startswith(key)] or difflib.get_close_matches(
                key, known, n=1
            )
            hint = f"; did you mean {' or '.join(close)}?" if close and row is None else "; it is SETTING=VALUE"
            raise ConfigError(f"--setting {name}: {assignment!r} sets nothing that a simulation follows{hint}")
        changed.setdefault(row.group, {})[row.name] = row.parse(value, f"--setting {name}")
    own = changed.pop("simulated", {})
    groups = {group: dataclasses.replace(getattr(base.settings, group), **values) for group, values in changed.items()}
    return Variant(name, dataclasses.replace(base.settings, **groups), dataclasses.replace(Simulated(), **own))  # type: ignore[arg-type]


def _known() -> Mapping[str, Row]:
    """Every setting by its whole name, and by the last part of it where that is the only one."""
    found = [row for row in table() if row.group in GROUPS] + list(rows_of("simulated", Simulated))
    names = [row.name for row in found]
    return {row.key: row for row in found} | {row.name: row for row in found if names.count(row.name) == 1}
