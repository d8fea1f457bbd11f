"""Verifies AWS Signature Version 4, in a header or in the query (presigned), for any service and region.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html. The canonical
request is made from the raw path and query: what was decoded cannot be put back as it was signed. The path is encoded
a second time, as every service but S3 has it.

A wrong signature and an unknown key are told apart by name, as AWS does, but not by the work that is done: an unknown
key is verified to the end with a secret that nobody has (`refute`, which is asked before a large body is read, derives
that secret's signing key too, and leaves out what needs the body for both). Temporary credentials bring a token
(X-Amz-Security-Token, in a header or in the query), which has a seal of its own; one that has expired is told so
whatever the signature is. All is bytes and pure; `now` is a parameter. About 8 µs for a 300-byte body.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from urllib.parse import quote, unquote_to_bytes

from lambent.domain.errors import AwsError
from lambent.domain.names import REGION_PATTERN
from lambent.domain.principals import AccessKey, KeyRing
from lambent.infra.session_credentials import MAX_TOKEN, SessionKeys

_ALGORITHM = b"AWS4-HMAC-SHA256"
_UNSIGNED = b"UNSIGNED-PAYLOAD"
_TOKEN_HEADER = b"x-amz-security-token"
_DATE = re.compile(rb"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z")
_SIGNATURE = re.compile(rb"[0-9a-f]{64}")
_REGION = re.compile(REGION_PATTERN)
_PLAIN_PATH = re.compile(rb"/(?:[A-Za-z0-9_~-][A-Za-z0-9_.~-]*/)*(?:[A-Za-z0-9_~-][A-Za-z0-9_.~-]*)?")
_NO_QUERY = (b"",)
_PLAIN_QUERY = re.compile(rb"(?:[A-Za-z0-9_.~=&-]|%[0-9A-F]{2})*")

# Texts up to this length are remembered.
_CACHED = 1024

# The two keys that HMAC makes of one (RFC 2104), as tables of bytes.
_BLOCK = 64
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))

_UNSUPPORTED = "Unsupported AWS 'algorithm': only AWS4-HMAC-SHA256 is supported."
_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. "
    "Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
)


@dataclass(frozen=True, slots=True)
class Verified:
    """Whose signature it is, and the scope that it was made for."""

    key: AccessKey
    region: str
    service: str


@dataclass(frozen=True, slots=True)
class _Signer:
    """What a client's requests of one day have in common: everything but time and signature."""

    verified: Verified | None  # None: nobody has this key
    inner: bytes  # HMAC's two keys, of the derived signing key; of a decoy's where there is no key
    outer: bytes
    date: bytes
    scope: bytes
    signed_headers: bytes
    names: tuple[bytes, ...]
    name_set: frozenset[bytes]
    expires: float | None  # epoch seconds at which the key's session ends


@dataclass(frozen=True, slots=True)
class _Presigned:
    """What the query of a presigned request brings."""

    credential: bytes
    token: bytes | None
    signed_headers: bytes
    signature: bytes
    date: bytes
    expires: int  # seconds
    query: bytes  # without the signature


