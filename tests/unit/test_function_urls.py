"""Function URLs: who may ask at one, what browsers are told, and how addresses are written and read."""

from __future__ import annotations

from itertools import product

import pytest

from lambent.domain.errors import AwsError
from lambent.domain.function_urls import (
    ANYBODY,
    BUFFERED,
    IAM,
    INVOKE_URL,
    STREAMED,
    Cors,
    FunctionUrl,
    UrlPlace,
    address,
    checked,
    parse_host,
)  # fmt: skip
from lambent.domain.names import Tenant
from lambent.domain.policies import INVOKE, Policy, Statement
from lambent.domain.principals import Principal

TENANT = Tenant("000000000000", "eu-west-1")
ID = "0123456789abcdef0123456789abcdef"
OWN = Principal("AKID", TENANT.account, "arn:aws:iam::000000000000:user/ada")
POWERLESS = Principal("ASIA", TENANT.account, "arn:aws:sts::000000000000:assumed-role/r/f", powerless=True)
OTHER = Principal("AKID", "111111111111", "arn:aws:iam::111111111111:user/bob")
VIA = ("Bool", "lambda:InvokedViaFunctionUrl", "true")


def url(auth_type: str, cors: Cors | None = None) -> FunctionUrl:
    return FunctionUrl(ID, auth_type, BUFFERED, cors, 1.0, 1.0)


def both(principal: str, auth_type: str) -> Policy:
    """What AWS has one add: two statements."""
    of_type = ("StringEquals", "lambda:FunctionUrlAuthType", auth_type)
    return Policy(
        (Statement("url", INVOKE_URL, principal, (of_type,)), Statement("invoke", INVOKE, principal, (VIA,))), "r"
    )


@pytest.mark.parametrize(
    ("auth_type", "policy", "own", "powerless", "other", "unknown"),
    [
        (IAM, None, True, False, False, False),
        (IAM, both("111111111111", IAM), True, False, True, False),
        (IAM, both("111111111111", ANYBODY), True, False, False, False),
        (IAM, both("*", IAM), True, False, True, False),
        (IAM, both("000000000000", IAM), True, False, False, False),
        (ANYBODY, None, False, False, False, False),
        (ANYBODY, both("*", ANYBODY), True, True, True, True),
        (ANYBODY, both("*", IAM), False, False, False, False),
        (ANYBODY, both("111111111111", ANYBODY), False, False, True, False),
    ],
)
def test_who_may_ask(
    auth_type: str, policy: Policy | None, own: bool, powerless: bool, other: bool, unknown: bool
) -> None:
    asked = [url(auth_type).admits(TENANT, caller, policy) for caller in (OWN, POWERLESS, OTHER, None)]
    assert asked == [own, powerless, other, unknown]


def test_one_of_the_two_statements_is_not_enough() -> None:
    complete = both("*", ANYBODY)
    for left in complete.statements:
        assert not url(ANYBODY).admits(TENANT, None, Policy((left,), "r"))
    # A statement about calls through an address lets nobody invoke without one.
    assert not complete.allows(INVOKE, OTHER)


def test_an_update_changes_what_is_sent() -> None:
    before = url(IAM, Cors(allow_methods=("GET",)))
    assert before.changed(None, None, None, 2.0) == FunctionUrl(ID, IAM, BUFFERED, before.cors, 1.0, 2.0)
    after = before.changed(ANYBODY, STREAMED, Cors(), 3.0)
    assert (after.id, after.auth_type, after.invoke_mode, after.cors) == (ID, ANYBODY, STREAMED, None)


def test_browsers_are_told_what_is_set() -> None:
    cors = Cors(True, ("x-a", "x-b"), ("GET", "POST"), ("https://a.example",), ("x-c",), 60)
    assert dict(cors.headers("https://a.example")) == {
        "access-control-allow-origin": "https://a.example", "vary": "Origin",
        "access-control-allow-credentials": "true", "access-control-expose-headers": "x-c",
    }  # fmt: skip
    assert dict(cors.preflight_headers("https://a.example")) == dict(cors.headers("https://a.example")) | {
        "access-control-allow-methods": "GET,POST", "access-control-allow-headers": "x-a,x-b",
        "access-control-max-age": "60",
    }  # fmt: skip
    for origin, told in product((None, "https://b.example"), (cors.headers, cors.preflight_headers)):
        assert not list(told(origin))


def test_a_star_is_no_star_with_credentials() -> None:
    assert dict(Cors(allow_origins=("*",)).headers("https://a")) == {"access-control-allow-origin": "*"}
    told = dict(Cors(allow_credentials=True, allow_origins=("*",)).headers("https://a"))
    assert told["access-control-allow-origin"] == "https://a"


def test_items_that_are_too_long_are_named() -> None:
    assert checked(Cors(allow_methods=("DELETE", "*"))) == Cors(allow_methods=("DELETE", "*"))
    with pytest.raises(AwsError) as caught:
        checked(Cors(allow_methods=("OPTIONS",), allow_origins=("",)))
    assert caught.value.name == "ValidationException"
    assert "'cors.allowMethods'" in caught.value.message
    assert "'cors.allowOrigins'" in caught.value.message


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (f"{ID}.lambda-url.eu-west-1.on.aws", (ID, "eu-west-1")),
        (f"{ID}.lambda-url.eu-west-1.localhost:9001", (ID, "eu-west-1")),
        (f"{ID[1:]}.lambda-url.eu-west-1.localhost", None),
        (f"x.{ID}.lambda-url.eu-west-1.localhost", None),
        (f"{ID.upper()}.lambda-url.eu-west-1.localhost", None),
        (f"{ID}.lambda-url.nowhere.localhost", None),
        (f"{ID}.lambda-url.eu-west-1", None),
        ("127.0.0.1:9001", None),
    ],
)
def test_hosts(host: str, expected: tuple[str, str] | None) -> None:
    assert parse_host(host) == expected


def test_an_address_is_a_host_that_is_understood() -> None:
    made = address("https://functions.example.com:8443", ID, "eu-west-1")
    assert made == f"https://{ID}.lambda-url.eu-west-1.functions.example.com:8443/"
    assert parse_host(made.split("/")[2]) == (ID, "eu-west-1")


@pytest.mark.parametrize("alias", [None, "live"])
def test_places_are_kept_as_arns(alias: str | None) -> None:
    place = UrlPlace(TENANT, "f", alias)
    assert UrlPlace.of(place.text) == place
