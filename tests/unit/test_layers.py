"""Which layers a function may have, and how much they may bring."""

from __future__ import annotations

import pytest

from lambent.domain.errors import AwsError
from lambent.domain.functions import AttachedLayer, Code
from lambent.domain.layers import LayerContent, LayerVersion, attach, check_size, may_get, permission
from lambent.domain.names import LayerRef, Tenant, parse_layer, parse_layer_version
from lambent.domain.policies import Policy
from lambent.domain.principals import Principal
from tests.records import ONE, OTHER

WHO = Principal("AKID", "000000000001", "arn:aws:iam::000000000001:user/u")
ARN = "arn:aws:lambda:us-east-1:000000000001:layer:"
THEIRS = "arn:aws:lambda:us-east-1:000000000002:layer:"


def version(name: str, number: int = 1, unzipped: int = 10, tenant: Tenant = ONE) -> LayerVersion:
    content = LayerContent("", 0.0, Code("ab" * 32, 5, unzipped), ("python3.11",), ("arm64",), None)
    return LayerVersion(LayerRef(tenant, name), number, content)


def attached(*arns: str) -> tuple[AttachedLayer, ...]:
    there = [version("a"), version("a", 2), version("b"), *(version(f"n{number}") for number in range(9))]
    there.append(version("shared", tenant=OTHER))
    return attach(arns, {each.arn: each for each in there}, ONE, WHO, 5)


def test_layers_keep_their_order_and_what_they_were() -> None:
    assert [layer.arn for layer in attached(f"{ARN}b:1", f"{ARN}a:2")] == [f"{ARN}b:1", f"{ARN}a:2"]
    assert attached(f"{ARN}a:1") == (AttachedLayer(f"{ARN}a:1", Code("ab" * 32, 5)),)
    assert attached() == ()
    assert [each.arn for each in attached(f"{THEIRS}shared:1", f"{ARN}a:1")] == [f"{THEIRS}shared:1", f"{ARN}a:1"]


@pytest.mark.parametrize(
    ("arns", "name", "text"),
    [
        ([f"{ARN}n{number}:1" for number in range(6)], "InvalidParameterValueException", "Cannot reference more than 5 layers."),
        ([f"{ARN}a:3"], "InvalidParameterValueException", f"Layer version {ARN}a:3 does not exist."),
        ([f"{ARN}b:1", f"{ARN}c:1"], "InvalidParameterValueException", f"Layer version {ARN}c:1 does not exist."),
        (
            ["arn:aws:lambda:eu-west-1:000000000001:layer:a:1"],
            "InvalidParameterValueException",
            "Layers are not in the same region as the function. Layers are expected to be in region us-east-1.",
        ),
        (
            [f"{ARN}a:1", f"{ARN}b:1", f"{ARN}a:2"],
            "InvalidParameterValueException",
            "Two different versions of the same layer are not allowed to be referenced in the same function. "
            f"{ARN}a:1 and {ARN}a:2 are versions of the same layer.",
        ),
        (
            [f"{ARN}a:1", f"{ARN}a:1"],
            "InvalidParameterValueException",
            "Two different versions of the same layer are not allowed to be referenced in the same function. "
            f"{ARN}a:1 and {ARN}a:1 are versions of the same layer.",
        ),
        (
            ["arn:aws:lambda:eu-west-1:000000000002:layer:shared:1"],
            "InvalidParameterValueException",
            "Layers are not in the same region as the function. Layers are expected to be in region us-east-1.",
        ),
        (
            [f"{THEIRS}shared:1", f"{THEIRS}shared:2"],
            "AccessDeniedException",
            f"User: {WHO.arn} is not authorized to perform: lambda:GetLayerVersion on resource: {THEIRS}shared:2 "
            "because no resource-based policy allows the lambda:GetLayerVersion action",
        ),
    ],
)  # fmt: skip
def test_what_a_function_cannot_have(arns: list[str], name: str, text: str) -> None:
    with pytest.raises(AwsError) as refused:
        attached(*arns)
    assert (refused.value.name, refused.value.message) == (name, text)


def test_who_may_get_a_version() -> None:
    layer, guest = LayerRef(OTHER, "a"), Principal("AKID", "000000000003", "arn:aws:iam::000000000003:user/u")
    owner = Principal("AKID", "000000000002", "arn:aws:iam::000000000002:user/u")

    def let_in(principal: str, organization: str | None = None) -> list[bool]:
        policy = Policy((permission("s", principal, organization),), "r")
        return [may_get(caller, layer, policy) for caller in (owner, WHO, guest)]

    assert [may_get(caller, layer, None) for caller in (owner, WHO, guest)] == [True, False, False]
    assert let_in("000000000001") == let_in("arn:aws:iam::000000000001:root") == [True, True, False]
    assert let_in("*") == [True, True, True]
    assert let_in("*", "o-1234567890") == [True, False, False], "nobody here is of an organization"


def test_a_permission_is_the_statement_that_iam_knows() -> None:
    assert permission("s", "000000000001", None).document(f"{THEIRS}a:1") == {
        "Sid": "s", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::000000000001:root"},
        "Action": "lambda:GetLayerVersion", "Resource": f"{THEIRS}a:1",
    }  # fmt: skip
    of_organization = permission("s", "*", "o-1234567890").document(f"{THEIRS}a:1")
    assert of_organization["Principal"] == "*"
    assert of_organization["Condition"] == {"StringEquals": {"aws:PrincipalOrgID": "o-1234567890"}}
    with pytest.raises(AwsError, match=r"InvalidParameterValueException.*principal \*"):
        permission("s", "000000000001", "o-1234567890")


def test_package_and_layers_share_one_limit() -> None:
    def layers(*sizes: int) -> list[AttachedLayer]:
        return [AttachedLayer(str(size), Code("ab" * 32, 1, size)) for size in sizes]

    check_size(100, [], 100)
    check_size(40, layers(20, 40), 100)
    with pytest.raises(AwsError, match=r"the maximum allowed size of 100 bytes. The actual size is 101 bytes\.$"):
        check_size(41, layers(20, 40), 100)
    with pytest.raises(AwsError, match=r"Layers consume more than the available size of 100 bytes$"):
        check_size(0, layers(60, 41), 100)


def test_versions_fit_what_they_name() -> None:
    one = version("a")
    assert one.fits(None, None)
    assert one.fits("python3.11", "arm64")
    assert not one.fits("python3.12", None)
    assert not one.fits("python3.11", "x86_64")


def test_names_and_arns_of_layers() -> None:
    assert parse_layer("tools", ONE) == parse_layer(f"{ARN}tools", ONE) == LayerRef(ONE, "tools")
    assert parse_layer_version(f"{ARN}tools:12") == (LayerRef(ONE, "tools"), 12)
    assert LayerRef(ONE, "tools").version_arn(3) == f"{ARN}tools:3"
