"""Temporary credentials that functions sign their requests with, made and verified with one key and no call to anybody.

    body   = base64url(JSON {v, account, region, role, function, exp, id})
    token  = body + "." + base64url(HMAC(key, "token", body))
    id     = "ASIA" + base32(HMAC(key, "id", token)), 20 characters in all
    secret = base64(HMAC(key, "secret", token)), 40 characters

A worker makes them for each process of a function; a frontend derives identifier and secret from the token alone, once
its seal has been checked, so that nothing has to be kept of any. Nobody without the key can make a token, and a token
does not tell its secret. Pure; `now` and ids are the caller's.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from dataclasses import dataclass, field

import msgspec

from lambent.domain.principals import AccessKey
from lambent.infra import base64url

# Longest token that is looked at. Account, region and function are short; a role's ARN has at most 616 characters.
MAX_TOKEN = 2048
_DOMAIN = b"lambent session credentials v1"
_ID_BYTES = 10  # sixteen characters
_SECRET_CHARACTERS = 40


class Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a token says."""

    account: str
    region: str  # of the function; requests may be signed for any
    role: str  # its ARN
    function: str  # its name, which is the session's
    exp: int  # epoch seconds
    id: str  # no two processes have the same credentials
    v: int = 1


@dataclass(frozen=True, slots=True)
class SessionCredentials:
    """What a process is given."""

    key_id: str
    secret: str = field(repr=False)
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Session:
    """What a genuine token stands for, whether or not it has expired."""

    key: AccessKey
    expires: float  # epoch seconds


class SessionKeys:
    """Makes and opens the credentials of one cluster."""

    def __init__(self, cluster_key: bytes, *, powerless: bool = False) -> None:
        """`cluster_key`: secret that workers and frontends share. `powerless`: who is recognised may do nothing."""
        self._key = hmac.digest(cluster_key, _DOMAIN, "sha256")
        self._powerless = powerless

    def issue(self, statement: Statement) -> SessionCredentials:
        """Credentials that say so."""
        body = base64url.encode(msgspec.json.encode(statement))
        return self._credentials(f"{body}.{base64url.encode(self._digest('token', body))}")

    def open(self, token: str) -> Session | None:
        """The session of a token. None: this cluster has not made it."""
        body, _, seal = token.partition(".")
        if len(token) > MAX_TOKEN or not token.isascii():
            return None
        # Nothing of a token is read before its seal is known to be ours.
        if not hmac.compare_digest(base64url.encode(self._digest("token", body)), seal):
            return None
        try:
            statement = msgspec.json.decode(base64url.decode(body), type=Statement)
        except (msgspec.DecodeError, binascii.Error):
            return None  # of another version
        if statement.v != 1:
            return None
        made = self._credentials(token)
        key = AccessKey.of_session(
            made.key_id, made.secret, statement.account, statement.role, statement.function, powerless=self._powerless
        )
        return Session(key, statement.exp)

    def _credentials(self, token: str) -> SessionCredentials:
        key_id = base64.b32encode(self._digest("id", token)[:_ID_BYTES]).decode()
        secret = base64.b64encode(self._digest("secret", token)).decode()[:_SECRET_CHARACTERS]
        return SessionCredentials(f"ASIA{key_id}", secret, token)

    def _digest(self, purpose: str, text: str) -> bytes:
        return hmac.digest(self._key, f"{purpose}:{text}".encode(), "sha256")
