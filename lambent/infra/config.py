"""Settings: one table, four sources. Defaults, then one TOML file, then LAMBENT_* variables, then flags; each value
remembers where it came from. What is not in the table is an error with a suggestion.

The table is lambent/infra/settings.py; `lambent config` and docs/reference/configuration.md are made from it. A setting
`timing.keep_alive_seconds` is `[timing] keep_alive_seconds` in TOML and LAMBENT_TIMING_KEEP_ALIVE_SECONDS in the
environment; the group `cluster` is left out: `data` at TOML's top level, LAMBENT_DATA, --data.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from lambent.domain.limits import PROFILES
from lambent.infra.settings import Settings


class ConfigError(Exception):
    """A setting that cannot be; the text is one line with a hint."""


@dataclass(frozen=True, slots=True)
class Row:
    """One setting of the table."""

    group: str
    name: str
    type: type
    default: Any
    doc: str
    unit: str
    pattern: str
    minimum: float | None
    maximum: float | None

    @property
    def key(self) -> str:
        """How TOML and `lambent config` call it."""
        return self.name if self.group == "cluster" else f"{self.group}.{self.name}"

    @property
    def variable(self) -> str:
        """How the environment calls it."""
        return "LAMBENT_" + self.key.replace(".", "_").upper()

    def parse(self, value: object, source: str) -> Any:
        """The value in the row's type. Raises ConfigError."""
        try:
            parsed: Any = msgspec.convert(value, self.type, strict=not isinstance(value, str) or self.type is str)
        except msgspec.ValidationError:
            raise ConfigError(f"{source}: {self.key} must be of type {self.type.__name__}, not {value!r}") from None
        if self.pattern and not re.fullmatch(self.pattern, parsed):
            raise ConfigError(f"{source}: {self.key} cannot be {parsed!r}. {self.doc}")
        if isinstance(parsed, float) and not math.isfinite(parsed):
            raise ConfigError(f"{source}: {self.key} must be a number, not {parsed}")
        if self.minimum is not None and parsed < self.minimum:
            raise ConfigError(f"{source}: {self.key} must be at least {self.minimum:g}, not {parsed}")
        if self.maximum is not None and parsed > self.maximum:
            raise ConfigError(f"{source}: {self.key} must be at most {self.maximum:g}, not {parsed}")
        return parsed


def table() -> Iterator[Row]:
    """Every setting, in the order of the groups."""
    for group, kind in get_type_hints(Settings).items():
        yield from rows_of(group, kind)


def rows_of(group: str, kind: type) -> Iterator[Row]:
    """The settings of one group, which are the fields of a dataclass."""
    hints = get_type_hints(kind)
    for item in dataclasses.fields(kind):
        meta = item.metadata
        yield Row(
            group, item.name, hints[item.name], item.default, meta["doc"], meta.get("unit", ""),
            meta.get("pattern", ""), meta.get("minimum", 0 if group == "limits" else None), meta.get("maximum"),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings in force, and where each came from: "default", a file, a variable or a flag."""

    settings: Settings
    sources: Mapping[str, str]

    def rows(self) -> Iterator[tuple[Row, Any, str]]:
        """(row, value, source) of every setting."""
        for row in table():
            yield row, getattr(getattr(self.settings, row.group), row.name), self.sources[row.key]

    def to_toml(self) -> str:
        """The settings as a file that gives the same settings; for handing them to another process."""
        lines: dict[str, list[str]] = {}
        for row, value, _ in self.rows():
            lines.setdefault(row.group, []).append(f"{row.name} = {msgspec.json.encode(value).decode()}")
        top = lines.pop("cluster")
        return "\n".join([*top, *(f"\n[{group}]\n" + "\n".join(items) for group, items in lines.items())]) + "\n"


def load(file: Path | None, environment: Mapping[str, str], flags: Mapping[str, object]) -> Loaded:
    """Merge the sources. `flags`: by key, None where a flag was not given. Raises ConfigError."""
    rows = {row.key: row for row in table()}
    by_variable = {row.variable: row for row in rows.values()}
    values: dict[str, Any] = {key: row.default for key, row in rows.items()}
    sources = dict.fromkeys(rows, "default")
    for key, value in _from_file(file).items():
        row = rows.get(key)
        if row is None:
            raise ConfigError(f"{file}: there is no setting {key}{_hint(key, rows)}")
        values[key], sources[key] = row.parse(value, str(file)), str(file)
    for variable, text in sorted(environment.items()):
        # LAMBENT_CONFIG names the file itself and is read before.
        if not variable.startswith("LAMBENT_") or variable == "LAMBENT_CONFIG":
            continue
        row = by_variable.get(variable)
        if row is None:
            raise ConfigError(f"environment: there is no setting {variable}{_hint(variable, by_variable)}")
        values[row.key], sources[row.key] = row.parse(text, variable), variable
    for key, value in flags.items():
        if value is not None:
            flag = "--" + key.replace("_", "-")
            values[key], sources[key] = rows[key].parse(value, flag), flag
    profile = values["limit_profile"]
    for name, limit in PROFILES[profile].items():
        if sources[f"limits.{name}"] == "default":
            values[f"limits.{name}"], sources[f"limits.{name}"] = limit, f"limit_profile {profile}"
    served = [region.strip() for region in values["regions"].split(",") if region.strip()]
    if served and values["region"] not in served:
        if sources["region"] != "default":
            raise ConfigError(f"{sources['region']}: region {values['region']} is none of regions: {', '.join(served)}")
        values["region"], sources["region"] = served[0], "the first of regions"
    groups: dict[str, dict[str, Any]] = {}
    for row in rows.values():
        groups.setdefault(row.group, {})[row.name] = values[row.key]
    kinds = get_type_hints(Settings)
    return Loaded(Settings(**{group: kinds[group](**items) for group, items in groups.items()}), sources)


def _from_file(file: Path | None) -> dict[str, object]:
    if file is None:
        return {}
    try:
        document = tomllib.loads(file.read_text())
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from None
    except ValueError as error:  # TOML in another encoding is none, either
        raise ConfigError(f"{file} is not TOML: {error}") from None
    flat: dict[str, object] = {}
    for key, value in document.items():
        if isinstance(value, dict):
            flat.update({f"{key}.{name}": item for name, item in value.items()})
        else:
            flat[key] = value
    return flat


def _hint(name: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else "; `lambent config` lists them"
