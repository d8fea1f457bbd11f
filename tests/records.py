"""Functions, versions and aliases as the store keeps them, for tests below the doors."""

from __future__ import annotations

from lambent.domain.functions import (
    AliasRecord,
    Code,
    Configuration,
    Deployed,
    FunctionRecord,
    State,
    UpdateStatus,
    VersionRecord,
)
from lambent.domain.names import Tenant

ONE, OTHER = Tenant("000000000001", "us-east-1"), Tenant("000000000002", "us-east-1")
CONFIGURATION = Configuration(
    role="arn:aws:iam::000000000001:role/r", runtime="python3.11", handler="a.b", description="d", timeout=3,
    memory_mb=128, ephemeral_storage_mb=512, architecture="x86_64", variables=None, dead_letter_target=None,
    kms_key_arn=None, tracing_mode="PassThrough", snap_start="None", log_format="Text", application_log_level=None,
    system_log_level=None, log_group="/aws/lambda/f",
)  # fmt: skip


def record(
    name: str = "f", *, tenant: Tenant = ONE, revision: str = "r1", size: int = 10, generation: int = 1
) -> FunctionRecord:
    """A function that is Active."""
    code = Code("ab" * 32, size)
    return FunctionRecord(
        tenant=tenant, name=name, configuration=CONFIGURATION, code=code, generation=generation, revision_id=revision,
        last_modified=1.5, state=State.ACTIVE, update_status=UpdateStatus.SUCCESSFUL, changed=1.5,
        serving=Deployed("d1", generation, CONFIGURATION, code), tags={"team": "x"},
    )  # fmt: skip


def version(number: str, *, size: int = 10) -> VersionRecord:
    """A version whose deployment is called d-NUMBER."""
    return VersionRecord(
        number, "", f"v{number}", 2.5, Deployed(f"d-{number}", 7, CONFIGURATION, Code("cd" * 32, size))
    )


def alias(name: str, number: str, **weights: float) -> AliasRecord:
    """An alias of version `number`; `_2=0.5` gives half of the requests to version 2."""
    return AliasRecord(name, number, "", {key.strip("_"): each for key, each in weights.items()}, f"{name}-{number}")
