"""Short-lived bearer tokens for the gRPC door: proof of an access key, without the secret on the wire.

    token = first + "." + base64url(HMAC-SHA256(key derived from the secret, first))
    first = base64url(JSON {v, kid, region, iat, exp})

Whoever has an access key makes one offline. A token is good for at most twelve hours, in one region.
"""

from __future__ import annotations

import binascii
import hmac
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from lambent.domain.errors import AwsError
from lambent.infra import base64url

MAX_SECONDS = 12 * 3600
# A token that was made on a machine whose clock is ahead of ours.
SKEW_SECONDS = 300
_DOMAIN = b"lambent bearer token v1"
_MAX_LENGTH = 4096


class _Claims(msgspec.Struct, forbid_unknown_fields=True):
    """The first part."""

    v: int
    kid: str
    region: str
    iat: int
    exp: int


@dataclass(frozen=True, slots=True)
class Bearer:
    """What a verified token says."""

    key_id: str
    region: str
    expires: float  # epoch seconds


def issue(key_id: str, secret: str, region: str, now: float, seconds: int = 3600) -> str:
    """A token that is good from now for `seconds`. Raises ValueError beyond twelve hours."""
    if not 0 < seconds <= MAX_SECONDS:
        raise ValueError(f"a token is good for 1 to {MAX_SECONDS} seconds, not {seconds}")
    claims = msgspec.json.encode(_Claims(1, key_id, region, int(now), int(now) + seconds))
    first = base64url.encode(claims)
    return f"{first}.{base64url.encode(_sign(secret, first))}"


def verify(token: str, secret_of: Callable[[str], str | None], now: float) -> Bearer:
    """What a token says. Raises UnrecognizedClientException or ExpiredTokenException."""
    first, dot, second = token.partition(".")
    if not dot or len(token) > _MAX_LENGTH or not token.isascii():
        raise _unrecognized()
    try:
        claims = msgspec.json.decode(base64url.decode(first), type=_Claims)
        signature = base64url.decode(second)
    except (msgspec.DecodeError, binascii.Error):
        raise _unrecognized() from None
    secret = secret_of(claims.kid)
    # An unknown key costs the same work as a wrong signature.
    genuine = hmac.compare_digest(_sign(secret or "no key has this secret", first), signature)
    if secret is None or not genuine or claims.v != 1:
        raise _unrecognized()
    if claims.exp - claims.iat > MAX_SECONDS or claims.iat > now + SKEW_SECONDS:
        raise _unrecognized()
    if now >= claims.exp:
        raise AwsError("ExpiredTokenException", "The security token included in the request is expired")
    return Bearer(claims.kid, claims.region, claims.exp)


def _sign(secret: str, first: str) -> bytes:
    return hmac.digest(hmac.digest(secret.encode(), _DOMAIN, "sha256"), first.encode(), "sha256")


def _unrecognized() -> AwsError:
    return AwsError("UnrecognizedClientException", "The security token included in the request is invalid.")
