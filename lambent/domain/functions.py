"""What the cluster knows of a function, as plain values; the store keeps them, frontends and pollers read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from lambent.domain.event_invoke import EventInvokeConfig
from lambent.domain.function_urls import FunctionUrl
from lambent.domain.images import RUNTIME, ImageSettings, parse_name
from lambent.domain.lineage import TERMINATE, RecursiveLoop
from lambent.domain.names import LATEST, Tenant
from lambent.domain.policies import Policy


class State(StrEnum):
    """Whether a function can be invoked. Source: API_FunctionConfiguration, State."""

    PENDING = "Pending"
    ACTIVE = "Active"
    INACTIVE = "Inactive"  # attached to a network and not invoked for long; the next invocation wakes it
    FAILED = "Failed"


class UpdateStatus(StrEnum):
    """What became of the last change. Source: API_FunctionConfiguration, LastUpdateStatus."""

    IN_PROGRESS = "InProgress"
    SUCCESSFUL = "Successful"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class Code:
    """A package in the code store, or an image in its registry."""

    sha256: str  # lower-case hex; of the package, or of the image's manifest
    size: int  # bytes, zipped; 0 for images
    # Bytes when unpacked; 0: not counted, as in records that are older than the count. The digest says it all.
    unzipped: int = field(default=0, compare=False)
    image: str | None = field(default=None, compare=False)  # its URI as it was asked for; None: it is a package

    @property
    def resolved(self) -> str:
        """The URI of the image by digest; empty: it is a package."""
        return "" if self.image is None else parse_name(self.image).resolved(self.sha256)


@dataclass(frozen=True, slots=True)
class AttachedLayer:
    """A layer version as a function has it: what it was then, whatever becomes of the layer."""

    arn: str  # of the version
    code: Code


@dataclass(frozen=True, slots=True)
class VpcAttachment:
    """The network of a function. Source: API_VpcConfigResponse."""

    subnets: tuple[str, ...]  # empty: it was attached, and is no more
    security_groups: tuple[str, ...]
    vpc: str
    ipv6: bool  # Ipv6AllowedForDualStack


@dataclass(frozen=True, slots=True)
class FileSystemMount:
    """A file system of a function. Source: API_FileSystemConfig."""

    arn: str  # of the access point
    path: str  # where the function finds it, a folder in /mnt


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything about a function that its user sets, but its code."""

    role: str
    runtime: str
    handler: str
    description: str
    timeout: int  # seconds
    memory_mb: int
    ephemeral_storage_mb: int
    architecture: str
    variables: str | None  # environment variables, sealed (lambent.infra.secrets); None: never set
    dead_letter_target: str | None
    kms_key_arn: str | None
    tracing_mode: str
    snap_start: str
    log_format: str
    application_log_level: str | None
    system_log_level: str | None
    log_group: str
    layers: tuple[AttachedLayer, ...] = ()  # in the order in which they are unpacked into /opt
    vpc: VpcAttachment | None = None  # None: never set
    isolated: bool = False  # environments are each for one tenant of its callers'; for the function's life
    file_system: FileSystemMount | None = None
    image: ImageSettings | None = None  # None: its code is a zip package; for the function's life

    @property
    def runs_on(self) -> str:
        """The name of its runtime, as whoever chooses a worker knows it."""
        return self.runtime if self.image is None else RUNTIME

    @property
    def attached(self) -> bool:
        """Whether the function is in a network of its own choice."""
        return self.vpc is not None and bool(self.vpc.subnets)


@dataclass(frozen=True, slots=True)
class Deployed:
    """What invocations run: configuration and code as they were at one generation."""

    deployment_id: str
    generation: int
    configuration: Configuration
    code: Code


