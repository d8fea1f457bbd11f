"""${source:address, fallback}: what stands in a manifest for a value that is elsewhere.

Resolved are `self`, `opt`, `env`, `param`, `file`, `sls`, `aws` and `strToBool`. A value is looked up when it is
needed, so that what is never needed may be missing. What is no such expression (${AWS::Region}, ${Name}) stays as it
is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lambent.client.manifests import documents
from lambent.client.manifests.plan import ManifestError

_SOURCE = re.compile(r"([a-zA-Z]+)(?:\(((?:[^()]|\$\{[^}]*\})*)\))?(?::(?!:)(.*))?", re.DOTALL)
_LITERAL = re.compile(r"""'([^']*)'|"([^"]*)"|(-?\d+(?:\.\d+)?)|(true|false|null)""")
_CONSTANTS = {"true": True, "false": False, "null": None}
_TRUE, _FALSE = ("true", "1"), ("false", "0", "null", "undefined", "")
_DEEPEST = 100  # expressions within each other


class _Missing(Exception):
    """There is no such value; a fallback may stand in. Says why, where that is no matter of course."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a manifest may ask for."""

    stage: str
    region: str
    account: str
    environ: Mapping[str, str]
    options: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)


class Variables:
    """A manifest in which every expression is replaced as it is read."""

    def __init__(self, document: Any, folder: Path, surroundings: Surroundings) -> None:
        """`folder`: the manifest's, which files are looked for in."""
        self._document = document
        self._folder = folder
        self._surroundings = surroundings
        self._files: dict[Path, Any] = {}
        self._under_way: list[tuple[str, str]] = []
        self._sources: dict[str, Callable[[str | None, str], Any]] = {
            "self": lambda _, address: self._at(self._document, address),
            "opt": lambda _, address: _of(surroundings.options, address),
            "env": lambda _, address: _of(surroundings.environ, address),
            "param": lambda _, address: _of(surroundings.params, address),
            "file": self._file,
            "sls": lambda _, address: _of({"stage": surroundings.stage, "instanceId": "lambent"}, address),
            "aws": self._aws,
            "strToBool": lambda argument, _: _truth(argument or ""),
        }

    def resolved(self, value: Any, where: str) -> Any:
        """A value with everything in it replaced. `where`: its place, for errors. Raises ManifestError."""
        if self._stands_for_another(value):
            with self._entered("whole", value, where):
                return self.resolved(self._text(value, where), where)
        if isinstance(value, dict):
            return {key: self.resolved(each, f"{where}.{key}".lstrip(".")) for key, each in value.items()}
        if isinstance(value, list):
            return [self.resolved(each, f"{where}[{number}]") for number, each in enumerate(value)]
        return value

    def opened(self, value: Any, where: str) -> Any:
        """A value, or what it stands for if it is an expression; what is in that stays. Raises ManifestError."""
        if not self._stands_for_another(value):
            return value
        with self._entered("whole", value, where):
            return self.opened(self._text(value, where), where)

    def _stands_for_another(self, value: Any) -> bool:
        return isinstance(value, str) and next(self._expressions(value), None) is not None

    def _text(self, text: str, where: str) -> Any:
        """A text with its expressions replaced; another value where one expression is all there is."""
        with self._entered("part", text, where):
            expressions = list(self._expressions(text))
            if expressions == [(0, len(text))]:
                return self._value(text[2:-1], where)
            result, last = "", 0
            for start, end in expressions:
                value = self.resolved(self._value(text[start + 2 : end - 1], where), where)
                if isinstance(value, dict | list) or value is None:
                    raise ManifestError(f"{where}: {text[start:end]} is no text, as it must be within one")
                result += text[last:start] + (str(value).lower() if isinstance(value, bool) else str(value))
                last = end
            return result + text[last:]

    @contextmanager
    def _entered(self, what: str, text: str, where: str) -> Iterator[None]:
        if (what, text) in self._under_way or len(self._under_way) > _DEEPEST:
            raise ManifestError(f"{where}: {text} stands for itself")
        self._under_way.append((what, text))
        try:
            yield
        finally:
            self._under_way.pop()

    def _expressions(self, text: str) -> Iterator[tuple[int, int]]:
        """Where the outermost expressions begin and end."""
        start = text.find("${")
        while start >= 0:
            end = _end(text, start)
            if end and self._is_one(text[start + 2 : end - 1]):
                yield start, end
                start = text.find("${", end)
            else:
                start = text.find("${", start + 2)

    def _is_one(self, inner: str) -> bool:
        found = _SOURCE.fullmatch(_parted(inner)[0])
        return found is not None and (found[3] is not None or found[2] is not None)

    def _value(self, inner: str, where: str) -> Any:
        """What an expression stands for: the first of its alternatives that there is."""
        unknown = ""
        for alternative in _parted(inner):
            if literal := _LITERAL.fullmatch(alternative):
                single, double, number, constant = literal.groups()
                if constant is not None:
                    return _CONSTANTS[constant]
                if number is not None:
                    return float(number) if "." in number else int(number)
                return single if single is not None else double
            try:
                return self._looked_up(alternative, where)
            except _Missing as missing:
                unknown += str(missing)
        raise ManifestError(f"{where}: there is no value for ${{{inner}}}{unknown}")

    def _looked_up(self, alternative: str, where: str) -> Any:
        found = _SOURCE.fullmatch(alternative)
        if found is None or found[2] is found[3] is None:
            if alternative.startswith("${"):
                return self._text(alternative, where)
            raise ManifestError(f"{where}: {alternative!r} is neither a source nor a value in quotes")
        name, argument, address = found.groups()
        source = self._sources.get(name)
        if source is None:
            raise _Missing(f"; {name} is not looked into from here")
        argument = None if argument is None else str(self._text(argument, where))
        value = source(argument, str(self._text(address or "", where)))
        if value is None:
            raise _Missing
        return value

    def _at(self, value: Any, address: str) -> Any:
        """A member of a member, each replaced on the way."""
        for name in filter(None, re.split(r"[.\[\]]", address)):
            if isinstance(value, str):
                value = self._text(value, address)
            if isinstance(value, list) and name.isdigit() and int(name) < len(value):
                value = value[int(name)]
            elif isinstance(value, dict) and name in value:
                value = value[name]
            else:
                raise _Missing
        return value

    def _file(self, argument: str | None, address: str) -> Any:
        path = (self._folder / (argument or "").strip()).resolve()
        if path not in self._files:
            if not documents.is_file(path):
                raise _Missing
            if path.suffix in (".js", ".cjs", ".mjs", ".ts"):
                raise ManifestError(f"{argument}: programs are not run; give the value in YAML or JSON")
            self._files[path] = documents.read(path)
        return self._at(self._files[path], address)

    def _aws(self, _: str | None, address: str) -> Any:
        return _of({"accountId": self._surroundings.account, "region": self._surroundings.region}, address)


def _of(values: Mapping[str, Any], name: str) -> Any:
    if name not in values:
        raise _Missing
    return values[name]


def _truth(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ManifestError(f"strToBool: {text!r} is neither true nor false")


def _end(text: str, start: int) -> int:
    """Where the expression that begins here ends; 0: nowhere."""
    depth = 0
    for place in range(start, len(text)):
        if text.startswith("${", place):
            depth += 1
        elif text[place] == "}":
            depth -= 1
            if depth == 0:
                return place + 1
    return 0


def _parted(inner: str) -> list[str]:
    """The alternatives of an expression: what lies between commas, but those in quotes, parentheses and expressions."""
    parts, depth, quote, last = list[str](), 0, "", 0
    for place, character in enumerate(inner):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in "({":
            depth += 1
        elif character in ")}":
            depth -= 1
        elif character == "," and depth == 0:
            parts.append(inner[last:place].strip())
            last = place + 1
    return [*parts, inner[last:].strip()]
