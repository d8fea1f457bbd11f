"""What is to be there once a manifest has been deployed, in the words of Lambda's API."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from lambent.client.deploying import Document
from lambent.client.packaging import PackagingError

# The alias that the Serverless Framework makes for provisioned concurrency.
PROVISIONED = "provisioned"


class ManifestError(PackagingError):
    """A manifest that cannot be deployed; the text is one line and says where."""


@dataclass(frozen=True, slots=True)
class Files:
    """What a package has: a zip that is there already, one file's text, or a folder's files."""

    root: Path
    patterns: tuple[str, ...] = ()  # as in patterns.py
    artifact: Path | None = None  # the zip
    inline: tuple[str, str] | None = None  # the file's name, and its text


@dataclass(slots=True)
class PlannedLayer:
    """A layer of the manifest's own."""

    key: str
    files: Files
    request: Document  # PublishLayerVersion, without the content


@dataclass(slots=True)
class PlannedRule:
    """A rule that a function is the target of."""

    name: str
    rule: Document  # PutRule, without the name
    target: Document  # of PutTargets, without the id and the function


@dataclass(slots=True)
class PlannedSchedule:
    """A schedule whose target a function is."""

    name: str
    schedule: Document  # CreateSchedule, without name and target
    target: Document  # of it, without the function and the role


@dataclass(slots=True)
class PlannedFunction:
    """A function and what belongs to it."""

    key: str  # in the manifest
    name: str
    code: Files | str  # of its package, or the URI of its image
    configuration: (
        Document  # CreateFunction, without code, role, layers and tags; all that the manifest can say is there
    )
    layers: list[str] = field(default_factory=list)  # ARNs of versions, or keys of planned layers
    tags: dict[str, str] = field(default_factory=dict)
    reserved: int | None = None  # reserved concurrency; None: none
    provisioned: int | None = None  # provisioned concurrency; None: none
    alias: str | None = None  # of a new version, which event sources and destinations go with; None: of $LATEST
    publish: bool = False  # a version of each change
    event_invoke: Document | None = None  # PutFunctionEventInvokeConfig; None: none
    url: Document | None = None  # CreateFunctionUrlConfig; None: none is made
    sources: list[Document] = field(default_factory=list)  # CreateEventSourceMapping, without the function
    rules: list[PlannedRule] = field(default_factory=list)  # by which it runs at set times and on events
    schedules: list[PlannedSchedule] = field(default_factory=list)  # by which it runs at set times


@dataclass(slots=True)
class Plan:
    """A whole manifest."""

    title: str
    functions: list[PlannedFunction] = field(default_factory=list)
    layers: list[PlannedLayer] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what is left out, a line each
