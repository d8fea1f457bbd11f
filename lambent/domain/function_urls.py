"""Function URLs: addresses at which functions and aliases answer HTTP. What is set for one, and who may ask at it.

Sources: https://docs.aws.amazon.com/lambda/latest/dg/urls-configuration.html and urls-auth.html.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from lambent.domain.errors import AwsError, validation
from lambent.domain.names import REGION_PATTERN, FunctionRef, Tenant, function_arn
from lambent.domain.policies import INVOKE, Policy
from lambent.domain.principals import Principal

IAM, ANYBODY = "AWS_IAM", "NONE"  # AuthType
BUFFERED, STREAMED = "BUFFERED", "RESPONSE_STREAM"  # InvokeMode
INVOKE_URL = "lambda:InvokeFunctionUrl"

ID_LENGTH = 32
_HOST = re.compile(rf"([0-9a-z]{{{ID_LENGTH}}})\.lambda-url\.({REGION_PATTERN})\.\S+")
# What stands in each such host: a look at it is enough to tell other requests apart.
MARK = b".lambda-url."


@dataclass(frozen=True, slots=True)
class Cors:
    """What browsers may do on behalf of other sites."""

    allow_credentials: bool | None = None  # None: not said, which means no
    allow_headers: tuple[str, ...] = ()
    allow_methods: tuple[str, ...] = ()
    allow_origins: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age: int | None = None  # seconds; None: not said, which means 0

    def __bool__(self) -> bool:
        return self != _SILENT

    def headers(self, origin: str | None) -> Iterator[tuple[str, str]]:
        """What an answer says to a browser. `origin`: the site that asks; None: it is no browser that asks for one."""
        allowed = self._origin(origin)
        if allowed is None:
            return
        yield "access-control-allow-origin", allowed
        if allowed != "*":
            yield "vary", "Origin"
        if self.allow_credentials:
            yield "access-control-allow-credentials", "true"
        if self.expose_headers:
            yield "access-control-expose-headers", ",".join(self.expose_headers)

    def preflight_headers(self, origin: str | None) -> Iterator[tuple[str, str]]:
        """What is said to a browser that asks what it may do."""
        if self._origin(origin) is None:
            return
        yield from self.headers(origin)
        if self.allow_methods:
            yield "access-control-allow-methods", ",".join(self.allow_methods)
        if self.allow_headers:
            yield "access-control-allow-headers", ",".join(self.allow_headers)
        yield "access-control-max-age", str(self.max_age or 0)

    def _origin(self, origin: str | None) -> str | None:
        if origin is None:
            return None
        if "*" in self.allow_origins:
            # With credentials a browser takes no star.
            return origin if self.allow_credentials else "*"
        return origin if origin in self.allow_origins else None


_SILENT = Cors()

# How long the items of lists may be. Source: API_Cors.
_ITEMS = {
    "allowHeaders": (0, 1024), "allowMethods": (0, 6), "allowOrigins": (1, 253), "exposeHeaders": (0, 1024),
}  # fmt: skip


def checked(cors: Cors) -> Cors:
    """The same. Raises ValidationException for an item that is too short or too long."""
    lists = (cors.allow_headers, cors.allow_methods, cors.allow_origins, cors.expose_headers)
    violations = [
        f"Value '[{', '.join(items)}]' at 'cors.{name}' failed to satisfy constraint: Member must satisfy constraint: "
        f"[Member must have length less than or equal to {most}, Member must have length greater than or equal to "
        f"{least}]"
        for (name, (least, most)), items in zip(_ITEMS.items(), lists, strict=True)
        if not all(least <= len(item) <= most for item in items)
    ]
    if violations:
        raise validation(violations)
    return cors


@dataclass(frozen=True, slots=True)
class FunctionUrl:
    """What is set for one address."""

    id: str
    auth_type: str
    invoke_mode: str
    cors: Cors | None  # None: the function sees to it
    created: float  # epoch seconds
    modified: float  # epoch seconds

    def changed(self, auth_type: str | None, invoke_mode: str | None, cors: Cors | None, now: float) -> FunctionUrl:
        """The same after an update; None: as before. What says nothing of other sites takes away what was said."""
        return replace(
            self,
            auth_type=auth_type or self.auth_type,
            invoke_mode=invoke_mode or self.invoke_mode,
            cors=self.cors if cors is None else cors or None,
            modified=now,
        )

    def admits(self, tenant: Tenant, caller: Principal | None, policy: Policy | None) -> bool:
        """Whether somebody may ask here.

        `tenant`: whose function it is; `caller`: who signed the request, None where nobody has to; `policy`: of the
        function or alias. A caller of the account itself needs no policy; every other, and at an address for anybody
        all do, need one that allows both to invoke by an address and to invoke.
        """
        if self.auth_type == IAM:
            if caller is None or caller.powerless:
                return False
            if caller.account == tenant.account:
                return True
        told = {"lambda:FunctionUrlAuthType": self.auth_type, "lambda:InvokedViaFunctionUrl": "true"}
        return policy is not None and all(policy.allows(action, caller, told) for action in (INVOKE_URL, INVOKE))


@dataclass(frozen=True, slots=True)
class UrlPlace:
    """Whose address one is."""

    tenant: Tenant
    name: str  # of the function
    alias: str | None  # None: the function's own

    @property
    def text(self) -> str:
        """The ARN, which says all of it."""
        return function_arn(self.tenant, self.name, self.alias)

    @staticmethod
    def of(text: str) -> UrlPlace:
        """The place that is written so."""
        _, _, _, region, account, _, name, *alias = text.split(":")
        return UrlPlace(Tenant(account, region), name, alias[0] if alias else None)


def parse_host(host: str) -> tuple[str, str] | None:
    """Id and region that a Host header names; None: it is no function's address."""
    match = _HOST.fullmatch(host)
    return None if match is None else (match[1], match[2])


def address(base: str, id_: str, region: str) -> str:
    """`SCHEME://ID.lambda-url.REGION.DOMAIN/`. `base`: SCHEME://DOMAIN."""
    scheme, _, domain = base.partition("://")
    return f"{scheme}://{id_}{MARK.decode()}{region}.{domain}/"


def nothing_set() -> AwsError:
    """AWS's answer where there is no address."""
    return AwsError("ResourceNotFoundException", "The resource you requested does not exist.")


def no_function() -> AwsError:
    """AWS's answer to who wants one of a function that there is not."""
    return AwsError("ResourceNotFoundException", "Function does not exist")


def exists(ref: FunctionRef) -> AwsError:
    """AWS's answer to who wants a second one."""
    return AwsError(
        "ResourceConflictException",
        f"Failed to create function url config for [functionArn = {ref.arn}]. "
        "Error message:  FunctionUrlConfig exists for this Lambda function",
    )
