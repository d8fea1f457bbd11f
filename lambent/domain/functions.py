"""What the cluster knows of a function, as plain values; the store keeps them, frontends and pollers read them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from lambent.domain.names import Tenant


class State(StrEnum):
    """Whether a function can be invoked. Source: API_FunctionConfiguration, State."""

    PENDING = "Pending"
    ACTIVE = "Active"
    FAILED = "Failed"


class UpdateStatus(StrEnum):
    """What became of the last change. Source: API_FunctionConfiguration, LastUpdateStatus."""

    IN_PROGRESS = "InProgress"
    SUCCESSFUL = "Successful"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class Code:
    """A package in the code store."""

    sha256: str  # lower-case hex
    size: int  # bytes, zipped


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


@dataclass(frozen=True, slots=True)
class Deployed:
    """What invocations run: configuration and code as they were at one generation."""

    deployment_id: str
    generation: int
    configuration: Configuration
    code: Code


@dataclass(frozen=True, slots=True)
class FunctionRecord:
    """One function of one tenant."""

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
    serving: Deployed | None  # None until the creation has ended; while an update is in progress, what was before
    tags: dict[str, str] = field(default_factory=dict)
