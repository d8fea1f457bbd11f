"""Refusals of the signature verifier, by name and text."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from hashlib import sha256

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from lambent.domain.errors import AwsError
from lambent.domain.principals import AccessKey, KeyRing
from lambent.infra.sigv4 import Verified, Verifier, canonical_path, parse_date

KEY = AccessKey.of_user("AKIDEXAMPLE", "secret", "123456789012")
BODY = b"{}"


@dataclass(frozen=True)
class Signed:
    """A request as a server sees it, and when it was signed."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    now: float = 0.0
    body: bytes = BODY

    def verify(self, verifier: Verifier | None = None) -> Verified:
        verifier = verifier or make_verifier()
        return verifier.verify("POST", b"/a", b"", self.headers, sha256(self.body).hexdigest().encode(), self.now)

    def refusal(self, verifier: Verifier | None = None) -> tuple[str, str]:
        with pytest.raises(AwsError) as caught:
            self.verify(verifier)
        return caught.value.name, caught.value.message

    def with_header(self, name: bytes, value: bytes) -> Signed:
        return replace(self, headers={**self.headers, name: value})

    def without(self, name: bytes) -> Signed:
        return replace(self, headers={key: value for key, value in self.headers.items() if key != name})


def make_verifier(**changes: object) -> Verifier:
    settings: dict[str, object] = {"skew_seconds": 300, "presigned_max_seconds": 3600, "services": {"lambda"}}
    return Verifier(KeyRing([KEY]), **(settings | changes))  # type: ignore[arg-type]


@pytest.fixture
def signed() -> Signed:
    return sign()


def sign(key: str = KEY.id, secret: str = KEY.secret, service: str = "lambda") -> Signed:
    request = AWSRequest("POST", "http://localhost/a", data=BODY, headers={"X-Amz-Extra": "1"})
    SigV4Auth(Credentials(key, secret), service, "us-east-1").add_auth(request)
    headers = {name.lower().encode(): value.encode() for name, value in dict(request.headers).items()}
    epoch = parse_date(headers[b"x-amz-date"])
    assert epoch is not None
    return Signed({**headers, b"host": b"localhost"}, epoch)


def test_a_good_signature_names_its_scope(signed: Signed) -> None:
    assert signed.verify() == Verified(KEY, "us-east-1", "lambda")


def test_no_signature() -> None:
    assert Signed().refusal() == ("MissingAuthenticationTokenException", "Missing Authentication Token")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"Basic abc", "Unsupported AWS 'algorithm'"),
        (b"AWS4-HMAC-SHA256", "requires 'Signature'"),
        (
            b"AWS4-HMAC-SHA256 Signature=%b" % (b"0" * 64),
            "requires 'Credential' parameter. Authorization header requires",
        ),
        (b"AWS4-HMAC-SHA256 Credential=a, Credential=b, Signature=1", "different key=value pairs"),
        (b"AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=1", "exactly 5"),
        (b"AWS4-HMAC-SHA256 what, Signature=1", "key=value"),
        (
            b"AWS4-HMAC-SHA256 Credential=%b/20150830/us-east-1/lambda/aws4_request, SignedHeaders=host;x-a;x-a, "
            b"Signature=%b" % (KEY.id.encode(), b"0" * 64),
            "named once",
        ),
    ],
)
def test_incomplete(signed: Signed, value: bytes, text: str) -> None:
    name, message = signed.with_header(b"authorization", value).refusal()
    assert name == "IncompleteSignatureException"
    assert text in message


def test_skew_either_way(signed: Signed) -> None:
    assert replace(signed, now=signed.now + 300).verify()
    assert replace(signed, now=signed.now - 300).verify()
    name, message = replace(signed, now=signed.now + 301).refusal()
    assert name == "InvalidSignatureException"
    assert message.startswith("Signature expired: ")
    assert message.endswith("Z - 5 min.)")
    name, message = replace(signed, now=signed.now - 301).refusal()
    assert message.startswith("Signature not yet current: ")
    assert message.endswith("Z + 5 min.)")


def test_date_forms(signed: Signed) -> None:
    assert signed.with_header(b"x-amz-date", b"yesterday").refusal()[0] == "IncompleteSignatureException"
    assert signed.with_header(b"x-amz-date", b"20150231T000000Z").refusal()[0] == "IncompleteSignatureException"
    assert "Date in Credential scope" in signed.with_header(b"x-amz-date", b"20150830T123600Z").refusal()[1]
    assert "requires existence of either" in signed.without(b"x-amz-date").refusal()[1]


def test_unknown_key_and_wrong_secret() -> None:
    assert sign(key="AKIDOTHER").refusal() == (
        "UnrecognizedClientException",
        "The security token included in the request is invalid.",
    )
    assert sign(secret="other").refusal()[1].startswith("The request signature we calculated does not match")


def test_nobody_can_sign_for_an_unknown_key() -> None:
    assert (
        sign(key="AKIDOTHER", secret="decoy").refusal(make_verifier(decoy="decoy"))[0] == "UnrecognizedClientException"
    )


def test_scope(signed: Signed) -> None:
    assert sign(service="s3").refusal()[1] == "Credential should be scoped to correct service: 'lambda'."
    assert signed.refusal(make_verifier(regions={"eu-west-1"}))[1] == "Credential should be scoped to a valid region."
    other = signed.headers[b"authorization"].replace(b"aws4_request", b"aws5")
    assert "valid terminator" in signed.with_header(b"authorization", other).refusal()[1]


def test_declared_body_hash_must_be_the_bodys(signed: Signed) -> None:
    assert "X-Amz-Content-SHA256" in signed.with_header(b"x-amz-content-sha256", b"UNSIGNED-PAYLOAD").refusal()[1]


def test_headers_that_matter_must_be_signed(signed: Signed) -> None:
    assert "'x-amz-log-type' must be a" in signed.with_header(b"x-amz-log-type", b"Tail").refusal()[1]
    assert signed.with_header(b"user-agent", b"anything").verify()
    assert signed.without(b"x-amz-extra").refusal()[0] == "InvalidSignatureException"
    hostless = signed.headers[b"authorization"].replace(b"SignedHeaders=host;", b"SignedHeaders=")
    assert "'Host'" in signed.with_header(b"authorization", hostless).refusal()[1]


@pytest.mark.parametrize(
    ("raw", "canonical"),
    [
        (b"/", b"/"),
        (b"/a/b-c_d.e~f", b"/a/b-c_d.e~f"),
        (b"/a%3Ab", b"/a%253Ab"),
        (b"/a//b/./c/../d/", b"/a/b/d/"),
        (b"/..", b"/"),
        (b"/a:b", b"/a%3Ab"),
    ],
)
def test_canonical_path(raw: bytes, canonical: bytes) -> None:
    assert canonical_path(raw) == canonical


def test_secrets_do_not_show() -> None:
    assert "secret" not in repr(KEY).replace("secret=", "")


def test_a_key_ring_refuses_two_keys_of_one_id() -> None:
    with pytest.raises(ValueError, match="AKIDEXAMPLE is given twice"):
        KeyRing([KEY, KEY])
