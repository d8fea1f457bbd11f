"""Bearer tokens: who can make one, and when one is good."""

from __future__ import annotations

import base64

import msgspec
import pytest

from lambent.domain.errors import AwsError
from lambent.infra import base64url, tokens

SECRETS = {"AKID": "secret"}
NOW = 1_700_000_000.5


def refusal(token: str, now: float = NOW) -> str:
    with pytest.raises(AwsError) as caught:
        tokens.verify(token, SECRETS.get, now)
    return caught.value.name


def test_what_was_issued_is_verified_until_it_expires() -> None:
    token = tokens.issue("AKID", "secret", "us-east-1", NOW, 60)
    assert tokens.verify(token, SECRETS.get, NOW + 59) == tokens.Bearer("AKID", "us-east-1", 1_700_000_060)
    assert refusal(token, NOW + 60) == "ExpiredTokenException"
    assert refusal(token, NOW - 301) == "UnrecognizedClientException"


@pytest.mark.parametrize("seconds", [0, -1, tokens.MAX_SECONDS + 1])
def test_no_longer_than_twelve_hours(seconds: int) -> None:
    with pytest.raises(ValueError, match="a token is good for"):
        tokens.issue("AKID", "secret", "us-east-1", NOW, seconds)


def test_a_self_made_longer_token_is_refused() -> None:
    claims = {"v": 1, "kid": "AKID", "region": "us-east-1", "iat": int(NOW), "exp": int(NOW) + tokens.MAX_SECONDS + 1}
    first = base64.urlsafe_b64encode(msgspec.json.encode(claims)).rstrip(b"=").decode()
    token = f"{first}.{base64url.encode(tokens._sign('secret', first))}"
    assert refusal(token) == "UnrecognizedClientException"


def test_wrong_secret_and_unknown_key() -> None:
    assert refusal(tokens.issue("AKID", "other", "us-east-1", NOW)) == "UnrecognizedClientException"
    assert refusal(tokens.issue("OTHER", "secret", "us-east-1", NOW)) == "UnrecognizedClientException"


@pytest.mark.parametrize("token", ["", ".", "a", "a.b", "é.b", "." * 5000, "e30.e30", "bnVsbA.e30"])
def test_nonsense(token: str) -> None:
    assert refusal(token) == "UnrecognizedClientException"


def test_every_changed_character_is_refused() -> None:
    token = tokens.issue("AKID", "secret", "us-east-1", NOW)
    for position, character in enumerate(token):
        changed = token[:position] + ("A" if character != "A" else "B") + token[position + 1 :]
        assert refusal(changed) == "UnrecognizedClientException"
