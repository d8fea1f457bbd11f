"""Environment variables: the rules on their names and size, and how they are sealed for keeping.

Source: https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
"""

from __future__ import annotations

import json

import msgspec

from lambent.domain.errors import invalid_parameter
from lambent.domain.names import Tenant
from lambent.infra.secrets import SecretBox

RESERVED: frozenset[str] = frozenset(
    {
        "_HANDLER", "_X_AMZN_TRACE_ID", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
        "AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR", "AWS_LAMBDA_MAX_CONCURRENCY",
        "AWS_LAMBDA_METADATA_API", "AWS_LAMBDA_METADATA_TOKEN",
    }
)  # fmt: skip

_PREFIX = (
    "Lambda was unable to configure your environment variables because the environment variables you have provided "
)


def check_variables(variables: dict[str, str], limit: int) -> None:
    """Refuse what AWS refuses: reserved names, and more than `limit` bytes as compact JSON."""
    reserved = [name for name in variables if name in RESERVED]
    if reserved:
        raise invalid_parameter(
            _PREFIX + "contains reserved keys that are currently not supported for modification. "
            f"Reserved keys used in this request: {', '.join(reserved)}"
        )
    compact = json.dumps(variables, separators=(",", ":"), ensure_ascii=False)
    if len(compact.encode()) > limit:
        raise invalid_parameter(_PREFIX + f"exceeded the 4KB limit. String measured: {compact}")


def _owner(tenant: Tenant, name: str) -> str:
    return f"{tenant.account}:{tenant.region}:{name}:variables"


def seal_variables(secrets: SecretBox, tenant: Tenant, name: str, variables: dict[str, str]) -> str:
    """Environment variables as they are kept."""
    return secrets.seal(msgspec.json.encode(variables), _owner(tenant, name))


def open_variables(secrets: SecretBox, tenant: Tenant, name: str, sealed: str | None) -> dict[str, str] | None:
    """Environment variables of a function; None: never set. Raises SecretsError."""
    if sealed is None:
        return None
    return msgspec.json.decode(secrets.open(sealed, _owner(tenant, name)), type=dict[str, str])
