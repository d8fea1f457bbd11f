"""What the targets of EventBridge's rules are told: an event as it is, a part of it, a text of their own, or one that
is written from parts. Pure.

Sources: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-events-structure.html and
eb-transform-target-input.html there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from lambent.domain import event_patterns
from lambent.domain.json_text import is_json

_PATH = re.compile(r"\$(\.[^.\[\]\s]+|\[\d{1,6}\])*")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_NAME = re.compile(r"<([A-Za-z0-9_.-]+)>")
# What a template may name beside the parts that its rule names.
_RULE_ARN, _RULE_NAME, _INGESTED = "aws.events.rule-arn", "aws.events.rule-name", "aws.events.event.ingestion-time"
_EVENT, _WHOLE = "aws.events.event", "aws.events.event.json"
_GIVEN = frozenset({_RULE_ARN, _RULE_NAME, _INGESTED, _EVENT, _WHOLE})


@dataclass(frozen=True, slots=True)
class Transformer:
    """How what a target is told is written: a template with names of parts, and where in the event the parts are."""

    paths: Mapping[str, str]
    template: str


@dataclass(frozen=True)
class Event:
    """What has happened, or the time that it is."""

    id: str  # a UUID
    source: str
    detail_type: str
    account: str
    region: str
    time: float  # epoch seconds
    resources: tuple[str, ...]
    detail: str  # a JSON object, as it was sent
    ingested: float = 0.0  # epoch seconds at which it came here
    trace: str = ""  # X-Amzn-Trace-Id that it came with; empty: none

    @cached_property
    def text(self) -> str:
        """As targets are told it. The detail goes in as it is: nothing of it is written anew."""
        head = {
            "version": "0",
            "id": self.id,
            "detail-type": self.detail_type,
            "source": self.source,
            "account": self.account,
            "time": written(self.time),
            "region": self.region,
            "resources": list(self.resources),
        }
        return f'{_json(head)[:-1]},"detail":{self.detail}}}'

    @cached_property
    def document(self) -> Any:
        """The same, read."""
        return json.loads(self.text)

    @cached_property
    def record(self) -> Mapping[str, Any]:
        """The same, as patterns are compared with it."""
        return event_patterns.event(self.text)


def written(epoch: float) -> str:
    """Epoch seconds as events have them."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def payload(
    event: Event, rule: tuple[str, str], own: str | None, path: str | None, transformer: Transformer | None
) -> bytes:
    """What a target is told, JSON. `rule`: its ARN and its name."""
    if own is not None:
        return own.encode()
    if path is not None:
        return _json(_at(event.document, path)).encode()
    if transformer is not None:
        return _written(event, rule, transformer).encode()
    return event.text.encode()


def problem(own: str | None, path: str | None, transformer: Transformer | None) -> str | None:
    """Why a target can be told nothing so; None: it can."""
    if own is not None and not is_json(own.encode()):
        return "JSON syntax error in input"
    paths = [path] if path is not None else [] if transformer is None else list(transformer.paths.values())
    for each in paths:
        if _PATH.fullmatch(each) is None:
            return f"Invalid InputPath {each!r}; one reads $.detail.name or $.resources[0],"
    if transformer is None:
        return None
    for name in transformer.paths:
        if name.lower().startswith("aws."):
            return f"InputPathsMap: names that begin with AWS. are reserved: {name},"
    for name in _NAME.findall(transformer.template):
        if name not in transformer.paths and name not in _GIVEN:
            return f"Invalid InputTemplate: nothing is called <{name}>"
    sample = Event("", "", "", "", "", 0.0, (), "{}")
    if not is_json(_written(sample, ("", ""), transformer).encode()):
        return "Invalid InputTemplate: it is no JSON; a text stands in quotes,"
    return None


def _written(event: Event, rule: tuple[str, str], transformer: Transformer) -> str:
    """The template with its parts. Within a text a part is a text; elsewhere it is JSON as it is in the event."""
    parts: dict[str, Any] = {name: _at(event.document, path) for name, path in transformer.paths.items()}
    parts[_RULE_ARN], parts[_RULE_NAME] = rule
    parts[_INGESTED] = written(event.ingested)
    parts[_WHOLE] = event.document
    parts[_EVENT] = {name: each for name, each in event.document.items() if name != "detail"}
    made: list[str] = []
    quoted, start = False, 0
    template = transformer.template
    for match in _NAME.finditer(template):
        between = template[start : match.start()]
        quoted ^= _quotes(between) % 2 == 1
        made.append(between)
        start = match.end()
        if match[1] not in parts:
            made.append(match[0])
        elif quoted:
            part = parts[match[1]]
            text = "" if part is None else part if isinstance(part, str) else _json(part)
            made.append(_json(text)[1:-1])
        else:
            made.append(_json(parts[match[1]]))
    return "".join((*made, template[start:]))


def _quotes(text: str) -> int:
    """How many of its quotes begin or end a text of JSON's."""
    return text.replace("\\\\", "").replace('\\"', "").count('"')


def _at(document: Any, path: str) -> Any:
    """What is at a path; None: nothing."""
    for name, index in _STEP.findall(path):
        if name:
            document = document.get(name) if isinstance(document, dict) else None
        else:
            inside = isinstance(document, list) and int(index) < len(document)
            document = document[int(index)] if inside else None
    return document


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
