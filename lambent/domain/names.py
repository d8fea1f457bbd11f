"""Function names and ARNs in all the spellings that clients use.

Source: https://docs.aws.amazon.com/lambda/latest/api/API_GetFunction.html (FunctionName) and AWS's recorded answers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from lambent.domain.errors import AwsError, invalid_parameter, validation

LATEST = "$LATEST"

# Every operation that reads accepts this form; names of functions that are made here never contain a dot.
NAME_PATTERN = (
    r"(arn:(aws[a-zA-Z-]*)?:lambda:)?"
    r"((?:eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?"
    r"(\d{12}:)?(function:)?([a-zA-Z0-9-_\.]+)(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_]+))?"
)
_NAME = re.compile(
    r"(arn:(aws[a-zA-Z-]*)?:lambda:)?"
    r"((?P<region>(?:eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}):)?"
    r"((?P<account>\d{12}):)?(function:)?(?P<name>[a-zA-Z0-9-_\.]+)"
    r"(:(?P<qualifier>\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_]+))?"
)
REGION_PATTERN = r"(?:eusc-)?[a-z]{2}(?:-gov|-iso[a-z]?)?-[a-z]+-\d"
ACCOUNT_PATTERN = r"\d{12}"
MAX_NAME = 64
MAX_CREATE_LENGTH = 140
MAX_READ_LENGTH = 256


class Tenant(NamedTuple):
    """Owner of everything: state, limits, counts, logs and queues belong to one account in one region.

    A tuple, as it is part of the key that every lookup on an invocation's way hashes.
    """

    account: str  # twelve digits
    region: str

    @property
    def text(self) -> str:
        """ACCOUNT:REGION."""
        return f"{self.account}:{self.region}"

    @staticmethod
    def of(text: str) -> Tenant:
        """The tenant that is written so."""
        account, _, region = text.partition(":")
        return Tenant(account, region)

    @property
    def tag(self) -> str:
        """How the tenant appears in store keys; the braces keep a tenant's keys on one Redis Cluster slot."""
        return f"{{{self.text}}}"


@dataclass(frozen=True, slots=True)
class FunctionRef:
    """A function as a request named it."""

    tenant: Tenant
    name: str
    qualifier: str | None  # None: unqualified, which means $LATEST wherever something must run
    # In the form that was asked for: qualified only if the request was.
    arn: str = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "arn", function_arn(self.tenant, self.name, self.qualifier))


def function_arn(tenant: Tenant, name: str, qualifier: str | None = None) -> str:
    """`arn:aws:lambda:REGION:ACCOUNT:function:NAME[:QUALIFIER]`."""
    arn = f"arn:aws:lambda:{tenant.region}:{tenant.account}:function:{name}"
    return arn if qualifier is None else f"{arn}:{qualifier}"


# The same few names are asked for again and again.
@lru_cache(maxsize=4096)
def parse(
    text: str, qualifier: str | None, tenant: Tenant, *, creating: bool = False, anyones: bool = False
) -> FunctionRef:
    """What `text` and the separate `qualifier` parameter name for a caller who is `tenant`.

    Raises ValidationException on a bad form, InvalidParameterValueException where AWS answers so (name too long on
    create, qualifiers that differ), ResourceNotFoundException for another region, AccessDeniedException for another
    account, unless it may be `anyones`: a tenant never learns what another has.
    """
    name, region, account, derived = _split(text, creating)
    if region is not None and region != tenant.region:
        raise AwsError(
            "ResourceNotFoundException",
            f"Functions from '{region}' are not reachable in this region ('{tenant.region}')",
        )
    if account is not None and account != tenant.account:
        if not anyones:
            text = f"Account {tenant.account} may not use functions of another account"
            raise AwsError("AccessDeniedException", text)
        tenant = Tenant(account, tenant.region)
    if derived is not None and qualifier is not None and derived != qualifier:
        raise invalid_parameter("The derived qualifier from the function name does not match the specified qualifier.")
    return FunctionRef(tenant, name, qualifier if qualifier is not None else derived)


def _split(text: str, creating: bool) -> tuple[str, str | None, str | None, str | None]:
    limit = MAX_CREATE_LENGTH if creating else MAX_READ_LENGTH
    match = _NAME.fullmatch(text)
    violations = []
    if match is None or (creating and "." in match["name"]):
        violations.append(
            f"Value '{text}' at 'functionName' failed to satisfy constraint: "
            f"Member must satisfy regular expression pattern: {NAME_PATTERN}"
        )
    if len(text) > limit:
        violations.append(
            f"Value '{text}' at 'functionName' failed to satisfy constraint: "
            f"Member must have length less than or equal to {limit}"
        )
    if violations:
        raise validation(violations)
    assert match is not None
    name = match["name"]
    if len(name) > MAX_NAME:
        message = (
            f"1 validation error detected: Value '{name}' at 'functionName' failed to satisfy constraint: "
            f"Member must have length less than or equal to {MAX_NAME}"
        )
        raise invalid_parameter(message) if creating else AwsError("ValidationException", message)
    return name, match["region"], match["account"], match["qualifier"]


@dataclass(frozen=True, slots=True)
class LayerRef:
    """A layer as a request named it."""

    tenant: Tenant
    name: str

    @property
    def arn(self) -> str:
        """`arn:aws:lambda:REGION:ACCOUNT:layer:NAME`."""
        return f"arn:aws:lambda:{self.tenant.region}:{self.tenant.account}:layer:{self.name}"

    def version_arn(self, number: int) -> str:
        """`arn:aws:lambda:REGION:ACCOUNT:layer:NAME:NUMBER`."""
        return f"{self.arn}:{number}"


def parse_layer(text: str, tenant: Tenant) -> LayerRef:
    """The layer that a name or an ARN, already known to be of AWS's form, means for a caller who is `tenant`."""
    return _layer_of(text) if ":" in text else LayerRef(tenant, text)


def parse_layer_version(arn: str) -> tuple[LayerRef, int]:
    """The layer and the number that a layer version's ARN, already known to be of AWS's form, means."""
    layer, _, number = arn.rpartition(":")
    return _layer_of(layer), int(number)


def _layer_of(arn: str) -> LayerRef:
    _, _, _, region, account, _, name = arn.split(":")
    return LayerRef(Tenant(account, region), name)


def not_found(ref: FunctionRef) -> AwsError:
    """AWS's answer for a function, version or alias that is not there."""
    return AwsError("ResourceNotFoundException", f"Function not found: {ref.arn}")


def alias_not_found(ref: FunctionRef) -> AwsError:
    """AWS's answer of operations on aliases for one that is not there."""
    return AwsError("ResourceNotFoundException", f"Cannot find alias arn: {ref.arn}")


def is_version(qualifier: str) -> bool:
    """Whether a qualifier has the form of a version's number, which no alias may have."""
    return qualifier.isascii() and qualifier.isdecimal()
