"""Layers: packages that functions find below /opt. What is published, who may use it, which of it a function may have.

Source: https://docs.aws.amazon.com/lambda/latest/dg/chapter-layers.html and AWS's recorded answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lambent.domain.errors import AwsError, invalid_parameter
from lambent.domain.functions import AttachedLayer, Code
from lambent.domain.names import LayerRef, Tenant, parse_layer_version
from lambent.domain.policies import GET_LAYER_VERSION, Policy, Statement, denied
from lambent.domain.principals import Principal


@dataclass(frozen=True, slots=True)
class LayerContent:
    """What is published as a version, before it has its number. Never changed. Source: API_PublishLayerVersion."""

    description: str
    created: float  # epoch seconds
    code: Code
    runtimes: tuple[str, ...]  # that its publisher says it fits; nothing but lists asks
    architectures: tuple[str, ...]  # likewise
    license: str | None


@dataclass(frozen=True, slots=True)
class LayerVersion:
    """A published version."""

    layer: LayerRef
    number: int  # from 1; none is given twice, whatever was deleted
    content: LayerContent

    @property
    def arn(self) -> str:
        """ARN of the version."""
        return self.layer.version_arn(self.number)

    def fits(self, runtime: str | None, architecture: str | None) -> bool:
        """Whether its publisher says that it fits both. None: any will do."""
        return runtime in (None, *self.content.runtimes) and architecture in (None, *self.content.architectures)


def attach(
    arns: Sequence[str], found: Mapping[str, LayerVersion], tenant: Tenant, caller: Principal, most: int
) -> tuple[AttachedLayer, ...]:
    """The layers that a function of `tenant` is to have, in order.

    `found`: which of the ARNs, already known to be of AWS's form, are versions that the caller may get. `most`: layers
    of one function. Raises InvalidParameterValueException, and AccessDeniedException for another account's that is not
    among those found, whether it is there or not.
    """
    if len(arns) > most:
        raise invalid_parameter(f"Cannot reference more than {most} layers.")
    attached: dict[LayerRef, AttachedLayer] = {}
    for arn in arns:
        layer, number = parse_layer_version(arn)
        if layer.tenant.region != tenant.region:
            raise invalid_parameter(
                "Layers are not in the same region as the function. "
                f"Layers are expected to be in region {tenant.region}."
            )
        version = found.get(arn)
        if version is None and layer.tenant != tenant:
            raise denied(caller, GET_LAYER_VERSION, arn)
        if version is None:
            raise invalid_parameter(f"Layer version {arn} does not exist.")
        if layer in attached:
            raise invalid_parameter(
                "Two different versions of the same layer are not allowed to be referenced in the same function. "
                f"{attached[layer].arn} and {layer.version_arn(number)} are versions of the same layer."
            )
        attached[layer] = AttachedLayer(version.arn, version.content.code)
    return tuple(attached.values())


def may_get(caller: Principal, layer: LayerRef, policy: Policy | None) -> bool:
    """Whether a caller may have a version of a layer. `policy`: the version's."""
    return caller.account == layer.tenant.account or (policy is not None and policy.allows(GET_LAYER_VERSION, caller))


def permission(sid: str, principal: str, organization: str | None) -> Statement:
    """A statement that lets a principal get a version. `organization`: only its accounts, of all.

    Raises InvalidParameterValueException for an organization beside a single account.
    """
    if organization is None:
        return Statement(sid, GET_LAYER_VERSION, principal)
    if principal != "*":
        raise invalid_parameter("OrganizationId can be given with the principal * only.")
    return Statement(sid, GET_LAYER_VERSION, principal, (("StringEquals", "aws:PrincipalOrgID", organization),))


def check_size(package: int, layers: Sequence[AttachedLayer], most: int) -> None:
    """Refuse a function whose package and layers together are too large. All in bytes, unzipped."""
    size = sum(layer.code.unzipped for layer in layers)
    if size > most:
        raise invalid_parameter(f"Layers consume more than the available size of {most} bytes")
    if layers and package + size > most:
        raise invalid_parameter(
            f"Function code combined with layers exceeds the maximum allowed size of {most} bytes. "
            f"The actual size is {package + size} bytes."
        )


def missing_version() -> AwsError:
    """AWS's answer of operations on layers for a version that is not there."""
    return AwsError("ResourceNotFoundException", "The resource you requested does not exist.")


def nothing_to_share(arn: str) -> AwsError:
    """AWS's answer of operations on policies for a version that is not there."""
    return AwsError("ResourceNotFoundException", f"Layer version {arn} does not exist.")
