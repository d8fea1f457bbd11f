"""Networks that functions may be attached to: subnets and security groups that the operator names.

There is no EC2 behind these names. A subnet exists if the settings name it; what it reaches is what the workers reach
that take its functions (pools of workers, by their rules). Source: https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lambent.domain.errors import invalid_parameter
from lambent.domain.functions import VpcAttachment

# In the place of an identifier: whatever is named.
ANY = "*"


@dataclass(frozen=True, slots=True)
class Networks:
    """What VpcConfig may name."""

    subnets: Mapping[str, str] = field(default_factory=dict)  # identifier or ANY → its VPC
    security_groups: Mapping[str, str] = field(default_factory=dict)  # likewise

    def attach(self, subnets: Sequence[str], security_groups: Sequence[str], ipv6: bool) -> VpcAttachment:
        """What a VpcConfig asks for; both lists empty: to be detached. Raises InvalidParameterValueException."""
        subnets, security_groups = tuple(dict.fromkeys(subnets)), tuple(dict.fromkeys(security_groups))
        if bool(subnets) != bool(security_groups):
            raise invalid_parameter("SubnetIds and SecurityIds must coexist or be both empty list.")
        vpcs = [_vpc(self.subnets, subnet, "Subnets", "InvalidSubnetID", "subnet ID") for subnet in subnets]
        if len(set(vpcs)) > 1:
            raise invalid_parameter("The subnets are not in the same VPC.")
        for group in security_groups:
            if _vpc(self.security_groups, group, "SecurityGroups", "InvalidGroup", "security group") != vpcs[0]:
                raise invalid_parameter(f"The security group '{group}' is not in the VPC of the subnets.")
        return VpcAttachment(subnets, security_groups, vpcs[0] if vpcs else "", ipv6)


def _vpc(known: Mapping[str, str], identifier: str, plural: str, code: str, called: str) -> str:
    """The VPC of something, or what AWS says where it does not exist."""
    vpc = known.get(identifier) or known.get(ANY)
    if vpc is None:
        raise invalid_parameter(
            f"Error occurred while Describe{plural}. EC2 Error Code: {code}.NotFound. "
            f"EC2 Error Message: The {called} '{identifier}' does not exist"
        )
    return vpc


def parse(text: str) -> dict[str, str]:
    """`ID=VPC,...` as a mapping. Raises ValueError with what is wrong."""
    found: dict[str, str] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        identifier, _, vpc = (part.strip() for part in entry.partition("="))
        if not identifier or not vpc:
            raise ValueError(f"{entry!r} is not ID=VPC, such as subnet-0a1b=vpc-1")
        if found.setdefault(identifier, vpc) != vpc:
            raise ValueError(f"{identifier} is in two VPCs")
    return found
