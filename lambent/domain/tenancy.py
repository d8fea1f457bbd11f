"""Tenant isolation: an execution environment of a function that has it serves one tenant of its callers', and no other.

Such a tenant is whom a caller means by a tenant id. It is no account in a region, by which all is kept here
(`names.Tenant`).

Source: https://docs.aws.amazon.com/lambda/latest/dg/tenant-isolation.html
"""

from __future__ import annotations

from lambent.domain.errors import AwsError, invalid_parameter

PER_TENANT = "PER_TENANT"

_CONFIGURATION = "enabled with tenancy configuration."
MISSING = f"The invoked function is {_CONFIGURATION} Add a valid tenant ID in your request and try again."
UNWANTED = f"The invoked function is not {_CONFIGURATION} Remove the tenant ID from your request and try again."


def check(isolated: bool, tenant_id: str | None) -> None:
    """Refuse an invocation that names no tenant though it has to, or one though there are none. Raises
    InvalidParameterValueException."""
    if isolated != (tenant_id is not None):
        raise invalid_parameter(MISSING if isolated else UNWANTED)


def unsupported(what: str) -> AwsError:
    """The answer to what a function with tenant isolation cannot have, since no tenant is named there."""
    return invalid_parameter(f"{what} is not supported for functions with tenant isolation.")
