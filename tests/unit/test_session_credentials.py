"""Temporary credentials of functions: who is recognised by them, and what is refused. botocore signs."""

from __future__ import annotations

from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from lambent.domain.errors import AwsError
from lambent.domain.principals import AccessKey, KeyRing, Principal
from lambent.infra import base64url
from lambent.infra.session_credentials import MAX_TOKEN, SessionCredentials, SessionKeys, Statement
from lambent.infra.sigv4 import Verifier, parse_date

KEYS = SessionKeys(b"the cluster's key")
ROOT = AccessKey.of_user("LAMBENTROOT", "root-secret", "123456789012")
STATEMENT = Statement("123456789012", "us-east-1", "arn:aws:iam::123456789012:role/a/path/r", "fn", 4_000_000_000, "1")
MADE = KEYS.issue(STATEMENT)
ARN = "arn:aws:sts::123456789012:assumed-role/r/fn"
UNKNOWN = ("UnrecognizedClientException", "The security token included in the request is invalid.")
EXPIRED = ("ExpiredTokenException", "The security token included in the request is expired")


class Request:
    """A request, signed in its header or (`presigned`) in its query."""

    def __init__(self, made: SessionCredentials, *, presigned: bool) -> None:
        request = AWSRequest("GET", "http://h/2015-03-31/functions")
        credentials = Credentials(made.key_id, made.secret, made.token or None)
        signer: Any = SigV4QueryAuth if presigned else SigV4Auth
        signer(credentials, "lambda", "eu-west-1").add_auth(request)
        self.query = urlsplit(request.url).query.encode()
        self.headers = {name.lower().encode(): value.encode() for name, value in request.headers.items()}
        self.headers[b"host"] = b"h"
        date = (
            self.headers.get(b"x-amz-date")
            or dict(part.split(b"=", 1) for part in self.query.split(b"&"))[b"X-Amz-Date"]
        )
        signed_at = parse_date(date)
        assert signed_at is not None
        self.now = signed_at

    def verify(self, sessions: SessionKeys | None = KEYS, now: float | None = None) -> Principal:
        verifier = Verifier(KeyRing([ROOT]), skew_seconds=300, presigned_max_seconds=3600, sessions=sessions)
        body, now = sha256(b"").hexdigest().encode(), self.now if now is None else now
        verified = verifier.verify("GET", b"/2015-03-31/functions", self.query, self.headers, body, now)
        # Asked once more, of what is remembered.
        assert verifier.verify("GET", b"/2015-03-31/functions", self.query, self.headers, body, now) == verified
        assert verified.region == "eu-west-1"
        return verified.key.principal

    def refusal(self, sessions: SessionKeys | None = KEYS, now: float | None = None) -> tuple[str, str]:
        with pytest.raises(AwsError) as caught:
            self.verify(sessions, now)
        return caught.value.name, caught.value.message


@pytest.fixture(params=[False, True], ids=["header", "presigned"])
def presigned(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_they_look_like_awss_and_do_not_show_their_secret() -> None:
    assert (MADE.key_id[:4], len(MADE.key_id), len(MADE.secret)) == ("ASIA", 20, 40)
    assert MADE.secret not in repr(MADE) + repr(KEYS.open(MADE.token)) + MADE.token
    assert KEYS.issue(msgspec.structs.replace(STATEMENT, id="2")).key_id != MADE.key_id


def test_a_function_is_recognised_as_a_session_of_its_role(presigned: bool) -> None:
    assert Request(MADE, presigned=presigned).verify() == Principal(MADE.key_id, "123456789012", ARN)
    denied = Request(MADE, presigned=presigned).verify(SessionKeys(b"the cluster's key", powerless=True))
    assert denied == Principal(MADE.key_id, "123456789012", ARN, powerless=True)


def test_they_expire_whatever_the_signature(presigned: bool) -> None:
    request = Request(MADE, presigned=presigned)
    made = KEYS.issue(msgspec.structs.replace(STATEMENT, exp=int(request.now) + 2))
    for secret in (made.secret, "another"):
        request = Request(SessionCredentials(made.key_id, secret, made.token), presigned=presigned)
        assert request.refusal(now=STATEMENT.exp) == EXPIRED
    assert Request(made, presigned=presigned).verify(now=request.now)


def test_what_is_not_the_clusters_is_unknown(presigned: bool) -> None:
    def refusal(key_id: str, secret: str, token: str, sessions: SessionKeys | None = KEYS) -> tuple[str, str]:
        return Request(SessionCredentials(key_id, secret, token), presigned=presigned).refusal(sessions)

    other = KEYS.issue(msgspec.structs.replace(STATEMENT, id="2"))
    foreign = SessionKeys(b"another cluster's key").issue(STATEMENT)
    assert refusal(foreign.key_id, foreign.secret, foreign.token) == UNKNOWN
    assert refusal(other.key_id, other.secret, MADE.token) == UNKNOWN  # a key with another's token
    assert refusal(MADE.key_id, MADE.secret, "") == UNKNOWN  # without one
    assert refusal(ROOT.id, ROOT.secret, MADE.token) == UNKNOWN  # one that has none
    assert refusal(MADE.key_id, MADE.secret, "x" * (MAX_TOKEN + 1)) == UNKNOWN
    assert refusal(MADE.key_id, MADE.secret, MADE.token, None) == UNKNOWN
    assert refusal(MADE.key_id, other.secret, MADE.token)[0] == "InvalidSignatureException"


def test_a_token_must_be_signed() -> None:
    without = SessionCredentials(MADE.key_id, MADE.secret, "")
    request = Request(without, presigned=False)
    request.headers[b"x-amz-security-token"] = MADE.token.encode()
    assert request.refusal()[0] == "InvalidSignatureException"
    request = Request(without, presigned=True)
    request.query += b"&X-Amz-Security-Token=" + MADE.token.encode()
    assert request.refusal()[0] == "InvalidSignatureException"


@given(st.integers(0, len(MADE.token) - 1), st.characters(min_codepoint=33, max_codepoint=126))
def test_no_token_differs_from_a_genuine_one_in_one_character(place: int, character: str) -> None:
    token = MADE.token[:place] + character + MADE.token[place + 1 :]
    assert (KEYS.open(token) is not None) == (token == MADE.token)


@given(st.text(max_size=40))
def test_nothing_else_is_a_token(text: str) -> None:
    assert KEYS.open(text) is None


def test_a_sealed_statement_of_another_version_is_none() -> None:
    documents: list[Any] = [msgspec.structs.replace(STATEMENT, v=2), {"v": 1}, [], "x"]
    for document in documents:
        body = base64url.encode(msgspec.json.encode(document))
        assert KEYS.open(f"{body}.{base64url.encode(KEYS._digest('token', body))}") is None
