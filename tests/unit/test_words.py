"""Names, traces, secrets, tokens' words: the small pure pieces."""

from __future__ import annotations

import pytest

from lambent.domain import tracing
from lambent.domain.errors import ERRORS, AwsError
from lambent.domain.names import FunctionRef, Tenant, parse
from lambent.infra.secrets import SecretBox, SecretsError, load_or_make_key

HERE = Tenant("000000000001", "us-east-1")


@pytest.mark.parametrize(
    ("text", "qualifier", "name", "resolved"),
    [
        ("f", None, "f", None),
        ("f:prod", None, "f", "prod"),
        ("f", "7", "f", "7"),
        ("f:$LATEST", "$LATEST", "f", "$LATEST"),
        ("000000000001:function:f", None, "f", None),
        ("arn:aws:lambda:us-east-1:000000000001:function:f", None, "f", None),
        ("arn:aws:lambda:us-east-1:000000000001:function:f:3", None, "f", "3"),
    ],
)
def test_every_spelling_names_the_function(text: str, qualifier: str | None, name: str, resolved: str | None) -> None:
    assert parse(text, qualifier, HERE) == FunctionRef(HERE, name, resolved)


@pytest.mark.parametrize(
    ("text", "qualifier", "error", "says"),
    [
        ("no spaces", None, "ValidationException", "regular expression pattern"),
        ("", None, "ValidationException", "regular expression pattern"),
        ("x" * 300, None, "ValidationException", "less than or equal to 256"),
        ("x" * 65, None, "ValidationException", "less than or equal to 64"),
        ("arn:aws:lambda:eu-west-1:000000000001:function:f", None, "ResourceNotFoundException", "not reachable in this region"),
        ("arn:aws:lambda:us-east-1:000000000002:function:f", None, "AccessDeniedException", "another account"),
        ("f:1", "2", "InvalidParameterValueException", "derived qualifier"),
    ],
)  # fmt: skip
def test_what_names_nothing_is_refused_as_aws_does(text: str, qualifier: str | None, error: str, says: str) -> None:
    with pytest.raises(AwsError) as caught:
        parse(text, qualifier, HERE)
    assert caught.value.name == error
    assert says in caught.value.message


def test_a_name_too_long_on_create_is_the_services_error() -> None:
    with pytest.raises(AwsError) as caught:
        parse("x" * 65, None, HERE, creating=True)
    assert caught.value.name == "InvalidParameterValueException"


def test_errors_that_are_not_in_the_table_cannot_be_raised() -> None:
    with pytest.raises(KeyError):
        AwsError("NoSuchException", "x")
    assert all(400 <= row.status <= 599 for row in ERRORS.values())


def test_traces_translate_between_their_spellings() -> None:
    w3c = tracing.parse_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    assert w3c is not None
    assert w3c.xray == "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1"
    assert tracing.parse_xray(w3c.xray) == w3c
    assert tracing.parse_xray("Self=x;Sampled=?;Root=1-4bf92f35-77b34da6a3ce929d0e0e4736") == tracing.TraceContext(
        "4bf92f3577b34da6a3ce929d0e0e4736", None, None
    )


@pytest.mark.parametrize(
    "header", ["", "Root=", "Root=1-xyz-abc", "Root=2-4bf92f35-77b34da6a3ce929d0e0e4736", ";;;=", "x" * 5000]
)
def test_what_is_no_trace_header_is_passed_over(header: str) -> None:
    assert tracing.parse_xray(header) is None
    assert tracing.parse_traceparent(header) is None


def test_secrets_open_only_with_their_key_and_for_their_owner() -> None:
    box = SecretBox(b"k" * 32)
    sealed = box.seal(b"value", "owner")
    assert b"value" not in sealed.encode()
    assert box.open(sealed, "owner") == b"value"
    for other, owner, text in ((SecretBox(b"j" * 32), "owner", sealed), (box, "other", sealed), (box, "owner", "x.y")):
        with pytest.raises(SecretsError):
            other.open(text, owner)


def test_a_key_file_is_made_once_and_is_its_owners_alone(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "key"
    key = load_or_make_key(path)
    assert load_or_make_key(path) == key
    assert path.stat().st_mode & 0o777 == 0o600