@dataclass(frozen=True, slots=True)
class FunctionRecord:
    """The $LATEST of one function of one tenant, and what belongs to the function as a whole."""

    tenant: Tenant
    name: str
    configuration: Configuration
    code: Code
    generation: int  # of the tenant's counter; grows with every change, also over deletion and re-creation
    revision_id: str
    last_modified: float  # epoch seconds
    state: State
    update_status: UpdateStatus | None  # None until the creation has ended
    changed: float  # epoch seconds at which the change in progress began
    # What invocations run; None until the creation has ended; while an update is in progress, what was before.
    serving: Deployed | None
    tags: dict[str, str] = field(default_factory=dict)  # that it was created with; Function.tags has today's
    last_version: int = 0  # the number published last: none is given twice while the function lives

    @property
    def away(self) -> bool:
        """Whether nothing of the function runs for now, published versions neither: it is inactive, or on its way
        back."""
        return self.state is State.INACTIVE or (self.state is State.PENDING and self.serving is not None)

    def counting(self, version: VersionRecord, revision_id: str) -> FunctionRecord:
        """The same after `version` was published, which is a change of revision."""
        return replace(self, last_version=int(version.number), revision_id=revision_id)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What became of a version's init phase, where the function has SnapStart.

    Source: https://docs.aws.amazon.com/lambda/latest/dg/snapstart.html
    """

    state: State  # Pending, Active or Failed; the version's own
    taken: bool = False  # False: its environments each have an init phase
    reason_code: str = ""  # why it is Failed: AWS's StateReasonCode
    reason: str = ""


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """A published version: what $LATEST was at that moment, which never changes. Source: API_PublishVersion."""

    number: str  # decimal
    description: str  # its own, or that of $LATEST then
    revision_id: str
    last_modified: float  # epoch seconds
    deployed: Deployed
    snapshot: Snapshot | None = None  # None: without SnapStart

    @property
    def state(self) -> State:
        """Whether it can be invoked."""
        return State.ACTIVE if self.snapshot is None else self.snapshot.state

    def publishes(self, configuration: Configuration, code: Code) -> bool:
        """Whether these are what was published: then there is nothing to publish again, unless that failed."""
        same = self.deployed.configuration == configuration and self.deployed.code == code
        return same and self.state is not State.FAILED


@dataclass(frozen=True, slots=True)
class AliasRecord:
    """A name for a version, or for two with weights. Source: API_AliasConfiguration."""

    name: str
    version: str  # $LATEST or a number
    description: str
    weights: dict[str, float]  # an additional version → its share of the requests (0 to 1); at most one
    revision_id: str

    @property
    def versions(self) -> tuple[str, ...]:
        """What the alias stands for, the version that is not weighted first."""
        return (self.version, *self.weights)


@dataclass(frozen=True, slots=True)
class RuntimeManagement:
    """When the runtime of a version is to change, as a user has set it. Source: API_PutRuntimeManagementConfig."""

    update_on: str = "Auto"  # or FunctionUpdate or Manual
    version_arn: str | None = None  # with Manual: of the runtime version that is to stay


@dataclass(frozen=True, slots=True)
class Function:
    """A function with everything published of it, as one read of the store found it."""

    record: FunctionRecord
    stamp: str  # changes whenever an alias, the handling of events, an address, tags or a policy do, or a version goes
    versions: Mapping[str, VersionRecord]  # by number
    aliases: Mapping[str, AliasRecord]  # by name
    event_configs: Mapping[str, EventInvokeConfig] = field(default_factory=dict)  # by qualifier
    policies: Mapping[str, Policy] = field(default_factory=dict)  # by qualifier; $LATEST: of calls without one
    urls: Mapping[str, FunctionUrl] = field(default_factory=dict)  # by alias; $LATEST: the function's own
    tags_since: Mapping[str, str] | None = None  # as they were set last; None: as the function was created
    recursive_loop: RecursiveLoop = TERMINATE
    runtime_management: Mapping[str, RuntimeManagement] = field(default_factory=dict)  # by version

    @property
    def tags(self) -> Mapping[str, str]:
        """The function's tags. They are kept beside $LATEST, since setting them is no new revision of it."""
        return self.record.tags if self.tags_since is None else self.tags_since

    def has(self, version: str) -> bool:
        """Whether there is such a version; $LATEST always is."""
        return version == LATEST or version in self.versions

    def stands_for(self, qualifier: str) -> tuple[str, ...]:
        """The versions that a version's number, $LATEST or an alias stands for; empty: there is nothing so called."""
        if qualifier in self.aliases:
            return self.aliases[qualifier].versions
        return (qualifier,) if self.has(qualifier) else ()