class Verifier:
    """Verifies requests against a key ring."""

    def __init__(
        self,
        keys: KeyRing,
        *,
        skew_seconds: float,
        presigned_max_seconds: int,
        services: Collection[str] | None = None,
        regions: Collection[str] | None = None,
        sessions: SessionKeys | None = None,
        decoy: str = "no key has this secret",
    ) -> None:
        """`services`, `regions`: the only ones that a scope may name; None: any. `sessions`: opens the tokens of
        temporary credentials; None: there are none. `decoy`: secret of unknown keys."""
        self._keys = keys
        self._sessions = sessions
        self._skew = skew_seconds
        self._presigned_max = presigned_max_seconds
        self._services = None if services is None else frozenset(services)
        self._regions = None if regions is None else frozenset(regions)
        self._decoy = decoy
        # Per instance, so that secrets are gone with the verifier. All are bounded, and keyed by bounded texts.
        self._signing_key: Callable[[str, bytes, bytes, bytes], bytes] = lru_cache(maxsize=1024)(signing_key)
        self._canonical_path: Callable[[bytes], bytes] = lru_cache(maxsize=1024)(canonical_path)
        self._epoch: Callable[[bytes], float | None] = lru_cache(maxsize=64)(parse_date)
        self._known_header: Callable[[bytes, bytes | None], _Signer] = lru_cache(maxsize=1024)(self._from_header)

    def verify(
        self,
        method: str,
        raw_path: bytes,
        raw_query: bytes,
        headers: Mapping[bytes, bytes],
        body_hash: bytes,
        now: float,
    ) -> Verified:
        """The signer. `body_hash`: lower-case hex SHA-256 of the body; `now`: epoch seconds. Raises AwsError."""
        signer, signature, date, expires, raw_query = self._claim(raw_query, headers, now)
        payload_hash = _payload_hash(headers, body_hash, presigned=expires is not None)
        path = self._canonical_path(raw_path) if len(raw_path) <= _CACHED else canonical_path(raw_path)
        tail = _canonical_headers(signer, headers) + payload_hash
        genuine = False
        for query in _canonical_queries(raw_query) if raw_query else _NO_QUERY:
            digest = sha256(b"%b\n%b\n%b%b" % (method.encode("latin-1"), path, query, tail)).hexdigest().encode()
            text = b"%bAWS4-HMAC-SHA256\n%b\n%b\n%b" % (signer.inner, date, signer.scope, digest)
            # HMAC as it is defined: half the time of the library's own, which looks its algorithm up for each call.
            expected = sha256(signer.outer + sha256(text).digest()).hexdigest().encode()
            genuine = hmac.compare_digest(expected, signature) or genuine
        if signer.verified is None:
            raise _unknown()
        if not genuine:
            raise _invalid(_MISMATCH)
        return signer.verified

    def refute(self, raw_query: bytes, headers: Mapping[bytes, bytes], now: float) -> None:
        """Before the body is there: raise AwsError when no body can make this request authentic."""
        signer = self._claim(raw_query, headers, now)[0]
        if signer.verified is None:
            raise _unknown()

    def _claim(
        self, raw_query: bytes, headers: Mapping[bytes, bytes], now: float
    ) -> tuple[_Signer, bytes, bytes, int | None, bytes]:
        """Who says to have signed: signer, signature, date, validity if presigned, and the query that was signed."""
        authorization = headers.get(b"authorization")
        expires: int | None = None
        if authorization is not None:
            # Only the signature differs between two requests of a client; it comes last.
            common, name, signature = authorization.rpartition(b"Signature=")
            if not name or not _SIGNATURE.fullmatch(signature):
                common, signature = _signature_apart(authorization)
            token = headers.get(_TOKEN_HEADER)
            remembered = len(common) <= _CACHED and (token is None or len(token) <= MAX_TOKEN)
            signer = (self._known_header if remembered else self._from_header)(common, token)
            date = headers.get(b"x-amz-date") or headers.get(b"date")
            if not date:
                raise _incomplete(
                    "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
                )
        elif b"X-Amz-Signature" in raw_query or b"X-Amz-Algorithm" in raw_query:
            proof = self._from_query(raw_query)
            signer = self._signer(proof.credential, proof.token, proof.signed_headers)
            signature, date, expires, raw_query = proof.signature, proof.date, proof.expires, proof.query
        else:
            raise AwsError("MissingAuthenticationTokenException", "Missing Authentication Token")
        if signer.expires is not None and now >= signer.expires:
            raise AwsError("ExpiredTokenException", "The security token included in the request is expired")
        self._check_time(signer, date, expires, now)
        return signer, signature, date, expires, raw_query

    def _signer(self, credential: bytes, token: bytes | None, signed_headers: bytes) -> _Signer:
        scope = credential.split(b"/")
        if len(scope) != 5:
            raise _incomplete("Credential must have exactly 5 slash-delimited elements: keyid/date/region/service/term")
        key_id, date, region, service, terminator = scope
        if terminator != b"aws4_request":
            raise _invalid(
                f"Credential should be scoped with a valid terminator: 'aws4_request', not '{_show(terminator)}'."
            )
        region_name, service_name = region.decode("latin-1"), service.decode("latin-1")
        if not _REGION.fullmatch(region_name) or (self._regions is not None and region_name not in self._regions):
            raise _invalid("Credential should be scoped to a valid region.")
        if self._services is not None and service_name not in self._services:
            wanted = ", ".join(f"'{each}'" for each in sorted(self._services))
            raise _invalid(f"Credential should be scoped to correct service: {wanted}.")
        names = tuple(signed_headers.split(b";"))
        if len(set(names)) < len(names):
            # Each would be a copy of the header's value, for whoever asks.
            raise _incomplete("Each header must be named once in 'SignedHeaders'.")
        if b"host" not in names:
            raise _invalid("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
        key, ends = self._key(key_id.decode("latin-1"), token)
        secret = self._signing_key(key.secret if key is not None else self._decoy, date, region, service)
        block = secret.ljust(_BLOCK, b"\0")
        return _Signer(
            verified=None if key is None else Verified(key, region_name, service_name),
            inner=block.translate(_INNER),
            outer=block.translate(_OUTER),
            date=date,
            scope=b"/".join(scope[1:]),
            signed_headers=signed_headers,
            names=names,
            name_set=frozenset(names),
            expires=ends,
        )

    def _key(self, key_id: str, token: bytes | None) -> tuple[AccessKey | None, float | None]:
        """Who has this key, and when the session ends whose it is. A key without its token, or with another, is
        nobody's."""
        if token is None:
            return self._keys.find(key_id), None
        session = None if self._sessions is None else self._sessions.open(token.decode("latin-1"))
        if session is None or not hmac.compare_digest(session.key.id.encode(), key_id.encode()):
            return None, None
        return session.key, session.expires

    def _check_time(self, signer: _Signer, date: bytes, expires: int | None, now: float) -> None:
        signed_at = self._epoch(date) if len(date) <= 32 else None
        if signed_at is None:
            raise _incomplete("Date must be in ISO-8601 'basic format'. See https://en.wikipedia.org/wiki/ISO_8601")
        if date[:8] != signer.date:
            raise _invalid(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
                f"'{_show(signer.date)}' != '{_show(date[:8])}', from '{_show(date)}'."
            )
        earliest = now - (self._skew if expires is None else expires)
        if signed_at < earliest:
            raise _invalid(
                f"Signature expired: {_iso(signed_at)} is now earlier than {_iso(earliest)} ({_off(now, earliest)})"
            )
        latest = now + self._skew
        if signed_at > latest:
            raise _invalid(
                f"Signature not yet current: {_iso(signed_at)} is still later than {_iso(latest)} ({_off(now, latest)})"
            )

    def _from_header(self, common: bytes, token: bytes | None) -> _Signer:
        values = _authorization(common)
        missing = [name for name in (b"Credential", b"SignedHeaders") if not values.get(name)]
        if missing:
            raise _incomplete(
                " ".join(f"Authorization header requires '{name.decode()}' parameter." for name in missing)
            )
        return self._signer(values[b"Credential"], token, values[b"SignedHeaders"])

    def _from_query(self, raw_query: bytes) -> _Presigned:
        values: dict[bytes, bytes] = {}
        kept = []
        for part in raw_query.split(b"&"):
            name, _, value = part.partition(b"=")
            if name != b"X-Amz-Signature":
                kept.append(part)
            if name.startswith(b"X-Amz-"):
                if name in values:
                    raise _incomplete(f"AWS query-string parameter '{_show(name)}' must be given once.")
                values[name] = unquote_to_bytes(value)
        for wanted in ("Algorithm", "Credential", "Signature", "SignedHeaders", "Date"):
            if not values.get(b"X-Amz-" + wanted.encode()):
                raise _incomplete(f"AWS query-string parameters must include 'X-Amz-{wanted}'.")
        if values[b"X-Amz-Algorithm"] != _ALGORITHM:
            raise _incomplete(_UNSUPPORTED)
        expires = values.get(b"X-Amz-Expires", b"")
        if not expires.isdigit() or len(expires) > 9 or not 1 <= int(expires) <= self._presigned_max:
            raise _incomplete(f"X-Amz-Expires must be a number of seconds from 1 to {self._presigned_max}.")
        return _Presigned(
            values[b"X-Amz-Credential"],
            values.get(b"X-Amz-Security-Token"),
            values[b"X-Amz-SignedHeaders"],
            values[b"X-Amz-Signature"],
            values[b"X-Amz-Date"],
            int(expires),
            b"&".join(kept),
        )


def _authorization(text: bytes) -> dict[bytes, bytes]:
    """The key=value pairs of an Authorization header."""
    algorithm, _, rest = text.partition(b" ")
    if algorithm != _ALGORITHM:
        raise _incomplete(_UNSUPPORTED)
    values: dict[bytes, bytes] = {}
    for part in rest.split(b","):
        name, equals, value = part.strip().partition(b"=")
        if not name and not value:
            continue
        if not equals or name in values:
            raise _incomplete("Authorization header must be a list of different key=value pairs.")
        values[name] = value
    return values


def _signature_apart(authorization: bytes) -> tuple[bytes, bytes]:
    """The header without its signature, and the signature, where that is not last or not one."""
    values = _authorization(authorization)
    signature = values.pop(b"Signature", b"")
    if not signature:
        raise _incomplete("Authorization header requires 'Signature' parameter.")
    pairs = b", ".join(name + b"=" + value for name, value in values.items())
    return _ALGORITHM + b" " + pairs, signature


def _payload_hash(headers: Mapping[bytes, bytes], body_hash: bytes, *, presigned: bool) -> bytes:
    declared = headers.get(b"x-amz-content-sha256")
    if declared is None or declared == body_hash or (presigned and declared == _UNSIGNED):
        return declared or body_hash
    raise _invalid("The value of the X-Amz-Content-SHA256 header must be the SHA-256 of the request's body.")


def _canonical_headers(signer: _Signer, headers: Mapping[bytes, bytes]) -> bytes:
    """From the newline after the query to the one before the payload's hash."""
    lines = [b""]
    for name in signer.names:
        value = headers.get(name)
        if value is None:
            raise _invalid(_MISMATCH)
        if b" " in value or b"\t" in value:
            value = b" ".join(value.split())
        lines.append(name + b":" + value)
    signed = signer.name_set
    for name in headers:
        # A header that changes what is asked for must not be added on the way.
        if name not in signed and name.startswith(b"x-amz-"):
            raise _invalid(f"'{_show(name)}' must be a 'SignedHeader' in the AWS Authorization.")
    lines += (b"", signer.signed_headers, b"")
    return b"\n".join(lines)


def _canonical_queries(raw: bytes) -> list[bytes]:
    """The query as signers write it: by the rules, and also as it was sent, which is what some SDKs sign."""
    pairs = sorted(_pair(part) for part in raw.split(b"&") if part)
    sent = b"&".join(name + b"=" + value for name, value in pairs)
    if _PLAIN_QUERY.fullmatch(raw):
        return [sent]
    encoded = sorted((_encode(unquote_to_bytes(name)), _encode(unquote_to_bytes(value))) for name, value in pairs)
    return [b"&".join(name + b"=" + value for name, value in encoded), sent]


def _pair(part: bytes) -> tuple[bytes, bytes]:
    name, _, value = part.partition(b"=")
    return name, value


def _encode(value: bytes) -> bytes:
    return quote(value, safe="-_.~").encode()


def canonical_path(raw: bytes) -> bytes:
    """Without dot segments and doubled slashes, then percent-encoded once more."""
    if _PLAIN_PATH.fullmatch(raw):
        return raw
    kept: list[bytes] = []
    for segment in raw.split(b"/"):
        if segment == b"..":
            del kept[-1:]
        elif segment not in (b"", b"."):
            kept.append(segment)
    slash = b"/" if kept and raw.endswith(b"/") else b""
    return quote(b"/" + b"/".join(kept) + slash, safe="/~").encode()


def signing_key(secret: str, date: bytes, region: bytes, service: bytes) -> bytes:
    """The key that signs one day's requests to one service in one region."""
    key = hmac.digest(b"AWS4" + secret.encode(), date, "sha256")
    for part in (region, service, b"aws4_request"):
        key = hmac.digest(key, part, "sha256")
    return key


def parse_date(text: bytes) -> float | None:
    """Epoch seconds of `YYYYMMDDThhmmssZ`; None: it is no such date."""
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    try:
        return datetime(*(int(group) for group in match.groups()), tzinfo=UTC).timestamp()  # type: ignore[arg-type, misc]
    except ValueError:
        return None


def _iso(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y%m%dT%H%M%SZ")


def _off(now: float, bound: float) -> str:
    minutes = abs(now - bound) / 60
    return f"{_iso(now)} {'-' if bound < now else '+'} {minutes:g} min."


def _show(value: bytes) -> str:
    return value[:128].decode("latin-1")


def _unknown() -> AwsError:
    return AwsError("UnrecognizedClientException", "The security token included in the request is invalid.")


def _invalid(message: str) -> AwsError:
    return AwsError("InvalidSignatureException", message)


def _incomplete(message: str) -> AwsError:
    return AwsError("IncompleteSignatureException", message)
