"""Environment variables: the rules on their names and size.

Source: https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
"""

from __future__ import annotations

import json

from lambent.domain.errors import invalid_parameter

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
    """Refuse what AWS refuses: reserved names, and more than `limit` bytes as compact JSON; and what cannot be."""
    reserved = [name for name in variables if name in RESERVED]
    if reserved:
        raise invalid_parameter(
            _PREFIX + "contains reserved keys that are currently not supported for modification. "
            f"Reserved keys used in this request: {', '.join(reserved)}"
        )
    broken = [name for name, value in variables.items() if "\0" in value]
    if broken:
        # No process can have it.
        raise invalid_parameter(_PREFIX + f"contains a NUL character in the value of: {', '.join(broken)}")
    compact = json.dumps(variables, separators=(",", ":"), ensure_ascii=False)
    if len(compact.encode()) > limit:
        raise invalid_parameter(_PREFIX + f"exceeded the 4KB limit. String measured: {compact}")
