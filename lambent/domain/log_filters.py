"""Filter patterns of CloudWatch Logs: which log events a search means.

    ERROR "user not found" -retry     terms and phrases that must all be there, and such that must not
    ?ERROR ?"timed out"               one of them is enough; beside others, terms with ? count for nothing
    { $.level = "ERROR" && ($.took > 2.5 || $.user NOT EXISTS) }      members of events that are JSON objects

Patterns for columns ([a, b]) and regular expressions (%...%) are refused.
Source: https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lambent.domain.errors import AwsError

# Whether an event's message is meant.
Filter = Callable[[str], bool]
# The same of a message that was a JSON object.
_Condition = Callable[[Any], bool]
_Step = str | int | None  # a member, an item, or any item

# Parentheses within each other; a pattern is far too short to need more.
MOST_NESTED = 32

_TERM = re.compile(r'\s*([-?]?)(?:"((?:[^"\\]|\\.)*)"|([^\s"]+))(?=\s|$)')
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<selector>\$(?:\.[\w-]+|\[(?:\d+|\*|'[^']*'|"[^"]*")\]|\.\[(?:'[^']*'|"[^"]*")\])*)
      | (?P<sign>&&|\|\||!=|<=|>=|[=<>()])
      | "(?P<text>(?:[^"\\]|\\.)*)"
      | (?P<word>[^\s"()=<>!&|{}]+)
    )""",
    re.VERBOSE,
)
_STEP = re.compile(r"""\.([\w-]+)|\.?\[(?:(\d+)|(\*)|'([^']*)'|"([^"]*)")\]""")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_ESCAPED = re.compile(r"\\(.)")
_ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge, "=": operator.eq, "!=": operator.ne,
}  # fmt: skip


def parse(pattern: str) -> Filter:
    """The filter of a pattern; an empty one means every event. Raises InvalidParameterException."""
    pattern = pattern.strip()
    if pattern.startswith("{"):
        if not pattern.endswith("}"):
            raise _invalid()
        return _of_json(_Conditions(pattern[1:-1]).read())
    if pattern.startswith("["):
        raise _invalid("patterns for columns are not served yet")
    return _of_terms(pattern)


def _invalid(why: str = "") -> AwsError:
    return AwsError("InvalidParameterException", f"Invalid filter pattern{': ' if why else ''}{why}")


# Terms


def _of_terms(pattern: str) -> Filter:
    wanted: dict[str, list[str]] = {"": [], "-": [], "?": []}
    at = 0
    while at < len(pattern):
        match = _TERM.match(pattern, at)
        if match is None:
            raise _invalid()
        kind, phrase, word = match.groups()
        if word is not None and word.startswith("%") and word.endswith("%") and len(word) > 1:
            raise _invalid("regular expressions are not served yet")
        wanted[kind].append(word if phrase is None else _ESCAPED.sub(r"\1", phrase))
        at = match.end()
    every, never = tuple(wanted[""]), tuple(wanted["-"])
    one = () if every or never else tuple(wanted["?"])

    def matches(message: str) -> bool:
        return (
            all(term in message for term in every)
            and not any(term in message for term in never)
            and (not one or any(term in message for term in one))
        )

    return matches


# JSON


def _of_json(condition: _Condition) -> Filter:
    def matches(message: str) -> bool:
        if not message.lstrip().startswith("{"):
            return False
        try:
            document = json.loads(message)
        except (ValueError, RecursionError):
            return False
        return condition(document)

    return matches


class _Conditions:
    """Reads what stands between the braces: comparisons, joined by && before ||, and parentheses."""

    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str]] = []  # kind and text
        at, end = 0, len(text.rstrip())
        while at < end:
            match = _TOKEN.match(text, at)
            if match is None:
                raise _invalid()
            kind = match.lastgroup or ""
            self._tokens.append((kind, match[kind]))
            at = match.end()
        self._tokens.append(("end", ""))
        self._depth = 0

    def read(self) -> _Condition:
        condition = self._any()
        if self._tokens[0][0] != "end":
            raise _invalid()
        return condition

    def _take(self, kind: str, *texts: str) -> str | None:
        """The next token's text, if it is of this kind and one of these texts in any case; none given: any will do."""
        found, text = self._tokens[0]
        if found != kind or (texts and text.upper() not in texts):
            return None
        del self._tokens[0]
        return text

    def _need(self, kind: str, *texts: str) -> str:
        text = self._take(kind, *texts)
        if text is None:
            raise _invalid()
        return text

    def _any(self) -> _Condition:
        parts = [self._all()]
        while self._take("sign", "||"):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else lambda document: any(part(document) for part in parts)

    def _all(self) -> _Condition:
        parts = [self._one()]
        while self._take("sign", "&&"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else lambda document: all(part(document) for part in parts)

    def _one(self) -> _Condition:
        if self._take("sign", "("):
            self._depth += 1
            if self._depth > MOST_NESTED:
                raise _invalid(f"more than {MOST_NESTED} parentheses within each other")
            condition = self._any()
            self._depth -= 1
            self._need("sign", ")")
            return condition
        steps = _steps(self._need("selector"))
        if self._take("word", "NOT"):
            self._need("word", "EXISTS")
            return lambda document: not _select(document, steps)
        if self._take("word", "EXISTS"):
            return lambda document: bool(_select(document, steps))
        if self._take("word", "IS"):
            literal = {"TRUE": True, "FALSE": False, "NULL": None}[self._need("word", "TRUE", "FALSE", "NULL").upper()]
            return lambda document: any(value is literal for value in _select(document, steps))
        test = self._test(self._need("sign", *_ORDERS))
        return lambda document: any(test(value) for value in _select(document, steps))

    def _test(self, sign: str) -> _Condition:
        order = _ORDERS[sign]
        word = self._take("word")
        if word is not None and _NUMBER.fullmatch(word):
            number = float(word)
            return lambda value: type(value) in (int, float) and order(value, number)
        if sign not in ("=", "!="):
            raise _invalid()
        text = _ESCAPED.sub(r"\1", self._need("text")) if word is None else word
        parts, wanted = text.split("*"), sign == "="
        return lambda value: isinstance(value, str) and _matches(parts, value) is wanted


def _matches(parts: Sequence[str], value: str) -> bool:
    """Whether a text is these parts with anything between them."""
    if len(parts) == 1:
        return value == parts[0]
    first, *middle, last = parts
    at, end = len(first), len(value) - len(last)
    if at > end or not value.startswith(first) or not value.endswith(last):
        return False
    for part in middle:
        at = value.find(part, at, end) + len(part)
        if at < len(part):
            return False
    return True


def _steps(selector: str) -> tuple[_Step, ...]:
    steps: list[_Step] = []
    for name, index, every, single, double in _STEP.findall(selector):
        steps.append(int(index) if index else None if every else name or single or double)
    return tuple(steps)


def _select(document: Any, steps: tuple[_Step, ...]) -> list[Any]:
    """The values that a selector leads to."""
    found = [document]
    for step in steps:
        following: list[Any] = []
        for value in found:
            if isinstance(step, str):
                following += [value[step]] if isinstance(value, dict) and step in value else []
            elif isinstance(value, list):
                following += value if step is None else value[step : step + 1]
        found = following
    return found
