"""Environment variables as they are kept: sealed, and bound to the function that owns them."""

from __future__ import annotations

import msgspec

from lambent.domain.names import Tenant
from lambent.infra.secrets import SecretBox


def _owner(tenant: Tenant, name: str) -> str:
    return f"{tenant.text}:{name}:variables"


def seal_variables(secrets: SecretBox, tenant: Tenant, name: str, variables: dict[str, str]) -> str:
    """Environment variables as they are kept."""
    return secrets.seal(msgspec.json.encode(variables), _owner(tenant, name))


def open_variables(secrets: SecretBox, tenant: Tenant, name: str, sealed: str | None) -> dict[str, str] | None:
    """Environment variables of a function; None: never set. Raises SecretsError."""
    if sealed is None:
        return None
    return msgspec.json.decode(secrets.open(sealed, _owner(tenant, name)), type=dict[str, str])
